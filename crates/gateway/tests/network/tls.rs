//! TLS on both sides, with certificates made for the test.

use super::harness::*;
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onlyonce_gateway::front::{FrontOptions, ProxyProtocol};
use onlyonce_gateway::tls::{TlsAcceptor, TlsError, TlsOptions, TrustOptions};
use onlyonce_pipeline::client_addr::TrustedProxies;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

struct Files {
    folder: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
                .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { folder, cert, key }
    }

    fn options(&self) -> TlsOptions {
        TlsOptions {
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }

    fn trust(&self) -> TrustOptions {
        let mut trust = TrustOptions::default();
        trust.system = false;
        trust.authorities = vec![self.cert.clone()];
        trust
    }

    async fn connect(
        &self,
        addr: std::net::SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(addr).await?;
        self.connect_on(stream, alpn).await
    }

    async fn connect_on(
        &self,
        stream: TcpStream,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = onlyonce_gateway::tls::client_config(&self.trust()).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, stream).await
    }
}

#[tokio::test]
async fn a_tls_listener_speaks_what_is_agreed_on() {
    let files = Files::new();
    let upstream = RawUpstream::answering(OK).await;
    let options = Options {
        tls: Some(TlsAcceptor::new(&files.options()).unwrap()),
        ..Options::default()
    };
    let gateway = Gateway::before(&[upstream.addr], options).await;

    for alpn in [&["http/1.1"][..], &[]] {
        let mut client = files.connect(gateway.addr, alpn).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let (_, body) = read_response(&mut client).await;
        assert_eq!(body, "ok");
    }

    let client = files
        .connect(gateway.addr, &["h2", "http/1.1"])
        .await
        .unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "ok"
    );
    assert_eq!(
        field(&upstream.head(2), "x-forwarded-proto").as_deref(),
        Some("https")
    );
}

#[tokio::test]
async fn hazard_50_a_handshake_that_stalls_is_cut_off() {
    let files = Files::new();
    let mut front = FrontOptions::default();
    front.handshake_timeout = Duration::from_millis(100);
    // One that stalls holds the only place; the next one is served when it is gone.
    front.max_handshakes = 1;
    let options = Options {
        front,
        tls: Some(TlsAcceptor::new(&files.options()).unwrap()),
        ..Options::default()
    };
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    let mut client = gateway.connect().await;
    client.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(read_to_end(&mut client).await, "");
    // Plain HTTP on a TLS port is not answered as if it were TLS.
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    assert!(!read_to_end(&mut client).await.contains("HTTP/1.1 200"));
    let mut client = files.connect(gateway.addr, &[]).await.unwrap();
    client.write_all(get("/").as_bytes()).await.unwrap();
    read_response(&mut client).await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_at_run_time_and_a_bad_one_is_not() {
    let (old, new) = (Files::new(), Files::new());
    let acceptor = TlsAcceptor::new(&old.options()).unwrap();
    let options = Options {
        tls: Some(acceptor.clone()),
        ..Options::default()
    };
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], options).await;
    assert!(old.connect(gateway.addr, &[]).await.is_ok());
    let mixed = TlsOptions {
        cert: new.cert.clone(),
        key: old.key.clone(),
    };
    assert!(matches!(
        acceptor.reload(&mixed),
        Err(TlsError::Pair { .. })
    ));
    assert!(old.connect(gateway.addr, &[]).await.is_ok());
    acceptor.reload(&new.options()).unwrap();
    assert!(old.connect(gateway.addr, &[]).await.is_err());
    assert!(new.connect(gateway.addr, &[]).await.is_ok());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let empty = files.folder.path().join("empty.pem");
    std::fs::write(&empty, "no PEM at all").unwrap();
    let missing = files.folder.path().join("missing.pem");
    let error = |cert: &PathBuf, key: &PathBuf| {
        let (cert, key) = (cert.clone(), key.clone());
        TlsAcceptor::new(&TlsOptions { cert, key })
            .unwrap_err()
            .to_string()
    };
    assert!(error(&missing, &files.key).contains("missing.pem"));
    assert!(error(&files.cert, &missing).contains("the private key"));
    assert!(error(&empty, &files.key).contains("holds no certificate"));
    assert!(error(&files.cert, &files.cert).contains("the private key"));
}

