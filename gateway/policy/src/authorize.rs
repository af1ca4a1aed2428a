//! What a principal may do: one decision for lists and calls, for tools, prompts and resources alike.
//!
//! Default deny; a Deny rule wins over every Allow rule, and a shadow rule (Audit) decides nothing. Which rules are about
//! a principal does not depend on server or tool, so it is found once per principal and policy, and kept with the
//! identity as one bit per rule; a decision is then a few words ANDed with those of the server, the globs of the rules
//! that are left, and the conditions of those that match.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use portcullis_config::policy::{Action, Rule};
use portcullis_config::{Config, Problem};

use crate::identity::Identity;
use crate::uri;
use crate::when::{Asked, Patterns, Trial, Verdict};
use bits::{Bits, Ones, no_bits, ones, set};
use rule::Compiled;

mod bits;
mod decision;
pub mod explain;
mod rule;

pub use decision::{Decision, Kind, Shadows, Thing};

/// The compiled rules of one configuration.
#[derive(Debug)]
pub struct Policy {
    /// Tells this policy's standings from another's.
    id: u64,
    rules: Box<[Compiled]>,
    /// Which rules do what, by [`Action`].
    acting: [Bits; 3],
    /// Is one of them a shadow rule?
    has_shadows: bool,
    /// Does a condition read the arguments of calls?
    reads_arguments: bool,
    /// Each attached server, by `namespace/name`.
    servers: HashMap<Box<str>, ServerRules>,
}

/// What is known of one server: for each kind of thing it has.
type ServerRules = [KindRules; Kind::ALL.len()];

/// What is known of one server's things of one kind.
#[derive(Debug)]
struct KindRules {
    /// Which rules cover them.
    covering: Bits,
    /// Which of those are about one thing: found when it is first asked about, by comparing every glob once.
    things: ArcSwap<HashMap<Arc<str>, Arc<[u64]>>>,
}

/// Which rules are about a thing.
struct About {
    /// By its name, or its URI as it is written.
    written: Arc<[u64]>,
    /// By its URI in normal form, where that is another: it is judged both ways.
    normal: Option<Arc<[u64]>>,
}

/// Which of a policy's rules are about a principal.
#[derive(Debug)]
pub struct Standing {
    policy: u64,
    /// Rules whose principals match.
    full: Bits,
    /// Allow rules whose principals match but for the scopes.
    but_scopes: Bits,
}

