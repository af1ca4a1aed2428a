//! What stands in the way, and what the status says of it.

use std::time::Duration;

use portcullis_operator::admin::Vitals;
use serde_json::json;

use crate::api::Fault;
use crate::bench::{Bench, GATEWAYS, SERVERS, place};

#[tokio::test(start_paused = true)]
async fn an_object_of_our_name_that_is_not_ours_is_left_alone() {
    let bench = Bench::new();
    let operator = bench.operator();
    let theirs = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "agents", "name": "tools-gateway"},
        "spec": {"selector": {"app": "theirs"}},
    });
    let theirs = bench.api.create("services", &theirs);
    bench.gateway_and_server();
    bench
        .until("the conflict is told", |bench| {
            bench.is(GATEWAYS, "tools", "Accepted", "False")
        })
        .await;
    let condition = bench.condition(GATEWAYS, "tools", "Accepted");
    assert_eq!(condition["reason"], "NameConflict");
    assert!(
        condition["message"]
            .as_str()
            .unwrap()
            .starts_with("Service tools-gateway exists"),
        "{condition}"
    );
    assert_eq!(bench.condition(GATEWAYS, "tools", "Stalled")["status"], "True");
    bench.quiet().await;
    let service = place("services", "tools-gateway");
    assert_eq!(bench.api.get(&service), Some(theirs));

    bench.api.delete(&service);
    bench.until_ready().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn labels_do_not_make_an_object_ours() {
    let bench = Bench::new();
    let operator = bench.operator();
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "agents", "name": "tools-gateway", "labels": {
            "app.kubernetes.io/managed-by": "portcullis", "portcullis.dev/gateway": "tools",
        }},
        "data": {"gateway.yaml": "theirs"},
    });
    let theirs = bench.api.create("configmaps", &theirs);
    bench.gateway_and_server();
    bench
        .until("the conflict is told", |bench| {
            bench.reason(GATEWAYS, "tools", "Accepted") == "NameConflict"
        })
        .await;
    bench.quiet().await;
    assert_eq!(bench.api.get(&place("configmaps", "tools-gateway")), Some(theirs));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_there_already_burns_its_name() {
    let bench = Bench::new();
    bench.gateway_and_server();
    // The first attempt meets a Secret that somebody put there: the answer is 409 and the marker goes.
    let mut burnt = 0;
    bench.api.set_faults(move |_, call| {
        let first = call.resource == "secrets" && burnt == 0;
        burnt += usize::from(first);
        first.then_some(Fault::Refuse(409))
    });
    let operator = bench.operator();
    bench.until_ready().await;
    operator.stop().await;
    let markers: Vec<_> = bench
        .api
        .list("configmaps")
        .into_iter()
        .filter(|(place, _)| place.name.contains("-session-"))
        .collect();
    assert_eq!(markers.len(), 1);
    assert_eq!(bench.api.list("secrets")[0].0.name, markers[0].0.name);
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_be_asked_make_it_unknown_and_never_stale_green() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.cluster.behave(|behaviour| behaviour.mute = true);
    bench
        .until("unknown", |bench| {
            bench.is(GATEWAYS, "tools", "Programmed", "Unknown")
        })
        .await;
    bench
        .until("not even ready", |bench| {
            bench.is(GATEWAYS, "tools", "Ready", "Unknown")
        })
        .await;
    bench
        .until("the server, too", |bench| {
            bench.is(SERVERS, "files", "Ready", "Unknown")
        })
        .await;
    // What the server is stays known; whether it is so now is not.
    assert_eq!(bench.status(SERVERS, "files")["toolCounts"]["summary"], "1/2");
    bench.cluster.behave(|behaviour| behaviour.mute = false);
    bench.until_ready().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_ready_pod_says_why() {
    let bench = Bench::new();
    bench.cluster.behave(|behaviour| {
        behaviour.not_ready = Some("TLS certificate missing".into());
        behaviour.missing = vec!["/etc/portcullis/secrets/tools-tls/tls.crt".into()];
    });
    let operator = bench.operator();
    bench.gateway_and_server();
    bench
        .until("the missing Secret is named", |bench| {
            let refs = bench.condition(GATEWAYS, "tools", "ResolvedRefs");
            refs["message"]
                .as_str()
                .is_some_and(|message| message.contains("Secret agents/tools-tls"))
        })
        .await;
    let programmed = bench.condition(GATEWAYS, "tools", "Programmed");
    assert_eq!(
        (programmed["status"].as_str(), programmed["reason"].as_str()),
        (Some("False"), Some("NoReadyPods"))
    );
    assert!(
        programmed["message"]
            .as_str()
            .unwrap()
            .contains("TLS certificate missing"),
        "{programmed}"
    );
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_named() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    for (pod, object) in bench.api.list("pods") {
        if object["metadata"]["labels"]["portcullis.dev/server"] != json!("files") {
            continue;
        }
        bench.api.patch_status(
            &pod,
            &json!({"status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{
                    "name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
                }],
            }}),
        );
    }
    bench.cluster.behave(|behaviour| {
        behaviour.broken_deployments.insert("files-server".into());
    });
    bench
        .until("told", |bench| {
            bench.reason(SERVERS, "files", "Available") == "ImagePullFailed"
        })
        .await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_cannot_be_built_stalls_and_changes_nothing() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let config = bench.api.get(&place("configmaps", "tools-gateway"));
    // The schema's rules would refuse this; an API server without them, or an older CRD, would not.
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"spec": {"tls": {"plaintext": {"reason": "also"}}}}),
    );
    bench
        .until("stalled", |bench| {
            bench.is(GATEWAYS, "tools", "Accepted", "False")
        })
        .await;
    assert_eq!(bench.condition(GATEWAYS, "tools", "Stalled")["status"], "True");
    assert!(
        bench.condition(GATEWAYS, "tools", "Ready")["message"]
            .as_str()
            .unwrap()
            .contains("go on")
    );
    bench.quiet().await;
    assert_eq!(bench.api.get(&place("configmaps", "tools-gateway")), config);
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"spec": {"tls": {"plaintext": null}}}),
    );
    bench.until_ready().await;
    assert!(bench.condition(GATEWAYS, "tools", "Stalled").is_null());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_named_and_tried_slowly() {
    let bench = Bench::new();
    bench.gateway_and_server();
    bench
        .api
        .set_faults(|_, call| (call.resource == "services").then_some(Fault::Refuse(403)));
    let operator = bench.operator();
    bench
        .until("told", |bench| {
            bench.reason(GATEWAYS, "tools", "Programmed") == "Forbidden"
        })
        .await;
    let message = bench.condition(GATEWAYS, "tools", "Programmed")["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("services agents/tools-gateway"), "{message}");
    bench.api.forget_calls();
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    let tries = bench
        .api
        .calls()
        .iter()
        .filter(|call| call.resource == "services")
        .count();
    assert!((4..40).contains(&tries), "{tries}");
    bench.api.no_faults();
    bench.until_ready().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rival_that_never_gives_up_is_named_and_left_alone_for_a_while() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let service = place("services", "tools-gateway");
    // As a mutating webhook or another controller would: whatever we set, it sets otherwise.
    let rival = tokio::spawn({
        let api = bench.api.clone();
        let service = service.clone();
        async move {
            let mut changes = api.subscribe();
            loop {
                let current = api.get(&service).unwrap_or_default();
                if current["spec"]["selector"]["portcullis.dev/gateway"] == json!("tools") {
                    let patch = json!({"spec": {"selector": {"portcullis.dev/gateway": "rival"}}});
                    api.patch(&service, &patch);
                }
                drop(changes.changed().await);
            }
        }
    });
    bench
        .until("the fight is told", |bench| {
            bench.reason(GATEWAYS, "tools", "Programmed") == "ContestedField"
        })
        .await;
    bench.api.forget_calls();
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    let applies = bench
        .api
        .calls()
        .iter()
        .filter(|call| call.verb == "patch" && call.resource == "services")
        .count();
    assert!((5..=20).contains(&applies), "{applies}");
    rival.abort();
    bench
        .until("ours again", |bench| {
            let service = bench.api.get(&service).unwrap_or_default();
            service["spec"]["selector"]["portcullis.dev/gateway"] == json!("tools")
                && bench.is(GATEWAYS, "tools", "Programmed", "True")
        })
        .await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_lasts_is_told_and_passes() {
    let bench = Bench::new();
    bench.gateway_and_server();
    bench
        .api
        .set_faults(|_, call| (call.resource == "deployments.apps").then_some(Fault::Refuse(500)));
    let operator = bench.operator();
    bench
        .until("told", |bench| {
            bench.reason(GATEWAYS, "tools", "Programmed") == "ApiError"
        })
        .await;
    bench.api.no_faults();
    bench.until_ready().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_crds_the_process_stays_up_and_says_what_is_missing() {
    let bench = Bench::new();
    bench.api.know(GATEWAYS, false);
    let operator = bench.operator();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let problems = operator.vitals().not_ready().join("\n");
    assert!(
        problems.contains("the API server does not know mcpgateways.portcullis.dev"),
        "{problems}"
    );
    bench.api.know(GATEWAYS, true);
    bench.gateway_and_server();
    bench.until_ready().await;
    assert!(operator.vitals().not_ready().is_empty());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_object_does_not_stop_the_others() {
    let bench = Bench::new();
    let bad = json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "McpGateway",
        "metadata": {"namespace": "agents", "name": "bad"}, "spec": {"publicHost": 7},
    });
    bench.api.create(GATEWAYS, &bad);
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    assert_eq!(operator.vitals().gauges().unreadable, 1);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn broken_watches_are_taken_up_without_a_write() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.api.drop_watches();
    tokio::time::sleep(Duration::from_secs(60)).await;
    bench.api.drop_watches();
    bench.api.forget_calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.api.calls(), []);
    bench
        .api
        .patch(&place(GATEWAYS, "tools"), &json!({"spec": {"suspend": true}}));
    bench
        .until("the change is seen", |bench| {
            bench.reason(GATEWAYS, "tools", "Ready") == "Suspended"
        })
        .await;
    operator.stop().await;
}
