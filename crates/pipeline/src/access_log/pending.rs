//! A request that is not over yet: logged when it is, however it ends.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::{Extensions, HeaderMap, HeaderName, Request, header};
use onlyonce::TraceId;
use tokio::time::Instant;

use super::entry::{Answered, Asked, Entry};
use super::layer::Shared;
use super::recorder::BodyRecorder;
use super::{Ending, Rules};
use crate::context::{Context, ContextSlot, random_trace_id};

/// Logs its request when it is [ended](Self::end), or else dropped.
pub(super) struct Pending(Option<Box<Open>>);

struct Open {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    begun: Instant,
    asked: Asked,
    answered: Option<Answered>,
    context: ContextSlot,
    trace_id: Option<TraceId>,
    peer: Option<IpAddr>,
    keeps_row: bool,
    body: Option<BodyRecorder>,
}

/// Nginx's number for a client that hung up before it was answered.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// What a line shows.
const SHOWN: [HeaderName; 3] = [header::HOST, header::REFERER, header::USER_AGENT];

impl Pending {
    /// Watches a request from now on; nothing, where nothing of it is logged.
    pub(super) fn open<B>(shared: &Arc<Shared>, request: &mut Request<B>) -> Self {
        let rules = shared.rules.load_full();
        let path = request.uri().path();
        let nowhere = shared.lines.is_none() && shared.rows.is_none();
        if nowhere || !rules.enabled || rules.skip_paths.contains(path) {
            return Self(None);
        }
        let keeps_row = shared.rows.is_some();
        let keeps_body = keeps_row && rules.max_body > 0 && !rules.skip_bodies.contains(path);
        let peer = shared.peer.as_ref().map(|peer| peer(request.extensions()));
        let (addr, secure) = peer.map_or((None, None), |peer| (peer.addr, Some(peer.secure)));
        let scheme = request.uri().scheme();
        let asked = Asked {
            created: shared.clock.now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            secure: secure.unwrap_or(scheme == Some(&http::uri::Scheme::HTTPS)),
            headers: kept(request.headers(), keeps_row),
        };
        let body = keeps_body.then(|| BodyRecorder::new(rules.max_body));
        let extensions = request.extensions_mut();
        if let Some(body) = &body {
            extensions.insert(body.clone());
        }
        Self(Some(Box::new(Open {
            shared: Arc::clone(shared),
            rules,
            begun: Instant::now(),
            asked,
            answered: None,
            trace_id: extensions.get::<TraceId>().cloned(),
            context: ContextSlot::of(extensions),
            peer: addr,
            keeps_row,
            body,
        })))
    }

    /// There is an answer; its body is still to be sent.
    pub(super) fn answer(&mut self, status: u16, extensions: &Extensions) {
        if let Some(open) = &mut self.0 {
            open.answered = Some(Answered::of(status, extensions));
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, ending: Ending) {
        if let Some(open) = self.0.take() {
            open.log(ending);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // A panic drops it, too: that is no client that hung up.
        let ending = if std::thread::panicking() {
            Ending::Failed
        } else {
            Ending::HungUp
        };
        self.end(ending);
    }
}

impl Open {
    fn log(self, ending: Ending) {
        let context = self.context.context();
        let own = match (context, &self.trace_id) {
            (Some(context), _) => context.trace_id().as_str().to_owned(),
            (None, Some(outer)) => outer.as_str().to_owned(),
            (None, None) => random_trace_id().as_str().to_owned(),
        };
        let module = match context {
            Some(context) => context.module().to_owned(),
            None => module(self.asked.uri.path()).to_owned(),
        };
        let unanswered = match ending {
            Ending::HungUp => CLIENT_CLOSED_REQUEST,
            Ending::Complete | Ending::Failed => 500,
        };
        let entry = Arc::new(Entry {
            duration: self.begun.elapsed(),
            responded: self.shared.clock.now(),
            ip: context
                .and_then(Context::client_addr)
                .or(self.peer.map(|addr| addr.to_canonical())),
            user: context
                .and_then(Context::identity)
                .map(|identity| identity.id.clone()),
            answered: self
                .answered
                .unwrap_or_else(|| Answered::with_status(unanswered)),
            asked: self.asked,
            trace_id: own,
            module,
            ending,
            body: self.body,
            redaction: Arc::clone(&self.rules.redaction),
            stack: OnceLock::new(),
        });
        if let Some(lines) = &self.shared.lines {
            lines.offer(&entry);
        }
        if let Some(rows) = &self.shared.rows
            && self.keeps_row
            && self
                .rules
                .keeps_row(&entry.module, entry.asked.uri.path(), entry.code())
        {
            rows.offer(move || entry.row());
        }
    }
}

fn module(path: &str) -> &str {
    let first = path.trim_start_matches('/').split('/').next();
    first.filter(|first| !first.is_empty()).unwrap_or("default")
}

fn kept(headers: &HeaderMap, all: bool) -> HeaderMap {
    if all {
        return headers.clone();
    }
    let shown = SHOWN.into_iter().filter_map(|name| {
        let value = headers.get(&name)?.clone();
        Some((name, value))
    });
    shown.collect()
}
