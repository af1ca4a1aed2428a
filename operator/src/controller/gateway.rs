//! One pass over an McpGateway: dereference, validate, build, apply, observe, write status.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use tokio::time::Instant;

use super::apply::{Applier, controller_uid};
use super::error::Error;
use super::nudge::{self, Nudgeable};
use super::poll::fetch::PodTarget;
use super::session_keys::Keyring;
use super::target::Target;
use super::{Ctx, dereference, unreadable};
use crate::api::labels::{self, CONFIG_HASH, FIELD_MANAGER_GATEWAY, REFRESH, REFRESHED};
use crate::api::names::gateway_child;
use crate::api::v1alpha1::{GatewayStatus, McpGateway};
use crate::build;
use crate::identity::{Identity, Key};
use crate::status::deployment::{DeploymentFacts, PodFacts};
use crate::status::gateway::{Failure, GatewayPod, Outcome, View, status};
use crate::validate::{self, DereferencedGateway, Problem, ValidatedGateway, security_txt};

/// For how long after a change of the configuration pods that still run the one before count as serving.
const UPDATING_FOR: Duration = Duration::from_secs(90);

/// The longest time that a pass may ask to be left alone for, in seconds: objects are looked at more often anyway.
const MAX_REST: i64 = 24 * 60 * 60;

/// One pass. Says after how long the next one is due, if nothing happens before.
pub async fn reconcile(ctx: &Ctx, gateway: Arc<McpGateway>) -> Result<Option<Duration>, Error> {
    let key = Key::of(&*gateway);
    let Some(identity) = Identity::of(&*gateway).filter(|_| gateway.metadata.deletion_timestamp.is_none())
    else {
        forget(ctx, &key);
        return Ok(None);
    };
    unreadable::hold_gateway(&ctx.stores, &identity, &gateway)?;
    let settings = ctx.settings();
    let keys = Keyring {
        kube: &ctx.kube,
        stores: &ctx.stores,
        chosen: &ctx.chosen,
        manager: FIELD_MANAGER_GATEWAY,
        gateway: &identity,
    }
    .ensure()
    .await?;
    let world = dereference::around_gateway(&ctx.stores, &ctx.foreign, &key);
    let needed: BTreeSet<Key> = world
        .servers
        .values()
        .filter_map(|inputs| dereference::foreign_ca(&inputs.server))
        .collect();
    ctx.foreign.need(&Target::Gateway(key.clone()), &needed);
    let inputs = DereferencedGateway {
        key: key.clone(),
        world,
        session_keys: keys.session,
        token_issuer: ctx.token_issuer()?,
    };
    let built = validate::gateway(&inputs, &settings)
        .and_then(|validated| Ok((build::gateway(&validated, &settings)?, validated)));
    let (objects, validated) = match built {
        Ok(built) => built,
        Err(problems) => return refused(ctx, &gateway, &identity, &problems).await,
    };
    let hash = objects.config_hash;

    let template = objects
        .resources
        .deployments
        .first()
        .map(template_hash)
        .unwrap_or_default();
    let generation = gateway.metadata.generation;
    let held = ctx.holds.until(&key, generation, &template, Instant::now());
    let applier = Applier {
        kube: &ctx.kube,
        stores: &ctx.stores,
        memo: &ctx.memo,
        metrics: &ctx.metrics,
        manager: FIELD_MANAGER_GATEWAY,
        owner: &identity,
        pods: labels::gateway_selector(&key.name),
        hold: held.is_some(),
    };
    let refresh = gateway.annotations().get(REFRESH).map(String::as_str);
    let mut next_nudge = None;
    let nudging = async {
        let plan = ctx
            .nudges
            .plan(&key, nudgeable(ctx, &identity), &hash, refresh, Instant::now());
        nudge::carry_out(&ctx.kube, &ctx.metrics, FIELD_MANAGER_GATEWAY, &key, &plan).await;
        next_nudge = plan.next;
    };
    let applied = applier.all(objects.resources, nudging).await?;
    if held.is_none() {
        ctx.holds.applied(&key, generation, template);
    }

    let name = gateway_child(&key.name);
    let deployment = applied
        .deployments
        .iter()
        .find(|deployment| deployment.name_any() == name);
    let pods = deployment
        .map(|deployment| observe(ctx, &key, deployment))
        .unwrap_or_default();
    follow(ctx, &identity, &hash, &pods, &keys.fingerprints);
    let now = Instant::now();
    let since = announce(ctx, &key, &hash, &validated, &pods, now);
    let updating = now.saturating_duration_since(since) < UPDATING_FOR;
    // A process that has just begun to lead knows nothing yet that its predecessor did not: what stands there stays until
    // the pods have been asked, which takes a moment and brings another pass.
    let told = gateway
        .status
        .as_ref()
        .is_some_and(|status| !status.conditions.is_empty());
    if !(told && pods.iter().any(GatewayPod::is_unheard)) {
        let view = View {
            gateway: &gateway,
            outcome: Outcome::Built {
                validated: &validated,
                hash: &hash,
                updating,
            },
            deployment: deployment.map(DeploymentFacts::of).unwrap_or_default(),
            pods: &pods,
            now: ctx.now(),
        };
        write(ctx, &gateway, &view).await?;
    }

    let judge_again = updating.then(|| since + UPDATING_FOR);
    let stale = security_txt::judge(&gateway.spec, ctx.now())
        .and_then(|judgement| judgement.until)
        .map(|until| now + rest(until, ctx.now()));
    let next = [next_nudge, judge_again, held, stale].into_iter().flatten().min();
    Ok(next.map(|at| at.saturating_duration_since(now)))
}

