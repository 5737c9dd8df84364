use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue, Method, Version, header};
use proptest::prelude::*;
use serde_json::Value;

use super::super::Redaction;
use super::super::entry::{Answered, Asked};
use super::*;
use crate::AnswerNote;

fn entry() -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("shop.example:8443"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("curl/8.5"));
    headers.insert(
        header::REFERER,
        HeaderValue::from_static("https://a/?token=x&p=1"),
    );
    Entry {
        asked: Asked {
            created: Timestamp::from_millis(1_767_225_600_000),
            method: Method::POST,
            uri: "/orders/7?page=2&token=x".parse().unwrap(),
            version: Version::HTTP_11,
            secure: true,
            headers,
        },
        answered: Answered::with_status(201),
        trace_id: "b4f90e16264a5f17cd3fc27141aba448".to_owned(),
        module: "orders".to_owned(),
        ip: Some("192.0.2.7".parse().unwrap()),
        user: Some("17".to_owned()),
        duration: Duration::from_micros(3499),
        responded: Timestamp::from_millis(1_767_225_600_003),
        ending: Ending::Complete,
        body: None,
        redaction: Arc::new(Redaction::new()),
        stack: OnceLock::new(),
    }
}

fn failed(mut entry: Entry, code: i32, message: &str, stack: &[&str]) -> Entry {
    entry.answered.note = Some(AnswerNote {
        code: Code::new(code),
        message: message.into(),
        error: None,
    });
    let stack = stack.iter().map(|line| (*line).to_owned()).collect();
    entry.stack.set(stack).unwrap();
    entry
}

#[test]
fn a_line_is_as_the_documentation_says() {
    assert_eq!(
        text(&entry()),
        "2026-01-01 00:00:00.003 {b4f90e16264a5f17cd3fc27141aba448} 201 \
         \"POST https shop.example:8443 /orders/7?page=2&token=[redacted] HTTP/1.1\" 0.003, \
         192.0.2.7, \"https://a/?token=[redacted]&p=1\", \"curl/8.5\""
    );
}

