//! The process is killed with every statement on its way, before it reaches the server and before
//! its answer comes back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onlyonce_servers::patiently;
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::proxy::{Fault, Proxy};
use sqlx::PgPool;

/// In the environment of a process that is to be the service.
const URL: &str = "MONEY_TRANSFER_URL";

/// Not a test of its own: what the processes run that the test below starts and kills.
#[tokio::test]
async fn service() {
    let Ok(url) = std::env::var(URL) else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("at {}", listener.local_addr().unwrap());
    let router = super::app(&url).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "outside::service", "--nocapture"])
            .env(URL, url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("at 127.0.0.1:")?.1.to_owned()))
            .expect("it says where it is");
        Self {
            child,
            address: format!("127.0.0.1:{address}"),
        }
    }

    /// Status and body; `None` when the connection breaks off.
    fn send(address: &str, key: &str) -> Option<(u16, String)> {
        let body = r#"{"from":"alice","to":"bob","amount":10}"#;
        let mut stream = TcpStream::connect(address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        let length = body.len();
        let request = format!(
            "POST /transfers HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             content-type: application/json\r\nidempotency-key: {key}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

impl Drop for Service {
    /// `kill -9`
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn money(pool: &PgPool) -> (i64, Vec<i64>) {
    let count = sqlx::query_scalar("SELECT count(*) FROM transfer")
        .fetch_one(pool)
        .await
        .unwrap();
    let balances = sqlx::query_scalar("SELECT balance FROM account ORDER BY name")
        .fetch_all(pool)
        .await
        .unwrap();
    (count, balances)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_at_any_statement_moves_the_money_once() {
    let server = start_postgres();
    super::prepare(&server.url()).await.unwrap();
    let pool = PgPool::connect(&server.url()).await.unwrap();
    let mut killed = 0;
    let mut moved = 0;
    for replies in [false, true] {
        for step in 1..40 {
            let proxy = Proxy::start(server.port());
            let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
            let service = Service::start(&url);
            // Its connection is there.
            let warm = Service::send(&service.address, &format!("warm-{replies}-{step}"));
            assert_eq!(warm.unwrap().0, 200);
            moved += 1;
            let counter = || {
                if replies {
                    proxy.replies()
                } else {
                    proxy.requests()
                }
            };
            let at = counter() + step;
            proxy.set(if replies {
                Fault::HoldAtReply(at)
            } else {
                Fault::HoldAtRequest(at)
            });
            let key = format!("key-{replies}-{step}");
            let sending = {
                let (address, key) = (service.address.clone(), key.clone());
                std::thread::spawn(move || Service::send(&address, &key))
            };
            patiently("it stands still, or is done", || {
                counter() >= at || sending.is_finished()
            });
            let is_done = counter() < at;
            drop(service);
            let first = sending.join().unwrap();

            // Another one takes its place, and the client sends its request again.
            let service = Service::start(&server.url());
            let mut answer = None;
            patiently("the retry is answered", || {
                answer = Service::send(&service.address, &key);
                answer.as_ref().is_some_and(|answer| answer.0 == 200)
            });
            moved += 1;
            let expected = (moved, vec![1000 - 10 * moved, 10 * moved]);
            assert_eq!(money(&pool).await, expected, "step {step} of {replies}");
            assert_eq!(Service::send(&service.address, &key), answer);
            if let Some((200, _)) = &first {
                assert_eq!(first, answer, "step {step} of {replies}");
            }
            if is_done {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed >= 14, "killed at {killed} points");
}
