//! The pure core: verdicts, and that they do not depend on how the input was cut.

use proptest::prelude::*;

use super::*;

const LIMITS: FrameLimits = FrameLimits {
    max_head: 512,
    max_fields: 8,
};

/// Feeds `input` in pieces; gives what was passed, and the verdict at the end.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Violation>, u64) {
    let mut framer = Framer::new(LIMITS);
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            match framer.step(&held) {
                Step::Pass(length) => {
                    assert!(length > 0);
                    passed.extend(held.drain(..length));
                }
                Step::Wait | Step::Undecided => break,
                Step::Refuse(violation) => {
                    assert_eq!(framer.step(b"GET"), Step::Refuse(violation), "final");
                    return (passed, Some(violation), framer.heads());
                }
            }
        }
    }
    (passed, None, framer.heads())
}

fn verdict(input: &[u8]) -> Option<Violation> {
    feed([input]).1
}

/// A head with these lines behind the request line and a Host.
fn head(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    [
        head("Transfer-Encoding: chunked\r\n"),
        body.as_bytes().to_vec(),
    ]
    .concat()
}

#[test]
fn hazard_51_what_can_be_read_in_two_ways_is_refused() {
    use Violation as V;
    let cases: &[(&str, Violation)] = &[
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", V::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", V::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", V::BareLf),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", V::BareLf),
        ("GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n", V::ControlCharacter),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", V::ControlCharacter),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            V::ControlCharacter,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            V::ControlCharacter,
        ),
        ("GET / HTTP/1.1\r\n\r\n", V::MissingHost),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            V::DuplicateHost,
        ),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", V::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", V::Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", V::Host),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", V::RequestLine),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", V::RequestLine),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", V::RequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", V::RequestLine),
        ("GET /\r\nHost: a\r\n\r\n", V::RequestLine),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", V::RequestLine),
        ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", V::RequestLine),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", V::RequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", V::RequestLine),
    ];
    for (input, expected) in cases {
        assert_eq!(verdict(input.as_bytes()), Some(*expected), "{input:?}");
    }
    let heads: &[(&str, Violation)] = &[
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            V::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            V::LengthAndEncoding,
        ),
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            V::DuplicateContentLength,
        ),
        (
            "Content-Length: 1\r\ncontent-length: 1\r\n",
            V::DuplicateContentLength,
        ),
        ("Content-Length: 5, 5\r\n", V::ContentLength),
        ("Content-Length: +5\r\n", V::ContentLength),
        ("Content-Length: -5\r\n", V::ContentLength),
        ("Content-Length: 0x5\r\n", V::ContentLength),
        ("Content-Length: 5 5\r\n", V::ContentLength),
        ("Content-Length: \r\n", V::ContentLength),
        ("Content-Length: 18446744073709551616\r\n", V::ContentLength),
        ("Content-Length: 18446744073709551615\r\n", V::ContentLength),
        ("Transfer-Encoding: gzip, chunked\r\n", V::TransferEncoding),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            V::TransferEncoding,
        ),
        ("Transfer-Encoding: identity\r\n", V::TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", V::TransferEncoding),
        ("Transfer-Encoding: chunked;a=b\r\n", V::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", V::TransferEncoding),
        ("Transfer-Encoding:\r\n", V::TransferEncoding),
        ("Transfer-Encoding: \x0bchunked\r\n", V::ControlCharacter),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            V::TransferEncoding,
        ),
        ("Transfer-Encoding : chunked\r\n", V::FieldName),
        ("Content-Length\t: 1\r\n", V::FieldName),
        ("Content_Length\r\n", V::FieldName),
        (": 1\r\n", V::FieldName),
        ("X: a\r\n b\r\n", V::ObsFold),
        ("X: a\r\n\tb\r\n", V::ObsFold),
        (
            "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n",
            V::TooManyFields,
        ),
    ];
    for (lines, expected) in heads {
        assert_eq!(verdict(&head(lines)), Some(*expected), "{lines:?}");
    }
    let http10 = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(verdict(http10), Some(V::EncodingOnHttp10));
    assert_eq!(verdict(&[b'a'; 512]), Some(V::HeadTooLarge));
    assert_eq!(verdict(&[b'a'; 511]), None);
}

