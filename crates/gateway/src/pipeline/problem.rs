//! The idempotency layer's refusals, in the envelope.

use bytes::Bytes;
use http::Response;
use onlyonce::{Problem, ProblemKind};
use onlyonce_pipeline::{Answers, Code};

/// `problem` with the same facts in the envelope: its document stands in `error`.
pub(super) fn in_envelope(problem: &Problem, answers: &Answers) -> Response<Bytes> {
    let mut response = problem.to_response();
    let facts = response.body().clone();
    let told = answers.facts(
        code(problem.kind),
        &problem.detail,
        problem.status,
        &facts,
        &problem.instance,
    );
    let (said, body) = told.into_parts();
    *response.status_mut() = said.status;
    response.headers_mut().extend(said.headers);
    response.extensions_mut().extend(said.extensions);
    *response.body_mut() = body;
    response
}

const fn code(kind: ProblemKind) -> Code {
    match kind {
        ProblemKind::KeyMissing => Code::MISSING_PARAMETER,
        ProblemKind::KeyInvalid => Code::INVALID_PARAMETER,
        ProblemKind::KeyUnscoped => Code::NOT_AUTHORIZED,
        ProblemKind::KeyReused => Code::BUSINESS_VALIDATION_FAILED,
        ProblemKind::StoreUnavailable | ProblemKind::StoreFull | ProblemKind::TooManyInProgress => {
            Code::SERVER_BUSY
        }
        ProblemKind::BodyTooLarge | ProblemKind::BodyUnreadable => Code::INVALID_REQUEST,
        // In progress, unknown, not kept, and what may come: not possible in the present state.
        _ => Code::INVALID_OPERATION,
    }
}
