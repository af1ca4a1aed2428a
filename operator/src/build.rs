//! From what is valid to the objects that make it so. Pure: no clock, no chance, no lookup, so that the same input always
//! gives the same bytes, and equal bytes mean that nothing has to be written.

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::api::names::{gateway_child, server_child};
use crate::settings::Settings;
use crate::validate::{Problem, ServerForm, ValidatedGateway, ValidatedServer};
use meta::Owner;

pub mod addresses;
pub mod config;
pub mod config_map;
pub mod container;
pub mod deployment;
pub mod hash;
pub mod meta;
pub mod network_policy;
pub mod pdb;
pub mod pod;
pub mod security;
pub mod service;
pub mod service_account;
pub mod session_key;
pub mod volumes;

/// As it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared;

/// As the API server returned it. Only this says anything about the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied;

/// Everything that belongs to one McpGateway or McpServer, by kind and in the order in which it is applied: a pod exists
/// only once its fence does. Removals go the other way round.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources<S> {
    /// First: pods name them.
    pub service_accounts: Vec<ServiceAccount>,
    /// Before any pod.
    pub network_policies: Vec<NetworkPolicy>,
    /// What pods mount.
    pub config_maps: Vec<ConfigMap>,
    /// How pods are found.
    pub services: Vec<Service>,
    /// How many pods may be missing.
    pub pod_disruption_budgets: Vec<PodDisruptionBudget>,
    /// Last.
    pub deployments: Vec<Deployment>,
    /// After the Deployment, by a field manager of its own.
    pub replicas: Vec<Replicas>,
    pub(crate) state: PhantomData<S>,
}

impl<S> Default for Resources<S> {
    fn default() -> Self {
        Self {
            service_accounts: Vec::new(),
            network_policies: Vec::new(),
            config_maps: Vec::new(),
            services: Vec::new(),
            pod_disruption_budgets: Vec::new(),
            deployments: Vec::new(),
            replicas: Vec::new(),
            state: PhantomData,
        }
    }
}

impl<S> Resources<S> {
    /// Every object as it is sent, in order. [`Replicas`] are not among them: they are a part of a Deployment.
    pub fn objects(&self) -> Vec<Value> {
        let Self {
            service_accounts,
            network_policies,
            config_maps,
            services,
            pod_disruption_budgets,
            deployments,
            replicas: _,
            state: PhantomData,
        } = self;
        let mut objects = Vec::new();
        objects.extend(service_accounts.iter().map(value));
        objects.extend(network_policies.iter().map(value));
        objects.extend(config_maps.iter().map(value));
        objects.extend(services.iter().map(value));
        objects.extend(pod_disruption_budgets.iter().map(value));
        objects.extend(deployments.iter().map(value));
        objects
    }
}

/// An object as JSON, with its `apiVersion` and `kind`.
pub fn value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("objects of the API have a JSON form")
}

/// How many pods a Deployment has, applied apart from everything else of it: an autoscaler may take the field over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Namespace of the Deployment.
    pub namespace: String,
    /// Its name.
    pub deployment: String,
    /// How many.
    pub count: i32,
}

impl Replicas {
    /// What is applied: the Deployment with this field and nothing else.
    pub fn patch(&self) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.deployment, "namespace": self.namespace},
            "spec": {"replicas": self.count},
        })
    }
}

/// A gateway's objects.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayObjects {
    /// To be applied.
    pub resources: Resources<Prepared>,
    /// What every pod reports once it has loaded the configuration.
    pub config_hash: String,
}

/// Builds a gateway. It fails where the configuration would not fit, or would be refused by the gateway.
pub fn gateway(validated: &ValidatedGateway, settings: &Settings) -> Result<GatewayObjects, Vec<Problem>> {
    let rendered =
        config_map::render(&config::config(validated, settings)).map_err(|problem| vec![problem])?;
    let owner = Owner::gateway(validated.identity.clone());
    let name = gateway_child(&validated.identity.key.name);
    let replicas = validated.spec().workload.replicas;
    Ok(GatewayObjects {
        resources: Resources {
            service_accounts: vec![service_account::service_account(&owner, name.clone())],
            network_policies: vec![network_policy::gateway(&owner, validated, settings)],
            config_maps: vec![config_map::config_map(&owner, &rendered)],
            services: vec![
                service::gateway(&owner, &validated.transport),
                service::peers(&owner),
            ],
            pod_disruption_budgets: pdb::budget(&owner, name.clone(), replicas).into_iter().collect(),
            deployments: vec![deployment::gateway(&owner, validated, &rendered, settings)],
            replicas: vec![scale(&owner, name, replicas)],
            state: PhantomData,
        },
        config_hash: rendered.hash,
    })
}

/// Builds a server.
pub fn server(validated: &ValidatedServer, settings: &Settings) -> Resources<Prepared> {
    let owner = Owner::server(validated.identity.clone());
    match &validated.form {
        ServerForm::Elsewhere => Resources::default(),
        ServerForm::Withheld => Resources {
            network_policies: vec![network_policy::closed(&owner)],
            ..Resources::default()
        },
        ServerForm::Fenced(fence) => Resources {
            network_policies: vec![network_policy::fence(
                &owner,
                validated.attached(),
                &fence.pods,
                fence.port.as_ref(),
            )],
            ..Resources::default()
        },
        ServerForm::Container(container) => {
            let name = server_child(&validated.identity.key.name);
            let replicas = container.container.replicas;
            let mut services = vec![service::server(&owner, container.port)];
            services.extend((replicas > 1).then(|| service::pods_of_server(&owner, container.port)));
            Resources {
                service_accounts: vec![service_account::service_account(&owner, name.clone())],
                network_policies: vec![network_policy::server(
                    &owner,
                    validated.attached(),
                    container.port,
                )],
                config_maps: Vec::new(),
                services,
                pod_disruption_budgets: pdb::budget(&owner, name.clone(), replicas).into_iter().collect(),
                deployments: vec![deployment::server(&owner, container, settings)],
                replicas: vec![scale(&owner, name, replicas)],
                state: PhantomData,
            }
        }
    }
}

fn scale(owner: &Owner, deployment: String, count: i32) -> Replicas {
    Replicas {
        namespace: owner.identity.key.namespace.to_string(),
        deployment,
        count,
    }
}
