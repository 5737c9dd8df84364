//! Python's `http.server` as the upstream: HTTP/1.0 and 1.1, one thread per connection.

use std::path::Path;

use onlyonce_e2e::{Gateway, Program, Settings, eventually, outside};

/// Counts charges in a file, so that what is counted does not go through HTTP.
const SERVER: &str = r#"
import sys, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Charges(BaseHTTPRequestHandler):
    protocol_version = sys.argv[2]
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open(sys.argv[1], "ab", buffering=0) as ledger:
            ledger.write(body + b" " + self.headers["Idempotency-Attempt"].encode() + b"\n")
        answer = b"charged " + body
        self.send_response(201)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Location", "/charges/1")
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for byte in answer:
                self.wfile.write(b"1\r\n" + bytes([byte]) + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/close":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
    do_PUT = do_POST
    def log_message(self, *ignored):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Charges)
print("port", server.server_address[1], flush=True)
server.serve_forever()
"#;

async fn server(folder: &Path, version: &str) -> (Program, String) {
    let mut command = outside::python();
    command
        .arg("-c")
        .arg(SERVER)
        .arg(folder.join("ledger"))
        .arg(version);
    let mut program = Program::start(command, &folder.join("server"));
    let port = eventually("the server's port", || {
        assert_eq!(program.ended(), None, "{}", program.log());
        let log = program.log();
        let port = log
            .strip_prefix("port ")
            .and_then(|rest| rest.strip_suffix('\n'));
        std::future::ready(port.map(str::to_owned))
    })
    .await;
    (program, format!("http://127.0.0.1:{port}"))
}

#[tokio::test]
async fn charges_once_whatever_its_version_and_framing() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let folder = tempfile::tempdir().unwrap();
        let (_server, url) = server(folder.path(), version).await;
        let gateway = Gateway::start(Settings::before_url(url)).await;
        let paths: &[&str] = if version == "HTTP/1.1" {
            &["/plain", "/chunked", "/close"]
        } else {
            &["/plain", "/close"]
        };
        for path in paths {
            for turn in 0..3 {
                let answer = gateway.post(path).key(path).body("10").send().await;
                assert_eq!(
                    (answer.status, answer.text()),
                    (201, "charged 10"),
                    "{version} {path}"
                );
                assert_eq!(answer.header("location"), Some("/charges/1"));
                assert_eq!(answer.is_replay(), turn > 0);
            }
        }
        let ledger = std::fs::read_to_string(folder.path().join("ledger")).unwrap();
        assert_eq!(ledger, "10 1\n".repeat(paths.len()), "{version}");
    }
}

#[tokio::test]
async fn many_clients_at_once_charge_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, url) = server(folder.path(), "HTTP/1.1").await;
    let settings = Settings::before_url(url).idempotency("concurrent = \"wait\"");
    let gateway = Gateway::start(settings).await;
    let calls = (0..60).map(|number| {
        let key = format!("key-{}", number % 20);
        gateway
            .post("/plain")
            .key(&key)
            .body(format!("{}", number % 20))
            .send()
    });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 201);
    }
    let ledger = std::fs::read_to_string(folder.path().join("ledger")).unwrap();
    let mut lines: Vec<&str> = ledger.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((ledger.lines().count(), lines.len()), (20, 20), "{ledger}");
}
