//! How refusals, errors and results become responses.

mod asked;
mod document;
mod page;
mod xml;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use onlyonce::{Control, EffectiveStatus};
use onlyonce_core::{Clock, SystemClock};
use serde_json::value::RawValue;

use crate::{Code, ContentKind, Error, Language, Refusal};

use asked::Kinds;
pub use asked::{Asked, RoutePatternError};
use document::{Document, Told};
use page::Page;
pub use page::TemplateError;

/// With which HTTP status answers are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusMode {
    /// Each code with a status of its own: [`Code::status`]. The default.
    #[default]
    Mapped,
    /// Every answer with 200, as HotGo does; the code in the body says what became of it.
    Always200,
}

/// How refusals, errors and results become responses. All layers of one pipeline share one.
///
/// # Example
/// ```
/// use http::Request;
/// use onlyonce_pipeline::{Answers, Code, Refusal, StatusMode};
///
/// let answers = Answers::new().with_status_mode(StatusMode::Always200);
/// let request = Request::get("/orders").body(()).unwrap();
/// let response = answers.refuse(&Refusal::new(Code::NOT_AUTHORIZED), &request);
/// assert_eq!(response.status(), 200);
/// assert!(response.body().starts_with(br#"{"code":61,"message":"Not Authorized","#));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Answers(Arc<Rules>);

#[derive(Clone, Debug)]
struct Rules {
    status_mode: StatusMode,
    debug: bool,
    /// None: as the client asks.
    language: Option<Language>,
    fallback: Language,
    clock: Arc<dyn Clock>,
    kinds: Kinds,
    page: Page,
}

/// What a response says, for the layers outside: in its extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnswerNote {
    /// What became of the request.
    pub code: Code,
    /// What the client was told.
    pub message: Arc<str>,
    /// What really happened, with its whole chain, where there was an error.
    pub error: Option<Arc<Error>>,
}

