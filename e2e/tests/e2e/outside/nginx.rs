//! Debian's nginx as the upstream, and before the gateway.

use std::path::{Path, PathBuf};

use onlyonce_e2e::tls::SelfSigned;
use onlyonce_e2e::{Call, Gateway, Program, Settings, Upstream, eventually, free_port, outside};

/// A running nginx. Its access log has a line for each request that it has answered.
struct Nginx {
    program: Program,
    access: PathBuf,
    port: u16,
}

impl Nginx {
    /// `server` is what stands in its `server` block.
    async fn start(folder: &Path, server: &str) -> Self {
        Self::start_as(folder, server, "").await
    }

    /// With words behind the `listen` directive.
    async fn start_as(folder: &Path, server: &str, listen: &str) -> Self {
        let port = free_port();
        let at = folder.display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log stderr;
             events {{ worker_connections 256; }}
             http {{
               log_format line '$request_method $uri $http_idempotency_attempt $status';
               access_log {at}/access line;
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
               fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
               client_max_body_size 0;
               server {{ listen 127.0.0.1:{port} {listen}; root {at}/www; {server} }}
             }}"
        );
        std::fs::create_dir_all(folder.join("www")).unwrap();
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = outside::nginx();
        command
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"));
        let program = Program::start(command, &folder.join("nginx"));
        let mut this = Self {
            program,
            access: folder.join("access"),
            port,
        };
        eventually("nginx", || {
            assert_eq!(this.program.ended(), None, "{}", this.program.log());
            let reached = std::net::TcpStream::connect(("127.0.0.1", port)).ok();
            std::future::ready(reached)
        })
        .await;
        this
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The lines of its access log, once there are so many.
    async fn lines(&self, count: usize) -> Vec<String> {
        eventually("the access log", || async {
            let text = std::fs::read_to_string(&self.access).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }
}

#[tokio::test]
async fn each_key_reaches_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = "location /charges { add_header Set-Cookie a=1 always;
                    add_header Set-Cookie b=2 always; return 201 'charged'; }
                  location /none { return 204; }
                  location /busy { return 503 'busy'; }";
    let nginx = Nginx::start(folder.path(), server).await;
    let gateway = Gateway::start(Settings::before_url(nginx.url())).await;
    for turn in 0..3 {
        let answer = gateway.post("/charges").key("a").body("10").send().await;
        assert_eq!((answer.status, answer.text()), (201, "charged"));
        assert_eq!(answer.header_lines("set-cookie"), [b"a=1", b"b=2"]);
        assert_eq!(answer.is_replay(), turn > 0);
        let none = gateway.post("/none").key("b").send().await;
        assert_eq!((none.status, none.is_replay()), (204, turn > 0));
        let busy = gateway.post("/busy").key("c").send().await;
        assert_eq!((busy.status, busy.is_replay()), (503, false));
    }
    let mut lines = nginx.lines(5).await;
    lines.sort_unstable();
    let busy = "POST /busy 1 503";
    assert_eq!(
        lines,
        [busy, busy, busy, "POST /charges 1 201", "POST /none 1 204"]
    );
}

#[tokio::test]
async fn its_files_and_gzip_pass_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    // Unasked, it compresses nothing for proxies, which it knows by their `Via`.
    let server = "gzip on; gzip_proxied any; gzip_types text/plain; gzip_min_length 1;
                  default_type text/plain;";
    let nginx = Nginx::start(folder.path(), server).await;
    let file = "hello ".repeat(10_000);
    std::fs::write(folder.path().join("www/file"), &file).unwrap();
    let gateway = Gateway::start(Settings::before_url(nginx.url())).await;
    let plain = gateway.get("/file").send().await;
    assert_eq!((plain.status, plain.text()), (200, file.as_str()));
    let part = gateway
        .get("/file")
        .header("range", "bytes=6-10")
        .send()
        .await;
    assert_eq!((part.status, part.text()), (206, "hello"));
    let etag = plain.header("etag").unwrap();
    let same = gateway
        .get("/file")
        .header("if-none-match", etag)
        .send()
        .await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let direct = |call: Call| call.header("accept-encoding", "gzip").send();
    let own = Call::new(
        ([127, 0, 0, 1], nginx.port).into(),
        http::Method::GET,
        "/file",
    );
    let (through, own) = (direct(gateway.get("/file")).await, direct(own).await);
    assert_eq!(through.header("content-encoding"), Some("gzip"));
    assert_eq!(through.body, own.body);
}

