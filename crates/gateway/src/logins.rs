//! Each module's tokens, for logins and logouts: those of the settings of the moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use onlyonce_pipeline::auth::Tokens;

use crate::config::Auth;

/// Each module's tokens, by the module's name. Cloning gives the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logins(Arc<ArcSwap<TokensByName>>);

type TokensByName = Vec<(Box<str>, Tokens)>;

impl Logins {
    /// Takes up what new settings were made into.
    pub(crate) fn replace(&self, auth: Option<Auth>) {
        let tokens = auth.map(|auth| auth.tokens);
        self.0.store(Arc::new(tokens.unwrap_or_default()));
    }

    /// The tokens of a module.
    pub(crate) fn of(&self, module: &str) -> Option<Tokens> {
        let all = self.0.load();
        let found = all.iter().find(|(name, _)| **name == *module);
        found.map(|(_, tokens)| tokens.clone())
    }
}
