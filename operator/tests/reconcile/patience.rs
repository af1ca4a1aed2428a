//! How long the operator waits: for what nobody tells it of, for an API server that fails, for its own last pass.

use std::time::Duration;

use portcullis_operator::admin::Vitals;
use serde_json::json;
use tokio::time::Instant;

use crate::api::Fault;
use crate::bench::{Bench, GATEWAYS, SERVERS, place};

#[tokio::test(start_paused = true)]
async fn a_name_that_becomes_free_is_taken_within_a_minute() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.api.create(
        "services",
        &json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "agents", "name": "tools-gateway"},
            "spec": {"selector": {"app": "theirs"}},
        }),
    );
    bench.gateway_and_server();
    bench
        .until("the conflict is told", |bench| {
            bench.reason(GATEWAYS, "tools", "Accepted") == "NameConflict"
        })
        .await;
    // What is still on its way from the operator's own changes must not be what wakes it.
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Somebody else's object is not watched: nothing tells of its end.
    bench.api.delete(&place("services", "tools-gateway"));
    let freed = Instant::now();
    bench
        .until("accepted", |bench| {
            bench.is(GATEWAYS, "tools", "Accepted", "True")
        })
        .await;
    let waited = freed.elapsed();
    assert!(waited < Duration::from_secs(65), "{waited:?}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lists_that_fail_are_asked_for_ever_more_rarely() {
    let bench = Bench::new();
    bench.api.fail_lists(SERVERS);
    let operator = bench.operator();
    bench.gateway_and_server();
    tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    let problems = operator.vitals().not_ready().join("\n");
    assert!(problems.contains(SERVERS), "{problems}");
    let failed = bench.api.mend_lists(SERVERS);
    // Every 15 to 30 s in the end.
    assert!((100..=300).contains(&failed), "{failed} in an hour");
    bench.until_ready().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_runs_when_the_operator_stops_comes_to_its_end() {
    let bench = Bench::new();
    bench.gateway_and_server();
    let (seen, mut first) = tokio::sync::watch::channel(false);
    bench.api.set_faults(move |_, call| {
        if call.verb == "patch" && call.resource == "serviceaccounts" && call.name == "tools-gateway" {
            seen.send_replace(true);
        }
        None::<Fault>
    });
    let operator = bench.operator();
    first.wait_for(|seen| *seen).await.unwrap();
    operator.stop().await;
    // What stands at the end of a gateway's pass.
    assert!(
        bench
            .api
            .get(&place("deployments.apps", "tools-gateway"))
            .is_some(),
        "{:?}",
        bench.made()
    );
    bench.api.forget_calls();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(bench.api.calls(), [], "and none begins");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_security_txt_is_told_when_it_comes() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    // Conditions are about the time on the wall.
    tokio::time::resume();
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let fields = json!({"contacts": ["mailto:a@b.example"], "expires": expires.to_string()});
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"spec": {"web": {"wellKnown": {"securityTxt": fields}}}}),
    );
    let told = |reason: &'static str| {
        move |bench: &Bench| bench.reason(GATEWAYS, "tools", "SecurityTxtCurrent") == reason
    };
    bench.until("the end is near", told("EndsSoon")).await;
    assert!(
        jiff::Timestamp::now() < expires,
        "this machine is too slow for the test"
    );
    bench.until("the end is told", told("Expired")).await;
    let late = jiff::Timestamp::now().duration_since(expires);
    assert!(late < jiff::SignedDuration::from_secs(30), "{late}");
    assert!(
        bench.is(GATEWAYS, "tools", "Ready", "True"),
        "it serves all the same"
    );
    operator.stop().await;
}
