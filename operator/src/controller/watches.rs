//! Starts one watch per kind, each with the mapping from its changes to the objects they concern.

use std::sync::Arc;

use kube::Api;
use kube::core::DeserializeGuard;
use tokio::task::JoinSet;

use super::affected::{self, Targets};
use super::cache::{Cache, Change};
use super::stores::{FOREIGN_SLICES, OURS, strip};
use super::watch::{Watch, Watched};
use super::{Ctx, api_server};

/// Starts all watches.
pub fn start(ctx: &Arc<Ctx>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let stores = &ctx.stores;
    let servers = Arc::clone(&stores.servers);
    one(ctx, &mut tasks, &stores.gateways, None, strip::nothing, {
        let servers = Arc::clone(&servers);
        move |change| affected::by_gateway(change, &servers)
    });
    one(ctx, &mut tasks, &stores.servers, None, strip::nothing, {
        let (servers, gateways) = (Arc::clone(&servers), Arc::clone(&stores.gateways));
        move |change| affected::by_server(change, &servers, &gateways)
    });
    one(ctx, &mut tasks, &stores.namespaces, None, strip::namespace, {
        let servers = Arc::clone(&servers);
        move |change| affected::by_namespace(change, &servers)
    });
    one(ctx, &mut tasks, &stores.services, None, strip::service, {
        let servers = Arc::clone(&servers);
        move |change| affected::by_service(change, &servers)
    });
    one(
        ctx,
        &mut tasks,
        &stores.endpoint_slices,
        Some(FOREIGN_SLICES),
        strip::nothing,
        {
            let stores = stores.clone();
            move |change| {
                let mut targets = affected::by_endpoint_slice(change, &servers);
                targets.extend(api_server::affected(change, &stores));
                targets
            }
        },
    );
    let ours = Some(OURS);
    one(
        ctx,
        &mut tasks,
        &stores.config_maps,
        ours,
        strip::nothing,
        affected::by_child,
    );
    one(
        ctx,
        &mut tasks,
        &stores.service_accounts,
        ours,
        strip::nothing,
        affected::by_child,
    );
    one(
        ctx,
        &mut tasks,
        &stores.network_policies,
        ours,
        strip::nothing,
        affected::by_child,
    );
    one(
        ctx,
        &mut tasks,
        &stores.pod_disruption_budgets,
        ours,
        strip::nothing,
        affected::by_child,
    );
    one(
        ctx,
        &mut tasks,
        &stores.deployments,
        ours,
        strip::nothing,
        affected::by_child,
    );
    one(
        ctx,
        &mut tasks,
        &stores.replica_sets,
        ours,
        strip::replica_set,
        affected::by_labels,
    );
    one(ctx, &mut tasks, &stores.pods, ours, strip::pod, |change| {
        if affected::pod_moved(change) {
            affected::by_labels(change)
        } else {
            Targets::new()
        }
    });
    tasks
}

fn one<K: Watched>(
    ctx: &Arc<Ctx>,
    tasks: &mut JoinSet<()>,
    cache: &Arc<Cache<K>>,
    labels: Option<&str>,
    strip: fn(&mut K),
    affected: impl Fn(&Change<K>) -> Targets + Send + Sync + 'static,
) {
    let watch = Watch {
        api: Api::<DeserializeGuard<K>>::all(ctx.kube.client()),
        labels: labels.map(str::to_owned),
        strip,
        cache: Arc::clone(cache),
        health: ctx.health.clone(),
    };
    watch.announce();
    let queue = ctx.queue.clone();
    tasks.spawn(watch.run(ctx.stop.clone(), move |change| {
        for target in affected(change) {
            queue.soon(target);
        }
    }));
}