#[test]
fn hazard_51_chunks_are_read_strictly() {
    use Violation as V;
    let cases: &[(&str, Violation)] = &[
        ("5\nhello\r\n0\r\n\r\n", V::BareLf),
        ("5\r\nhello\n0\r\n\r\n", V::BareLf),
        ("5;x\nhello\r\n0\r\n\r\n", V::BareLf),
        ("5;x\r\r\nhello\r\n0\r\n\r\n", V::ControlCharacter),
        ("5\rX\nhello\r\n0\r\n\r\n", V::ControlCharacter),
        ("+5\r\nhello\r\n0\r\n\r\n", V::ChunkSize),
        ("-5\r\nhello\r\n0\r\n\r\n", V::ChunkSize),
        (" 5\r\nhello\r\n0\r\n\r\n", V::ChunkSize),
        ("5 \r\nhello\r\n0\r\n\r\n", V::ChunkSize),
        ("5 ;a\r\nhello\r\n0\r\n\r\n", V::ChunkSize),
        ("0x5\r\nhello\r\n0\r\n\r\n", V::ChunkSize),
        ("\r\nhello", V::ControlCharacter),
        (";a\r\nhello", V::ChunkSize),
        ("10000000000000000\r\n", V::ChunkSize),
        ("00000000000000005\r\nhello", V::ChunkSize),
        ("5\r\nhello!\r\n0\r\n\r\n", V::ChunkEnd),
        ("5\r\nhello0\r\n\r\n", V::ChunkEnd),
        ("0\n\r\n", V::BareLf),
        ("0\r\n\n", V::BareLf),
        ("0\r\nX: y\n\r\n", V::BareLf),
        ("0\r\nX : y\r\n\r\n", V::FieldName),
        ("0\r\n X: y\r\n\r\n", V::ObsFold),
        ("0\r\nX: y\0\r\n\r\n", V::ControlCharacter),
    ];
    for (body, expected) in cases {
        assert_eq!(verdict(&chunked(body)), Some(*expected), "{body:?}");
    }
    let long = format!("5;{}", "x".repeat(5000));
    assert_eq!(verdict(&chunked(&long)), Some(V::ChunkExtension));
    let long = format!("0\r\nX: {}", "x".repeat(600));
    assert_eq!(verdict(&chunked(&long)), Some(V::HeadTooLarge));
}

#[test]
fn what_is_plain_passes_byte_by_byte_and_counts_its_heads() {
    let requests: Vec<Vec<u8>> = vec![
        b"\r\nGET /a?b HTTP/1.1\r\nHost: [::1]:80\r\nX:\t y \r\n\r\n".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"GET http://a/b HTTP/1.1\r\nHost:\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n".to_vec(),
        [head("Content-Length: 005\r\n"), b"\n\n\0\r\n".to_vec()].concat(),
        chunked("5\r\nhe\nlo\r\n00A;a=\"b\"\r\n0123456789\r\n0\r\nT: 1\r\nU:\r\n\r\n"),
        head("Transfer-Encoding: CHUNKED\r\n"),
        b"0\r\n\r\n".to_vec(),
    ];
    let input = requests.concat();
    let (passed, verdict, heads) = feed([&*input]);
    assert_eq!(verdict, None);
    assert_eq!(passed, input);
    assert_eq!(heads, 8);
}

#[test]
fn behind_an_offered_upgrade_nothing_passes_until_it_is_decided() {
    let mut framer = Framer::new(LIMITS);
    let offer = head("Connection: upgrade\r\nUpgrade: websocket\r\n");
    assert_eq!(framer.step(&offer), Step::Pass(offer.len()));
    assert_eq!(framer.step(b"\x81\x05"), Step::Undecided);
    framer.resume();
    assert_eq!(framer.step(b"GET"), Step::Wait);
    framer.pass_all();
    assert_eq!(framer.step(b"\x81\x05"), Step::Pass(2));
}

