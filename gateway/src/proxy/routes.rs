//! The federated endpoints' tables: which name leads to which tool, prompt or resource of which server.
//!
//! Built from the inventories whenever one of them changes. The order, and with it every name, depends on nothing but
//! names, so that all replicas build the same tables.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portcullis_config::Prefix;

use super::inventory::Item;
use super::primitive::Primitive;
use super::upstream::Upstream;
use super::{links, names, uris};
use crate::auth::glob::Glob;
use crate::mcp::scan::Span;

/// How often names are looked through for clashes. Each time one name more gets its prefix, and prefixed names clash
/// with others by intent only: what still clashes then is not offered.
const ROUNDS: usize = 16;

/// One tool, prompt, resource or template on the federated endpoint.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its federated name.
    pub name: Box<str>,
    /// What of its object is written otherwise there: its name, URIs in it. In order.
    pub edits: Box<[(Span, Box<[u8]>)]>,
    /// Index of its server among the snapshot's.
    pub server: usize,
    /// The item.
    pub item: Arc<Item>,
}

/// All routes of one kind at one moment, sorted by name.
#[derive(Debug, Default)]
pub struct Table {
    sorted: Vec<Route>,
    by_name: HashMap<Box<str>, usize>,
}

impl Table {
    /// Where a name leads.
    pub fn get(&self, name: &str) -> Option<&Route> {
        self.sorted.get(*self.by_name.get(name)?)
    }

    /// All of them, by name.
    pub fn all(&self) -> &[Route] {
        &self.sorted
    }
}

/// All tables at one moment.
#[derive(Debug, Default)]
pub struct Routes {
    /// The generation of the inventories they were built from.
    pub generation: u64,
    prefix: Prefix,
    tables: [Table; Primitive::ALL.len()],
    /// Templates that have no prefix, in the order of their names.
    patterns: Vec<(usize, Glob)>,
    /// Each server's prefix in URIs; none where another server has the same.
    schemes: Vec<Box<str>>,
    by_scheme: HashMap<Box<str>, usize>,
    /// The one server that has resources, where there is only one.
    only: Option<usize>,
}

impl Routes {
    /// From the inventories as they are now.
    pub fn build(upstreams: &[Arc<Upstream>], prefix: Prefix, generation: u64) -> Self {
        let mut order: Vec<usize> = (0..upstreams.len()).collect();
        order.sort_by_key(|index| {
            upstreams
                .get(*index)
                .map(|upstream| Arc::clone(&upstream.full_name))
        });
        let schemes: Vec<Box<str>> = upstreams
            .iter()
            .map(|upstream| uris::scheme(&upstream.prefix))
            .collect();
        let by_scheme = schemes
            .iter()
            .enumerate()
            .map(|(server, scheme)| (scheme.clone(), server))
            .collect();
        let with_resources = |server: &usize| {
            upstreams
                .get(*server)
                .is_some_and(|upstream| upstream.features.resources && !upstream.is_quarantined())
        };
        let mut having = order.iter().copied().filter(with_resources);
        let only = having.next().filter(|_| having.next().is_none());
        let mut routes = Self {
            generation,
            prefix,
            tables: Default::default(),
            patterns: Vec::new(),
            schemes,
            by_scheme,
            only,
        };
        // Tools last: their objects name resources.
        for primitive in Primitive::ALL.into_iter().rev() {
            let table = routes.table(primitive, upstreams, &order);
            if primitive == Primitive::Templates {
                let plain = table.sorted.iter().filter(|route| route.edits.is_empty());
                // One that leads anywhere would lead everything to its server, and a quarantined one is for testers, who know
                // its prefix.
                let is_quarantined =
                    |server: usize| upstreams.get(server).is_some_and(|one| one.is_quarantined());
                let plain = plain.filter(|route| has_scheme(&route.name) && !is_quarantined(route.server));
                routes.patterns = plain
                    .map(|route| (route.server, links::pattern(&route.name)))
                    .collect();
            }
            if let Some(place) = routes.tables.get_mut(primitive.index()) {
                *place = table;
            }
        }
        routes
    }

    /// One of the tables.
    pub const fn of(&self, primitive: Primitive) -> &Table {
        let [tools, prompts, resources, templates] = &self.tables;
        match primitive {
            Primitive::Tools => tools,
            Primitive::Prompts => prompts,
            Primitive::Resources => resources,
            Primitive::Templates => templates,
        }
    }

