//! Takes objects from the queue and passes over them, several at a time, each under a time-out, each failure by its class.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, info_span, warn};

use super::backoff::jitter;
use super::error::{Class, Classify, Error};
use super::target::Target;
use super::{Ctx, gateway, server, unreadable};
use crate::status::gateway::Failure;

/// How many objects are passed over at a time.
const CONCURRENCY: usize = 16;
/// How long a pass may take.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long an object is looked at although nothing happened: a backstop that finds nothing to do.
const RESYNC: Duration = Duration::from_secs(600);
/// By how much that differs between objects.
const RESYNC_SPREAD: Duration = Duration::from_secs(300);
/// After how long it is looked again whether somebody else's object still has a name that is needed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How many tries an error may last before the status tells of it.
const TRIES_UNTOLD: u32 = 3;
/// How long running passes may go on when the process ends.
const WIND_UP: Duration = Duration::from_secs(12);

/// Works until the process stops.
pub async fn run(ctx: Arc<Ctx>) {
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let mut passes = JoinSet::new();
    loop {
        while passes.try_join_next().is_some() {}
        let permit = tokio::select! {
            () = ctx.stop.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let target = tokio::select! {
            () = ctx.stop.cancelled() => break,
            target = ctx.queue.take() => target,
        };
        let ctx = Arc::clone(&ctx);
        let span = info_span!("pass", kind = target.kind(), object = %target.key());
        passes.spawn(
            async move {
                let next = pass(&ctx, &target).await;
                ctx.queue.finish(&target, next);
                drop(permit);
            }
            .instrument(span),
        );
    }
    // Half a pass is no harm, the next leader goes on; but one that is about to end may.
    let all = async { while passes.join_next().await.is_some() {} };
    if tokio::time::timeout(WIND_UP, all).await.is_err() {
        warn!("passes were still running and are cut off");
    }
}

/// One pass over one object; says when the next one is due.
async fn pass(ctx: &Ctx, target: &Target) -> Option<Duration> {
    let started = Instant::now();
    let work = AssertUnwindSafe(dispatch(ctx, target)).catch_unwind();
    let outcome = match tokio::time::timeout(PASS_TIMEOUT, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(Error::Invariant("the pass panicked".to_owned())),
        Err(_elapsed) => Err(Error::PassTimedOut(PASS_TIMEOUT.as_secs())),
    };
    let failure = outcome.as_ref().err().map(Classify::class);
    ctx.metrics.pass(target.kind(), failure, started.elapsed());
    let resync = RESYNC + jitter(RESYNC_SPREAD);
    match outcome {
        Ok(Next::Gone) => None,
        Ok(Next::After(next)) => {
            ctx.backoff.reset(target);
            Some(next.map_or(resync, |next| next.min(resync)))
        }
        Err(error) => {
            let delay = failed(ctx, target, &error).await;
            // Objects of others are not watched: nothing tells when the one in our way has gone.
            let in_the_way = matches!(error, Error::NameConflict { .. });
            let resync = if in_the_way {
                resync.min(LOOK_AGAIN)
            } else {
                resync
            };
            Some(delay.unwrap_or(resync))
        }
    }
}

/// What follows a pass that went well.
enum Next {
    /// The object is gone.
    Gone,
    /// Another pass, after this long if that is known.
    After(Option<Duration>),
}

async fn dispatch(ctx: &Ctx, target: &Target) -> Result<Next, Error> {
    unreadable::tell(ctx, target).await;
    match target {
        Target::Gateway(key) => {
            let Some(object) = ctx.stores.gateways.get(key) else {
                if ctx.stores.gateways.unknown(key).is_some() {
                    return Ok(Next::After(None));
                }
                gateway::forget(ctx, key);
                return Ok(Next::Gone);
            };
            let outcome = gateway::reconcile(ctx, object).await;
            if ctx.rollouts.visit(key) {
                // Passes over its servers may have held back until now.
                ctx.pods_said_something(key);
            }
            outcome.map(Next::After)
        }
        Target::Server(key) => {
            let Some(object) = ctx.stores.servers.get(key) else {
                if ctx.stores.servers.unknown(key).is_some() {
                    return Ok(Next::After(None));
                }
                server::forget(ctx, key);
                return Ok(Next::Gone);
            };
            server::reconcile(ctx, object).await.map(Next::After)
        }
    }
}

/// Notes a failure, tells of it where that helps, and says after how long to try again.
async fn failed(ctx: &Ctx, target: &Target, error: &Error) -> Option<Duration> {
    let class = error.class();
    let delay = ctx.backoff.failed(target, class);
    let failures = ctx.backoff.failures(target);
    match class {
        Class::Conflict | Class::NotLeading => debug!(%error, "to be done again"),
        Class::Terminal | Class::Waiting => debug!(%error, "cannot go on"),
        Class::Transient | Class::Forbidden | Class::Contested => {
            warn!(%error, class = class.as_str(), failures, "the pass failed");
        }
        Class::Bug => error!(%error, failures, "the pass failed by a mistake of ours"),
    }
    let lasting = match class {
        Class::Terminal | Class::Waiting | Class::Forbidden | Class::Contested | Class::Bug => true,
        Class::Transient => failures >= TRIES_UNTOLD,
        Class::Conflict | Class::NotLeading => false,
    };
    if lasting {
        let failure = Failure {
            class,
            reason: error.reason(),
            message: error.to_string(),
            lasting,
        };
        if let Err(error) = report(ctx, target, &failure).await {
            debug!(%error, "the failure could not be told in the status");
        }
    }
    delay
}

async fn report(ctx: &Ctx, target: &Target, failure: &Failure) -> Result<(), Error> {
    match target {
        Target::Gateway(key) => match ctx.stores.gateways.get(key) {
            Some(object) => gateway::report(ctx, &object, failure).await,
            None => Ok(()),
        },
        Target::Server(key) => match ctx.stores.servers.get(key) {
            Some(object) => server::report(ctx, &object, failure).await,
            None => Ok(()),
        },
    }
}
