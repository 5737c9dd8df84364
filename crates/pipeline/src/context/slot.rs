//! How layers outside see a context that is made further in.

use std::sync::{Arc, OnceLock};

use http::Extensions;

use super::Context;

/// Where layers outside of [`ContextLayer`](super::ContextLayer) find the context that it makes,
/// also when the handler panics or is dropped.
#[derive(Clone, Debug, Default)]
pub struct ContextSlot(Arc<OnceLock<Context>>);

impl ContextSlot {
    /// The slot of a request: the one that it carries, or a new one put into it.
    pub fn of(extensions: &mut Extensions) -> Self {
        if let Some(slot) = extensions.get::<Self>() {
            return slot.clone();
        }
        let slot = Self::default();
        if let Some(context) = extensions.get::<Context>() {
            slot.fill(context);
        }
        extensions.insert(slot.clone());
        slot
    }

    /// The context, once it is made.
    #[must_use]
    pub fn context(&self) -> Option<&Context> {
        self.0.get()
    }

    pub(super) fn fill(&self, context: &Context) {
        // The outermost context is the request's: a second one has no business here.
        let _ = self.0.set(context.clone());
    }
}
