//! Why a decision is what it is: for people, by the same tests as the decision.

use std::sync::Arc;

use portcullis_config::policy::Action;

use super::bits::ones;
use super::{About, Policy, Thing};
use crate::identity::Identity;
use crate::when::{Asked, Failure, Verdict};

/// A rule that is about the principal, the server and the thing in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained<'p> {
    /// Its name.
    pub rule: &'p Arc<str>,
    /// What it does where it has an effect.
    pub action: Action,
    /// Whether it has one here.
    pub effect: Effect<'p>,
}

/// Whether a rule has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'p> {
    /// It matches.
    Matches,
    /// It ended, at this second since 1970.
    Expired(u64),
    /// The credential has none of these scopes.
    LacksScope(&'p [Arc<str>]),
    /// It matches the URI as it is written or in its normal form, and not both: not enough to permit.
    OneForm,
    /// Its condition does not hold.
    ConditionFalse,
    /// Its condition depends on what is not known.
    Depends,
    /// Its condition cannot be told: a Deny denies, an Allow does not allow.
    Fails(Failure),
}

impl Policy {
    /// The rules that are about `who` and this thing of `server`, in the configuration's order, and what becomes of each.
    pub fn explain(
        &self,
        who: &Identity,
        server: &str,
        thing: Thing<'_>,
        asked: Asked<'_>,
        now: u64,
    ) -> Vec<Explained<'_>> {
        let Some(About { written, normal }) = self.about(server, thing) else {
            return Vec::new();
        };
        let normal = normal.as_ref().unwrap_or(&written);
        let standing = self.standing(who);
        let sets = written
            .iter()
            .zip(&**normal)
            .zip(standing.full.iter().zip(&standing.but_scopes));
        let about: Vec<u64> = sets
            .map(|((written, normal), (full, but_scopes))| (written | normal) & (full | but_scopes))
            .collect();
        let has = |bits: &[u64], at: usize| bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        ones(&about)
            .filter_map(|at| Some((at, self.rules.get(at)?)))
            .map(|(at, rule)| {
                let in_both = has(&written, at) && has(normal, at);
                let effect = if let Some(end) = rule.expires.filter(|_| !rule.is_in_force(now)) {
                    Effect::Expired(end)
                } else if !has(&standing.full, at) {
                    Effect::LacksScope(rule.who.scopes.as_deref().unwrap_or_default())
                } else if rule.action == Action::Allow && !in_both {
                    Effect::OneForm
                } else {
                    // Each with all the steps there are: what is told of one must not depend on those before it.
                    match rule.verdict(&thing.trial(who, server, asked)) {
                        Verdict::Holds => Effect::Matches,
                        Verdict::HoldsNot => Effect::ConditionFalse,
                        Verdict::Depends => Effect::Depends,
                        Verdict::Fails(failure) => Effect::Fails(failure),
                    }
                };
                Explained {
                    rule: &rule.name,
                    action: rule.action,
                    effect,
                }
            })
            .collect()
    }
}
