//! `[context]`: trace IDs.

use onlyonce_pipeline::context::{ContextLayer, TraceContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::{self, As, Choice};

/// Trace IDs: each request gets one, its response shows it as `Trace-ID`, and the upstream finds
/// it in `traceparent` (W3C Trace Context). Wherever another layer of the pipeline is on, this
/// one is too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the table `[context]`")]
#[schemars(inline)]
pub struct ContextSettings {
    /// Whether requests get a trace ID everywhere, also where no other layer is on.
    pub enabled: bool,
    /// Whether a client's `traceparent` is believed (`accept`), or each request gets a trace ID of
    /// its own (`ignore`).
    #[serde(with = "scalar")]
    #[schemars(with = "As<TraceContext>")]
    pub trace_context: TraceContext,
}

impl Default for ContextSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            // Anybody may be a client of a gateway.
            trace_context: TraceContext::Ignore,
        }
    }
}

impl ContextSettings {
    /// The layer that they describe.
    pub fn layer(&self) -> ContextLayer {
        ContextLayer::new().with_trace_context(self.trace_context)
    }
}

impl Choice for TraceContext {
    const NAMES: &'static [(&'static str, Self)] =
        &[("accept", Self::Accept), ("ignore", Self::Ignore)];
}
