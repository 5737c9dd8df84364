//! The service that refuses who is on the blocklist.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::addr::AddrFn;
use super::entry::EntryId;
use super::list::Blocklist;
use crate::path::read_strictly;
use crate::refused::ResponseFuture;
use crate::{Answers, Code, PipelineBody, Refusal, Text};

/// A service that some addresses don't reach. Made by [`BlocklistLayer`](super::BlocklistLayer).
#[derive(Clone)]
pub struct BlocklistService<S> {
    pub(super) inner: S,
    pub(super) blocklist: Blocklist,
    pub(super) answers: Answers,
    pub(super) address: AddrFn,
    pub(super) told: Arc<AtomicBool>,
    pub(super) open: bool,
}

/// Why a request was refused: in the extensions of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// Whose request it was.
    pub address: IpAddr,
    /// By which entry.
    pub entry: EntryId,
}

impl<S> BlocklistService<S> {
    fn refusal<B>(&self, request: &Request<B>) -> Option<Blocked> {
        if self.open && read_strictly(request.uri().path()).is_ok() {
            return None;
        }
        let Some(address) = (self.address)(request.extensions()) else {
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the blocklist knows no client's address, and lets the request pass: put the \
                     layer inside of one that finds it out"
                );
            }
            return None;
        };
        let entry = self.blocklist.hit(address)?;
        Some(Blocked { address, entry })
    }
}

impl<S, B, R> Service<Request<B>> for BlocklistService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<PipelineBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(blocked) = self.refusal(&request) else {
            return ResponseFuture::passed(self.inner.call(request));
        };
        tracing::debug!(address = %blocked.address, entry = %blocked.entry, "blocked");
        let refusal = Refusal::new(Code::SERVER_BUSY)
            .with_text(Text::both(
                "This request is abnormal and has been blocked; if in doubt, ask the administrator",
                "请求异常，已被封禁，如有疑问请联系管理员！",
            ))
            .with_status(StatusCode::FORBIDDEN);
        let mut response = self.answers.refuse(&refusal, &request);
        response.extensions_mut().insert(blocked);
        ResponseFuture::refused(response)
    }
}

impl<S> fmt::Debug for BlocklistService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlocklistService")
            .field("blocklist", &self.blocklist)
            .finish_non_exhaustive()
    }
}
