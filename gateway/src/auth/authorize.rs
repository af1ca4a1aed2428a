//! What a principal may do: one decision for lists and calls alike.
//!
//! Default deny; a Deny rule wins over every Allow rule. Which rules are about a principal does not depend on server
//! or tool, so it is found once per principal and policy, and kept with the identity as one bit per rule; a decision
//! is then a few words ANDed with those of the server, and the globs of the rules that are left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use portcullis_config::Config;
use portcullis_config::auth::METHOD_API_KEYS;
use portcullis_config::policy::{Action, Principals, Rule};

use super::glob::Globs;
use super::identity::Identity;
use super::names::Names;

/// The compiled rules of one configuration.
#[derive(Debug)]
pub struct Policy {
    /// Tells this policy's standings from another's.
    id: u64,
    rules: Box<[Compiled]>,
    /// Which rules deny.
    denying: Bits,
    /// Each attached server, by `namespace/name`.
    servers: HashMap<Box<str>, ServerRules>,
}

/// What is known of one server.
#[derive(Debug)]
struct ServerRules {
    /// Which rules cover it.
    covering: Bits,
    /// Which of those are about a tool: found when the tool is first asked about, by comparing every glob once.
    tools: ArcSwap<HashMap<Arc<str>, Arc<[u64]>>>,
}

/// What was decided, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'p> {
    /// Permitted.
    Allow {
        /// The rule that permits.
        rule: &'p Arc<str>,
    },
    /// Refused; to be answered as if the tool did not exist.
    Deny {
        /// The Deny rule; none: no rule permits.
        rule: Option<&'p Arc<str>>,
    },
    /// A rule would permit if the token carried one of its scopes: to be answered 403 `insufficient_scope`.
    InsufficientScope {
        /// That rule.
        rule: &'p Arc<str>,
        /// Its scopes.
        scopes: &'p [Arc<str>],
    },
}

impl Decision<'_> {
    /// May a list show the tool? A tool that only lacks a scope is listed, so that a client can ask for the scope.
    pub fn is_listed(&self) -> bool {
        !matches!(self, Self::Deny { .. })
    }
}

/// One bit per rule.
type Bits = Box<[u64]>;

/// Which of a policy's rules are about a principal.
#[derive(Debug)]
pub struct Standing {
    policy: u64,
    /// Rules whose principals match.
    full: Bits,
    /// Allow rules whose principals match but for the scopes.
    but_scopes: Bits,
}

#[derive(Debug)]
struct Compiled {
    name: Arc<str>,
    who: Who,
    tools: Globs,
    /// Seconds since 1970 from which on the rule does nothing.
    expires: Option<u64>,
}

#[derive(Debug)]
struct Who {
    method: Option<Box<str>>,
    subjects: Option<Names>,
    clients: Option<Names>,
    groups: Option<Names>,
    scopes: Option<Box<[Arc<str>]>>,
    any_authenticated: bool,
}

