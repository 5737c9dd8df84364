//! Large bodies, in constant memory both ways: counted where they enter and where they leave.

use super::harness::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

const LARGE: u64 = 200 * 1024 * 1024;
/// What may lie between the two ends: the kernel's buffers of both connections, which grow with
/// the speed (tens of megabytes with common settings), and ours.
const BETWEEN: u64 = 96 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_goes_no_faster_than_the_upstream_reads() {
    let (read, go) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (count, wait) = (Arc::clone(&read), Arc::clone(&go));
    let upstream = RawUpstream::new(move |mut talk| {
        let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
        async move {
            talk.head().await;
            wait.notified().await;
            let mut buffer = vec![0; 256 * 1024];
            while count.load(Ordering::SeqCst) < LARGE {
                let length = talk.stream.read(&mut buffer).await.unwrap();
                assert_ne!(length, 0);
                count.fetch_add(length as u64, Ordering::SeqCst);
            }
            talk.say(OK).await;
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let block = vec![7; 1024 * 1024];
    let mut written = 0;
    // Until everything between is full.
    while let Ok(done) =
        tokio::time::timeout(std::time::Duration::from_millis(300), client.write(&block)).await
    {
        written += done.unwrap() as u64;
    }
    assert!(
        written < BETWEEN,
        "{written} bytes are kept while nobody reads"
    );
    go.notify_one();
    while written < LARGE {
        let most = usize::try_from(LARGE - written).unwrap().min(block.len());
        written += within("write", client.write(&block[..most])).await.unwrap() as u64;
        assert!(written - read.load(Ordering::SeqCst) < BETWEEN);
    }
    let (_, body) = read_response(&mut client).await;
    assert_eq!(body, "ok");
    assert_eq!(read.load(Ordering::SeqCst), LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_download_goes_no_faster_than_the_client_reads() {
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let upstream = RawUpstream::new(move |mut talk| {
        let count = Arc::clone(&count);
        async move {
            talk.head().await;
            talk.say(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n"
            ))
            .await;
            let block = vec![7; 256 * 1024];
            let mut left = LARGE;
            while left > 0 {
                let most = usize::try_from(left).unwrap().min(block.len());
                let length = talk.stream.write(&block[..most]).await.unwrap() as u64;
                count.fetch_add(length, Ordering::SeqCst);
                left -= length;
            }
            read_to_end(&mut talk.stream).await;
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    read_head(&mut client).await.unwrap();
    // Until everything between is full: what is written does not grow any more.
    let mut before = u64::MAX;
    while before != written.load(Ordering::SeqCst) {
        before = written.load(Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert!(
        before < BETWEEN,
        "{before} bytes are kept while nobody reads"
    );
    let mut read = 0;
    let mut buffer = vec![0; 1024 * 1024];
    while read < LARGE {
        let length = within("read", client.read(&mut buffer)).await.unwrap();
        assert_ne!(length, 0);
        read += length as u64;
        assert!(written.load(Ordering::SeqCst).saturating_sub(read) < BETWEEN);
    }
    assert_eq!(read, LARGE);
}

#[tokio::test]
async fn events_pass_as_they_come() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let upstream = RawUpstream::new(move |mut talk| {
        let wait = Arc::clone(&wait);
        async move {
            talk.head().await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            talk.say(head).await;
            for _ in 0..3 {
                wait.notified().await;
                talk.say("9\r\ndata: x\n\n\r\n").await;
            }
            talk.say("0\r\n\r\n").await;
            read_to_end(&mut talk.stream).await;
        }
    })
    .await;
    let gateway = Gateway::before(&[upstream.addr], Options::default()).await;
    let mut client = gateway.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    within("head", read_head(&mut client)).await.unwrap();
    let mut event = [0; 14];
    for _ in 0..3 {
        // Each is here before the next is sent.
        go.notify_one();
        within("event", client.read_exact(&mut event))
            .await
            .unwrap();
        assert_eq!(&event, b"9\r\ndata: x\n\n\r\n");
    }
    let mut end = [0; 5];
    within("end", client.read_exact(&mut end)).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
}
