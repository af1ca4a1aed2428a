//! Whose an object is: name, namespace, labels and the owner reference by which Kubernetes removes it with its owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::api::labels::{self, Labels};
use crate::identity::Identity;

/// For whom an object is made: an McpGateway or an McpServer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    kind: &'static str,
    /// Who it is.
    pub identity: Identity,
    labels: Labels,
    selector: Labels,
}

impl Owner {
    /// An McpGateway.
    pub fn gateway(identity: Identity) -> Self {
        Self {
            kind: "McpGateway",
            labels: labels::gateway_labels(&identity.key.name),
            selector: labels::gateway_selector(&identity.key.name),
            identity,
        }
    }

    /// An McpServer.
    pub fn server(identity: Identity) -> Self {
        Self {
            kind: "McpServer",
            labels: labels::server_labels(&identity.key.name),
            selector: labels::server_selector(&identity.key.name),
            identity,
        }
    }

    /// Metadata of its object called `name`.
    pub fn meta(&self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.identity.key.namespace.to_string()),
            labels: Some(self.labels.clone()),
            owner_references: Some(vec![self.reference()]),
            ..ObjectMeta::default()
        }
    }

    /// All labels of its objects and pods.
    pub fn labels(&self) -> Labels {
        self.labels.clone()
    }

    /// What selects its pods, and never changes.
    pub fn selector(&self) -> LabelSelector {
        exactly(self.selector.clone())
    }

    /// The same, as a Service has it.
    pub fn selector_labels(&self) -> Labels {
        self.selector.clone()
    }

    /// It is the controller of what it owns. `blockOwnerDeletion` stays unset: it would take the right to update our
    /// objects' finalizers, and nothing here needs to hold a deletion up.
    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{}/v1alpha1", crate::api::GROUP),
            kind: self.kind.to_owned(),
            name: self.identity.key.name.to_string(),
            uid: self.identity.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

/// A selector of exactly these labels.
pub fn exactly(labels: Labels) -> LabelSelector {
    LabelSelector {
        match_expressions: None,
        match_labels: Some(labels),
    }
}

/// A selector of one namespace.
pub fn namespace(name: &str) -> LabelSelector {
    exactly(Labels::from([(
        labels::NAMESPACE_NAME.to_owned(),
        name.to_owned(),
    )]))
}
