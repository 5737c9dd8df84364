//! Models of one's own, decided by casbin itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use casbin::{CoreApi as _, Enforcer};
use quick_cache::sync::Cache;

pub(super) struct CasbinDecider {
    enforcer: Enforcer,
    /// Its answers; they go with it when another takes its place.
    known: Cache<Question, bool>,
}

/// Role, path and method.
type Question = (Box<str>, Box<str>, Box<str>);

const MOST_KNOWN: usize = 10_000;

impl CasbinDecider {
    pub(super) fn new(enforcer: Enforcer) -> Self {
        Self {
            enforcer,
            known: Cache::new(MOST_KNOWN),
        }
    }

    pub(super) fn allows(&self, role: &str, path: &str, method: &str) -> bool {
        let question: Question = (role.into(), path.into(), method.into());
        if let Some(known) = self.known.get(&question) {
            return known;
        }
        // casbin's own functions panic on a bad pattern, and on a path cut within a character. It
        // changes nothing while it decides, so that nothing is left half done.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            self.enforcer.enforce((role, path, method))
        }));
        match decided {
            Ok(Ok(allowed)) => {
                self.known.insert(question, allowed);
                allowed
            }
            Ok(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no decision, so denied"
                );
                false
            }
            Err(_) => {
                tracing::error!("the enforcer panicked, so denied");
                false
            }
        }
    }
}
