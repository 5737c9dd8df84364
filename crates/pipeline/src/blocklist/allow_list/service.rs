//! The service that few addresses reach.

use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::super::addr::AddrFn;
use super::paths::is_protected;
use super::{AllowList, SharedPaths};
use crate::refused::ResponseFuture;
use crate::{Answers, Code, PipelineBody, Refusal, Text};

/// A service of which few addresses reach some paths. Made by
/// [`AllowListLayer`](super::AllowListLayer).
#[derive(Clone)]
pub struct AllowListService<S> {
    pub(super) inner: S,
    pub(super) list: Arc<AllowList>,
    pub(super) paths: SharedPaths,
    pub(super) answers: Answers,
    pub(super) address: AddrFn,
}

impl<S> AllowListService<S> {
    fn refusal<B>(&self, request: &Request<B>) -> Option<Text> {
        if !is_protected(&self.paths, request.uri().path()) {
            return None;
        }
        if self.list.is_empty() {
            return Some(Text::both(
                "Please set up the allow list!",
                "请配置生成白名单！",
            ));
        }
        let address = (self.address)(request.extensions());
        match address.map(|address| address.to_canonical()) {
            Some(address) if self.list.contains(address) => None,
            Some(address) => Some(not_listed(&address.to_string())),
            None => Some(not_listed("?")),
        }
    }
}

fn not_listed(address: &str) -> Text {
    Text::both(
        format!("The current IP [{address}] is not on the allow list!"),
        format!("当前IP[{address}]没有配置生成白名单！"),
    )
}

impl<S, B, R> Service<Request<B>> for AllowListService<S>
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
        match self.refusal(&request) {
            None => ResponseFuture::passed(self.inner.call(request)),
            Some(text) => {
                let refusal = Refusal::new(Code::NOT_SUPPORTED).with_text(text);
                ResponseFuture::refused(self.answers.refuse(&refusal, &request))
            }
        }
    }
}

impl<S> fmt::Debug for AllowListService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowListService")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}