/// Takes TLS connections with `alpn` and hands them to `play`.
async fn tls_upstream<F, Fut>(files: &Files, alpn: &[&str], play: F) -> std::net::SocketAddr
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let cert = CertificateDer::from_pem_file(&files.cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(play(stream));
            }
        }
    });
    addr
}

#[tokio::test]
async fn an_https_upstream_over_http1_is_verified_and_kept() {
    let files = Files::new();
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let addr = tls_upstream(&files, &["http/1.1"], move |mut stream| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            while read_head(&mut stream).await.is_some() {
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let url = format!("https://localhost:{}", addr.port());
    let mut options = Options::default();
    options.upstream.trust = files.trust();
    let gateway = Gateway::before_urls(std::slice::from_ref(&url), options).await;
    for _ in 0..3 {
        assert!(gateway.send(get_close("/")).await.ends_with("ok"));
    }
    assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 1);

    // Somebody else's authority.
    let mut options = Options::default();
    let other = Files::new();
    options.upstream.trust = other.trust();
    let gateway = Gateway::before_urls(&[url], options).await;
    let answer = gateway.send(get_close("/")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gateway.failure(), "Connect No");
}

#[tokio::test]
async fn a_cut_over_tls_is_a_cut() {
    let files = Files::new();
    let addr = tls_upstream(&files, &[], |mut stream| async move {
        read_head(&mut stream).await;
        // No length, and no close_notify at the end.
        stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nabc")
            .await
            .unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    let mut options = Options::default();
    options.upstream.trust = files.trust();
    let gateway =
        Gateway::before_urls(&[format!("https://localhost:{}", addr.port())], options).await;
    let answer = gateway.send(get("/")).await;
    assert!(
        answer.contains("abc") && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_https_upstream_that_offers_http2_gets_it_except_for_upgrades() {
    let files = Files::new();
    let made = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&made);
    let addr = tls_upstream(&files, &["h2", "http/1.1"], move |mut stream| {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        seen.lock().unwrap().push(http2);
        async move {
            if !http2 {
                read_head(&mut stream).await;
                let switch = "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nhello";
                stream.write_all(switch.as_bytes()).await.unwrap();
                stream.read_u8().await.ok();
                return;
            }
            let service = hyper::service::service_fn(|request: Request<_>| async move {
                assert_eq!(request.uri().scheme_str(), Some("https"));
                let body: hyper::body::Incoming = request.into_body();
                let body = body.collect().await?.to_bytes();
                Ok::<_, hyper::Error>(http::Response::new(Full::new(body)))
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
    let mut options = Options::default();
    options.upstream.trust = files.trust();
    let url = format!("https://localhost:{}", addr.port());
    let gateway = Gateway::before_urls(&[url], options).await;
    for _ in 0..3 {
        let request =
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
        let answer = gateway.send(request).await;
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(*made.lock().unwrap(), [true]);
    let mut client = gateway.connect().await;
    let offer = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    client.write_all(offer.as_bytes()).await.unwrap();
    let head = within("101", read_head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut hello = [0; 5];
    within("hello", client.read_exact(&mut hello))
        .await
        .unwrap();
    assert_eq!(&hello, b"hello");
    assert_eq!(*made.lock().unwrap(), [true, false]);
}

#[tokio::test]
async fn the_proxy_protocol_comes_before_tls() {
    let files = Files::new();
    let upstream = RawUpstream::answering(OK).await;
    let mut front = FrontOptions::default();
    front.proxy_protocol = Some(ProxyProtocol {
        trusted: TrustedProxies::parse(["127.0.0.1"]).unwrap(),
        timeout: DEADLINE,
    });
    let options = Options {
        front,
        tls: Some(TlsAcceptor::new(&files.options()).unwrap()),
        ..Options::default()
    };
    let gateway = Gateway::before(&[upstream.addr], options).await;

    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let header = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n";
    stream.write_all(header).await.unwrap();
    let mut client = files.connect_on(stream, &["http/1.1"]).await.unwrap();
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (_, body) = read_response(&mut client).await;
    assert_eq!(body, "ok");
    let told = field(&upstream.head(0), "x-forwarded-for");
    assert_eq!(told.as_deref(), Some("2001:db8::1"));
    // Straight into the handshake, as without a proxy in front.
    assert!(files.connect(gateway.addr, &["http/1.1"]).await.is_err());
}
