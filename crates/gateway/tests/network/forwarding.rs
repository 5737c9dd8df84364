//! What reaches the upstream, and what comes back.

use super::harness::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_request_and_its_response_pass() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    for turn in 0..3 {
        let request = "POST /a//b/../c%2f%2F?q=%20+&x HTTP/1.1\r\nHost: api.test\r\ncontent-length: 3\r\n\r\nabc";
        client.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_response(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(field(&head, "date").is_some());
        assert_eq!(body, "ok");
        let seen = upstream.head(turn);
        assert!(
            seen.starts_with("POST /a//b/../c%2f%2F?q=%20+&x HTTP/1.1\r\n"),
            "{seen}"
        );
        assert_eq!(field(&seen, "host").as_deref(), Some("api.test"));
        assert_eq!(field(&seen, "content-length").as_deref(), Some("3"));
        assert_eq!(
            field(&seen, "x-forwarded-for").as_deref(),
            Some("127.0.0.1")
        );
        assert_eq!(field(&seen, "via").as_deref(), Some("1.1 onlyonce"));
    }
    assert_eq!(upstream.connections(), 1, "the connection is kept");
    drop(client);
    assert!(gateway.stopped().await.all_finished());
}
