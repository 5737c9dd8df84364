//! Where lines go: a thread of their own writes them, so that no request waits for a disk or a
//! terminal.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use metrics::counter;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::LineFormat;
use super::entry::Entry;

/// Lines that may wait to be written. More are dropped and counted.
const WAITING: usize = 4096;

/// Where lines go. Clones share it; its thread ends with the last one, when all is written.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Message>,
    format: LineFormat,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Arc<Entry>, LineFormat),
    Flush(oneshot::Sender<()>),
}

impl Lines {
    /// To standard output.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn stdout(format: LineFormat) -> io::Result<Self> {
        Self::to(io::stdout(), format)
    }

    /// To a writer. It may block: only lines wait for it.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(writer: impl Write + Send + 'static, format: LineFormat) -> io::Result<Self> {
        Self::with_room(writer, format, WAITING)
    }

    pub(super) fn with_room(
        writer: impl Write + Send + 'static,
        format: LineFormat,
        room: usize,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(room);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(writer, &messages, room))?;
        Ok(Self {
            queue,
            format,
            dropped: Arc::default(),
        })
    }

    /// How many lines were dropped, as the writer did not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines up to now are written, but not longer than `limit`; says whether
    /// they are.
    pub async fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let (done, is_done) = oneshot::channel();
        let mut message = Message::Flush(done);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(again)) if Instant::now() < end => message = again,
                Err(_) => return false,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        matches!(tokio::time::timeout_at(end, is_done).await, Ok(Ok(())))
    }

    pub(super) fn offer(&self, entry: &Arc<Entry>) {
        let message = Message::Line(Arc::clone(entry), self.format);
        if self.queue.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            counter!("onlyonce_access_log_lines_dropped_total").increment(1);
        }
    }
}

fn write_all(mut writer: impl Write, messages: &Receiver<Message>, most: usize) {
    let mut text = String::new();
    let mut failing = false;
    let mut torn = false;
    while let Ok(first) = messages.recv() {
        let mut flushed = Vec::new();
        text.clear();
        if torn {
            text.push('\n');
        }
        // What has come in the meantime is written at once, with an end to it.
        for message in std::iter::once(first).chain(messages.try_iter().take(most)) {
            match message {
                Message::Line(entry, format) => {
                    text.push_str(&format.line(&entry));
                    text.push('\n');
                }
                Message::Flush(done) => flushed.push(done),
            }
        }
        let (done, written) = write(&mut writer, text.as_bytes());
        // The disk was full, say: what comes next is not to stand on the same line.
        torn = match text.as_bytes()[..done].last() {
            _ if written.is_ok() => false,
            Some(last) => *last != b'\n',
            None => torn,
        };
        if let Err(error) = &written {
            counter!("onlyonce_access_log_lines_failed_total").increment(1);
            if !failing {
                tracing::warn!(%error, "access log lines cannot be written");
            }
        }
        failing = written.is_err();
        for done in flushed {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

/// Says how much was written, and whether that was all.
fn write(writer: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        match writer.write(&bytes[done..]) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, writer.flush())
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}