#[tokio::test]
async fn an_upstream_that_is_stopped_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = "location / { return 201 'charged'; }";
    let nginx = Nginx::start(folder.path(), server).await;
    let gateway = Gateway::start(Settings::before_url(nginx.url())).await;
    assert_eq!(gateway.post("/").key("a").send().await.status, 201);
    drop(nginx);
    // Nothing was sent, so the key is free; what was recorded is there.
    let gone = gateway.post("/").key("b").send().await;
    assert_eq!(
        (gone.status, &gone.json()["retryable"]),
        (502, &true.into()),
        "{gone:?}"
    );
    assert!(gateway.post("/").key("a").send().await.is_replay());
    assert_eq!(gateway.only_record().await["state"], "completed");
}

#[tokio::test]
async fn over_tls_with_an_authority_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let home = onlyonce_e2e::Home::new(&Settings::before_url("http://127.0.0.1:1"));
    let tls = SelfSigned::in_home(&home);
    let server = format!(
        "ssl_certificate {}; ssl_certificate_key {};
         location / {{ return 201 $scheme; }}",
        tls.cert.display(),
        tls.key.display()
    );
    let nginx = Nginx::start_as(folder.path(), &server, "ssl").await;
    let url = format!("https://127.0.0.1:{}", nginx.port);
    let settings = Settings::before_url(&url);
    let ca = format!("ca_file = {:?}", tls.cert);
    let gateway = Gateway::start(settings.clone().section("proxy", &ca)).await;
    assert_eq!(gateway.post("/").key("a").send().await.text(), "https");
    assert!(gateway.post("/").key("a").send().await.is_replay());
    // Whoever is not trusted is sent nothing.
    let gateway = Gateway::start(settings).await;
    let refused = gateway.post("/").key("a").send().await;
    assert_eq!(
        (refused.status, &refused.json()["retryable"]),
        (502, &true.into())
    );
    assert_eq!(nginx.lines(1).await.len(), 1);
}

#[tokio::test]
async fn as_the_proxy_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::counting().await;
    let settings = Settings::before(&upstream)
        .idempotency("principal_header = \"x-user\"")
        .section("proxy", "trust_forwarded = true");
    let gateway = Gateway::start(settings).await;
    // It says who asks, whatever the client says.
    let server = format!(
        "location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_set_header Connection '';
           proxy_set_header X-User $arg_user; proxy_set_header Host $http_host;
           proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}",
        gateway.url()
    );
    let nginx = Nginx::start(folder.path(), &server).await;
    let by = |user: &str| {
        let path = format!("/charges?user={user}");
        let addr = ([127, 0, 0, 1], nginx.port).into();
        let call = Call::new(addr, http::Method::POST, &path)
            .key("a")
            .body("10");
        call.header("x-user", "root").send()
    };
    assert_eq!(
        (by("alice").await.text(), by("bob").await.text()),
        ("1", "2")
    );
    let again = by("alice").await;
    assert!(again.is_replay());
    assert_eq!(again.text(), "1");
    assert_eq!(
        upstream.last().header("x-forwarded-for"),
        Some("127.0.0.1, 127.0.0.1")
    );
    assert_eq!(upstream.last().header("x-user"), Some("bob"));
    assert_eq!(upstream.total(), 2);
}
