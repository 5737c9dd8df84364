//! Jobs from a queue that delivers at least once: each takes effect once.
//!
//! Stands for any consumer of messages: the "queue" is a TCP socket that carries one job for each
//! line, as JSON, and gets one line back for each. A job that was not acknowledged is delivered
//! again, perhaps while its first delivery is still at work.
//!
//! ```text
//! cargo run -p onlyonce-examples --example job_runner
//! printf '{"id":"mail-7","to":"ann"}\n{"id":"mail-7","to":"ann"}\n' | nc -N 127.0.0.1 3002
//! ```

#[cfg(test)]
mod tests;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use onlyonce::{Claimed, Concurrent, Engine, Fingerprint, Key, Outcome, Policy, Profile, RunError};
use onlyonce_memory::MemoryStore;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Longer lines end the connection.
const LONGEST: u64 = 64 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runner = Runner::new();
    let listener = TcpListener::bind("127.0.0.1:3002").await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(runner.clone().consume(stream));
    }
}

/// A mail to be sent.
#[derive(Debug, Deserialize)]
struct Job {
    /// The sender gives every job a name of its own, and keeps it when it delivers again.
    id: String,
    to: String,
}

/// What became of a mail. Kept with the key: any type that serde can write and read.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    number: u64,
    /// Under this name the mail server knows the mail: the same on every attempt.
    message_id: String,
}

#[derive(Clone)]
struct Runner {
    engine: Engine,
    policy: Arc<Policy>,
    sent: Arc<AtomicU64>,
}

impl Runner {
    fn new() -> Self {
        Self {
            engine: Engine::new(MemoryStore::new()),
            // A second delivery of a job at work waits for the first one's result.
            policy: Arc::new(Policy::new(Profile::Standard).with_concurrent(Concurrent::Wait)),
            sent: Arc::default(),
        }
    }

    async fn consume(self, stream: TcpStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read.take(LONGEST)).lines();
        while let Some(line) = lines.next_line().await? {
            let reply = match self.handle(&line).await {
                Ok((sent, Outcome::Replayed)) => format!("replayed {}\n", sent.number),
                Ok((sent, _)) => format!("sent {}\n", sent.number),
                Err(error) => format!("error {error}\n"),
            };
            write.write_all(reply.as_bytes()).await?;
            lines.get_mut().get_mut().set_limit(LONGEST);
        }
        Ok(())
    }

    async fn handle(&self, line: &str) -> Result<(Sent, Outcome), Box<dyn Error + Send + Sync>> {
        let job: Job = serde_json::from_str(line)?;
        let key = Key::new(job.id.clone())?;
        // Two jobs by one name are a sender's mistake, and told as one.
        let fingerprint = Fingerprint::of(line.as_bytes());
        let sent = Arc::clone(&self.sent);
        let run = self
            .engine
            .run_with(key, fingerprint, &self.policy, move |claimed| {
                send_mail(claimed, job, sent)
            });
        match run.await {
            Ok(ran) => Ok((ran.value, ran.outcome)),
            Err(RunError::Failed(never)) => match never {},
            Err(error) => Err(error.to_string().into()),
        }
    }
}

/// Stands for the work, which is worth doing once.
async fn send_mail(
    claimed: Claimed,
    job: Job,
    sent: Arc<AtomicU64>,
) -> Result<Sent, std::convert::Infallible> {
    let number = sent.fetch_add(1, Ordering::SeqCst) + 1;
    println!("to {}: hello", job.to);
    Ok(Sent {
        number,
        message_id: claimed.derive(&["mail"]),
    })
}
