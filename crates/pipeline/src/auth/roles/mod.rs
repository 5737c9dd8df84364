//! Roles: who may do what, by casbin's rules.

mod enforcer;
mod index;
mod policy;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::enforcer::CasbinDecider;
use self::index::Index;
pub use policy::{RolePolicy, RolePolicyError};

/// Which roles may do what. Cloning is cheap and gives the same.
///
/// The rules are casbin's, with the model [`MODEL`](Self::MODEL): a policy `p, role, path, method`
/// allows; `g, role, other` inherits; the path is matched by `keyMatch` (all behind a `*` counts),
/// the method by `regexMatch` (anywhere in it, unless written `^GET$`). A policy of that model is
/// decided by an index that gives casbin's answers without casbin's scan; a model of one's own is
/// decided by casbin itself ([`from_enforcer`](Self::from_enforcer)).
///
/// # Example
/// ```
/// use onlyonce_pipeline::auth::{RolePolicy, Roles};
///
/// let policy: RolePolicy = "
///     p, editor, /admin/posts/*, (GET)|(POST)
///     p, chief,  /admin/*,       .*
///     g, deputy, editor
/// ".parse()?;
/// let roles = Roles::new(policy).with_super_role("super");
/// assert!(roles.allows("deputy", "/admin/posts/7", "GET"));
/// assert!(!roles.allows("deputy", "/admin/users", "GET"));
/// assert!(roles.allows("super", "/anything", "DELETE"));
/// # Ok::<_, onlyonce_pipeline::auth::RolePolicyError>(())
/// ```
#[derive(Clone)]
pub struct Roles {
    decider: Arc<ArcSwap<Decider>>,
    super_roles: Arc<[Box<str>]>,
}

enum Decider {
    Index(Index),
    Casbin(Box<CasbinDecider>),
}

impl Roles {
    /// The model by which policies are read, in casbin's language.
    pub const MODEL: &'static str = "\
[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, obj, act

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)
";

    /// Roles by this policy.
    #[must_use]
    pub fn new(policy: RolePolicy) -> Self {
        Self::of(Decider::Index(Index::new(policy)))
    }

    /// Roles by a casbin enforcer, for models of one's own. It is asked with role, path and method,
    /// each time: its scan grows with its policies, so its answers are remembered (10,000 of them,
    /// until it is replaced). What it answers must depend on these three alone.
    #[must_use]
    pub fn from_enforcer(enforcer: casbin::Enforcer) -> Self {
        Self::of(Decider::Casbin(Box::new(CasbinDecider::new(enforcer))))
    }

    /// Lets this role do everything, whatever the policy says. Roles that inherit it don't.
    #[must_use]
    pub fn with_super_role(mut self, role: impl Into<Box<str>>) -> Self {
        let roles = self.super_roles.iter().cloned();
        self.super_roles = roles.chain([role.into()]).collect();
        self
    }

    /// Puts another policy in force, here and in all clones, all at once: each decision is made by
    /// the old one or by the new one.
    pub fn replace(&self, policy: RolePolicy) {
        let index = Index::new(policy);
        self.decider.store(Arc::new(Decider::Index(index)));
    }

    /// Puts another enforcer in force, here and in all clones, all at once.
    pub fn replace_enforcer(&self, enforcer: casbin::Enforcer) {
        let decider = Decider::Casbin(Box::new(CasbinDecider::new(enforcer)));
        self.decider.store(Arc::new(decider));
    }

    /// Whether `role` may use `method` on `path`. An error of the enforcer denies.
    #[must_use]
    pub fn allows(&self, role: &str, path: &str, method: &str) -> bool {
        if self.super_roles.iter().any(|name| **name == *role) {
            return true;
        }
        match &**self.decider.load() {
            Decider::Index(index) => index.allows(role, path, method),
            Decider::Casbin(casbin) => casbin.allows(role, path, method),
        }
    }

    fn of(decider: Decider) -> Self {
        Self {
            decider: Arc::new(ArcSwap::from_pointee(decider)),
            super_roles: Arc::from([]),
        }
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roles")
            .field("super_roles", &self.super_roles)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
