//! One rule: whom and what it is about.

use std::sync::Arc;

use portcullis_config::Problem;
use portcullis_config::auth::METHOD_API_KEYS;
use portcullis_config::policy::{Action, Principals, Rule};

use super::Kind;
use crate::glob::Globs;
use crate::identity::Identity;
use crate::names::Names;
use crate::when::{Condition, Patterns, Trial, Verdict};

/// One rule, compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    pub(super) who: Who,
    /// By [`Kind`].
    globs: [Globs; Kind::ALL.len()],
    /// Its condition.
    when: Option<Condition>,
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
    pub(super) fn new(rule: &Rule, patterns: &mut Patterns) -> Result<Self, Problem> {
        let globs = [&rule.tools, &rule.prompts, &rule.resources];
        Ok(Self {
            name: rule.name.as_str().into(),
            action: rule.action,
            who: Who::new(&rule.principals),
            globs: globs.map(|list| Globs::new(list.as_deref().unwrap_or_default())),
            when: condition(rule, patterns)?,
            // A rule that expired before 1970 is expired at any time.
            expires: rule.expires.map(|at| u64::try_from(at.as_second()).unwrap_or(0)),
        })
    }

    /// What its condition comes to; a rule without one always holds.
    pub(super) fn verdict(&self, trial: &Trial<'_>) -> Verdict {
        self.when
            .as_ref()
            .map_or(Verdict::Holds, |condition| condition.judge(trial))
    }

    /// Does it have its effect? Where its condition cannot be told, what is safe: a Deny denies, an Allow does not allow.
    /// Where that depends on what a call has yet to say, an Allow lists the thing and a Deny does not hide it.
    pub(super) fn acts(&self, now: u64, trial: &Trial<'_>) -> bool {
        self.is_in_force(now)
            && match self.verdict(trial) {
                Verdict::Holds => true,
                Verdict::HoldsNot => false,
                Verdict::Depends => self.action == Action::Allow,
                Verdict::Fails(_) => self.action == Action::Deny,
            }
    }

    pub(super) fn reads_arguments(&self) -> bool {
        self.when.as_ref().is_some_and(Condition::reads_arguments)
    }

    /// Is it about everything of that kind, whatever a call says?
    pub(super) fn covers_all(&self, kind: Kind) -> bool {
        self.when.is_none() && self.globs(kind).matches_everything()
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

/// The condition of a rule, compiled.
fn condition(rule: &Rule, patterns: &mut Patterns) -> Result<Option<Condition>, Problem> {
    let problem = |message| Problem {
        path: format!("rules[{}].when", rule.name),
        message,
    };
    let Some(text) = &rule.when else {
        return Ok(None);
    };
    let condition = Condition::compile(text, patterns).map_err(|mistake| problem(mistake.to_string()))?;
    if condition.reads_tool() && (rule.prompts.is_some() || rule.resources.is_some()) {
        let message =
            "it reads tool.name, which prompts and resources do not have: write a rule of its own for them";
        return Err(problem(message.to_owned()));
    }
    Ok(Some(condition))
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
