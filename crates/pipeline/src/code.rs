//! What became of a request, as a number in the body.

use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::Language;

/// What became of a request, as clients read it in the answer's body.
///
/// Codes below 1000 are reserved for the ones here; applications add their own, such as 30001.
///
/// # Example
/// ```
/// use http::StatusCode;
/// use onlyonce_pipeline::{Code, Language};
///
/// const OUT_OF_STOCK: Code = Code::new(30001);
/// assert_eq!(OUT_OF_STOCK.status(), StatusCode::BAD_REQUEST);
/// assert_eq!(Code::NOT_FOUND.message(Language::En), Some("Not Found"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(i32);

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $status:ident, $en:literal, $zh:literal;)+) => {
        impl Code {
            $($(#[doc = $doc])+ pub const $name: Self = Self($number);)+

            fn known(self) -> Option<(StatusCode, &'static str, &'static str)> {
                match self.0 {
                    $($number => Some((StatusCode::$status, $en, $zh)),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// An error that nobody gave a code.
    NONE = -1, BAD_REQUEST, "", "";
    /// Success.
    OK = 0, OK, "OK", "操作成功";
    /// A fault of the service.
    INTERNAL = 50, INTERNAL_SERVER_ERROR, "Internal Error", "内部错误";
    /// The input breaks a rule.
    VALIDATION_FAILED = 51, BAD_REQUEST, "Validation Failed", "参数校验失败";
    /// The database failed.
    DATABASE = 52, INTERNAL_SERVER_ERROR, "Database Operation Error", "数据库操作错误";
    /// A parameter is wrong.
    INVALID_PARAMETER = 53, BAD_REQUEST, "Invalid Parameter", "参数无效";
    /// A parameter is missing.
    MISSING_PARAMETER = 54, BAD_REQUEST, "Missing Parameter", "缺少参数";
    /// Not possible in the present state.
    INVALID_OPERATION = 55, BAD_REQUEST, "Invalid Operation", "操作无效";
    /// The service is configured wrongly.
    INVALID_CONFIGURATION = 56, BAD_REQUEST, "Invalid Configuration", "配置无效";
    /// The service lacks a setting.
    MISSING_CONFIGURATION = 57, BAD_REQUEST, "Missing Configuration", "缺少配置";
    /// Not built yet.
    NOT_IMPLEMENTED = 58, NOT_IMPLEMENTED, "Not Implemented", "功能未实现";
    /// Not offered here: read-only mode, or an address that is not allowed.
    NOT_SUPPORTED = 59, FORBIDDEN, "Not Supported", "不支持该操作";
    /// Tried, and did not succeed.
    OPERATION_FAILED = 60, BAD_REQUEST, "Operation Failed", "操作失败";
    /// Nobody is logged in.
    NOT_AUTHORIZED = 61, UNAUTHORIZED, "Not Authorized", "未登录或登录已失效";
    /// Logged in, but not allowed.
    SECURITY_REASON = 62, FORBIDDEN, "Security Reason", "没有访问权限";
    /// Too much to do, or the caller is blocked.
    SERVER_BUSY = 63, SERVICE_UNAVAILABLE, "Server Is Busy", "服务繁忙";
    /// Nobody knows.
    UNKNOWN = 64, BAD_REQUEST, "Unknown Error", "未知错误";
    /// There is nothing here.
    NOT_FOUND = 65, NOT_FOUND, "Not Found", "资源不存在";
    /// The request makes no sense.
    INVALID_REQUEST = 66, BAD_REQUEST, "Invalid Request", "请求无效";
    /// A part of the service is missing.
    PACKAGE_NOT_IMPORTED = 67, BAD_REQUEST, "Necessary Package Not Import", "缺少必要的组件";
    /// The handler panicked.
    INTERNAL_PANIC = 68, INTERNAL_SERVER_ERROR, "Internal Panic", "内部异常";
    /// A rule of the business says no.
    BUSINESS_VALIDATION_FAILED = 300, UNPROCESSABLE_ENTITY, "Business Validation Failed", "业务校验失败";
}

impl Code {
    /// The code with this number.
    #[must_use]
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The HTTP status that it is sent with under
    /// [`StatusMode::Mapped`](crate::StatusMode::Mapped): 400 for codes that are not known here.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.known()
            .map_or(StatusCode::BAD_REQUEST, |(status, ..)| status)
    }

    /// What it says where the error has no message of its own; none for [`Self::NONE`] and for
    /// an application's codes.
    #[must_use]
    pub fn message(self, language: Language) -> Option<&'static str> {
        let (_, en, zh) = self.known()?;
        let message = match language {
            Language::En => en,
            Language::ZhCn => zh,
        };
        (!message.is_empty()).then_some(message)
    }
}

impl From<i32> for Code {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_status_of_the_table() {
        let table: &[(&[i32], u16)] = &[
            (&[51, 53, 54, 66], 400),
            (&[61], 401),
            (&[62, 59], 403),
            (&[65], 404),
            (&[300], 422),
            (&[58], 501),
            (&[63], 503),
            (&[50, 52, 68], 500),
            (&[0], 200),
            (
                &[-1, 55, 56, 57, 60, 64, 67, 1000, 30001, i32::MAX, i32::MIN],
                400,
            ),
        ];
        for (codes, status) in table {
            for code in *codes {
                assert_eq!(Code::new(*code).status().as_u16(), *status, "code {code}");
            }
        }
    }

    #[test]
    fn messages_in_both_languages() {
        assert_eq!(Code::OK.message(Language::En), Some("OK"));
        assert_eq!(Code::OK.message(Language::ZhCn), Some("操作成功"));
        assert_eq!(
            Code::INTERNAL_PANIC.message(Language::En),
            Some("Internal Panic")
        );
        assert_eq!(Code::NONE.message(Language::En), None);
        assert_eq!(Code::new(30001).message(Language::ZhCn), None);
    }
}
