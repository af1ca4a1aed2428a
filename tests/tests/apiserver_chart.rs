//! A real API server takes everything that the manifest installs, and holds the operator's account to it: of a gateway's
//! pod its own annotations, of Secrets new session keys, nothing else. Needs a cluster (`make cluster-up`) and Helm; without
//! a cluster it says so and passes. It leaves nothing behind.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what is wrong by failing, and why it is skipped"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, ValidationDirective,
};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, Config};
use portcullis_operator::api::labels;
use portcullis_operator::build::session_key;
use serde_json::{Value, json};
use system_tests::chart;

const MANAGER: &str = "portcullis-chart-test";
/// Longest time until a fresh admission policy acts.
const POLICY_ACTS: Duration = Duration::from_secs(30);

/// A namespace of this test alone.
struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// `None` without a cluster.
    async fn connect(purpose: &str) -> Result<Option<Self>> {
        if std::env::var_os("PORTCULLIS_CLUSTER_KIND").is_none() {
            println!("skipped: PORTCULLIS_CLUSTER_KIND is not set, so there is no test cluster");
            return Ok(None);
        }
        // Whoever comes second finds the same one installed.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = Client::try_default().await?;
        let namespace = format!("chart-{purpose}-{}", std::process::id());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await?;
        Ok(Some(Self { client, namespace }))
    }

    /// The API for `object`'s kind, in this test's namespace where there is one.
    async fn api(&self, object: &Value) -> Result<Api<DynamicObject>> {
        let types: TypeMeta = serde_json::from_value(object.clone())?;
        let kind = GroupVersionKind::try_from(&types)?;
        let (resource, capabilities) = pinned_kind(&self.client, &kind).await?;
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        })
    }

    /// Applies `object` as `kubectl apply --server-side --validate=strict` does.
    async fn apply(&self, mut object: Value, dry_run: bool) -> Result<()> {
        let api = self.api(&object).await?;
        if !object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
        let params = PatchParams {
            dry_run,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(MANAGER).force()
        };
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("{} {name}", object["kind"]))?;
        Ok(())
    }

    async fn delete(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("a name")?;
        self.api(object)
            .await?
            .delete(name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        system_tests::namespace::remove(&self.client, &self.namespace).await
    }
}

#[tokio::test]
async fn the_api_server_takes_every_object_of_the_manifest() -> Result<()> {
    let Some(cluster) = Cluster::connect("manifest").await? else {
        return Ok(());
    };
    let found = async {
        for object in chart::objects(&chart::read("manifests/install.yaml")?)? {
            cluster.apply(object, true).await?;
        }
        Ok(())
    }
    .await;
    cluster.remove().await?;
    found
}

#[tokio::test]
async fn the_operators_account_is_held_to_what_it_needs() -> Result<()> {
    let Some(cluster) = Cluster::connect("rights").await? else {
        return Ok(());
    };
    // A release of its own: what it installs for the whole cluster must not meet an operator that is there.
    let name = format!("fullnameOverride={}", cluster.namespace);
    let text = chart::template(
        chart::OPERATOR,
        &["--set", &name, "--namespace", &cluster.namespace],
    )?;
    let installed: Vec<Value> = chart::objects(&text)?
        .into_iter()
        .filter(|object| object["kind"] != "Deployment" && object["kind"] != "PodDisruptionBudget")
        .collect();
    let mut applied = Vec::new();
    let found = async {
        for object in installed {
            cluster.apply(object.clone(), false).await?;
            applied.push(object);
        }
        let account = chart::one(&applied, "ServiceAccount")?["metadata"]["name"]
            .as_str()
            .context("a name")?;
        let mut config = Config::infer().await?;
        // The client reads `impersonate` of a kubeconfig and then ignores it.
        let user = format!("system:serviceaccount:{}:{account}", cluster.namespace);
        config.headers.push(("impersonate-user".parse()?, user.parse()?));
        let operator = Client::try_from(config)?;
        pods(&cluster, &operator).await?;
        secrets(&cluster, &operator).await
    }
    .await;
    for object in applied
        .iter()
        .filter(|object| object["metadata"]["namespace"].is_null())
    {
        cluster.delete(object).await?;
    }
    cluster.remove().await?;
    found
}

