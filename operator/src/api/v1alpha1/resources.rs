//! Requests and limits of containers. The defaults differ between a gateway and a server, and they must show in the
//! schema field by field, so that who sets one amount keeps the others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::cel::{quantity_within, rule};
use super::units::{ByteSize, Cpu};

macro_rules! amounts {
    ($(#[$doc:meta])* $name:ident, cpu $cpu:expr, memory $memory:expr, storage $storage:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// Processors: whole ones, such as 2, or thousandths, such as 500m. 1m to 1024.
            #[serde(default = $cpu)]
            #[x_kube(validation = quantity_within("1m", "1024"))]
            pub cpu: Cpu,
            /// Memory. 8Mi to 4Ti.
            #[serde(default = $memory)]
            #[x_kube(validation = quantity_within("8Mi", "4Ti"))]
            pub memory: ByteSize,
            /// Local disk for logs. 1Mi to 4Ti.
            #[serde(default = $storage, rename = "ephemeral-storage")]
            #[x_kube(validation = quantity_within("1Mi", "4Ti"))]
            pub ephemeral_storage: ByteSize,
        }

        impl $name {
            fn quantities(&self) -> BTreeMap<String, Quantity> {
                let Self { cpu, memory, ephemeral_storage } = self;
                BTreeMap::from([
                    ("cpu".to_owned(), cpu.into()),
                    ("memory".to_owned(), memory.into()),
                    ("ephemeral-storage".to_owned(), ephemeral_storage.into()),
                ])
            }
        }
    };
}

macro_rules! resources {
    ($(#[$doc:meta])* $name:ident, requests $requests:ident, limits $limits:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
        #[serde(rename_all = "camelCase")]
        #[x_kube(validation = within("cpu", "cpu"))]
        #[x_kube(validation = within("memory", "memory"))]
        #[x_kube(validation = within("ephemeral-storage", "ephemeral__dash__storage"))]
        pub struct $name {
            /// What each replica is promised.
            #[serde(default)]
            pub requests: $requests,
            /// What no replica exceeds.
            #[serde(default)]
            pub limits: $limits,
        }

        impl From<&$name> for ResourceRequirements {
            fn from(resources: &$name) -> Self {
                let $name { requests, limits } = resources;
                Self {
                    claims: None,
                    requests: Some(requests.quantities()),
                    limits: Some(limits.quantities()),
                }
            }
        }
    };
}

/// A request is no larger than its limit.
fn within(field: &str, escaped: &str) -> kube::core::Rule {
    rule(
        format!(
            "!has(self.requests) || !has(self.limits) || !has(self.requests.{escaped}) || !has(self.limits.{escaped}) \
             || quantity(string(self.requests.{escaped})).compareTo(quantity(string(self.limits.{escaped}))) <= 0"
        ),
        format!(
            "requests.{field} must not exceed limits.{field}; what is left out has the default that the schema shows"
        ),
    )
}

amounts!(
    /// What each replica of a gateway is promised. What is left out keeps its default.
    GatewayRequests,
    cpu "gateway_requests::cpu", memory "gateway_requests::memory", storage "gateway_requests::ephemeral_storage"
);
amounts!(
    /// What no replica of a gateway exceeds. What is left out keeps its default.
    GatewayCaps,
    cpu "gateway_caps::cpu", memory "gateway_caps::memory", storage "gateway_caps::ephemeral_storage"
);
amounts!(
    /// What each replica of a server is promised. What is left out keeps its default.
    ServerRequests,
    cpu "server_requests::cpu", memory "server_requests::memory", storage "server_requests::ephemeral_storage"
);
amounts!(
    /// What no replica of a server exceeds. What is left out keeps its default.
    ServerCaps,
    cpu "server_caps::cpu", memory "server_caps::memory", storage "server_caps::ephemeral_storage"
);

resources!(
    /// Processors, memory and local disk of each replica of a gateway.
    GatewayResources, requests GatewayRequests, limits GatewayCaps
);
resources!(
    /// Processors, memory and local disk of each replica of a server.
    ServerResources, requests ServerRequests, limits ServerCaps
);

field_defaults!(gateway_requests for GatewayRequests {
    cpu: Cpu = Cpu::from_millis(100),
    memory: ByteSize = ByteSize::mebibytes(64),
    ephemeral_storage: ByteSize = ByteSize::mebibytes(64),
});
field_defaults!(gateway_caps for GatewayCaps {
    cpu: Cpu = Cpu::from_millis(2000),
    memory: ByteSize = ByteSize::mebibytes(512),
    ephemeral_storage: ByteSize = ByteSize::mebibytes(256),
});
field_defaults!(server_requests for ServerRequests {
    cpu: Cpu = Cpu::from_millis(50),
    memory: ByteSize = ByteSize::mebibytes(128),
    ephemeral_storage: ByteSize = ByteSize::mebibytes(64),
});
field_defaults!(server_caps for ServerCaps {
    cpu: Cpu = Cpu::from_millis(1000),
    memory: ByteSize = ByteSize::mebibytes(512),
    ephemeral_storage: ByteSize = ByteSize::mebibytes(256),
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sets_one_amount_keeps_the_others() {
        let resources: ServerResources =
            serde_yaml::from_str("{limits: {memory: 1Gi}, requests: {cpu: 1}}").unwrap();
        let built = ResourceRequirements::from(&resources);
        assert_eq!(built.limits.as_ref().unwrap()["memory"].0, "1Gi");
        assert_eq!(built.limits.as_ref().unwrap()["cpu"].0, "1000m");
        assert_eq!(built.requests.as_ref().unwrap()["cpu"].0, "1");
        assert_eq!(built.requests.as_ref().unwrap()["memory"].0, "128Mi");
    }

    #[test]
    fn defaults_ask_for_no_more_than_they_allow() {
        let gateway = GatewayResources::default();
        assert!(gateway.requests.cpu <= gateway.limits.cpu);
        assert!(gateway.requests.memory <= gateway.limits.memory);
        assert!(gateway.requests.ephemeral_storage <= gateway.limits.ephemeral_storage);
        let server = ServerResources::default();
        assert!(server.requests.cpu <= server.limits.cpu);
        assert!(server.requests.memory <= server.limits.memory);
        assert!(server.requests.ephemeral_storage <= server.limits.ephemeral_storage);
    }
}