    /// Which server a URI leads to, and its own word for it: by the lists, else by its prefix, else by the templates
    /// of one server alone, else because there is but one.
    pub fn resource<'u>(&self, uri: &'u str) -> Option<(usize, Cow<'u, str>)> {
        if let Some(route) = self.of(Primitive::Resources).get(uri) {
            return Some((route.server, route.item.name.to_string().into()));
        }
        if self.prefix != Prefix::Never
            && let Some((scheme, own)) = uris::parts(uri)
            && let Some(server) = self.by_scheme.get(&*scheme)
        {
            return Some((*server, own));
        }
        if self.prefix == Prefix::Always {
            return None;
        }
        let mut fitting = self.patterns.iter().filter(|(_, pattern)| pattern.matches(uri));
        match fitting.next() {
            Some((server, _)) if fitting.all(|(other, _)| other == server) => Some((*server, uri.into())),
            Some(_) => None,
            None => self.only.map(|server| (server, uri.into())),
        }
    }

    /// A URI of a server as the federated endpoint writes it.
    pub fn public_uri<'u>(&self, server: usize, uri: &'u str) -> Cow<'u, str> {
        let plain = match self.prefix {
            Prefix::Never => true,
            Prefix::Always => false,
            Prefix::OnConflict => self
                .resource(uri)
                .is_some_and(|(other, own)| other == server && *own == *uri),
        };
        match self.schemes.get(server) {
            Some(scheme) if !plain => uris::prefixed(scheme, uri).into(),
            _ => uri.into(),
        }
    }

    fn table(&self, primitive: Primitive, upstreams: &[Arc<Upstream>], order: &[usize]) -> Table {
        let mut found: Vec<(usize, Arc<Item>)> = Vec::new();
        for &server in order {
            let Some(upstream) = upstreams.get(server) else {
                continue;
            };
            let inventory = upstream.link.inventory();
            let items = inventory
                .iter()
                .flat_map(|inventory| &inventory.of(primitive).items);
            let offered = items.filter(|item| upstream.offers_item(primitive, &item.name));
            found.extend(offered.map(|item| (server, Arc::clone(item))));
        }
        let prefixed = |server: usize, own: &str| match primitive {
            Primitive::Tools | Primitive::Prompts => {
                let prefix = upstreams.get(server).map_or("", |upstream| &*upstream.prefix);
                names::federated(prefix, own)
            }
            Primitive::Resources | Primitive::Templates => {
                let scheme = self.schemes.get(server).map_or("", |scheme| &**scheme);
                uris::prefixed(scheme, own)
            }
        };
        let own: Vec<(usize, &str)> = found
            .iter()
            .map(|(server, item)| (*server, &*item.name))
            .collect();
        let is_aside = |server: usize| upstreams.get(server).is_some_and(|one| one.is_quarantined());
        let names = named(&own, self.prefix, &prefixed, &is_aside);
        let mut sorted: Vec<Route> = found
            .iter()
            .zip(names)
            .filter_map(|((server, item), name)| {
                let name = name?;
                Some(Route {
                    edits: self.edits(primitive, *server, item, &name),
                    name: name.into(),
                    server: *server,
                    item: Arc::clone(item),
                })
            })
            .collect();
        if sorted.len() < found.len() {
            tracing::warn!(
                method = primitive.method().as_str(),
                count = found.len() - sorted.len(),
                "names that more than one server has are not offered side by side"
            );
        }
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let by_name = sorted
            .iter()
            .enumerate()
            .map(|(index, route)| (route.name.clone(), index))
            .collect();
        Table { sorted, by_name }
    }

    /// What has to be written otherwise in an item's object.
    fn edits(
        &self,
        primitive: Primitive,
        server: usize,
        item: &Item,
        name: &str,
    ) -> Box<[(Span, Box<[u8]>)]> {
        let mut edits = Vec::new();
        if *name != *item.name {
            edits.push((item.name_at, links::json(name)));
        }
        if primitive == Primitive::Tools {
            for (at, own) in links::in_tool(&item.json) {
                let public = self.public_uri(server, &own);
                if *public != *own {
                    edits.push((at, links::json(&public)));
                }
            }
        }
        edits.sort_by_key(|(at, _)| at.start());
        edits.into()
    }
}

/// Does a template say which scheme its URIs have?
fn has_scheme(template: &str) -> bool {
    template
        .split('{')
        .next()
        .is_some_and(|literal| literal.contains(':'))
}

/// What each of `own` (server and name, in the order of servers) is called where all stand side by side. `None`: not
/// offered there. A server that is `aside`, for its testers only, takes nobody's name, nor does it change one.
fn named(
    own: &[(usize, &str)],
    prefix: Prefix,
    prefixed: &dyn Fn(usize, &str) -> String,
    is_aside: &dyn Fn(usize) -> bool,
) -> Vec<Option<String>> {
    let (aside, first): (Vec<_>, Vec<_>) =
        (0..own.len()).partition(|at| own.get(*at).is_some_and(|(server, _)| is_aside(*server)));
    let mut names = vec![None; own.len()];
    for group in [first, aside] {
        let of_group: Vec<(usize, &str)> = group.iter().filter_map(|at| own.get(*at).copied()).collect();
        let taken: HashSet<String> = names.iter().flatten().cloned().collect();
        for (at, name) in group.iter().zip(side_by_side(&of_group, prefix, prefixed)) {
            let with_prefix = || own.get(*at).map(|(server, name)| prefixed(*server, name));
            let name = match name.filter(|name| !taken.contains(name)) {
                None if prefix == Prefix::OnConflict => with_prefix().filter(|name| !taken.contains(name)),
                name => name,
            };
            if let Some(place) = names.get_mut(*at) {
                *place = name;
            }
        }
    }
    names
}

