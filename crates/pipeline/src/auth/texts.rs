//! What clients are told.

use std::time::Duration;

use http::StatusCode;

use super::tokens::TokenError;
use crate::path::AmbiguousPath;
use crate::{Code, Refusal, Text};

/// Why the layer let a request go no further: in the extensions of its response, for logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthRejection {
    /// The path can be read in several ways.
    #[error("ambiguous path: {0}")]
    Path(AmbiguousPath),
    /// There is no valid identity, or nobody can tell.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The identity's role may not do this.
    #[error("the role is not allowed to do this")]
    NotAllowed,
}

impl AuthRejection {
    /// A short name, for metrics.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Token(TokenError::Store(_) | TokenError::Random) => "store",
            Self::Token(TokenError::Missing) => "anonymous",
            Self::Token(_) => "token",
            Self::NotAllowed => "role",
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Path(problem) => Refusal::new(Code::INVALID_PARAMETER).with_text(Text::both(
                format!("The path is refused: {problem}"),
                "请求路径不规范，已被拒绝！",
            )),
            Self::Token(TokenError::Store(_) | TokenError::Random | TokenError::Signing(_)) => {
                Refusal::new(Code::SERVER_BUSY)
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
                    .with_retry_after(Duration::from_secs(1))
            }
            Self::Token(TokenError::LoggedInElsewhere) => Refusal::new(Code::NOT_AUTHORIZED)
                .with_text(Text::both(
                    "Your account has logged in elsewhere. If that wasn't you, change your \
                     password soon!",
                    "账号已在其他地方登录，如非本人操作请及时修改登录密码！",
                )),
            Self::Token(_) => Refusal::new(Code::NOT_AUTHORIZED).with_text(Text::both(
                "Your login is no longer valid, please log in again!",
                "登录身份已失效，请重新登录！",
            )),
            Self::NotAllowed => Refusal::new(Code::SECURITY_REASON)
                .with_text(Text::both("You have no access!", "你没有访问权限！")),
        }
    }
}
