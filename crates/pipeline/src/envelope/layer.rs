//! The layer.

use tower_layer::Layer;

use super::EnvelopeService;
use crate::Answers;

/// Puts every answer into one form.
///
/// # Example
/// ```
/// use onlyonce_pipeline::envelope::EnvelopeLayer;
/// use onlyonce_pipeline::{Answers, ContentKind, StatusMode};
///
/// let answers = Answers::new()
///     .with_status_mode(StatusMode::Always200)
///     .with_kind("/export/{*rest}", ContentKind::Xml)?;
/// let layer = EnvelopeLayer::new(answers);
/// # let _: EnvelopeLayer = layer;
/// # Ok::<_, onlyonce_pipeline::RoutePatternError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct EnvelopeLayer {
    answers: Answers,
}

impl EnvelopeLayer {
    /// Answers as `answers` say.
    pub const fn new(answers: Answers) -> Self {
        Self { answers }
    }
}

impl<S> Layer<S> for EnvelopeLayer {
    type Service = EnvelopeService<S>;

    fn layer(&self, inner: S) -> EnvelopeService<S> {
        EnvelopeService {
            inner,
            answers: self.answers.clone(),
        }
    }
}
