//! What is changed, by those who may and by those who may not, and how soon it acts.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::api::store::Place;
use crate::bench::{Bench, GATEWAYS, SERVERS, place, server};

#[tokio::test(start_paused = true)]
async fn a_deleted_child_is_recreated() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let made = bench.made();
    for (child, object) in bench.api.all() {
        let ours = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == json!("portcullis");
        let key = child.name.contains("-session-");
        if !ours || key || ["pods", "replicasets.apps"].contains(&child.resource.as_str()) {
            continue;
        }
        let uid = object["metadata"]["uid"].clone();
        bench.api.delete(&child);
        bench
            .until(&format!("{child:?} is back"), |bench| {
                bench
                    .api
                    .get(&child)
                    .is_some_and(|back| back["metadata"]["uid"] != uid)
            })
            .await;
        bench.until_ready().await;
    }
    assert_eq!(bench.made(), made);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_key_is_replaced_under_another_name() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let keys = |bench: &Bench| -> Vec<String> {
        bench
            .api
            .list("secrets")
            .into_iter()
            .map(|(place, _)| place.name)
            .collect()
    };
    let before = keys(&bench);
    assert_eq!(before.len(), 1);
    bench.api.delete(&place("configmaps", &before[0]));
    bench
        .until("a new key", |bench| {
            keys(bench).len() == 1 && keys(bench) != before
        })
        .await;
    bench.until_ready().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_change_is_reverted_and_a_restart_that_somebody_asked_for_is_not() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let deployment = place("deployments.apps", "tools-gateway");
    let fence = place("networkpolicies.networking.k8s.io", "tools-gateway");
    let wanted = bench.api.get(&fence).unwrap()["spec"].clone();
    bench.api.patch(&fence, &json!({"spec": {"policyTypes": []}}));
    bench
        .until("the fence stands again", |bench| {
            bench.api.get(&fence).unwrap()["spec"] == wanted
        })
        .await;

    bench.api.patch(&deployment, &json!({"spec": {"replicas": 7}}));
    bench
        .until("two replicas again", |bench| {
            bench.api.get(&deployment).unwrap()["spec"]["replicas"] == 2
        })
        .await;

    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    bench.api.patch(&deployment, &restart);
    bench.quiet().await;
    let annotations =
        bench.api.get(&deployment).unwrap()["spec"]["template"]["metadata"]["annotations"].clone();
    assert_eq!(annotations["kubectl.kubernetes.io/restartedAt"], "now");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_rule_reaches_every_pod_without_a_restart() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let pods = bench.api.list("pods");
    let hash = bench.status(GATEWAYS, "tools")["configHash"].clone();
    let start = Instant::now();
    let rules = json!([{
        "name": "fewer", "action": "Allow", "principals": {"method": "apiKeys", "clients": ["ci"]},
        "servers": ["files"], "tools": ["read_*"],
    }]);
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"spec": {"authorization": {"rules": rules}}}),
    );
    bench
        .until("programmed again", |bench| {
            bench.is(GATEWAYS, "tools", "Programmed", "True")
                && bench.status(GATEWAYS, "tools")["configHash"] != hash
        })
        .await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let names = |pods: &[(Place, serde_json::Value)]| -> Vec<String> {
        pods.iter().map(|(place, _)| place.name.clone()).collect()
    };
    assert_eq!(names(&bench.api.list("pods")), names(&pods));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_is_late_is_nudged_again() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.cluster.behave(|behaviour| behaviour.ignored_nudges = 2);
    let start = Instant::now();
    bench
        .api
        .patch(&place(GATEWAYS, "tools"), &json!({"spec": {"suspend": true}}));
    bench
        .until("programmed", |bench| {
            bench.is(GATEWAYS, "tools", "Programmed", "True")
        })
        .await;
    assert!(
        (2..4).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bench.reason(GATEWAYS, "tools", "Ready"), "Suspended");
    let nudges = bench
        .api
        .calls()
        .iter()
        .filter(|call| call.sub.as_deref() == Some("status") && call.resource == "pods")
        .count();
    assert_eq!(nudges, 2 * 3);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_nudges_at_0_1_and_3_seconds() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    bench.api.forget_calls();
    bench.api.patch(
        &place(GATEWAYS, "tools"),
        &json!({"metadata": {"annotations": {"portcullis.dev/refresh": "today"}}}),
    );
    let mut seen = Vec::new();
    for tenths in 0..100 {
        let nudges = bench
            .api
            .calls()
            .iter()
            .filter(|call| call.resource == "pods")
            .count();
        if seen.last().is_none_or(|(_, last)| *last != nudges) {
            seen.push((tenths, nudges));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let counts: Vec<usize> = seen.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [0, 2, 4, 6], "{seen:?}");
    let at: Vec<u32> = seen.iter().skip(1).map(|(tenths, _)| *tenths).collect();
    assert!(
        at[0] <= 3 && (10..=14).contains(&at[1]) && (30..=34).contains(&at[2]),
        "{seen:?}"
    );
    bench.quiet().await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn servers_that_come_one_after_the_other_start_new_pods_once() {
    let bench = Bench::new();
    let operator = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    let deployment = place("deployments.apps", "tools-gateway");
    let generation = |bench: &Bench| bench.api.get(&deployment).unwrap()["metadata"]["generation"].clone();
    let before = generation(&bench).as_i64().unwrap();
    for number in 0..5 {
        let mut one = server(&format!("more-{number}"), "tools");
        one["spec"]["credentials"] = json!({"header": {"name": "Authorization", "secretRef": {"secretName": format!("s{number}"), "key": "k"}}});
        bench.api.create(SERVERS, &one);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    bench.until_ready().await;
    let mounted = bench.api.get(&deployment).unwrap()["spec"]["template"].to_string();
    assert!(
        (0..5).all(|number| mounted.contains(&format!("\"s{number}\""))),
        "{mounted}"
    );
    assert_eq!(generation(&bench).as_i64().unwrap(), before + 1);
    operator.stop().await;
}
