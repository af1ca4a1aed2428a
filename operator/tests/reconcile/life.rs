//! The ordinary life of objects: made, changed, left alone, deleted.

use std::time::Duration;

use portcullis_operator::admin::Vitals;
use serde_json::json;

use crate::api::Call;
use crate::api::store::Place;
use crate::bench::{Bench, GATEWAYS, SERVERS, gateway, place, server};
use crate::cluster;

#[tokio::test(start_paused = true)]
async fn a_gateway_and_its_server_become_ready_with_everything_they_need() {
    crate::log();
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;

    assert_eq!(
        bench.made(),
        [
            "configmaps agents/(session key)",
            "configmaps agents/tools-gateway",
            "deployments.apps agents/files-server",
            "deployments.apps agents/tools-gateway",
            "networkpolicies.networking.k8s.io agents/files-server",
            "networkpolicies.networking.k8s.io agents/tools-gateway",
            "poddisruptionbudgets.policy agents/tools-gateway",
            "secrets agents/(session key)",
            "serviceaccounts agents/files-server",
            "serviceaccounts agents/tools-gateway",
            "services agents/files-server",
            "services agents/tools-gateway",
            "services agents/tools-gateway-peers",
        ]
    );
    let status = bench.status(GATEWAYS, "tools");
    assert_eq!(status["url"], "https://mcp.example.com/mcp");
    assert_eq!(status["replicas"], 2);
    assert_eq!(status["servers"]["summary"], "1/1");
    assert_eq!(status["configHash"].as_str().unwrap().len(), 64);
    for type_ in ["Accepted", "ResolvedRefs", "Programmed", "Ready"] {
        assert!(bench.is(GATEWAYS, "tools", type_, "True"), "{type_}: {status:#}");
    }
    let status = bench.status(SERVERS, "files");
    assert_eq!(status["gateways"][0]["state"], "Serving");
    assert_eq!(status["toolCounts"]["summary"], "1/2");
    assert_eq!(status["serverInfo"]["version"], "1.0.0");
    for type_ in [
        "Accepted",
        "ResolvedRefs",
        "Programmed",
        "Attached",
        "Available",
        "Verified",
        "Ready",
    ] {
        assert!(bench.is(SERVERS, "files", type_, "True"), "{type_}: {status:#}");
    }
    for (resource, name) in [(GATEWAYS, "tools"), (SERVERS, "files")] {
        let kstatus = bench.condition(resource, name, "Reconciling");
        assert!(kstatus.is_null(), "{kstatus}");
    }
    assert!(operator.vitals().not_ready().is_empty());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_rest_the_operator_asks_for_nothing() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.api.forget_calls();
    let polls = bench.cluster.polls();
    // Longer than the slowest resync, shorter than the hourly look at the issuer matters: that is a URL, not an object.
    tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    assert_eq!(bench.api.calls(), []);
    let polled = bench.cluster.polls() - polls;
    assert!(
        (2 * 180..2 * 230).contains(&polled),
        "two pods, every 15 s: {polled}"
    );
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_finds_nothing_to_change() {
    let bench = Bench::new();
    bench.operator_makes_everything_ready().await;
    let versions = bench.versions();
    let operator = bench.operator();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let moved: Vec<_> = bench
        .versions()
        .into_iter()
        .filter(|one| !versions.contains(one))
        .collect();
    assert_eq!(moved, []);
    assert!(bench.api.calls().iter().all(|call| call.resource != "secrets"));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_fence_stands_before_the_pods_and_the_configuration_before_the_template() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench
        .until("a Deployment of each", |bench| {
            bench.api.list("deployments.apps").len() == 2
        })
        .await;
    let calls: Vec<String> = bench
        .api
        .calls()
        .iter()
        .filter(|call| call.writes())
        .map(Call::line)
        .collect();
    for (resource, name) in [
        ("tools-gateway", "tools-gateway"),
        ("files-server", "files-server"),
    ] {
        let at = |line: String| {
            calls
                .iter()
                .position(|call| *call == line)
                .unwrap_or_else(|| panic!("{line}: {calls:#?}"))
        };
        let fence = at(format!("patch networkpolicies.networking.k8s.io agents/{name}"));
        let pods = at(format!("patch deployments.apps agents/{resource}"));
        assert!(fence < pods);
    }
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_is_gone_from_the_gateway() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let config =
        || bench.api.get(&place("configmaps", "tools-gateway")).unwrap()["data"]["gateway.yaml"].to_string();
    assert!(config().contains("files-server"));
    bench.api.delete(&place(SERVERS, "files"));
    bench
        .until("nothing is attached", |bench| {
            bench.status(GATEWAYS, "tools")["servers"]["attached"] == 0
        })
        .await;
    assert!(!config().contains("files-server"));
    bench
        .until("nothing of it is left", |bench| {
            bench.made().iter().all(|line| !line.contains("files-server"))
        })
        .await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_moves_is_heard_of_by_both_gateways() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.api.create(GATEWAYS, &gateway("second"));
    bench.until_ready().await;
    bench.api.patch(
        &place(SERVERS, "files"),
        &json!({"spec": {"gatewayRefs": [{"name": "second"}]}}),
    );
    bench
        .until("it has moved", |bench| {
            bench.status(GATEWAYS, "tools")["servers"]["attached"] == 0
                && bench.status(GATEWAYS, "second")["servers"]["summary"] == "1/1"
                && bench.is(SERVERS, "files", "Ready", "True")
        })
        .await;
    assert_eq!(bench.status(SERVERS, "files")["gateways"][0]["name"], "second");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_everything_leaves_nothing() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.api.delete(&place(GATEWAYS, "tools"));
    bench.api.delete(&place(SERVERS, "files"));
    bench.quiet().await;
    assert_eq!(bench.made(), Vec::<String>::new());
    assert!(bench.api.list("pods").is_empty());
    assert_eq!((operator.ctx.poller.len(), operator.ctx.queue.len()), (0, 0));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fence_outlives_the_pods_it_fences() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let fences = |bench: &Bench| bench.api.list("networkpolicies.networking.k8s.io").len();
    let pods = |bench: &Bench| bench.api.list("pods").len();
    let seen = |bench: &Bench| (pods(bench) > 0, fences(bench) > 0);
    // Even with nobody there to look after it.
    operator.stop().await;
    bench.api.delete(&place(GATEWAYS, "tools"));
    bench.api.delete(&place(SERVERS, "files"));
    assert_eq!(seen(&bench), (true, true));
    assert!(bench.api.list("deployments.apps").is_empty());
    tokio::time::sleep(cluster::GRACE / 2).await;
    assert_eq!(seen(&bench), (true, true));
    tokio::time::sleep(cluster::GRACE).await;
    assert_eq!(seen(&bench), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_run_any_more_keeps_its_fence_until_its_pod_has_ended() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let fence = place("networkpolicies.networking.k8s.io", "files-server");
    let remote = json!({"spec": {"container": null, "remote": {"url": "https://files.example.com/mcp"}}});
    bench.api.patch(&place(SERVERS, "files"), &remote);
    bench
        .until("the Deployment is gone", |bench| {
            bench
                .api
                .get(&place("deployments.apps", "files-server"))
                .is_none()
        })
        .await;
    assert!(bench.api.get(&fence).is_some());
    bench
        .until("the fence, too", |bench| bench.api.get(&fence).is_none())
        .await;
    let left = bench
        .api
        .list("pods")
        .into_iter()
        .filter(|(pod, _)| pod.name.starts_with("files"));
    assert_eq!(left.count(), 0);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nothing_asks_for_any_more_is_removed() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"spec": {"workload": {"replicas": 1}}}),
    );
    bench
        .until("no budget for one pod", |bench| {
            bench
                .api
                .get(&place("poddisruptionbudgets.policy", "tools-gateway"))
                .is_none()
        })
        .await;
    bench.until_ready().await;
    assert_eq!(bench.status(GATEWAYS, "tools")["replicas"], 1);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn flips_are_told_as_events_once() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let events = |bench: &Bench| bench.api.list("events.events.k8s.io");
    let before = events(&bench);
    bench.cluster.behave(|behaviour| {
        behaviour.dead_servers.insert("files".into());
    });
    bench
        .until("not verified", |bench| {
            bench.is(SERVERS, "files", "Verified", "False")
        })
        .await;
    bench.quiet().await;
    assert_eq!(bench.reason(SERVERS, "files", "Ready"), "ConnectFailed");
    let told: Vec<String> = events(&bench)
        .iter()
        .filter(|one| !before.contains(one))
        .map(|(_, event)| {
            format!(
                "{} {} {}",
                event["type"].as_str().unwrap(),
                event["action"].as_str().unwrap(),
                event["reason"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.contains(&"Warning Verified ConnectFailed".to_owned()),
        "{told:?}"
    );
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_namespace_needs_both_sides() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    let mut foreign = server("remote", "tools");
    foreign["metadata"]["namespace"] = json!("other");
    foreign["spec"]["gatewayRefs"] = json!([{"name": "tools", "namespace": "agents"}]);
    bench.api.create(SERVERS, &foreign);
    let other = Place::new(SERVERS, "other", "remote");
    let state = |bench: &Bench| bench.api.get(&other).unwrap()["status"]["gateways"][0]["state"].clone();
    bench.until("refused", |bench| state(bench) == "Refused").await;
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"mcp": "yes"}}});
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"spec": {"servers": {"namespaces": selector}}}),
    );
    bench.quiet().await;
    assert_eq!(state(&bench), "Refused");
    let labels = json!({"metadata": {"labels": {"mcp": "yes"}}});
    bench.api.patch(&Place::new("namespaces", "", "other"), &labels);
    bench.until("serving", |bench| state(bench) == "Serving").await;
    operator.stop().await;
}

impl Bench {
    async fn operator_makes_everything_ready(&self) {
        let operator = self.operator();
        self.gateway_and_server();
        self.until_ready().await;
        operator.stop().await;
    }

    fn versions(&self) -> Vec<(Place, String)> {
        self.api
            .all()
            .into_iter()
            .map(|(place, object)| (place, object["metadata"]["resourceVersion"].to_string()))
            .collect()
    }
}