impl Reset for tokio::io::DuplexStream {
    fn reset_on_close(&self) {}
}

#[tokio::test(start_paused = true)]
async fn closing_reads_away_what_the_client_still_sends_up_to_a_bound() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const AN_HOUR: Duration = Duration::from_secs(3600);
    for (length, fits) in [(100_000, true), (5_000_000, false)] {
        let (near, mut far) = tokio::io::duplex(1024);
        let times = GuardTimes {
            head: AN_HOUR,
            idle: AN_HOUR,
            linger: AN_HOUR,
        };
        let state = Arc::new(ConnState::new());
        let mut guard = Guard::new(near, BytesMut::new(), LIMITS, times, state);
        let request = head(&format!("Content-Length: {length}\r\n"));
        far.write_all(&request).await.unwrap();
        let mut read = vec![0; request.len()];
        guard.read_exact(&mut read).await.unwrap();
        let writing = async {
            let written = far.write_all(&vec![0; length]).await;
            drop(far);
            written
        };
        let closing = async {
            guard.shutdown().await.unwrap();
            drop(guard);
        };
        let (written, ()) = tokio::join!(writing, closing);
        assert_eq!(written.is_ok(), fits, "{length}");
    }
}

/// Inputs near the grammar: whole requests with now and then a byte changed.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop_oneof![
        Just("X-A: b\r\n".to_owned()),
        Just("Connection: close\r\n".to_owned()),
        Just("X: \tz \r\n".to_owned()),
        Just("Upgrade: websocket\r\n".to_owned()),
    ];
    let body = prop_oneof![
        Just(String::from("\r\n")),
        "[a-z\r\n]{0,20}".prop_map(|body| format!("Content-Length: {}\r\n\r\n{body}", body.len())),
        prop::collection::vec(("[a-z\r\n]{1,9}", "(;[a-z=]{0,4})?"), 0..4).prop_map(|chunks| {
            let mut text = String::from("Transfer-Encoding: chunked\r\n\r\n");
            for (data, extension) in chunks {
                text += &format!("{:x}{extension}\r\n{data}\r\n", data.len());
            }
            text + "0\r\nT: u\r\n\r\n"
        }),
    ];
    let request = (prop::collection::vec(fields, 0..3), body).prop_map(|(fields, body)| {
        format!("POST /p HTTP/1.1\r\nHost: a\r\n{}{body}", fields.concat()).into_bytes()
    });
    let requests = prop::collection::vec(request, 1..4).prop_map(|requests| requests.concat());
    let noise = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (requests, noise).prop_map(|(mut bytes, noise)| {
        for (index, byte) in noise {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(
        input in prop_oneof![traffic(), prop::collection::vec(any::<u8>(), 0..200)],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&input[from..cut]);
            from = cut;
        }
        pieces.push(&input[from..]);
        let whole = feed([&*input]);
        prop_assert_eq!(&feed(pieces), &whole);
        prop_assert_eq!(&feed(input.chunks(1)), &whole);
        // Transparent: what passes is what came, from its beginning.
        prop_assert!(input.starts_with(&whole.0));
    }

    /// Where the guard sees a request, httparse (and so hyper) sees the same one.
    #[test]
    fn a_passed_head_is_one_for_hyper_too(input in traffic()) {
        let mut framer = Framer::new(LIMITS);
        if let Step::Pass(length) = framer.step(&input) {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(&input);
            if framer.heads() == 1 {
                // hyper may be stricter (in the target), never longer or shorter.
                if let Ok(status) = parsed {
                    prop_assert_eq!(status, httparse::Status::Complete(length));
                }
            }
        }
    }
}
