//! The gateway's follower of HTTP/1 request framing.

use onlyonce_gateway::front::{FrameLimits, Framer, Step, Violation};

const LIMITS: FrameLimits = FrameLimits {
    max_head: 512,
    max_fields: 8,
};

/// Whatever a connection carries: the first byte says how it is cut, the rest is the traffic.
///
/// # Panics
/// When the verdict depends on the cuts, when the bytes that are held back outgrow their bound,
/// or when hyper's parser would find a head of another length.
pub fn http_front(data: &[u8]) {
    let Some((cut, traffic)) = data.split_first() else {
        return;
    };
    let whole = feed([traffic]);
    assert!(
        traffic.starts_with(&whole.passed),
        "what passes is what came"
    );
    assert_eq!(feed(traffic.chunks(usize::from(*cut) + 1)), whole);
    assert_eq!(feed(traffic.chunks(1)), whole);
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    passed: Vec<u8>,
    violation: Option<Violation>,
    heads: u64,
}

fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let mut framer = Framer::new(LIMITS);
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    let mut violation = None;
    for piece in pieces {
        held.extend_from_slice(piece);
        violation = judge(&mut framer, &mut held, &mut passed);
        if violation.is_some() {
            break;
        }
    }
    Verdict {
        passed,
        violation,
        heads: framer.heads(),
    }
}

fn judge(framer: &mut Framer, held: &mut Vec<u8>, passed: &mut Vec<u8>) -> Option<Violation> {
    loop {
        let heads = framer.heads();
        match framer.step(held) {
            Step::Pass(length) => {
                assert!((1..=held.len()).contains(&length));
                let bytes: Vec<u8> = held.drain(..length).collect();
                if framer.heads() > heads {
                    is_one_head(&bytes);
                }
                passed.extend_from_slice(&bytes);
            }
            Step::Wait => {
                assert!(
                    held.len() < LIMITS.max_head,
                    "more is held than a head may have"
                );
                return None;
            }
            // The offer is declined: what follows must be read as the next request.
            Step::Undecided => framer.resume(),
            Step::Refuse(violation) => {
                assert_eq!(
                    framer.step(b"GET / HTTP/1.1\r\n"),
                    Step::Refuse(violation),
                    "final"
                );
                return Some(violation);
            }
        }
    }
}

/// hyper may refuse what passed here, but must not find its end elsewhere.
fn is_one_head(bytes: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    if let Ok(status) = httparse::Request::new(&mut fields).parse(bytes) {
        assert_eq!(status, httparse::Status::Complete(bytes.len()));
    }
}