/// Pods that no node takes, so that nobody else writes their status.
async fn make_pods(cluster: &Cluster) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    for (name, labels) in [
        ("gateway", labels::gateway_labels("tools")),
        ("server", labels::server_labels("tools")),
        ("foreign", labels::Labels::new()),
    ] {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels, "annotations": {"example.com/kept": "yes"}},
            "spec": {
                "nodeSelector": {"example.com/nowhere": "yes"},
                "automountServiceAccountToken": false,
                "containers": [{"name": "none", "image": "none"}],
            },
        }))?;
        // The namespace's default account may lag behind its namespace.
        let mut tries = 0;
        while let Err(error) = pods.create(&PostParams::default(), &pod).await {
            tries += 1;
            ensure!(tries < 60, "{error}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    Ok(())
}

async fn pods(cluster: &Cluster, operator: &Client) -> Result<()> {
    make_pods(cluster).await?;
    let pods: Api<Pod> = Api::namespaced(operator.clone(), &cluster.namespace);
    let touch = async |name: &str, patch: &Value| {
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
    };
    let foreign = json!({"metadata": {"annotations": {"example.com/other": "1"}}});
    // A policy acts a moment after it was made. Until then this is accepted, and does no harm. Each try is another change:
    // what changes nothing is allowed.
    let begun = std::time::Instant::now();
    let another =
        |time: Duration| json!({"metadata": {"annotations": {"example.com/early": format!("{time:?}")}}});
    while touch("gateway", &another(begun.elapsed())).await.is_ok() {
        ensure!(begun.elapsed() < POLICY_ACTS, "the admission policy does not act");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    let nudge = json!({"metadata": {"annotations": {labels::CONFIG_HASH: "a", labels::REFRESHED: "b"}}});
    touch("gateway", &nudge).await.context("the nudge")?;
    let again = json!({"metadata": {"annotations": {labels::CONFIG_HASH: "c"}}});
    touch("gateway", &again).await.context("the next nudge")?;

    let gone = json!({"metadata": {"annotations": {"example.com/kept": null}}});
    let changed = json!({"metadata": {"annotations": {"example.com/kept": "no"}}});
    let label = json!({"metadata": {"labels": {labels::GATEWAY: "other"}}});
    let finalizer = json!({"metadata": {"finalizers": ["example.com/stay"]}});
    let phase = json!({"status": {"phase": "Succeeded"}});
    let address = json!({"status": {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}});
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    for (name, patch, expected) in [
        ("gateway", &foreign, "its own only"),
        ("gateway", &gone, "its own only"),
        ("gateway", &changed, "its own only"),
        ("gateway", &label, "annotations only"),
        ("gateway", &finalizer, "annotations only"),
        ("gateway", &phase, "pod's status"),
        ("gateway", &address, "pod's status"),
        ("gateway", &ready, "pod's status"),
        ("server", &nudge, "pods of gateways only"),
        ("foreign", &nudge, "pods of gateways only"),
    ] {
        refused(touch(name, patch).await, expected).with_context(|| format!("{name}: {patch}"))?;
    }
    let spec = json!({"spec": {"activeDeadlineSeconds": 1}});
    refused(
        pods.patch("gateway", &PatchParams::default(), &Patch::Merge(&spec))
            .await,
        "cannot patch resource",
    )?;
    refused(
        pods.delete("gateway", &DeleteParams::default()).await,
        "cannot delete resource",
    )
}

async fn secrets(cluster: &Cluster, operator: &Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(operator.clone(), &cluster.namespace);
    let id = session_key::KeyId::from_random([7; session_key::ID_BYTES]);
    let name = session_key::name("tools", &id);
    let marker = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": cluster.namespace, "uid": "00000000-0000-0000-0000-000000000000"},
    }))?;
    let key =
        session_key::secret(&marker, &id, &[1; session_key::KEY_BYTES]).context("the marker has a UID")?;
    let wrong = |change: &dyn Fn(&mut Value)| -> Result<Secret> {
        let mut value = serde_json::to_value(&key)?;
        change(&mut value);
        Ok(serde_json::from_value(value)?)
    };
    let token = wrong(&|secret| {
        secret["type"] = json!("kubernetes.io/service-account-token");
        secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    })?;
    let begun = std::time::Instant::now();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    while secrets.create(&dry_run, &token).await.is_ok() {
        ensure!(begun.elapsed() < POLICY_ACTS, "the admission policy does not act");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for (secret, expected) in [
        (token, "session keys only"),
        (
            wrong(&|secret| secret["type"] = json!("Opaque"))?,
            "session keys only",
        ),
        (
            wrong(&|secret| secret["immutable"] = json!(false))?,
            "session keys only",
        ),
        (
            wrong(&|secret| secret["metadata"]["ownerReferences"] = json!([]))?,
            "ConfigMap of its own name",
        ),
        (
            wrong(&|secret| secret["metadata"]["name"] = json!("another"))?,
            "ConfigMap of its own name",
        ),
    ] {
        refused(secrets.create(&PostParams::default(), &secret).await, expected)?;
    }
    secrets
        .create(&PostParams::default(), &key)
        .await
        .context("a session key")?;
    refused(secrets.get(&name).await, "cannot get resource")?;
    refused(secrets.list(&ListParams::default()).await, "cannot list resource")?;
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    refused(
        secrets
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await,
        "cannot patch resource",
    )?;
    refused(
        secrets.replace(&name, &PostParams::default(), &key).await,
        "cannot update resource",
    )?;
    refused(
        secrets.delete(&name, &DeleteParams::default()).await,
        "cannot delete resource",
    )
}

/// The API server refused it, and said why.
fn refused<T>(answer: Result<T, kube::Error>, expected: &str) -> Result<()> {
    match answer {
        Ok(_) => bail!("it was accepted"),
        Err(kube::Error::Api(status)) => {
            ensure!(status.message.contains(expected), "{}", status.message);
            Ok(())
        }
        Err(other) => Err(other.into()),
    }
}
