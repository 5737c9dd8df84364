//! The gateway's own errors, in the envelope.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Response, StatusCode};
use onlyonce_pipeline::{Code, Error};
use tower::ServiceExt as _;
use tower::util::MapResponse;

use super::StackResponse;
use super::boxed::Stack;
use crate::rescue::Rescued;

/// Has the envelope outside tell of what could not be forwarded.
pub(super) fn in_envelope<B: 'static>(
    stack: Stack<B>,
) -> MapResponse<Stack<B>, fn(StackResponse) -> StackResponse> {
    stack.map_response(told as fn(StackResponse) -> StackResponse)
}

fn told(response: StackResponse) -> StackResponse {
    let Some(Rescued(detail)) = response.extensions().get::<Rescued>().copied() else {
        return response;
    };
    let (mut head, _) = response.into_parts();
    let code = match head.status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Code::SERVER_BUSY,
        _ => Code::INVALID_REQUEST,
    };
    // No place in the program tells more of it, and to look one up for each request while the
    // upstream is down would cost more than all the rest.
    let error = Error::new(code, detail).with_frames(Vec::new());
    let (said, body) = error.into_http().into_parts();
    for stale in [CONTENT_TYPE, CONTENT_LENGTH] {
        head.headers.remove(stale);
    }
    // The status stays: 502 and 504 say more than the code.
    head.extensions.extend(said.extensions);
    Response::from_parts(head, body)
}
