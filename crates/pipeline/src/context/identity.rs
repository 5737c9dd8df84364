//! Who calls.

use std::fmt;

use serde_json::{Map, Value};

/// Who calls, as an authentication layer has found out.
///
/// # Example
/// ```
/// use onlyonce_pipeline::context::Identity;
///
/// let editor = Identity::new("7", "admin").with_role("editor").with_claim("name", "Li");
/// assert_eq!(editor.claims["name"], "Li");
/// // What a login says stays out of logs.
/// assert!(!format!("{editor:?}").contains("Li"));
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Identity {
    /// The user's ID.
    pub id: String,
    /// The user's role, in modules that have roles.
    pub role: Option<String>,
    /// The application or module that the login is for.
    pub app: String,
    /// What else the login says.
    pub claims: Map<String, Value>,
}

impl Identity {
    /// The user `id` of `app`, without a role.
    #[must_use]
    pub fn new(id: impl Into<String>, app: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            role: None,
            app: app.into(),
            claims: Map::new(),
        }
    }

    /// In this role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// With one more thing that the login says.
    #[must_use]
    pub fn with_claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }
}

/// Claims may hold anything, so they stay out of logs.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}
