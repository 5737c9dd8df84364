//! What a filter says when it lets a request go no further.

use http::StatusCode;

use crate::{Code, Refusal, Text};

use super::body::Unread;

fn too_large(limit: usize) -> Refusal {
    Refusal::new(Code::INVALID_REQUEST)
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
        .with_text(Text::both(
            format!("The body is longer than {limit} bytes"),
            format!("请求体超过{limit}字节"),
        ))
}

fn broken() -> Refusal {
    Refusal::new(Code::INVALID_REQUEST).with_text(incomplete())
}

pub(super) fn incomplete() -> Text {
    Text::both("The body could not be read to its end", "请求体不完整")
}

pub(super) fn unread(why: &Unread, limit: usize) -> Refusal {
    match why {
        Unread::TooLarge => too_large(limit),
        Unread::Broken(error) => {
            tracing::debug!(
                error = &**error as &dyn std::error::Error,
                "a body broke off"
            );
            broken()
        }
    }
}

pub(super) fn not_json(error: &serde_json::Error) -> Text {
    Text::both(
        format!("The body is not valid JSON: {error}"),
        format!("请求体不是有效的JSON：{error}"),
    )
}