/// The same, of servers that are all there for everybody.
fn side_by_side(
    own: &[(usize, &str)],
    prefix: Prefix,
    prefixed: &dyn Fn(usize, &str) -> String,
) -> Vec<Option<String>> {
    let with_prefix = |at: usize| {
        own.get(at)
            .map_or_else(String::new, |(server, name)| prefixed(*server, name))
    };
    let mut names: Vec<Option<String>> = match prefix {
        Prefix::Always => (0..own.len()).map(|at| Some(with_prefix(at))).collect(),
        Prefix::OnConflict | Prefix::Never => own.iter().map(|(_, name)| Some((*name).to_owned())).collect(),
    };
    if prefix == Prefix::OnConflict {
        for _ in 0..ROUNDS {
            let mut changed = false;
            for at in clashing(&names) {
                let plain = own
                    .get(at)
                    .is_some_and(|(_, name)| names.get(at).and_then(Option::as_deref) == Some(*name));
                if let (true, Some(place)) = (plain, names.get_mut(at)) {
                    *place = Some(with_prefix(at));
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }
    // What is left: with prefixes only names that were cut, or that were made to clash. Whoever has it, it could be
    // taken for another's.
    for at in clashing(&names) {
        if let Some(place) = names.get_mut(at) {
            *place = None;
        }
    }
    names
}

/// The positions of names that stand more than once.
fn clashing(names: &[Option<String>]) -> Vec<usize> {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        if let Some(name) = name {
            by_name.entry(name).or_default().push(at);
        }
    }
    let mut all: Vec<usize> = by_name
        .into_values()
        .filter(|positions| positions.len() > 1)
        .flatten()
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const PREFIXES: [&str; 3] = ["a", "b", "c"];

    fn named(own: &[(usize, &str)], prefix: Prefix) -> Vec<String> {
        let prefixed = |server: usize, name: &str| names::federated(PREFIXES[server], name);
        let names = side_by_side(own, prefix, &prefixed);
        names.into_iter().map(Option::unwrap_or_default).collect()
    }

    #[rstest]
    #[case::never(Prefix::Never, &[(0, "x"), (1, "x"), (1, "y")], &["x", "", "y"])]
    #[case::on_conflict(Prefix::OnConflict, &[(0, "x"), (1, "x"), (1, "y")], &["x", "b__x", "y"])]
    #[case::a_name_like_a_prefixed_one(Prefix::OnConflict, &[(0, "b__x"), (0, "x"), (1, "x")], &["b__x", "x", ""])]
    #[case::always(Prefix::Always, &[(0, "x"), (1, "x")], &["a__x", "b__x"])]
    fn who_is_set_aside_takes_nobodys_name(
        #[case] prefix: Prefix,
        #[case] own: &[(usize, &str)],
        #[case] expected: &[&str],
    ) {
        let prefixed = |server: usize, name: &str| names::federated(PREFIXES[server], name);
        let names = super::named(own, prefix, &prefixed, &|server| server == 1);
        let names: Vec<String> = names.into_iter().map(Option::unwrap_or_default).collect();
        assert_eq!(names, expected);
    }

    #[rstest]
    #[case::always(Prefix::Always, &[(0, "x"), (0, "y"), (1, "x")], &["a__x", "a__y", "b__x"])]
    #[case::never(Prefix::Never, &[(0, "x"), (0, "y"), (1, "z")], &["x", "y", "z"])]
    #[case::never_shadows_nobody(Prefix::Never, &[(0, "x"), (0, "y"), (1, "x")], &["", "y", ""])]
    #[case::on_conflict(Prefix::OnConflict, &[(0, "x"), (0, "y"), (1, "x")], &["a__x", "y", "b__x"])]
    #[case::a_name_like_a_prefixed_one(
        Prefix::OnConflict,
        &[(0, "x"), (1, "x"), (2, "a__x")],
        &["a__x", "b__x", "c__a__x"]
    )]
    #[case::one_alone_is_left_alone(Prefix::OnConflict, &[(0, "b__x"), (1, "x")], &["b__x", "x"])]
    fn names_stand_side_by_side(
        #[case] prefix: Prefix,
        #[case] own: &[(usize, &str)],
        #[case] expected: &[&str],
    ) {
        assert_eq!(named(own, prefix), expected);
    }
}
