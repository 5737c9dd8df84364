//! casbin's decisions without casbin's scan.

use std::collections::{HashMap, HashSet};

use regex::Regex;

use super::policy::RolePolicy;

/// The policies, by role and then by path: a decision looks at those that match, not at all.
pub(super) struct Index {
    roles: HashMap<Box<str>, Role>,
    actions: Vec<Regex>,
}

/// Which patterns of methods are allowed on an object.
type Actions = HashMap<Box<str>, Vec<usize>>;

#[derive(Default)]
struct Role {
    inherits: Vec<Box<str>>,
    /// Objects without `*`.
    whole: Actions,
    /// What stands before the `*` of the others, by its length, each length once and in order.
    beginnings: Vec<(usize, Actions)>,
}

impl Index {
    pub(super) fn new(policy: RolePolicy) -> Self {
        let mut roles: HashMap<Box<str>, Role> = HashMap::new();
        for rule in policy.rules {
            let role = roles.entry(rule.subject).or_default();
            let actions = match rule.object.split_once('*') {
                Some((head, _)) => role.beginning(head),
                None => role.whole.entry(rule.object).or_default(),
            };
            if !actions.contains(&rule.action) {
                actions.push(rule.action);
            }
        }
        for (child, parent) in policy.inherits {
            let inherits = &mut roles.entry(child).or_default().inherits;
            if !inherits.contains(&parent) {
                inherits.push(parent);
            }
        }
        Self {
            roles,
            actions: policy.actions,
        }
    }

    pub(super) fn allows(&self, role: &str, path: &str, method: &str) -> bool {
        let Some((name, first)) = self.roles.get_key_value(role) else {
            return false;
        };
        // Most roles inherit nothing.
        if first.inherits.is_empty() {
            return self.grants(first, path, method);
        }
        let mut seen: HashSet<&str> = HashSet::from([&**name]);
        let mut waiting = vec![first];
        while let Some(role) = waiting.pop() {
            if self.grants(role, path, method) {
                return true;
            }
            for parent in &role.inherits {
                if seen.insert(parent) {
                    waiting.extend(self.roles.get(parent));
                }
            }
        }
        false
    }

    fn grants(&self, role: &Role, path: &str, method: &str) -> bool {
        let is_one = |actions: &Vec<usize>| {
            let mut actions = actions
                .iter()
                .filter_map(|action| self.actions.get(*action));
            actions.any(|action| action.is_match(method))
        };
        role.whole.get(path).is_some_and(is_one)
            || role
                .beginnings
                .iter()
                .map_while(|(length, heads)| Some((path.as_bytes().get(..*length)?, heads)))
                .filter_map(|(head, heads)| heads.get(std::str::from_utf8(head).ok()?))
                .any(is_one)
    }
}

impl Role {
    fn beginning(&mut self, head: &str) -> &mut Vec<usize> {
        let at = self
            .beginnings
            .partition_point(|(length, _)| *length < head.len());
        if self
            .beginnings
            .get(at)
            .is_none_or(|(length, _)| *length != head.len())
        {
            self.beginnings.insert(at, (head.len(), HashMap::new()));
        }
        self.beginnings[at].1.entry(head.into()).or_default()
    }
}
