//! Policies, as casbin writes them.

use std::collections::HashMap;
use std::str::FromStr;

use http::Method;
use regex::{Regex, RegexBuilder};

/// Who may do what: lines `p, role, path, method` and `g, role, inherited role`, in any order;
/// empty lines and those with `#` in front don't count.
#[derive(Clone, Debug, Default)]
pub struct RolePolicy {
    pub(super) rules: Vec<Rule>,
    /// Who inherits whom.
    pub(super) inherits: Vec<(Box<str>, Box<str>)>,
    /// Each distinct pattern of methods, compiled once.
    pub(super) actions: Vec<Regex>,
    known: HashMap<Box<str>, usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) subject: Box<str>,
    pub(super) object: Box<str>,
    /// Which of the patterns of methods.
    pub(super) action: usize,
}

/// A policy can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RolePolicyError {
    /// A line says nothing known.
    #[error("line {line}: {problem}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A policy has a mistake.
    #[error("{0}")]
    Rule(String),
    /// Roles inherit each other.
    #[error("the role {0:?} inherits itself by way of others")]
    Circle(String),
    /// Roles inherit over many steps.
    #[error("the role {0:?} inherits over more than {MOST_STEPS} steps")]
    Deep(String),
    /// There are too many.
    #[error("a policy can have {MOST_RULES} lines at most")]
    TooMany,
}

/// As far as casbin follows with certainty.
const MOST_STEPS: usize = 9;
const MOST_RULES: usize = 1_000_000;
/// A pattern of methods is short; a compiled one that isn't is a mistake.
const MOST_REGEX: usize = 64 * 1024;
const USUAL_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

impl RolePolicy {
    /// A policy that allows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `role` use the methods that `methods` (a regular expression) is found in, on the paths
    /// that `path` matches (a whole path, or the beginning of one and `*`).
    ///
    /// # Errors
    /// When `methods` is no regular expression, or there are too many policies.
    pub fn allow(mut self, role: &str, path: &str, methods: &str) -> Result<Self, RolePolicyError> {
        self.add_rule(role, path, methods)
            .map_err(RolePolicyError::Rule)?;
        self.check_size()?;
        Ok(self)
    }

    /// Lets `role` do all that `other` may.
    ///
    /// # Errors
    /// When roles would inherit in a circle or over more than 9 steps.
    pub fn inherit(mut self, role: &str, other: &str) -> Result<Self, RolePolicyError> {
        self.inherits.push((role.into(), other.into()));
        self.check_size()?;
        self.check_inheritance()?;
        Ok(self)
    }

    /// How many lines it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len() + self.inherits.len()
    }

    /// Whether it allows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The paths that lines are about, with `*` where all that begins so is meant.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| &*rule.object)
    }

    /// Whether a line is about this very path, and not about all that begins like it, and of the
    /// usual methods about none but these; no methods stand for all. For finding lines that can
    /// have no effect.
    #[must_use]
    pub fn names(&self, path: &str, methods: &[Method]) -> bool {
        let is_about = |rule: &Rule, method: &Method| {
            let action = self.actions.get(rule.action);
            action.is_some_and(|action| action.is_match(method.as_str()))
        };
        let has_none_but_these = |rule: &Rule| {
            let mut others = USUAL_METHODS.iter().filter(|it| !methods.contains(it));
            methods.iter().any(|method| is_about(rule, method))
                && !others.any(|method| is_about(rule, method))
        };
        let mut about = self.rules.iter().filter(|rule| *rule.object == *path);
        about.any(|rule| methods.is_empty() || has_none_but_these(rule))
    }

    fn add_rule(&mut self, role: &str, path: &str, methods: &str) -> Result<(), String> {
        if role.is_empty() || path.is_empty() || methods.is_empty() {
            return Err("a policy needs a role, a path and methods".to_owned());
        }
        let action = match self.known.get(methods) {
            Some(action) => *action,
            None => {
                let regex = RegexBuilder::new(methods).size_limit(MOST_REGEX).build();
                let regex = regex.map_err(|_| {
                    format!(
                        "{methods:?} is no regular expression for methods: write GET, \
                         (GET)|(POST), or .* for all"
                    )
                })?;
                self.actions.push(regex);
                self.known.insert(methods.into(), self.actions.len() - 1);
                self.actions.len() - 1
            }
        };
        self.rules.push(Rule {
            subject: role.into(),
            object: path.into(),
            action,
        });
        Ok(())
    }

    fn check_size(&self) -> Result<(), RolePolicyError> {
        if self.len() > MOST_RULES {
            return Err(RolePolicyError::TooMany);
        }
        Ok(())
    }

    /// Takes roles away that inherit nothing any more, until none is left: each round is a step.
    fn check_inheritance(&self) -> Result<(), RolePolicyError> {
        let mut parents_left: HashMap<&str, usize> = HashMap::new();
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut depth: HashMap<&str, usize> = HashMap::new();
        for (child, parent) in &self.inherits {
            // To inherit oneself says nothing, also to casbin.
            if child != parent {
                *parents_left.entry(child).or_default() += 1;
                parents_left.entry(parent).or_default();
                children.entry(parent).or_default().push(child);
            }
        }
        let mut free: Vec<&str> = parents_left
            .iter()
            .filter(|(_, left)| **left == 0)
            .map(|(name, _)| *name)
            .collect();
        while let Some(parent) = free.pop() {
            let steps = depth.get(parent).copied().unwrap_or_default() + 1;
            for child in children.remove(parent).unwrap_or_default() {
                let deepest = depth.entry(child).or_default();
                *deepest = steps.max(*deepest);
                if *deepest > MOST_STEPS {
                    return Err(RolePolicyError::Deep(child.to_owned()));
                }
                let left = parents_left.entry(child).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    free.push(child);
                }
            }
        }
        let in_circle = parents_left.iter().filter(|(_, left)| **left > 0);
        match in_circle.map(|(name, _)| *name).min() {
            Some(name) => Err(RolePolicyError::Circle(name.to_owned())),
            None => Ok(()),
        }
    }
}

impl FromStr for RolePolicy {
    type Err = RolePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut policy = Self::new();
        for (position, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let added = match fields[..] {
                ["p", role, path, methods] => policy.add_rule(role, path, methods),
                ["g", "", _] | ["g", _, ""] => Err("a role has no name".to_owned()),
                ["g", role, other] => {
                    policy.inherits.push((role.into(), other.into()));
                    Ok(())
                }
                _ => Err(
                    "write `p, role, path, methods` or `g, role, inherited role`; effects and \
                     domains are not known here"
                        .to_owned(),
                ),
            };
            added.map_err(|problem| RolePolicyError::Line {
                line: position + 1,
                problem,
            })?;
            policy.check_size()?;
        }
        policy.check_inheritance()?;
        Ok(policy)
    }
}
