//! The layer.

use std::sync::Arc;

use onlyonce_core::{Clock, SystemClock};
use tower_layer::Layer;

use super::{ContextService, TraceContext};

/// Gives each request a [`Context`](super::Context), and each response its `Trace-ID` header.
///
/// # Example
/// ```
/// use onlyonce_pipeline::context::{ContextLayer, TraceContext};
///
/// // Strangers call: their trace IDs are not believed.
/// let layer = ContextLayer::new().with_trace_context(TraceContext::Ignore);
/// # let _: ContextLayer = layer;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ContextLayer {
    pub(super) trace_context: TraceContext,
    pub(super) clock: Arc<dyn Clock>,
}

impl ContextLayer {
    /// Believes a valid `traceparent`.
    pub fn new() -> Self {
        Self {
            trace_context: TraceContext::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Whether a client's `traceparent` is believed; [`TraceContext::Accept`] by default.
    pub const fn with_trace_context(mut self, trace_context: TraceContext) -> Self {
        self.trace_context = trace_context;
        self
    }

    /// Takes the time from `clock`; from the machine's by default.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for ContextLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ContextLayer {
    type Service = ContextService<S>;

    fn layer(&self, inner: S) -> ContextService<S> {
        ContextService {
            inner,
            layer: self.clone(),
        }
    }
}