#[test]
fn an_error_s_line_goes_on() {
    let stack = ["1. outer", "   1).  f", "        a.rs:7"];
    let line = text(&failed(entry(), 50, "it \"broke\"", &stack));
    let rest = line.split_once("\"curl/8.5\"").unwrap().1;
    assert_eq!(
        rest,
        r#", 50, "it \"broke\"", "", "1. outer\n   1).  f\n        a.rs:7""#
    );
    let line = text(&failed(entry(), 62, "no", &[]));
    assert!(line.ends_with(r#""curl/8.5", 62, "no", """#), "{line}");
    let line = text(&failed(entry(), 0, "OK", &[]));
    assert!(line.ends_with(r#""curl/8.5""#), "{line}");
}

#[test]
fn a_client_that_hung_up_is_logged_as_such() {
    let mut hung_up = entry();
    hung_up.answered.status = 499;
    hung_up.ending = Ending::HungUp;
    let line = text(&hung_up);
    assert!(line.contains("} 499 \""), "{line}");
    assert!(
        line.ends_with(r#""curl/8.5", -1, "", "client hung up""#),
        "{line}"
    );
    let json: Value = serde_json::from_str(&json(&hung_up)).unwrap();
    assert_eq!(json["ending"], "hung-up");
}

#[test]
fn a_json_line_has_the_fields_in_order() {
    let line = json(&failed(entry(), 50, "broke", &["1. broke"]));
    assert_eq!(
        line,
        r#"{"time":"2026-01-01T00:00:00.003Z","trace_id":"b4f90e16264a5f17cd3fc27141aba448","status":201,"method":"POST","scheme":"https","host":"shop.example:8443","uri":"/orders/7?page=2&token=[redacted]","protocol":"HTTP/1.1","duration_ms":3,"ip":"192.0.2.7","referer":"https://a/?token=[redacted]&p=1","user_agent":"curl/8.5","module":"orders","user":"17","code":50,"message":"broke","stack":["1. broke"],"ending":"complete"}"#
    );
}

/// A line, read by somebody who knows the documentation alone.
#[derive(Debug, PartialEq)]
struct Parsed {
    time: String,
    trace_id: String,
    status: u16,
    request: [String; 5],
    seconds: String,
    ip: String,
    referer: String,
    user_agent: String,
    error: Option<(i32, String, String, Option<String>)>,
}

struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn until(&mut self, end: &str) -> &'a str {
        let (before, after) = self
            .0
            .split_once(end)
            .unwrap_or_else(|| panic!("{end:?} in {}", self.0));
        self.0 = after;
        before
    }

    fn expect(&mut self, text: &str) {
        self.0 = self
            .0
            .strip_prefix(text)
            .unwrap_or_else(|| panic!("{text:?} at {}", self.0));
    }

    /// What stands between quotes, with its escapes still in it.
    fn quoted(&mut self) -> &'a str {
        self.expect("\"");
        let mut escaped = false;
        let end = self.0.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (inside, rest) = self.0.split_at(end.expect("a closing quote"));
        self.0 = &rest[1..];
        inside
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let kind = after.chars().next().expect("an escaped character");
        rest = &after[1..];
        match kind {
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            'x' => {
                plain.push(char::from(u8::from_str_radix(&rest[..2], 16).unwrap()));
                rest = &rest[2..];
            }
            'u' => {
                let (number, after) = rest[1..].split_once('}').unwrap();
                plain.push(char::from_u32(u32::from_str_radix(number, 16).unwrap()).unwrap());
                rest = after;
            }
            '"' | '\\' => plain.push(kind),
            other => panic!("nobody writes \\{other}"),
        }
    }
    plain.push_str(rest);
    plain
}

fn parse(line: &str) -> Parsed {
    let mut reader = Reader(line);
    let time = reader.until(" {").to_owned();
    let trace_id = unescaped(reader.until("} "));
    let status = reader.until(" ").parse().unwrap();
    let request: Vec<String> = reader.quoted().split(' ').map(unescaped).collect();
    reader.expect(" ");
    let seconds = reader.until(", ").to_owned();
    let ip = reader.until(", ").to_owned();
    let referer = unescaped(reader.quoted());
    reader.expect(", ");
    let user_agent = unescaped(reader.quoted());
    let mut error = None;
    if !reader.0.is_empty() {
        reader.expect(", ");
        let code = reader.until(", ").parse().unwrap();
        let message = unescaped(reader.quoted());
        reader.expect(", ");
        let remark = unescaped(reader.quoted());
        let stack = (!reader.0.is_empty()).then(|| {
            reader.expect(", ");
            unescaped(reader.quoted())
        });
        error = Some((code, message, remark, stack));
    }
    assert_eq!(reader.0, "", "something stands behind the line");
    Parsed {
        time,
        trace_id,
        status,
        request: request.try_into().unwrap(),
        seconds,
        ip,
        referer,
        user_agent,
        error,
    }
}

/// What has no business in a log, put down one by one.
fn assert_harmless(line: &str) {
    for c in line.chars() {
        let harmful = matches!(u32::from(c),
            0..=0x1f | 0x7f..=0x9f | 0x61c | 0x200e | 0x200f | 0x2028 | 0x2029
            | 0x202a..=0x202e | 0x2066..=0x2069 | 0xfeff);
        assert!(!harmful, "{c:?} in {line:?}");
    }
}

/// Text as an attacker would write it.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        Just(
            "\r\n2026-01-01 00:00:00.000 {b} 200 \"GET http a / HTTP/1.1\" 0.000, -, \"\", \"\""
                .to_owned()
        ),
        Just("\u{1b}[2J\u{9b}31m".to_owned()),
        Just("\", \"".to_owned()),
        Just("\\".to_owned()),
        Just("} ".to_owned()),
        Just("\u{2028}\u{2029}\u{85}\u{202e}\u{2066}\u{7f}\u{0}".to_owned()),
        "[ -~]{0,8}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// The same as a header's value, as far as it can be one.
fn header() -> impl Strategy<Value = HeaderValue> {
    nasty().prop_map(|text| {
        let bytes: Vec<u8> = text.bytes().filter(|b| *b >= 32 && *b != 127).collect();
        HeaderValue::from_bytes(&bytes).unwrap()
    })
}

fn text_of(value: &HeaderValue) -> String {
    String::from_utf8(value.as_bytes().to_vec()).unwrap()
}

fn hostile() -> impl Strategy<Value = Entry> {
    let strings = (nasty(), nasty(), nasty(), nasty(), nasty());
    let headers = (header(), header());
    let path = "/[!$'()*+,./0-9:A-Za-z_~|{}^`\"\\\\-]{0,20}"
        .prop_filter_map("a path", |path| path.parse().ok());
    (strings, headers, path, any::<i32>(), any::<bool>()).prop_map(
        |((trace_id, module, user, message, stack), (host, agent), uri, code, hung_up)| {
            let mut entry = failed(entry(), code, &message, &[&stack, "2."]);
            entry.trace_id = trace_id;
            entry.module = module;
            entry.user = Some(user);
            entry.asked.uri = uri;
            entry.asked.headers.insert(header::HOST, host);
            entry.asked.headers.insert(header::USER_AGENT, agent);
            if hung_up {
                entry.ending = Ending::HungUp;
            }
            entry
        },
    )
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

proptest! {
    #[test]
    fn hazard_54_no_text_line_can_be_forged(entry in hostile()) {
        let line = text(&entry);
        assert_harmless(&line);
        let note = entry.answered.note.as_ref().unwrap();
        let code = note.code.number();
        let stack = Some(entry.stack().join("\n"));
        let remark = if entry.ending == Ending::HungUp { "client hung up" } else { "" };
        let error = match (code, entry.ending) {
            (0, Ending::Complete) => None,
            // It is no error, and has no message: it only broke off.
            (0, _) => Some((-1, String::new(), remark.to_owned(), stack)),
            _ => Some((code, note.message.to_string(), remark.to_owned(), stack)),
        };
        let parsed = parse(&line);
        prop_assert_eq!(parsed, Parsed {
            time: "2026-01-01 00:00:00.003".to_owned(),
            trace_id: or_dash(&entry.trace_id),
            status: 201,
            request: [
                "POST".to_owned(),
                "https".to_owned(),
                or_dash(&text_of(&entry.asked.headers[header::HOST])),
                entry.asked.uri.to_string(),
                "HTTP/1.1".to_owned(),
            ],
            seconds: "0.003".to_owned(),
            ip: "192.0.2.7".to_owned(),
            referer: "https://a/?token=[redacted]&p=1".to_owned(),
            user_agent: text_of(&entry.asked.headers[header::USER_AGENT]),
            error,
        });
    }

    #[test]
    fn hazard_54_no_json_line_can_be_forged(entry in hostile()) {
        let line = json(&entry);
        assert_harmless(&line);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(parsed["trace_id"].as_str().unwrap(), &entry.trace_id);
        prop_assert_eq!(parsed["module"].as_str().unwrap(), &entry.module);
        prop_assert_eq!(parsed["user"].as_str(), entry.user.as_deref());
        prop_assert_eq!(parsed["host"].as_str().unwrap(), text_of(&entry.asked.headers[header::HOST]));
        let agent = parsed["user_agent"].as_str().unwrap_or_default();
        prop_assert_eq!(agent, text_of(&entry.asked.headers[header::USER_AGENT]));
        prop_assert_eq!(parsed["message"].as_str().unwrap_or_default(), entry.message());
        prop_assert_eq!(parsed["uri"].as_str().unwrap(), entry.asked.uri.to_string());
    }
}
