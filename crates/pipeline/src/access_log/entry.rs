//! All that is known of a request once its answer has ended: what lines and rows are made of,
//! away from the request's own time.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderName, Method, Uri, Version, header};
use onlyonce::Verdict;
use onlyonce_core::Timestamp;

use super::escape::text_of;
use super::line::millis;
use super::recorder::BodyRecorder;
use super::row::clipped;
use super::{AccessRow, Ending, Redaction, RowId};
use crate::{AnswerNote, Code, Language};

/// What a request says of itself, kept while others handle it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) created: Timestamp,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) secure: bool,
    /// All, where a row is kept; else those that a line shows.
    pub(super) headers: HeaderMap,
}

/// What its answer says.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) note: Option<AnswerNote>,
    pub(super) verdict: Option<Verdict>,
}

impl Answered {
    pub(super) fn of(status: u16, extensions: &Extensions) -> Self {
        Self {
            status,
            note: extensions.get::<AnswerNote>().cloned(),
            verdict: extensions.get::<Verdict>().cloned(),
        }
    }

    /// There was no answer.
    pub(super) const fn with_status(status: u16) -> Self {
        Self {
            status,
            note: None,
            verdict: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) asked: Asked,
    pub(super) answered: Answered,
    pub(super) trace_id: String,
    pub(super) module: String,
    pub(super) ip: Option<IpAddr>,
    pub(super) user: Option<String>,
    pub(super) duration: Duration,
    pub(super) responded: Timestamp,
    pub(super) ending: Ending,
    pub(super) body: Option<BodyRecorder>,
    pub(super) redaction: Arc<Redaction>,
    /// Looked up once, by whoever needs it first: that takes a while.
    pub(super) stack: OnceLock<Vec<String>>,
}

/// Bytes of a short field, such as a user's ID.
const SHORT: usize = 256;
/// Bytes of a long one, such as a message.
const LONG: usize = 8 * 1024;
/// Bytes of a path: databases have indexes on it, and those have limits.
const PATH: usize = 2 * 1024;
const MOST_HEADERS: usize = 200;
const MOST_FRAMES: usize = 400;

impl Entry {
    /// The code, where the answer has one.
    pub(super) fn code(&self) -> Option<Code> {
        self.answered.note.as_ref().map(|note| note.code)
    }

    /// What went wrong: the real message, whatever the client was told.
    pub(super) fn message(&self) -> &str {
        match &self.answered.note {
            Some(note) if note.code != Code::OK => match &note.error {
                Some(error) => error.message(Language::En),
                None => &note.message,
            },
            _ => "",
        }
    }

    /// The error's chain and places.
    pub(super) fn stack(&self) -> &[String] {
        self.stack.get_or_init(|| {
            let note = self.answered.note.as_ref();
            let error = note.and_then(|note| note.error.as_ref());
            let mut lines = error.map_or_else(Vec::new, |error| error.lines(Language::En));
            if lines.last().is_some_and(String::is_empty) {
                lines.pop();
            }
            lines.truncate(MOST_FRAMES);
            lines
        })
    }

    pub(super) const fn scheme(&self) -> &'static str {
        if self.asked.secure { "https" } else { "http" }
    }

    pub(super) fn host(&self) -> String {
        match self.asked.uri.host() {
            // Who puts a password there has it removed.
            Some(host) => match self.asked.uri.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
            None => self.header(&header::HOST),
        }
    }

    /// Path and query, without secrets.
    pub(super) fn target(&self) -> String {
        match self.query() {
            Some(query) => format!("{}?{query}", self.asked.uri.path()),
            None => self.asked.uri.path().to_owned(),
        }
    }

    fn query(&self) -> Option<String> {
        let query = self.asked.uri.query();
        query.map(|query| self.redaction.query(query))
    }

    pub(super) const fn protocol(&self) -> &'static str {
        match self.asked.version {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }

    pub(super) fn referer(&self) -> String {
        self.redaction.url(&self.header(&header::REFERER))
    }

    pub(super) fn user_agent(&self) -> String {
        self.header(&header::USER_AGENT)
    }

    fn header(&self, name: &HeaderName) -> String {
        let value = self.asked.headers.get(name);
        value.map_or_else(String::new, |value| text_of(value.as_bytes()))
    }

    pub(super) fn outcome(&self) -> Option<&'static str> {
        let verdict = self.answered.verdict.as_ref()?;
        Some(verdict.outcome().as_str())
    }

    pub(super) fn key_hash(&self) -> Option<&str> {
        self.answered.verdict.as_ref()?.key_tag()
    }

    pub(super) fn row(&self) -> AccessRow {
        let long = |text: &str| clipped(text, LONG);
        let headers = self.redaction.headers(&self.asked.headers).into_iter();
        AccessRow {
            id: RowId::new(self.asked.created),
            trace_id: clipped(&self.trace_id, SHORT),
            module: clipped(&self.module, SHORT),
            method: clipped(self.asked.method.as_str(), SHORT),
            scheme: self.scheme().to_owned(),
            host: clipped(&self.host(), SHORT),
            path: clipped(self.asked.uri.path(), PATH),
            query: long(&self.query().unwrap_or_default()),
            headers: headers
                .take(MOST_HEADERS)
                .map(|(name, value)| (clipped(&name, SHORT), long(&value)))
                .collect(),
            body: self.body(),
            ip: self.ip,
            user: self.user.as_deref().map(|user| clipped(user, SHORT)),
            code: self.code().map(Code::number),
            message: long(self.message()),
            stack: self.stack().iter().map(|line| long(line)).collect(),
            status: self.answered.status,
            user_agent: long(&self.user_agent()),
            duration: Duration::from_millis(millis(self.duration)),
            ending: self.ending,
            responded: self.responded,
            created: self.asked.created,
            outcome: self.outcome().map(str::to_owned),
            key_hash: self.key_hash().map(|hash| clipped(hash, SHORT)),
        }
    }

    fn body(&self) -> String {
        let Some(recorder) = &self.body else {
            return String::new();
        };
        let recorded = recorder.take();
        let content_type = self.header(&header::CONTENT_TYPE);
        let shown = self
            .redaction
            .body(&recorded.bytes, recorded.total, &content_type);
        // Redacted, a body can be longer than it was.
        clipped(&shown, 2 * recorded.bytes.len() + LONG)
    }
}
