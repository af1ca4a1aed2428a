//! Several contenders, one lease.

use std::time::Duration;

use portcullis_operator::lease::{Config, Holder, Leadership, Lost};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::store::Place;
use crate::bench::Bench;

struct Contender {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Lost>>,
}

fn contender(bench: &Bench, identity: &str) -> Contender {
    let config = Config {
        namespace: "portcullis-system".into(),
        name: "portcullis-operator".into(),
        identity: identity.into(),
        lease_duration: Duration::from_secs(30),
        renew_deadline: Duration::from_secs(15),
        retry_period: Duration::from_secs(3),
    };
    let (holder, leadership) = Holder::new(bench.api.client(), config);
    let stop = CancellationToken::new();
    let task = tokio::spawn(holder.run(stop.clone()));
    Contender {
        leadership,
        stop,
        task,
    }
}

fn lease() -> Place {
    Place::new(
        "leases.coordination.k8s.io",
        "portcullis-system",
        "portcullis-operator",
    )
}

async fn secs(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_contenders_one_leads_and_the_other_takes_over_when_it_dies() {
    let bench = Bench::new();
    let all = [contender(&bench, "a"), contender(&bench, "b")];
    secs(60).await;
    let leading = |contender: &Contender| contender.leadership.may_write();
    assert_eq!(all.iter().filter(|one| leading(one)).count(), 1);
    let dead = all.iter().position(leading).unwrap();
    all[dead].task.abort();

    // The lease runs out 30 s after the last renewal that the other saw; before that nobody else may write, and the dead
    // one stopped 15 s earlier.
    let mut idle = 0;
    for _ in 0..60 {
        secs(1).await;
        assert!(!(leading(&all[0]) && leading(&all[1])), "two at once");
        idle += usize::from(!leading(&all[1 - dead]));
    }
    assert!(leading(&all[1 - dead]));
    assert!((25..=36).contains(&idle), "{idle}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_ends_lets_the_next_one_in_at_once() {
    let bench = Bench::new();
    let first = contender(&bench, "a");
    secs(10).await;
    let second = contender(&bench, "b");
    secs(30).await;
    assert!(first.leadership.may_write() && !second.leadership.may_write());
    first.stop.cancel();
    assert!(first.task.await.unwrap().is_ok());
    assert!(!first.leadership.may_write());
    secs(4).await;
    assert!(second.leadership.may_write());
    let spec = bench.api.get(&lease()).unwrap()["spec"].clone();
    assert_eq!(
        (spec["holderIdentity"].as_str(), spec["leaseTransitions"].as_i64()),
        (Some("b"), Some(1))
    );
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_writing_before_the_lease_runs_out() {
    let bench = Bench::new();
    let holder = contender(&bench, "a");
    secs(10).await;
    assert!(holder.leadership.may_write());
    bench.api.know("leases.coordination.k8s.io", false);
    secs(12).await;
    assert!(holder.leadership.may_write(), "a short outage is borne");
    secs(6).await;
    assert!(!holder.leadership.may_write());
    assert!(matches!(holder.task.await.unwrap(), Err(Lost::NotRenewed(15))));
}

#[tokio::test(start_paused = true)]
async fn who_finds_another_holder_gives_up_at_once() {
    let bench = Bench::new();
    let holder = contender(&bench, "a");
    secs(10).await;
    bench
        .api
        .patch(&lease(), &json!({"spec": {"holderIdentity": "thief"}}));
    secs(4).await;
    assert!(!holder.leadership.may_write());
    assert!(matches!(holder.task.await.unwrap(), Err(Lost::Taken(thief)) if thief == "thief"));
}

#[tokio::test(start_paused = true)]
async fn a_standby_reads_everything_and_writes_nothing_until_it_leads() {
    let bench = Bench::new();
    let other = contender(&bench, "other");
    secs(10).await;
    let standby = contender(&bench, "standby");
    let operator = bench.operator_under(standby.leadership.clone());
    bench.gateway_and_server();
    secs(300).await;
    assert_eq!(bench.api.calls(), []);
    assert_eq!(operator.ctx.stores.gateways.len(), 1);
    other.stop.cancel();
    bench.until_ready().await;
    operator.stop().await;
}
