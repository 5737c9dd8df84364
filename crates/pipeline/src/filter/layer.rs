//! The layer form.

use std::fmt;
use std::marker::PhantomData;

use tower_layer::Layer;

use super::FilterService;
use crate::Answers;

/// Parses, checks and filters a request's input as a `T` before the service sees it. See the
/// [module](super).
///
/// The service finds the value as an `Arc<T>` in the request's extensions
/// (`Extension<Arc<T>>` in axum), and the body byte for byte. On a route of axum's it sees the
/// route's parameters, too: put it there with `.layer` of the route's method router.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use axum::{Extension, Router, routing::post};
/// use onlyonce_pipeline::filter::{Filter, FilterContext, FilterLayer};
/// use onlyonce_pipeline::{Answers, Error};
///
/// #[derive(serde::Deserialize, garde::Validate)]
/// struct Charge {
///     #[garde(range(min = 1))]
///     amount: u64,
/// }
///
/// impl Filter for Charge {
///     async fn filter(&mut self, _: FilterContext<'_, ()>) -> Result<(), Error> {
///         Ok(())
///     }
/// }
///
/// async fn charge(Extension(charge): Extension<Arc<Charge>>) -> String {
///     format!("charged {}", charge.amount)
/// }
///
/// let app: Router = Router::new().route(
///     "/charges",
///     post(charge).layer(FilterLayer::<Charge>::new(Answers::new())),
/// );
/// # let _ = app;
/// ```
pub struct FilterLayer<T> {
    answers: Answers,
    max_body: usize,
    filtered: PhantomData<fn() -> T>,
}

impl<T> FilterLayer<T> {
    /// The longest body that is read, to begin with: 1 MiB.
    pub const MAX_BODY: usize = 1024 * 1024;

    /// A layer that gives the service a `T`.
    #[must_use]
    pub const fn new(answers: Answers) -> Self {
        Self {
            answers,
            max_body: Self::MAX_BODY,
            filtered: PhantomData,
        }
    }

    /// The longest body that is read, in bytes. Beyond it 413. Default 1 MiB.
    #[must_use]
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }
}

impl<S, T> Layer<S> for FilterLayer<T> {
    type Service = FilterService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        FilterService {
            inner,
            answers: self.answers.clone(),
            max_body: self.max_body,
            filtered: PhantomData,
        }
    }
}

impl<T> Clone for FilterLayer<T> {
    fn clone(&self) -> Self {
        Self {
            answers: self.answers.clone(),
            max_body: self.max_body,
            filtered: PhantomData,
        }
    }
}

impl<T> fmt::Debug for FilterLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterLayer")
            .field("filtered", &std::any::type_name::<T>())
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}
