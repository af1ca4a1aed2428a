//! One rule: whom and what it is about.

use std::sync::Arc;

use portcullis_config::auth::METHOD_API_KEYS;
use portcullis_config::policy::{Action, Principals, Rule};

use super::Kind;
use crate::glob::Globs;
use crate::identity::Identity;
use crate::names::Names;

/// One rule, compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    pub(super) who: Who,
    /// By [`Kind`].
    globs: [Globs; Kind::ALL.len()],
    /// Seconds since 1970 from which on the rule does nothing.
    pub(super) expires: Option<u64>,
}

/// Whom it is about.
#[derive(Debug)]
pub(super) struct Who {
    method: Option<Box<str>>,
    subjects: Option<Names>,
    clients: Option<Names>,
    groups: Option<Names>,
    pub(super) scopes: Option<Box<[Arc<str>]>>,
    any_authenticated: bool,
}

impl Compiled {
    pub(super) fn new(rule: &Rule) -> Self {
        let globs = [&rule.tools, &rule.prompts, &rule.resources];
        Self {
            name: rule.name.as_str().into(),
            action: rule.action,
            who: Who::new(&rule.principals),
            globs: globs.map(|list| Globs::new(list.as_deref().unwrap_or_default())),
            // A rule that expired before 1970 is expired at any time.
            expires: rule.expires.map(|at| u64::try_from(at.as_second()).unwrap_or(0)),
        }
    }

    pub(super) const fn globs(&self, kind: Kind) -> &Globs {
        let [tools, prompts, resources] = &self.globs;
        match kind {
            Kind::Tool => tools,
            Kind::Prompt => prompts,
            Kind::Resource => resources,
        }
    }

    pub(super) fn is_in_force(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Who {
    fn new(principals: &Principals) -> Self {
        let names = |list: &Option<Vec<String>>| list.as_deref().map(Names::new);
        Self {
            method: principals.method.as_deref().map(Into::into),
            subjects: names(&principals.subjects),
            clients: names(&principals.clients),
            groups: names(&principals.groups),
            scopes: principals
                .scopes
                .as_ref()
                .map(|list| list.iter().map(|scope| scope.as_str().into()).collect()),
            any_authenticated: principals.any_authenticated,
        }
    }

    /// Whoever names nobody matches nobody: validation refuses it, and here it fails closed.
    pub(super) fn matches_but_scopes(&self, who: &Identity) -> bool {
        let names_somebody = self.method.is_some() || self.clients.is_some() || self.any_authenticated;
        names_somebody
            && self.method.as_ref().is_none_or(|name| **name == *who.method)
            && (!self.any_authenticated || !who.is_anonymous())
            && self
                .subjects
                .as_ref()
                .is_none_or(|list| list.contains(&who.subject))
            && self
                .clients
                .as_ref()
                .is_none_or(|list| &*who.method == METHOD_API_KEYS && list.contains(&who.subject))
            && self
                .groups
                .as_ref()
                .is_none_or(|list| who.groups.iter().any(|group| list.contains(group)))
    }

    pub(super) fn has_scope(&self, who: &Identity) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|list| who.scopes.iter().any(|scope| list.contains(scope)))
    }
}
