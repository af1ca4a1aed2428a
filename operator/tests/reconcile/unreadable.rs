//! Objects that are stored otherwise than the operator reads them, as definitions and an operator of different versions
//! make them: what runs goes on as it was.

use portcullis_operator::admin::Vitals;
use serde_json::{Value, json};

use crate::api::store::Place;
use crate::bench::{Bench, GATEWAYS, SERVERS, place};

/// What breaks an object of either kind, and what mends it.
const CASES: [(&str, &str, &str); 2] = [
    (GATEWAYS, "tools", "publicHost"),
    (SERVERS, "files", "gatewayRefs"),
];

impl Bench {
    /// Everything that was made, and its version.
    fn children(&self) -> Vec<(Place, Value)> {
        self.api
            .all()
            .into_iter()
            .filter(|(_, object)| {
                object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == json!("portcullis")
            })
            .map(|(place, object)| (place, object["metadata"]["resourceVersion"].clone()))
            .collect()
    }

    /// Makes a field of the spec what no operator can read; returns what it was.
    fn break_field(&self, at: &Place, field: &str) -> Value {
        let good = self.api.get(at).unwrap()["spec"][field].clone();
        self.api.patch(at, &json!({"spec": {field: 7}}));
        good
    }

    fn config(&self) -> String {
        let config = self.api.get(&place("configmaps", "tools-gateway")).unwrap();
        config["data"]["gateway.yaml"].as_str().unwrap().to_owned()
    }

    fn told(&self, name: &str) -> bool {
        let events = self.api.list("events.events.k8s.io");
        events.iter().any(|(_, event)| {
            event["reason"] == json!("Unreadable") && event["regarding"]["name"] == json!(name)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_any_more_counts_as_it_last_was() {
    for (resource, name, field) in CASES {
        let bench = Bench::new();
        let operator = bench.operator();
        bench.gateway_and_server();
        bench.until_ready().await;
        let before = bench.children();
        let good = bench.break_field(&place(resource, name), field);
        bench.quiet().await;
        assert_eq!(bench.children(), before, "{resource}");
        assert!(bench.told(name), "{resource}");
        assert_eq!(operator.vitals().gauges().unreadable, 1);
        // A list that comes again says nothing else.
        bench.api.drop_watches();
        bench.quiet().await;
        assert_eq!(bench.children(), before, "{resource}");

        bench
            .api
            .patch(&place(resource, name), &json!({"spec": {field: good}}));
        bench.until_ready().await;
        assert_eq!(operator.vitals().gauges().unreadable, 0);
        operator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_leaves_alone_what_hangs_on_an_object_it_cannot_read() {
    for (resource, name, field) in CASES {
        let bench = Bench::new();
        let former = bench.operator();
        bench.gateway_and_server();
        bench.until_ready().await;
        former.stop().await;
        let before = bench.children();
        let good = bench.break_field(&place(resource, name), field);
        let operator = bench.operator();
        bench.quiet().await;
        assert_eq!(bench.children(), before, "{resource}");
        // Whoever hangs on it says so.
        let (other, other_name) = if resource == GATEWAYS {
            (SERVERS, "files")
        } else {
            (GATEWAYS, "tools")
        };
        bench
            .until("the other one says what it waits for", |bench| {
                let message = bench.condition(other, other_name, "Programmed")["message"].clone();
                bench.reason(other, other_name, "Programmed") == "Unreadable"
                    && message
                        .as_str()
                        .is_some_and(|message| message.contains(&format!("agents/{name}")))
            })
            .await;
        assert!(bench.told(name), "{resource}");

        bench
            .api
            .patch(&place(resource, name), &json!({"spec": {field: good}}));
        bench.until_ready().await;
        operator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_the_gateway_goes_through_without_the_server_that_cannot_be_read() {
    let bench = Bench::new();
    let former = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    former.stop().await;
    let good = bench.break_field(&place(SERVERS, "files"), "gatewayRefs");
    let operator = bench.operator();
    bench
        .until("held", |bench| {
            bench.reason(GATEWAYS, "tools", "Programmed") == "Unreadable"
        })
        .await;
    // Whoever may write servers must not be able to keep this from acting.
    bench
        .api
        .patch(&place(GATEWAYS, "tools"), &json!({"spec": {"suspend": true}}));
    bench
        .until("suspended", |bench| {
            bench.config().contains("suspend: true")
                && bench.reason(GATEWAYS, "tools", "Ready") == "Suspended"
        })
        .await;
    assert!(!bench.config().contains("name: files"), "{}", bench.config());
    // Its own objects stay, all the same.
    assert!(
        bench
            .api
            .get(&place("deployments.apps", "files-server"))
            .is_some()
    );

    bench
        .api
        .patch(&place(GATEWAYS, "tools"), &json!({"spec": {"suspend": false}}));
    bench
        .api
        .patch(&place(SERVERS, "files"), &json!({"spec": {"gatewayRefs": good}}));
    bench.until_ready().await;
    assert!(bench.config().contains("name: files"), "{}", bench.config());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_holds_nothing_once_it_is_gone() {
    let bench = Bench::new();
    let former = bench.operator();
    bench.gateway_and_server();
    bench.until_ready().await;
    former.stop().await;
    bench.break_field(&place(GATEWAYS, "tools"), "publicHost");
    let operator = bench.operator();
    bench
        .until("held", |bench| {
            bench.reason(SERVERS, "files", "Programmed") == "Unreadable"
        })
        .await;
    let fence = place("networkpolicies.networking.k8s.io", "files-server");
    let ingress = |bench: &Bench| bench.api.get(&fence).unwrap()["spec"]["ingress"].clone();
    assert_ne!(ingress(&bench), json!([]));
    let since = tokio::time::Instant::now();
    bench.api.delete(&place(GATEWAYS, "tools"));
    bench
        .until("nobody may connect to the server any more", |bench| {
            ingress(bench) == json!([])
        })
        .await;
    assert!(since.elapsed().as_secs() < 10, "{:?}", since.elapsed());
    assert_eq!(operator.vitals().gauges().unreadable, 0);
    operator.stop().await;
}