/// How long it is until then, a second more at most; times of passes are whole seconds.
fn rest(until: Timestamp, now: Timestamp) -> Duration {
    let seconds = until
        .as_second()
        .saturating_sub(now.as_second())
        .clamp(1, MAX_REST);
    Duration::from_secs(seconds.unsigned_abs())
}

/// Hash of what starts new pods when it changes.
fn template_hash(deployment: &Deployment) -> String {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    build::hash::of(&template)
}

/// The spec cannot be built: everything stays as it was, and the status says why.
async fn refused(
    ctx: &Ctx,
    gateway: &McpGateway,
    identity: &Identity,
    problems: &[Problem],
) -> Result<Option<Duration>, Error> {
    let deployment = own_deployment(ctx, identity);
    let view = View {
        gateway,
        outcome: Outcome::Refused(problems),
        deployment: deployment.as_deref().map(DeploymentFacts::of).unwrap_or_default(),
        pods: &[],
        now: ctx.now(),
    };
    write(ctx, gateway, &view).await?;
    Ok(None)
}

/// Tells of a pass that failed, as far as that concerns whoever owns the object.
pub async fn report(ctx: &Ctx, gateway: &McpGateway, failure: &Failure) -> Result<(), Error> {
    let view = View {
        gateway,
        outcome: Outcome::Failed(failure),
        deployment: DeploymentFacts::default(),
        pods: &[],
        now: ctx.now(),
    };
    write(ctx, gateway, &view).await
}

/// Drops everything kept in memory about a gateway that is gone.
pub fn forget(ctx: &Ctx, key: &Key) {
    ctx.poller.forget(key);
    ctx.nudges.forget(key);
    ctx.rollouts.forget(key);
    ctx.chosen.forget(key);
    ctx.holds.forget(key);
    ctx.forget(&Target::Gateway(key.clone()));
}

async fn write(ctx: &Ctx, gateway: &McpGateway, view: &View<'_>) -> Result<(), Error> {
    let target = Target::Gateway(Key::of(gateway));
    let previous: GatewayStatus = ctx.status.current(&target, gateway, gateway.status.as_ref());
    let wanted = status(view, &previous);
    ctx.tell_status(
        FIELD_MANAGER_GATEWAY,
        &target,
        gateway,
        (&previous, &previous.conditions),
        (&wanted, &wanted.conditions),
    )
    .await
}

fn own_deployment(ctx: &Ctx, identity: &Identity) -> Option<Arc<Deployment>> {
    let Identity { key, uid } = identity;
    ctx.stores
        .deployments
        .get(&Key::new(key.namespace.clone(), gateway_child(&key.name)))
        .filter(|deployment| controller_uid(&**deployment) == Some(uid))
}

/// The gateway's pods, and what they said.
fn observe(ctx: &Ctx, key: &Key, deployment: &Deployment) -> Vec<GatewayPod> {
    let mut reports = ctx.poller.board.of(key);
    ctx.stores
        .pods_of(deployment)
        .iter()
        .map(|pod| {
            let facts = PodFacts::of(pod);
            let report = reports.remove(&facts.uid).unwrap_or_default();
            GatewayPod { facts, report }
        })
        .collect()
}

/// Has the pods read: all that have an address, ready or not, since one that is not ready says why.
fn follow(ctx: &Ctx, gateway: &Identity, hash: &str, pods: &[GatewayPod], fingerprints: &[String]) {
    let targets = pods
        .iter()
        .filter(|pod| !pod.facts.leaving)
        .filter_map(|pod| {
            Some(PodTarget {
                uid: pod.facts.uid.clone(),
                name: pod.facts.name.clone(),
                ip: pod.facts.ip?,
                gateway_uid: gateway.uid.clone(),
                fingerprints: fingerprints.to_vec(),
            })
        })
        .collect();
    ctx.poller.follow(&gateway.key, hash, targets);
}

/// Tells the servers' passes what the pods should run. Says since when they should.
fn announce(
    ctx: &Ctx,
    key: &Key,
    hash: &str,
    validated: &ValidatedGateway,
    pods: &[GatewayPod],
    now: Instant,
) -> Instant {
    let servers = validated
        .attached()
        .map(|attached| {
            let generation = attached.upstream.server.metadata.generation.unwrap_or_default();
            (attached.upstream.key.clone(), generation)
        })
        .collect();
    let mut ready: Vec<String> = pods
        .iter()
        .filter(|pod| pod.facts.serves())
        .map(|pod| pod.facts.uid.clone())
        .collect();
    ready.sort_unstable();
    let (since, moved) = ctx.rollouts.set(key, hash, servers, ready, now);
    if moved {
        for server in validated.servers.keys() {
            ctx.queue.soon(Target::Server(server.clone()));
        }
    }
    since
}

/// The pods that may need a touch.
fn nudgeable(ctx: &Ctx, identity: &Identity) -> Vec<Nudgeable> {
    let Some(deployment) = own_deployment(ctx, identity) else {
        return Vec::new();
    };
    let reports = ctx.poller.board.of(&identity.key);
    ctx.stores
        .pods_of(&deployment)
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| {
            let uid = pod.uid().unwrap_or_default();
            let report = reports.get(&uid);
            Nudgeable {
                reported: report
                    .and_then(|report| report.current())
                    .map(|status| status.config.hash.clone()),
                unreachable: report.is_some_and(super::poll::board::Report::is_unreachable),
                name: pod.name_any(),
                config_hash: pod.annotations().get(CONFIG_HASH).cloned(),
                refreshed: pod.annotations().get(REFRESHED).cloned(),
                uid,
            }
        })
        .collect()
}
