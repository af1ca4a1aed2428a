//! Where the Kubernetes API itself listens, behind its Service: its processes say so in one EndpointSlice for each family
//! of addresses, which they keep up to date. No gateway may ever get there, and nobody should have to write it down.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use super::affected::Targets;
use super::cache::{Cache, Change};
use super::stores::Stores;
use super::target::Target;
use crate::identity::Key;
use crate::settings::Settings;

/// Namespace of the slices.
const NAMESPACE: &str = "default";
/// Their Service.
const SERVICE: &str = "kubernetes";
/// Their names: of the first family, and of a second one. API servers write back whatever anybody else makes of them.
const NAMES: [&str; 3] = [SERVICE, "kubernetes-v4", "kubernetes-v6"];

/// The settings, with what is known of the API server added to what was set.
pub fn kept_out(settings: &Arc<Settings>, slices: &Cache<EndpointSlice>) -> Arc<Settings> {
    let own = NAMES
        .iter()
        .filter_map(|name| slices.get(&Key::new(NAMESPACE, *name)));
    let learned: BTreeSet<_> = own.flat_map(|slice| endpoints(&slice)).collect();
    if learned.is_empty() {
        return Arc::clone(settings);
    }
    let mut settings = Settings::clone(settings);
    settings.cluster.api_endpoints.extend(learned);
    Arc::new(settings)
}

/// Whom it concerns that an EndpointSlice changed, if it is one of those: everybody.
pub fn affected(change: &Change<EndpointSlice>, stores: &Stores) -> Targets {
    let state = |slice: &Option<Arc<EndpointSlice>>| slice.as_deref().map(endpoints).unwrap_or_default();
    let ours = *change.key.namespace == *NAMESPACE && NAMES.contains(&&*change.key.name);
    if !ours || state(&change.old) == state(&change.new) {
        return Targets::new();
    }
    let gateways = stores.gateways.all();
    let servers = stores.servers.all();
    gateways
        .iter()
        .map(|gateway| Target::Gateway(Key::of(&**gateway)))
        .chain(servers.iter().map(|server| Target::Server(Key::of(&**server))))
        .collect()
}

/// The addresses in a slice, ready or not, each with its ports.
fn endpoints(slice: &EndpointSlice) -> BTreeSet<(IpAddr, Option<u16>)> {
    if slice
        .labels()
        .get(super::affected::SERVICE_NAME)
        .map(String::as_str)
        != Some(SERVICE)
    {
        return BTreeSet::new();
    }
    let listed = slice.ports.as_deref().unwrap_or_default();
    // What has no number here means all of them.
    let mut ports: Vec<Option<u16>> = listed
        .iter()
        .map(|port| port.port.and_then(|port| u16::try_from(port).ok()))
        .collect();
    if ports.is_empty() {
        ports.push(None);
    }
    slice
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .flat_map(|address| ports.iter().map(move |port| (address.to_canonical(), *port)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Cluster, Dns, Operator, Scope};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn settings() -> Arc<Settings> {
        Arc::new(Settings {
            operator: Operator {
                namespace: "portcullis-system".into(),
                pod_labels: [("app".to_owned(), "portcullis".to_owned())].into(),
                service_account: "portcullis-operator".into(),
            },
            scope: Scope::Cluster,
            cluster: Cluster::default(),
            gateway_image: "gateway".into(),
            dns: Dns::default(),
            monitoring: Vec::new(),
            user_namespaces: false,
            fence_probe: None,
        })
    }

    fn slice(namespace: &str, name: &str, service: &str, ports: &Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.9"]}, {"addresses": ["10.0.0.10", "nonsense"]}],
            "ports": ports,
        }))
        .unwrap()
    }

    #[rstest]
    #[case::itself("default", "kubernetes", "kubernetes", &["10.0.0.10", "10.0.0.9"])]
    #[case::of_the_other_family("default", "kubernetes-v6", "kubernetes", &["10.0.0.10", "10.0.0.9"])]
    #[case::of_another_namespace("agents", "kubernetes", "kubernetes", &[])]
    #[case::of_another_name("default", "kubernetes-x1", "kubernetes", &[])]
    #[case::of_another_service("default", "kubernetes", "other", &[])]
    fn only_the_api_servers_own_slice_counts(
        #[case] namespace: &str,
        #[case] name: &str,
        #[case] service: &str,
        #[case] expected: &[&str],
    ) {
        let slices = Cache::default();
        slices.put(slice(namespace, name, service, &json!([{"port": 6443}])));
        let known = kept_out(&settings(), &slices).cluster.api_endpoints.clone();
        let mut texts: Vec<String> = known.iter().map(|(address, _)| address.to_string()).collect();
        texts.sort_unstable();
        assert_eq!(texts, expected);
        assert!(known.iter().all(|(_, port)| *port == Some(6443)));
    }

    #[rstest]
    #[case::one(json!([{"name": "https", "port": 6443}]), &[Some(6443)])]
    #[case::several(json!([{"port": 443}, {"port": 6443}]), &[Some(443), Some(6443)])]
    #[case::all_of_them(json!([{"name": "https"}]), &[None])]
    #[case::none_named(json!([]), &[None])]
    #[case::nothing_said(json!(null), &[None])]
    fn ports_that_are_not_named_are_all_ports(#[case] ports: Value, #[case] expected: &[Option<u16>]) {
        let slice = slice("default", "kubernetes", "kubernetes", &ports);
        let address: IpAddr = "10.0.0.9".parse().unwrap();
        let found: Vec<Option<u16>> = endpoints(&slice)
            .into_iter()
            .filter(|(known, _)| *known == address)
            .map(|(_, port)| port)
            .collect();
        assert_eq!(found, expected);
    }
}
