//! Every label, annotation and field manager that Portcullis writes or reads, once.
//!
//! Selector labels ([`GATEWAY`], [`SERVER`]) never change for the life of an object: a Deployment's selector is
//! immutable, and the network policies of other objects select by them.

use std::collections::BTreeMap;

/// Selector label of everything that belongs to one McpGateway; the value is its name.
pub const GATEWAY: &str = "portcullis.dev/gateway";
/// Selector label of everything that belongs to one McpServer; the value is its name.
pub const SERVER: &str = "portcullis.dev/server";

/// Annotation on a gateway's pods: the hash of the configuration they should load. Writing it is what makes the
/// kubelet refresh the pod's volumes at once.
pub const CONFIG_HASH: &str = "portcullis.dev/config-hash";
/// Annotation a person sets on an McpGateway, to any new value, after changing a Secret: the pods' volumes are
/// refreshed within seconds instead of the kubelet's own minute.
pub const REFRESH: &str = "portcullis.dev/refresh";
/// Annotation on a gateway's pods that carries the last [`REFRESH`] value, so that a nudge is made once.
pub const REFRESHED: &str = "portcullis.dev/refreshed";
/// Annotation on a pod template: the hash of what a gateway cannot reload.
pub const TEMPLATE_HASH: &str = "portcullis.dev/template-hash";

/// Recommended label: the product.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Recommended label: the object it was made for.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Recommended label: its part in the product.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Recommended label: the whole it is part of.
pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// Recommended label: who made it. Watches and pruning are narrowed by it.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Value of [`APP_MANAGED_BY`] and of [`APP_PART_OF`].
pub const PORTCULLIS: &str = "portcullis";
/// Label selector of everything the operator made.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=portcullis";

/// Value of [`APP_COMPONENT`] on a gateway's objects.
pub const COMPONENT_GATEWAY: &str = "gateway";
/// Value of [`APP_COMPONENT`] on a server's objects.
pub const COMPONENT_SERVER: &str = "server";

/// Label Kubernetes sets on every namespace: its name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Field manager of what the gateway controller applies.
pub const FIELD_MANAGER_GATEWAY: &str = "portcullis/gateway";
/// Field manager of what the server controller applies.
pub const FIELD_MANAGER_SERVER: &str = "portcullis/server";
/// Field manager that holds `replicas` apart, so that an autoscaler can take it over without a conflict.
pub const FIELD_MANAGER_REPLICAS: &str = "portcullis/replicas";

/// Labels as Kubernetes carries them.
pub type Labels = BTreeMap<String, String>;

/// What selects the pods of the gateway called `name` in its namespace.
pub fn gateway_selector(name: &str) -> Labels {
    Labels::from([(GATEWAY.into(), name.into())])
}

/// What selects the pods of the server called `name` in its namespace.
pub fn server_selector(name: &str) -> Labels {
    Labels::from([(SERVER.into(), name.into())])
}

/// All labels of a gateway's objects.
pub fn gateway_labels(name: &str) -> Labels {
    with_recommended(gateway_selector(name), name, COMPONENT_GATEWAY)
}

/// All labels of a server's objects.
pub fn server_labels(name: &str) -> Labels {
    with_recommended(server_selector(name), name, COMPONENT_SERVER)
}

fn with_recommended(mut labels: Labels, instance: &str, component: &str) -> Labels {
    let recommended = [
        (APP_NAME, component),
        (APP_INSTANCE, instance),
        (APP_COMPONENT, component),
        (APP_PART_OF, PORTCULLIS),
        (APP_MANAGED_BY, PORTCULLIS),
    ];
    labels.extend(
        recommended
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_is_part_of_the_labels() {
        let labels = gateway_labels("tools");
        assert!(
            gateway_selector("tools")
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        );
        assert_eq!(
            MANAGED_SELECTOR,
            format!("{APP_MANAGED_BY}={}", labels[APP_MANAGED_BY])
        );
    }

    #[test]
    fn a_gateway_and_a_server_of_one_name_never_select_each_other() {
        let server = server_labels("tools");
        assert!(
            !gateway_selector("tools")
                .iter()
                .all(|(key, value)| server.get(key) == Some(value))
        );
    }
}