impl Policy {
    /// Compiles the rules of a configuration that passed validation. What is wrong then is a condition, with its place.
    pub fn compile(config: &Config) -> Result<Self, Vec<Problem>> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let mut patterns = Patterns::default();
        let mut rules: Vec<Compiled> = Vec::with_capacity(config.rules.len());
        let mut problems = Vec::new();
        for rule in &config.rules {
            match Compiled::new(rule, &mut patterns) {
                Ok(compiled) => rules.push(compiled),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let bits_where = |wanted: &dyn Fn(&Rule, &Compiled) -> bool| -> Bits {
            let mut bits = no_bits(rules.len());
            for (at, (rule, compiled)) in config.rules.iter().zip(&rules).enumerate() {
                if wanted(rule, compiled) {
                    set(&mut bits, at);
                }
            }
            bits
        };
        let servers = config
            .servers
            .iter()
            .map(|server| {
                let name = server.full_name();
                // A rule without tools is about no tool, allowing or denying; likewise prompts and resources.
                let covering = |kind| KindRules {
                    covering: bits_where(&|rule, compiled| {
                        !compiled.globs(kind).is_empty()
                            && rule.servers.iter().any(|one| one == "*" || *one == name)
                    }),
                    things: ArcSwap::default(),
                };
                let rules = Kind::ALL.map(covering);
                (name.into(), rules)
            })
            .collect();
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            acting: [Action::Allow, Action::Deny, Action::Audit]
                .map(|action| bits_where(&|rule, _| rule.action == action)),
            has_shadows: config.rules.iter().any(|rule| rule.action == Action::Audit),
            reads_arguments: rules.iter().any(Compiled::reads_arguments),
            servers,
            rules: rules.into(),
        })
    }

    /// May `who` use this thing of `server` (`namespace/name`)?
    pub fn decide(
        &self,
        who: &Identity,
        server: &str,
        thing: Thing<'_>,
        asked: Asked<'_>,
        now: u64,
    ) -> Decision<'_> {
        let Some(About { written, normal }) = self.about(server, thing) else {
            return Decision::Deny { rule: None };
        };
        let trial = thing.trial(who, server, asked);
        let decided = self.judge(who, &written, &trial, now);
        match normal {
            None => decided,
            Some(normal) => decided.stricter(self.judge(who, &normal, &trial, now)),
        }
    }

    /// Does a condition read the arguments of calls, so that they are worth keeping?
    pub fn reads_arguments(&self) -> bool {
        self.reads_arguments
    }

    /// Are there shadow rules, so that [`Self::shadows`] has something to say?
    pub fn has_shadows(&self) -> bool {
        self.has_shadows
    }

    /// What the shadow rules would do; they decide nothing.
    pub fn shadows(
        &self,
        who: &Identity,
        server: &str,
        thing: Thing<'_>,
        asked: Asked<'_>,
        now: u64,
    ) -> Shadows {
        let mut found = Shadows::default();
        let Some(About { written, normal }) = self.about(server, thing) else {
            return found;
        };
        let mut about: Bits = (*written).into();
        for (all, more) in about.iter_mut().zip(normal.iter().flat_map(|normal| &**normal)) {
            *all |= more;
        }
        let standing = self.standing(who);
        let trial = thing.trial(who, server, asked);
        for rule in self.rules_of(&about, &standing.full, Action::Audit) {
            match rule.verdict(&trial) {
                _ if !rule.is_in_force(now) => {}
                Verdict::Holds => found.matching.push(Arc::clone(&rule.name)),
                Verdict::Fails(_) => found.unclear.push(Arc::clone(&rule.name)),
                Verdict::HoldsNot | Verdict::Depends => {}
            }
        }
        found
    }

    /// Which rules are about a thing. None: no rule can be, for no such server is attached, or the URI is none that can
    /// be judged.
    fn about(&self, server: &str, thing: Thing<'_>) -> Option<About> {
        let rules = of_kind(self.servers.get(server)?, thing.kind());
        let plain = |written| About {
            written,
            normal: None,
        };
        match thing {
            Thing::Tool(name) | Thing::Prompt(name) => Some(plain(self.known(rules, thing.kind(), name))),
            Thing::Listed(written) | Thing::Uri(written) => {
                let normal = uri::normal(written)?;
                // What clients write is not remembered: they could write anything.
                let about = |text: &str| match thing {
                    Thing::Listed(_) => self.known(rules, Kind::Resource, text),
                    _ => self.matching(rules, Kind::Resource, text).into(),
                };
                Some(About {
                    normal: (*normal != *written).then(|| about(&normal)),
                    ..plain(about(written))
                })
            }
        }
    }

    /// The next second after `now`, since 1970, from which on a rule does nothing: until then, a decision stands.
    pub fn next_end(&self, now: u64) -> Option<u64> {
        let ends = self.rules.iter().filter_map(|rule| rule.expires);
        ends.filter(|end| *end > now).min()
    }

    /// The decision where these rules are about the thing in question.
    fn judge(&self, who: &Identity, about: &[u64], trial: &Trial<'_>, now: u64) -> Decision<'_> {
        let standing = self.standing(who);
        let find = |standing, wanted| {
            self.rules_of(about, standing, wanted)
                .find(|rule| rule.acts(now, trial))
        };
        if let Some(rule) = find(&standing.full, Action::Deny) {
            return Decision::Deny {
                rule: Some(&rule.name),
            };
        }
        if let Some(rule) = find(&standing.full, Action::Allow) {
            return Decision::Allow { rule: &rule.name };
        }
        match find(&standing.but_scopes, Action::Allow) {
            Some(rule) => Decision::InsufficientScope {
                rule: &rule.name,
                scopes: rule.who.scopes.as_deref().unwrap_or_default(),
            },
            None => Decision::Deny { rule: None },
        }
    }

    /// Which rules are about a thing that the server has.
    fn known(&self, rules: &KindRules, kind: Kind, name: &str) -> Arc<[u64]> {
        let known = rules.things.load();
        if let Some(rules) = known.get(name) {
            return rules.clone();
        }
        let found: Arc<[u64]> = self.matching(rules, kind, name).into();
        // Copied for each new thing, and then read without a lock on every call.
        if known.len() < MAX_THINGS {
            drop(known);
            rules.things.rcu(|known| {
                let mut known = HashMap::clone(known);
                known.insert(name.into(), found.clone());
                known
            });
        }
        found
    }

    /// Which rules are about a name, by comparing every glob.
    fn matching(&self, rules: &KindRules, kind: Kind, name: &str) -> Vec<u64> {
        let mut found = vec![0; rules.covering.len()];
        for at in ones(&rules.covering) {
            if self
                .rules
                .get(at)
                .is_some_and(|rule| rule.globs(kind).matches(name))
            {
                set(&mut found, at);
            }
        }
        found
    }

    /// May `who` use anything of that kind on `server` (`namespace/name`), be it after asking for a scope? Where the
    /// answer is no for every kind, the server does not exist for `who`.
    pub fn any(&self, who: &Identity, server: &str, kind: Kind, now: u64) -> bool {
        let Some(KindRules { covering, .. }) = self.servers.get(server).map(|rules| of_kind(rules, kind))
        else {
            return false;
        };
        let standing = self.standing(who);
        let in_force = |rule: &Compiled| rule.is_in_force(now);
        let everything_denied = self
            .rules_of(covering, &standing.full, Action::Deny)
            .any(|rule| in_force(rule) && rule.covers_all(kind));
        !everything_denied
            && self
                .rules_of(covering, &standing.full, Action::Allow)
                .chain(self.rules_of(covering, &standing.but_scopes, Action::Allow))
                .any(in_force)
    }

    /// The rules that are both in `covering` and in `standing`, in the configuration's order.
    fn rules_of<'p, 'b>(
        &'p self,
        covering: &'b [u64],
        standing: &'b [u64],
        wanted: Action,
    ) -> impl Iterator<Item = &'p Compiled> + use<'p, 'b> {
        let [allowing, denying, shadowing] = &self.acting;
        let acting = match wanted {
            Action::Allow => allowing,
            Action::Deny => denying,
            Action::Audit => shadowing,
        };
        covering
            .iter()
            .zip(standing)
            .zip(acting)
            .enumerate()
            .flat_map(|(at, ((covering, standing), acting))| {
                Ones(covering & standing & acting).map(move |bit| at * 64 + bit)
            })
            .filter_map(|at| self.rules.get(at))
    }

    fn standing(&self, who: &Identity) -> Arc<Standing> {
        if let Some(standing) = who.standing.load_full()
            && standing.policy == self.id
        {
            return standing;
        }
        let standing = Arc::new(self.find_standing(who));
        who.standing.store(Some(standing.clone()));
        standing
    }

    fn find_standing(&self, who: &Identity) -> Standing {
        let mut full = no_bits(self.rules.len());
        let mut but_scopes = no_bits(self.rules.len());
        for (at, rule) in self.rules.iter().enumerate() {
            if !rule.who.matches_but_scopes(who) {
                continue;
            }
            if rule.who.has_scope(who) {
                set(&mut full, at);
            } else {
                set(&mut but_scopes, at);
            }
        }
        Standing {
            policy: self.id,
            full,
            but_scopes,
        }
    }
}

/// Things of one kind that are remembered of one server.
const MAX_THINGS: usize = 1024;

const fn of_kind(rules: &ServerRules, kind: Kind) -> &KindRules {
    let [tools, prompts, resources] = rules;
    match kind {
        Kind::Tool => tools,
        Kind::Prompt => prompts,
        Kind::Resource => resources,
    }
}

#[cfg(test)]
mod tests;
