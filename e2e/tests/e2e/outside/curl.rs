//! curl as the client.

use onlyonce_e2e::tls::SelfSigned;
use onlyonce_e2e::{Finished, Gateway, Home, RawUpstream, Reply, Settings, Upstream, outside, run};

/// curl with these arguments, silent but for errors; waits as long as it takes.
async fn curl(arguments: &[&str]) -> Finished {
    let mut command = outside::curl();
    // No `.curlrc` of whoever runs the tests.
    command
        .args(["--disable", "--silent", "--show-error", "--noproxy", "*"])
        .args(arguments);
    run(command).await
}

const KEY: &str = "Idempotency-Key: \"4711\"";

#[tokio::test]
async fn a_retry_by_hand_is_a_replay() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let url = format!("{}/charges", gateway.url());
    let post = ["-i", "-H", KEY, "-d", "amount=10", &url];
    let first = curl(&post).await.good().out;
    assert!(
        first.starts_with("HTTP/1.1 201 Created\r\n") && first.ends_with("\r\n\r\n1"),
        "{first}"
    );
    assert!(!first.contains("idempotent-replayed"), "{first}");
    let second = curl(&post).await.good().out;
    assert!(second.contains("idempotent-replayed: true\r\n"), "{second}");
    assert!(second.ends_with("\r\n\r\n1"), "{second}");
    let other = curl(&["-i", "-H", KEY, "-d", "amount=11", &url])
        .await
        .good()
        .out;
    assert!(other.starts_with("HTTP/1.1 422 "), "{other}");
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn its_own_retries_after_a_time_out_execute_once() {
    let (upstream, gate) = Upstream::gated().await;
    let settings =
        Settings::before(&upstream).idempotency("concurrent = \"wait\"\nwait_timeout = \"20s\"");
    let gateway = Gateway::start(settings).await;
    let url = format!("{}/charges", gateway.url());
    // The first try hangs up after a second; a later one waits for the answer.
    let arguments = [
        "--max-time",
        "1",
        "--retry",
        "20",
        "--retry-delay",
        "0",
        "--retry-max-time",
        "40",
        "--retry-all-errors",
        "-H",
        KEY,
        "-d",
        "amount=10",
        &url,
    ];
    let client = curl(&arguments);
    let opening = async {
        gate.arrived(1).await;
        // It has given up at least once when somebody waits in its place.
        onlyonce_e2e::eventually("the second try", || async {
            (crate::once::figure(&gateway, "onlyonce_waiters").await == 1.0).then_some(())
        })
        .await;
        gate.open();
    };
    let (client, ()) = tokio::join!(client, opening);
    assert_eq!(client.good().out, "1");
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn its_own_retries_honour_retry_after() {
    // 503 the first time, which is not stored.
    let upstream = Upstream::answering(|request| {
        let status = if request.number == 1 { 503 } else { 201 };
        Reply::new(status)
            .header("retry-after", "1")
            .body(request.number.to_string())
    })
    .await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let url = format!("{}/charges", gateway.url());
    let retry = ["--retry", "3", "--fail", "-H", KEY, "-d", "amount=10", &url];
    assert_eq!(curl(&retry).await.good().out, "2");
    assert_eq!(curl(&retry).await.good().out, "2");
    assert_eq!(upstream.total(), 2);
}

#[tokio::test]
async fn http2_tls_gzip_and_files() {
    let upstream = Upstream::answering(|request| {
        Reply::new(201).body(format!("{} {}", request.number, request.body.len()))
    })
    .await;
    let settings = Settings::before(&upstream);
    let home = Home::new(&settings);
    let tls = SelfSigned::in_home(&home);
    home.write(&settings.section("tls", &tls.lines()));
    let gateway = home.start().await;
    let file = home.path().join("upload");
    std::fs::write(&file, vec![7; 3_000_000]).unwrap();
    let url = format!("https://{}/files", gateway.addr());
    let data = format!("@{}", file.display());
    let cert = tls.cert.to_str().unwrap();
    let common = [
        "--cacert",
        cert,
        "-H",
        KEY,
        "--data-binary",
        &data,
        "-w",
        " %{http_version}",
    ];
    for (turn, (version, said)) in [("--http1.1", "1.1"), ("--http2", "2")]
        .into_iter()
        .enumerate()
    {
        let answer = curl(&[&common[..], &[version, &url]].concat())
            .await
            .good()
            .out;
        assert_eq!(answer, format!("1 3000000 {said}"), "turn {turn}");
    }
    assert_eq!(upstream.total(), 1);
    // In clear text, HTTP/2 with prior knowledge and by an offer that is not taken up.
    let plain = Gateway::start(Settings::before(&upstream)).await;
    let url = format!("{}/files", plain.url());
    let common = ["-H", KEY, "-d", "x", "-w", " %{http_version}", &url];
    let known = curl(&[&["--http2-prior-knowledge"], &common[..]].concat())
        .await
        .good()
        .out;
    assert_eq!(known, "2 1 2");
}

#[tokio::test]
async fn multipart_forms_are_the_same_with_a_new_boundary() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let url = format!("{}/forms", gateway.url());
    let form = [
        "-H",
        KEY,
        "-F",
        "amount=10",
        "-F",
        "note=@-;filename=a.txt",
        &url,
    ];
    // curl makes a boundary of its own for each request.
    assert_eq!(curl(&form).await.good().out, "1");
    assert_eq!(curl(&form).await.good().out, "1");
    let boundaries: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.header("content-type").unwrap().to_owned())
        .collect();
    assert_eq!(boundaries.len(), 1, "{boundaries:?}");
}

#[tokio::test]
async fn what_is_cut_off_upstream_is_an_answer_to_curl() {
    let upstream =
        RawUpstream::answering("HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\nab").await;
    let gateway = Gateway::start(Settings::before_raw(&upstream)).await;
    let url = format!("{}/charges", gateway.url());
    let status = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        KEY,
        "-d",
        "x",
        &url,
    ];
    assert_eq!(curl(&status).await.good().out, "502");
    assert_eq!(curl(&status).await.good().out, "409");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn the_lines_that_the_demonstration_prints_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let (_program, printed) = crate::demo::demo(folder.path()).await;
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("curl "))
        .collect();
    let [pair, other_amount, hang_up, charges, operator] = lines[..] else {
        panic!("{printed}");
    };
    let shell = async |line: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", line]).env("NO_PROXY", "*");
        // The curl that the tests are told of comes first.
        let own = std::path::PathBuf::from(outside::curl().get_program());
        let path = std::env::var("PATH").unwrap_or_default();
        let own = own.parent().unwrap_or(std::path::Path::new("/usr/bin"));
        command.env("PATH", format!("{}:{path}", own.display()));
        run(command).await.out
    };
    let made = shell(pair).await;
    assert_eq!(made.matches("\"amount\":100").count(), 2, "{made}");
    let refused = shell(other_amount).await;
    assert!(refused.starts_with("HTTP/1.1 422 "), "{refused}");
    let retried = shell(hang_up).await;
    assert!(retried.starts_with("HTTP/1.1 201 "), "{retried}");
    assert!(retried.contains("idempotent-replayed: true"), "{retried}");
    // That of the demonstration itself, the pair's, and that of the client that hung up.
    let all: serde_json::Value = serde_json::from_str(&shell(charges).await).unwrap();
    assert_eq!(all["count"], 3, "{all}");
    let seen = shell(operator).await;
    assert!(
        seen.contains("onlyonce_requests_total") && seen.contains("POST /charges"),
        "{seen}"
    );
}