impl Policy {
    /// Compiles the rules of a configuration that passed validation.
    pub fn compile(config: &Config) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        // A rule without tools is about no tool, allowing or denying.
        let rules: Vec<(&Rule, Globs)> = config
            .rules
            .iter()
            .map(|rule| (rule, Globs::new(rule.tools.as_deref().unwrap_or_default())))
            .filter(|(_, tools)| !tools.is_empty())
            .collect();
        let bits_where = |wanted: &dyn Fn(&Rule) -> bool| -> Bits {
            let mut bits = no_bits(rules.len());
            for (at, (rule, _)) in rules.iter().enumerate() {
                if wanted(rule) {
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
                let bits = bits_where(&|rule| rule.servers.iter().any(|one| one == "*" || *one == name));
                let rules = ServerRules {
                    covering: bits,
                    tools: ArcSwap::default(),
                };
                (name.into(), rules)
            })
            .collect();
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            denying: bits_where(&|rule| rule.action == Action::Deny),
            servers,
            rules: rules
                .into_iter()
                .map(|(rule, tools)| Compiled::new(rule, tools))
                .collect(),
        }
    }

    /// May `who` use `tool` of `server` (`namespace/name`)?
    pub fn decide(&self, who: &Identity, server: &str, tool: &str, now: u64) -> Decision<'_> {
        let Some(server) = self.servers.get(server) else {
            return Decision::Deny { rule: None };
        };
        let about_tool = self.about_tool(server, tool);
        let standing = self.standing(who);
        let find = |standing, wanted| {
            self.rules_of(&about_tool, standing, wanted)
                .find(|rule| rule.is_in_force(now))
        };
        if let Some(rule) = find(&standing.full, Wanted::Deny) {
            return Decision::Deny {
                rule: Some(&rule.name),
            };
        }
        if let Some(rule) = find(&standing.full, Wanted::Allow) {
            return Decision::Allow { rule: &rule.name };
        }
        match find(&standing.but_scopes, Wanted::Allow) {
            Some(rule) => Decision::InsufficientScope {
                rule: &rule.name,
                scopes: rule.who.scopes.as_deref().unwrap_or_default(),
            },
            None => Decision::Deny { rule: None },
        }
    }

    /// Which rules are about a tool of a server.
    fn about_tool(&self, server: &ServerRules, tool: &str) -> Arc<[u64]> {
        let known = server.tools.load();
        if let Some(rules) = known.get(tool) {
            return rules.clone();
        }
        let mut found = vec![0; server.covering.len()];
        for at in ones(&server.covering) {
            if self.rules.get(at).is_some_and(|rule| rule.tools.matches(tool)) {
                set(&mut found, at);
            }
        }
        let found: Arc<[u64]> = found.into();
        // Copied for each new tool, and then read without a lock on every call.
        if known.len() < MAX_TOOLS {
            drop(known);
            server.tools.rcu(|known| {
                let mut known = HashMap::clone(known);
                known.insert(tool.into(), found.clone());
                known
            });
        }
        found
    }

    /// May `who` use anything on `server` (`namespace/name`), be it after asking for a scope? Where not, the server
    /// does not exist for `who`.
    pub fn any_tool(&self, who: &Identity, server: &str, now: u64) -> bool {
        let Some(ServerRules { covering, .. }) = self.servers.get(server) else {
            return false;
        };
        let standing = self.standing(who);
        let in_force = |rule: &Compiled| rule.is_in_force(now);
        let everything_denied = self
            .rules_of(covering, &standing.full, Wanted::Deny)
            .any(|rule| in_force(rule) && rule.tools.matches_everything());
        !everything_denied
            && self
                .rules_of(covering, &standing.full, Wanted::Allow)
                .chain(self.rules_of(covering, &standing.but_scopes, Wanted::Allow))
                .any(in_force)
    }

    /// The rules that are both in `covering` and in `standing`, in the configuration's order.
    fn rules_of<'p, 'b>(
        &'p self,
        covering: &'b [u64],
        standing: &'b [u64],
        wanted: Wanted,
    ) -> impl Iterator<Item = &'p Compiled> + use<'p, 'b> {
        covering
            .iter()
            .zip(standing)
            .zip(&self.denying)
            .enumerate()
            .flat_map(move |(at, ((covering, standing), denying))| {
                let action = match wanted {
                    Wanted::Deny => *denying,
                    Wanted::Allow => !*denying,
                };
                Ones(covering & standing & action).map(move |bit| at * 64 + bit)
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

/// Tools of one server that are remembered.
const MAX_TOOLS: usize = 1024;

#[derive(Clone, Copy)]
enum Wanted {
    Deny,
    Allow,
}

impl Compiled {
    fn new(rule: &Rule, tools: Globs) -> Self {
        Self {
            name: rule.name.as_str().into(),
            who: Who::new(&rule.principals),
            tools,
            // A rule that expired before 1970 is expired at any time.
            expires: rule.expires.map(|at| u64::try_from(at.as_second()).unwrap_or(0)),
        }
    }

    fn is_in_force(&self, now: u64) -> bool {
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
    fn matches_but_scopes(&self, who: &Identity) -> bool {
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

    fn has_scope(&self, who: &Identity) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|list| who.scopes.iter().any(|scope| list.contains(scope)))
    }
}

/// The positions of set bits, from the lowest.
fn ones(bits: &[u64]) -> impl Iterator<Item = usize> {
    bits.iter()
        .enumerate()
        .flat_map(|(at, word)| Ones(*word).map(move |bit| at * 64 + bit))
}

/// The positions of a word's set bits, from the lowest.
struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let at = self.0.trailing_zeros() as usize;
            self.0 &= self.0 - 1;
            at
        })
    }
}

fn no_bits(count: usize) -> Bits {
    vec![0; count.div_ceil(64)].into()
}

fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

#[cfg(test)]
mod tests;
