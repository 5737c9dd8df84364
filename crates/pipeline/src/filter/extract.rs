//! The extractors.

use std::error::Error as StdError;

use axum::RequestExt as _;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use garde::Validate;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError};
use serde::de::DeserializeOwned;

use super::input::Input;
use super::rejection::FilterRejection;
use super::{refusal, rules};
use crate::context::Context;
use crate::{Code, Error, Text};

/// The last word on an input, by the type itself: what no declared rule can say, such as whether
/// a name is taken; it may change the value, too. HotGo's `Filter`.
///
/// `S` is the state of the axum router; write `impl<S: Sync> Filter<S>` where it does not matter.
///
/// # Example
/// ```
/// use onlyonce_pipeline::filter::{Filter, FilterContext};
/// use onlyonce_pipeline::{Code, Error};
///
/// #[derive(serde::Deserialize, garde::Validate)]
/// struct Signup {
///     #[garde(length(chars, min = 3))]
///     name: String,
/// }
///
/// impl<S: Sync> Filter<S> for Signup {
///     async fn filter(&mut self, _: FilterContext<'_, S>) -> Result<(), Error> {
///         self.name = self.name.to_lowercase();
///         if self.name == "admin" {
///             return Err(Error::new(Code::new(30002), "this name is taken"));
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Filter<S = ()> {
    /// Looks at the value, which keeps its declared rules, and changes it or refuses it.
    ///
    /// It must change nothing else: whoever is refused here is told that nothing has been
    /// executed, and may try again under the same idempotency key.
    ///
    /// # Errors
    /// When the input is refused. An error keeps its code; one without has code 68.
    fn filter(
        &mut self,
        context: FilterContext<'_, S>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What a [`Filter`] may look at.
#[derive(Clone, Copy, Debug)]
pub struct FilterContext<'a, S> {
    parts: &'a Parts,
    state: &'a S,
}

impl<'a, S> FilterContext<'a, S> {
    pub(super) const fn new(parts: &'a Parts, state: &'a S) -> Self {
        Self { parts, state }
    }

    /// What is known of the request, where a
    /// [`ContextLayer`](crate::context::ContextLayer) stands outside.
    #[must_use]
    pub fn context(&self) -> Option<&'a Context> {
        Context::of(&self.parts.extensions)
    }

    /// The request's head.
    #[must_use]
    pub const fn request(&self) -> &'a Parts {
        self.parts
    }

    /// The router's state.
    #[must_use]
    pub const fn state(&self) -> &'a S {
        self.state
    }
}

/// An extractor: the request's input as a `T` that keeps its declared rules and has passed its
/// [`Filter`]. See the [module](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filtered<T>(pub T);

/// An extractor: the request's input as a `T` that keeps its declared rules. As [`Filtered`], for
/// types that have no [`Filter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validated<T>(pub T);

impl<S, T> FromRequest<S> for Filtered<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context: Default> + Filter<S> + Send,
{
    type Rejection = FilterRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, FilterRejection> {
        let (mut parts, body) = whole(request).await?;
        let mut value: T = validated(&mut parts, &body).await?;
        filtered(&mut value, &parts, state).await?;
        Ok(Self(value))
    }
}

impl<S, T> FromRequest<S> for Validated<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context: Default>,
{
    type Rejection = FilterRejection;

    async fn from_request(request: Request, _: &S) -> Result<Self, FilterRejection> {
        let (mut parts, body) = whole(request).await?;
        Ok(Self(validated(&mut parts, &body).await?))
    }
}

/// Reads the body, up to axum's `DefaultBodyLimit`.
async fn whole(request: Request) -> Result<(Parts, Bytes), FilterRejection> {
    let (parts, body) = request.with_limited_body().into_parts();
    let error = match body.collect().await {
        Ok(whole) => return Ok((parts, whole.to_bytes())),
        Err(error) => error,
    };
    let (status, text) = if is_beyond_limit(&error) {
        let text = Text::both("The body is longer than allowed", "请求体过大");
        (StatusCode::PAYLOAD_TOO_LARGE, text)
    } else {
        (StatusCode::BAD_REQUEST, refusal::incomplete())
    };
    let error = Error::from(error).wrap_code(Code::INVALID_REQUEST, text);
    Err(FilterRejection::from(error).with_status(status))
}

fn is_beyond_limit(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Parses the input, and checks its declared rules.
pub(super) async fn validated<T: DeserializeOwned + Validate<Context: Default>>(
    parts: &mut Parts,
    body: &[u8],
) -> Result<T, FilterRejection> {
    let (value, declared) = Input::gather(parts, body).await?.parse()?;
    rules::check(&value, declared)?;
    Ok(value)
}

pub(super) async fn filtered<S, T: Filter<S>>(
    value: &mut T,
    parts: &Parts,
    state: &S,
) -> Result<(), FilterRejection> {
    let filtered = value.filter(FilterContext::new(parts, state)).await;
    filtered.map_err(FilterRejection::of_filter)
}