/// What an answer is made of.
enum Said<'a> {
    Result(&'a RawValue),
    Facts(&'a RawValue),
    Error(&'a Error),
    Nothing,
}

impl Answers {
    /// Answers with mapped statuses, without debug, in the language that the client asks for,
    /// or else in English.
    pub fn new() -> Self {
        Self(Arc::new(Rules {
            status_mode: StatusMode::default(),
            debug: false,
            language: None,
            fallback: Language::default(),
            clock: Arc::new(SystemClock::new()),
            kinds: Kinds::default(),
            page: Page::default(),
        }))
    }

    fn rules(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.0)
    }

    /// With which HTTP status answers are sent; [`StatusMode::Mapped`] by default.
    pub fn with_status_mode(mut self, mode: StatusMode) -> Self {
        self.rules().status_mode = mode;
        self
    }

    /// With which HTTP status answers are sent.
    #[must_use]
    pub fn status_mode(&self) -> StatusMode {
        self.0.status_mode
    }

    /// Whether clients see the whole chain of an error, with places in the program; off by
    /// default. Never on where strangers call.
    pub fn with_debug(mut self, debug: bool) -> Self {
        self.rules().debug = debug;
        self
    }

    /// Answers in this language, whatever the client asks for.
    pub fn with_language(mut self, language: Language) -> Self {
        self.rules().language = Some(language);
        self
    }

    /// Answers in the language that `Accept-Language` likes best, or in this one. English by
    /// default.
    pub fn with_fallback_language(mut self, language: Language) -> Self {
        let rules = self.rules();
        rules.language = None;
        rules.fallback = language;
        self
    }

    /// Takes timestamps from `clock`; from the machine's by default.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.rules().clock = clock;
        self
    }

    /// Answers on this route, in this form, where the response says nothing else; JSON by default.
    /// Patterns are as in axum: `/export/{*rest}`. The most specific wins.
    ///
    /// # Errors
    /// When the pattern is malformed, or conflicts with another.
    pub fn with_kind(
        mut self,
        pattern: &str,
        kind: ContentKind,
    ) -> Result<Self, RoutePatternError> {
        self.rules().kinds.insert(pattern, kind)?;
        Ok(self)
    }

    /// Shows errors on HTML routes by this template (the syntax is Jinja's). It knows `code`,
    /// `message`, `status`, `error` (an array of lines, empty without debug), `timestamp`,
    /// `traceID` and `language`; everything is escaped.
    ///
    /// # Errors
    /// When the template is malformed, or shows something else; the error names the line.
    pub fn with_error_page(mut self, template: &str) -> Result<Self, TemplateError> {
        self.rules().page = Page::new(template)?;
        Ok(self)
    }

    /// What the request says about how it is to be answered: for layers that answer when they
    /// have the request no more.
    pub fn asked<B>(&self, request: &Request<B>) -> Asked {
        let rules = &self.0;
        let language = rules
            .language
            .unwrap_or_else(|| Language::of(request.headers(), rules.fallback));
        Asked::new(request, language, &rules.kinds)
    }

    /// The response that tells of a refusal. To an idempotency layer outside it says
    /// [`NotExecuted`](Control::NotExecuted): the key is free for when the request may go further.
    pub fn refuse<B>(&self, refusal: &Refusal, request: &Request<B>) -> Response<Bytes> {
        self.refuse_asked(refusal, &self.asked(request))
    }

    /// As [`Self::refuse`], for a request that is gone.
    pub fn refuse_asked(&self, refusal: &Refusal, asked: &Asked) -> Response<Bytes> {
        let mut response = self.told(refusal, asked, asked.kind);
        response.extensions_mut().insert(Control::NotExecuted);
        response
    }

    /// What a refusal says, without the word that nothing was executed.
    pub(crate) fn told(
        &self,
        refusal: &Refusal,
        asked: &Asked,
        kind: ContentKind,
    ) -> Response<Bytes> {
        let message = match &refusal.text {
            Some(text) => text.in_language(asked.language),
            None => refusal.code.message(asked.language).unwrap_or_default(),
        };
        let status = refusal.status.unwrap_or_else(|| refusal.code.status());
        let said = Said::Nothing;
        let mut response = self.say(refusal.code, message, status, &said, asked, kind);
        if let Some(wait) = refusal.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        note(&mut response, refusal.code, message, None);
        response
    }

    /// The response that tells of an error, in the form `kind`, or in the route's.
    pub fn error(
        &self,
        error: &Arc<Error>,
        asked: &Asked,
        kind: Option<ContentKind>,
    ) -> Response<Bytes> {
        let (code, language) = (error.code(), asked.language);
        let message = if error.is_internal() && !self.0.debug {
            hidden(language)
        } else {
            error.message(language)
        };
        let (said, kind) = (Said::Error(error), kind.unwrap_or(asked.kind));
        let mut response = self.say(code, message, code.status(), &said, asked, kind);
        note(&mut response, code, message, Some(Arc::clone(error)));
        response
    }

    /// The response that brings a result, in the form `kind`, or in the route's. Without a
    /// `message` it says that all is well.
    pub fn result(
        &self,
        data: Option<&RawValue>,
        message: Option<&str>,
        asked: &Asked,
        kind: Option<ContentKind>,
    ) -> Response<Bytes> {
        let message = message
            .or_else(|| Code::OK.message(asked.language))
            .unwrap_or_default();
        let said = data.map_or(Said::Nothing, Said::Result);
        let kind = kind.unwrap_or(asked.kind);
        let mut response = self.say(Code::OK, message, StatusCode::OK, &said, asked, kind);
        note(&mut response, Code::OK, message, None);
        response
    }

    /// The response that tells of a refusal made elsewhere, in the route's form: `facts`, a JSON
    /// value, stand in `error`.
    pub fn facts(
        &self,
        code: Code,
        message: &str,
        status: StatusCode,
        facts: &[u8],
        asked: &Asked,
    ) -> Response<Bytes> {
        let said = match serde_json::from_slice(facts) {
            Ok(facts) => Said::Facts(facts),
            Err(_) => Said::Nothing,
        };
        let mut response = self.say(code, message, status, &said, asked, asked.kind);
        note(&mut response, code, message, None);
        response
    }

    fn say(
        &self,
        code: Code,
        message: &str,
        status: StatusCode,
        said: &Said<'_>,
        asked: &Asked,
        kind: ContentKind,
    ) -> Response<Bytes> {
        let lines = match said {
            Said::Error(error) if self.0.debug => Some(error.lines(asked.language)),
            _ => None,
        };
        let facts = match said {
            Said::Facts(facts) => Some(Told::Facts(facts)),
            _ => lines.as_deref().map(Told::Lines),
        };
        let document = Document {
            code,
            message,
            data: match said {
                Said::Result(data) if data.get() != "null" => Some(data),
                _ => None,
            },
            error: facts,
            timestamp: self.0.clock.now().as_millis() / 1000,
            trace_id: asked.trace_id(),
        };
        let sent = match self.0.status_mode {
            StatusMode::Mapped => status,
            StatusMode::Always200 => StatusCode::OK,
        };
        let (kind, body) = match kind {
            ContentKind::Json | ContentKind::EventStream => (ContentKind::Json, document.json()),
            ContentKind::Xml => (kind, document.xml()),
            ContentKind::Text => (kind, document.text()),
            ContentKind::Html => (kind, self.0.page.render(&document, sent, asked.language)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = sent;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
        if code != Code::OK {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if sent != status {
            // Whoever judges by the status is to judge by what it means.
            response.extensions_mut().insert(EffectiveStatus(status));
        }
        response
    }
}

fn note(response: &mut Response<Bytes>, code: Code, message: &str, error: Option<Arc<Error>>) {
    response.extensions_mut().insert(AnswerNote {
        code,
        message: message.into(),
        error,
    });
}

/// What clients are told instead of a message that is not meant for them.
const fn hidden(language: Language) -> &'static str {
    match language {
        Language::En => "Operation failed, please try again later",
        Language::ZhCn => "操作失败，请稍后重试！~",
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
