//! The consumer over a real socket.

use super::*;

struct Queue {
    runner: Runner,
    lines: tokio::io::Lines<BufReader<tokio::net::tcp::OwnedReadHalf>>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Queue {
    async fn start() -> Self {
        let runner = Runner::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        tokio::spawn(runner.clone().consume(accepted));
        let (read, write) = stream.into_split();
        let lines = BufReader::new(read).lines();
        Self {
            runner,
            lines,
            write,
        }
    }

    async fn deliver(&mut self, line: &str) -> String {
        self.write
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        self.lines
            .next_line()
            .await
            .unwrap()
            .expect("every job gets a reply")
    }
}

#[tokio::test]
async fn a_job_that_is_delivered_twice_runs_once() {
    let mut queue = Queue::start().await;
    assert_eq!(
        queue.deliver(r#"{"id":"mail-7","to":"ann"}"#).await,
        "sent 1"
    );
    assert_eq!(
        queue.deliver(r#"{"id":"mail-7","to":"ann"}"#).await,
        "replayed 1"
    );
    assert_eq!(
        queue.deliver(r#"{"id":"mail-8","to":"ann"}"#).await,
        "sent 2"
    );
    let mistaken = queue.deliver(r#"{"id":"mail-7","to":"bob"}"#).await;
    assert_eq!(mistaken, "error the key was used with another fingerprint");
    assert_eq!(queue.runner.sent.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_job_that_is_none_is_told_so() {
    let mut queue = Queue::start().await;
    assert!(queue.deliver("nonsense").await.starts_with("error "));
    assert_eq!(
        queue.deliver(r#"{"id":"","to":"ann"}"#).await,
        "error the key is empty; send 1 to 255 characters, best a UUID"
    );
    assert_eq!(queue.runner.sent.load(Ordering::SeqCst), 0);
}
