//! One pass over an McpServer: dereference, validate, build, apply, observe, write status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::apply::Applier;
use super::error::Error;
use super::target::Target;
use super::{Ctx, dereference, unreadable};
use crate::api::labels::{self, FIELD_MANAGER_SERVER};
use crate::api::v1alpha1::{McpServer, ServerStatus};
use crate::build;
use crate::identity::{Identity, Key};
use crate::status::deployment::{DeploymentFacts, PodFacts};
use crate::status::gateway::Failure;
use crate::status::server::{GatewayView, Outcome, View, status};
use crate::validate::{self, DereferencedServer};

/// One pass. Says after how long the next one is due, if nothing happens before.
pub async fn reconcile(ctx: &Ctx, server: Arc<McpServer>) -> Result<Option<Duration>, Error> {
    let key = Key::of(&*server);
    let Some(identity) = Identity::of(&*server).filter(|_| server.metadata.deletion_timestamp.is_none())
    else {
        forget(ctx, &key);
        return Ok(None);
    };
    unreadable::hold_server(&ctx.stores, &server)?;
    let settings = ctx.settings();
    let world = dereference::around_server(&ctx.stores, &ctx.foreign, &server);
    let needed: BTreeSet<Key> = dereference::foreign_ca(&server).into_iter().collect();
    ctx.foreign.need(&Target::Server(key.clone()), &needed);
    let inputs = DereferencedServer {
        key: key.clone(),
        world,
    };
    let validated = match validate::server(&inputs, &settings) {
        Ok(validated) => validated,
        Err(problems) => {
            write(ctx, &server, Outcome::Refused(&problems)).await?;
            return Ok(None);
        }
    };
    let applier = Applier {
        kube: &ctx.kube,
        stores: &ctx.stores,
        memo: &ctx.memo,
        metrics: &ctx.metrics,
        manager: FIELD_MANAGER_SERVER,
        owner: &identity,
        pods: labels::server_selector(&key.name),
        hold: false,
    };
    let prepared = build::server(&validated, &settings);
    let applied = applier.all(prepared, std::future::ready(())).await?;

    let deployment = applied.deployments.first();
    let pods: Vec<PodFacts> = deployment
        .map(|deployment| ctx.stores.pods_of(deployment))
        .unwrap_or_default()
        .iter()
        .map(|pod| PodFacts::of(pod))
        .collect();
    // A process that has just begun to lead knows nothing yet that its predecessor did not: what stands there stays until
    // the gateways were looked at and their pods asked, either of which brings another pass.
    let told = server
        .status
        .as_ref()
        .is_some_and(|status| !status.conditions.is_empty());
    if told && validated.attached().any(|gateway| is_unheard(ctx, gateway)) {
        return Ok(None);
    }
    let gateways: BTreeMap<Key, GatewayView> = validated
        .gateways
        .keys()
        .map(|gateway| {
            let view = GatewayView {
                rollout: ctx.rollouts.get(gateway),
                reports: ctx.poller.board.of(gateway).into_iter().collect(),
            };
            (gateway.clone(), view)
        })
        .collect();
    let outcome = Outcome::Built {
        validated: &validated,
        deployment: deployment.map(DeploymentFacts::of),
        pods: &pods,
        gateways: &gateways,
    };
    write(ctx, &server, outcome).await?;
    Ok(None)
}

/// Whether a gateway, or one of its pods that count, has not been asked yet.
fn is_unheard(ctx: &Ctx, gateway: &Key) -> bool {
    if !ctx.rollouts.is_visited(gateway) {
        return true;
    }
    let Some(rollout) = ctx.rollouts.get(gateway) else {
        return false;
    };
    let reports = ctx.poller.board.of(gateway);
    rollout.ready.iter().any(|uid| {
        reports
            .get(uid)
            .is_none_or(|report| report.current().is_none() && !report.is_unreachable())
    })
}

/// Tells of a pass that failed, as far as that concerns whoever owns the object.
pub async fn report(ctx: &Ctx, server: &McpServer, failure: &Failure) -> Result<(), Error> {
    write(ctx, server, Outcome::Failed(failure)).await
}

/// Drops everything kept in memory about a server that is gone.
pub fn forget(ctx: &Ctx, key: &Key) {
    ctx.forget(&Target::Server(key.clone()));
}

async fn write(ctx: &Ctx, server: &McpServer, outcome: Outcome<'_>) -> Result<(), Error> {
    let target = Target::Server(Key::of(server));
    let previous: ServerStatus = ctx.status.current(&target, server, server.status.as_ref());
    let view = View {
        server,
        outcome,
        now: ctx.now(),
    };
    let wanted = status(&view, &previous);
    ctx.tell_status(
        FIELD_MANAGER_SERVER,
        &target,
        server,
        (&previous, &previous.conditions),
        (&wanted, &wanted.conditions),
    )
    .await
}
