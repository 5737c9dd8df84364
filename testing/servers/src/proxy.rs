//! A TCP proxy that misbehaves on command.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the proxy does to what passes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Lets requests through and swallows the answers, on a connection where this has once happened
    /// for as long as it lasts; it stays open.
    SwallowReplies,
    /// Lets one request through, and cuts the connection in place of its answer.
    CutInsteadOfReply,
    /// Cuts the connection in place of the answer of this number, by [`Proxy::replies`]; all others
    /// pass.
    CutAtReply(u64),
    /// Cuts the connection in place of the request of this number, by [`Proxy::requests`]; all
    /// others pass.
    CutAtRequest(u64),
    /// Passes neither the answer of this number on, nor anything on its connection from then on,
    /// which stays open; all others pass.
    HoldAtReply(u64),
    /// The same with the request of this number.
    HoldAtRequest(u64),
    /// Neither passes anything on nor closes, on a connection where this has once happened for as
    /// long as it lasts: the other side is gone, and nobody was told.
    HalfOpen,
    /// Holds each answer back for so long.
    Delay(Duration),
    /// Refuses new connections and cuts those that there are.
    Down,
}

/// A proxy in front of one port of the loopback interface.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fault: Mutex<Fault>,
    streams: Mutex<Vec<TcpStream>>,
    replies: AtomicU64,
    requests: AtomicU64,
    closing: AtomicBool,
}

impl Proxy {
    /// Starts a proxy in front of `target`.
    ///
    /// # Panics
    /// When there is no port left.
    #[must_use]
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = listener.local_addr().expect("a bound port is known").port();
        let shared = Arc::new(Shared {
            fault: Mutex::default(),
            streams: Mutex::default(),
            replies: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.closing.load(Ordering::SeqCst) {
                    return;
                }
                // A client or a server that has gone already is no concern of the proxy's.
                let _ = accepting.serve(&client, target);
            }
        });
        Self { port, shared }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many pieces of answers have come from the server, passed on or not.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.shared.replies.load(Ordering::SeqCst)
    }

    /// How many pieces of requests have come from clients, passed on or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Misbehaves from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault() = fault;
        if fault == Fault::Down {
            self.shared.cut();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn fault(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for stream in self.streams().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(self: &Arc<Self>, client: &TcpStream, target: u16) -> std::io::Result<()> {
        if *self.fault() == Fault::Down {
            return client.shutdown(Shutdown::Both);
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = [client.try_clone()?, server.try_clone()?];
        self.streams().extend(ends);
        for (from, to, answers) in [(client, &server, false), (&server, client, true)] {
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let _ = shared.pass(&from, &to, answers);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }

    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream, answers: bool) -> std::io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        // TCP leaves nothing out: what has swallowed once can't pass on what comes later.
        let mut swallows = false;
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let counter = if answers {
                &self.replies
            } else {
                &self.requests
            };
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let fault = *self.fault();
            match (fault, answers) {
                (Fault::CutAtReply(at), true) | (Fault::CutAtRequest(at), false)
                    if number == at =>
                {
                    return Ok(());
                }
                (Fault::HoldAtReply(at), true) | (Fault::HoldAtRequest(at), false)
                    if number == at =>
                {
                    swallows = true;
                }
                (Fault::HalfOpen, _) | (Fault::SwallowReplies, true) => swallows = true,
                (Fault::CutInsteadOfReply, true) => return Ok(()),
                (Fault::Delay(by), true) => std::thread::sleep(by),
                _ => {}
            }
            if !swallows {
                to.write_all(&buffer[..length])?;
            }
        }
    }
}
