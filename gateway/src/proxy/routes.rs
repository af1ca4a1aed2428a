//! The federated endpoint's table: which name leads to which tool of which server.
//!
//! Built from the inventories whenever one of them changes. The order, and with it who wins a clash, depends on nothing
//! but names, so that all replicas build the same table.

use std::collections::HashMap;
use std::sync::Arc;

use super::inventory::Tool;
use super::names;
use super::upstream::Upstream;

/// One tool on the federated endpoint.
#[derive(Clone)]
pub struct Route {
    /// Its federated name.
    pub name: Box<str>,
    /// That name as a JSON string.
    pub name_json: Box<str>,
    /// Index of its server among the snapshot's.
    pub server: usize,
    /// The tool.
    pub tool: Arc<Tool>,
}

/// All routes at one moment, sorted by name.
#[derive(Default)]
pub struct Routes {
    /// The generation of the inventories they were built from.
    pub generation: u64,
    sorted: Vec<Route>,
    by_name: HashMap<Box<str>, usize>,
}

impl Routes {
    /// From the inventories as they are now. Of two tools with one name, the first server's in name order counts.
    pub fn build(upstreams: &[Arc<Upstream>], generation: u64) -> Self {
        let mut order: Vec<usize> = (0..upstreams.len()).collect();
        order.sort_by_key(|index| {
            upstreams
                .get(*index)
                .map(|upstream| Arc::clone(&upstream.full_name))
        });
        let mut routes = Vec::new();
        for server in order {
            let Some(upstream) = upstreams.get(server) else {
                continue;
            };
            let inventory = upstream.link.inventory();
            for tool in inventory.iter().flat_map(|inventory| &inventory.tools) {
                if upstream.offers(&tool.name) {
                    let name = names::federated(&upstream.prefix, &tool.name);
                    let name_json = serde_json::to_string(&name)
                        .expect("a string is always JSON")
                        .into();
                    routes.push(Route {
                        name: name.into(),
                        name_json,
                        server,
                        tool: Arc::clone(tool),
                    });
                }
            }
        }
        routes.sort_by(|a, b| a.name.cmp(&b.name));
        routes.dedup_by(|b, a| a.name == b.name);
        let by_name = routes
            .iter()
            .enumerate()
            .map(|(index, route)| (route.name.clone(), index))
            .collect();
        Self {
            generation,
            sorted: routes,
            by_name,
        }
    }

    /// Where a name leads.
    pub fn get(&self, name: &str) -> Option<&Route> {
        self.sorted.get(*self.by_name.get(name)?)
    }

    /// All of them, by name.
    pub fn all(&self) -> &[Route] {
        &self.sorted
    }
}
