//! What the operator learns of the cluster it runs in.

use serde_json::{Value, json};

use crate::api::store::Place;
use crate::bench::{Bench, GATEWAYS, SERVERS, gateway, place};

/// What the gateway's policy excepts from the port of host names.
fn kept_out(bench: &Bench) -> Vec<String> {
    let fence = place("networkpolicies.networking.k8s.io", "tools-gateway");
    let policy = bench.api.get(&fence).unwrap_or_default();
    let rules = policy["spec"]["egress"].as_array().cloned().unwrap_or_default();
    let peers = rules
        .iter()
        .flat_map(|rule| rule["to"].as_array().cloned().unwrap_or_default());
    peers
        .flat_map(|peer| peer["ipBlock"]["except"].as_array().cloned().unwrap_or_default())
        .filter_map(|range| range.as_str().map(str::to_owned))
        .collect()
}

fn endpoints(addresses: &[&str]) -> Value {
    json!([{"addresses": addresses, "conditions": {"ready": true}}])
}

#[tokio::test(start_paused = true)]
async fn where_the_api_server_listens_is_closed_to_gateways_without_being_told() {
    let bench = Bench::new();
    let slice = Place::new("endpointslices.discovery.k8s.io", "default", "kubernetes");
    bench.api.create(
        "endpointslices.discovery.k8s.io",
        &json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": endpoints(&["172.18.0.3"]), "ports": [{"name": "https", "port": 6443}],
        }),
    );
    bench.api.create(GATEWAYS, &gateway("tools"));
    bench.api.create(
        SERVERS,
        &json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "agents", "name": "files"},
            "spec": {
                "gatewayRefs": [{"name": "tools"}],
                "remote": {"url": "https://mcp.example.com:6443", "allowPrivateAddresses": true},
            },
        }),
    );
    let operator = bench.operator();
    bench.until_ready().await;
    let has = |bench: &Bench, range: &str| kept_out(bench).contains(&range.to_owned());
    assert!(has(&bench, "172.18.0.3/32"), "{:?}", kept_out(&bench));

    // The control plane grows, and moves.
    bench.api.patch(
        &slice,
        &json!({"endpoints": endpoints(&["172.18.0.3", "172.18.0.4"])}),
    );
    bench
        .until("both are closed", |bench| {
            has(bench, "172.18.0.3/32") && has(bench, "172.18.0.4/32")
        })
        .await;
    bench
        .api
        .patch(&slice, &json!({"endpoints": endpoints(&["172.18.0.4"])}));
    bench
        .until("only the present one is closed", |bench| {
            !has(bench, "172.18.0.3/32") && has(bench, "172.18.0.4/32")
        })
        .await;
    operator.stop().await;
}
