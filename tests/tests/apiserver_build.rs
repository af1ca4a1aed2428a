//! A real API server takes every object that the operator builds, as it stands: no field is unknown to it, refused or
//! changed, and each pod passes the Pod Security Standard `restricted`. Needs a cluster (`make cluster-up`); without one it
//! says so and passes. Nothing is stored but a namespace, which goes again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what is wrong by failing, and why it is skipped"
)]

#[allow(
    dead_code,
    reason = "shared with the tests of the builders, which use more of it"
)]
#[path = "../../operator/tests/build/worlds.rs"]
mod worlds;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

const MANAGER: &str = "portcullis-build-test";

#[tokio::test]
async fn a_real_api_server_takes_every_object_and_every_pod() -> Result<()> {
    if std::env::var_os("PORTCULLIS_CLUSTER_KIND").is_none() {
        println!("skipped: PORTCULLIS_CLUSTER_KIND is not set, so there is no test cluster");
        return Ok(());
    }
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let client = Client::try_default().await?;
    let namespace = format!("build-{}", std::process::id());
    let namespaces = Api::<Namespace>::all(client.clone());
    let object = serde_json::from_value(json!({
        "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))?;
    namespaces.create(&PostParams::default(), &object).await?;
    let found = everything_is_taken(&client, &namespace).await;
    system_tests::namespace::remove(&client, &namespace).await?;
    found
}

async fn everything_is_taken(client: &Client, namespace: &str) -> Result<()> {
    wait_for_default_account(client, namespace).await?;
    let mut settings = worlds::settings();
    let mut pods = 0;
    for user_namespaces in [false, true] {
        settings.user_namespaces = user_namespaces;
        for (world, object) in worlds::everything(&settings) {
            let place = format!("{world}: {}", worlds::label(&object));
            apply(client, namespace, &object)
                .await
                .with_context(|| place.clone())?;
            if object["kind"] == "Deployment" {
                run(client, namespace, &object).await.context(place)?;
                pods += 1;
            }
        }
    }
    ensure!(pods > 10, "only {pods} pods");
    Ok(())
}

/// Applies an object as the operator does, strictly, without storing it, and compares what came of it.
async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<()> {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(namespace);
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
    let params = PatchParams {
        dry_run: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply(MANAGER).force()
    };
    let applied = api.patch(&name, &params, &Patch::Apply(&object)).await?;
    let applied = serde_json::to_value(applied)?;
    let mut lost = Vec::new();
    compare(&object, &applied, "", &mut lost);
    ensure!(
        lost.is_empty(),
        "the API server made something else of it: {lost:#?}"
    );
    Ok(())
}

/// Everything in `wanted` that is not so in `found`.
fn compare(wanted: &Value, found: &Value, path: &str, lost: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, wanted) in wanted {
                compare(
                    wanted,
                    found.get(key).unwrap_or(&Value::Null),
                    &format!("{path}/{key}"),
                    lost,
                );
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (at, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(wanted, found, &format!("{path}/{at}"), lost);
            }
        }
        // An empty list and none are one to the API server.
        (Value::Array(wanted), Value::Null) if wanted.is_empty() => {}
        // `2000m` is `2`.
        (Value::String(_), Value::String(_)) if path.contains("/resources/") => {}
        (wanted, found) if wanted == found => {}
        (wanted, found) => lost.push(format!("{path}: {wanted} became {found}")),
    }
}

/// Creates a Deployment's pod without storing it: Pod Security judges pods, not Deployments.
async fn run(client: &Client, namespace: &str, deployment: &Value) -> Result<()> {
    let template = &deployment["spec"]["template"];
    let mut spec = template["spec"].clone();
    // The one that exists here. It is the name that is looked up; no token is mounted either way.
    spec["serviceAccountName"] = json!("default");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"generateName": "pod-", "labels": template["metadata"]["labels"]},
        "spec": spec,
    }))?;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = Api::<Pod>::namespaced(client.clone(), namespace)
        .create(&params, &pod)
        .await?;
    let mounts = serde_json::to_string(&created)?;
    ensure!(!mounts.contains("serviceAccountToken"), "a token was mounted");
    Ok(())
}

async fn wait_for_default_account(client: &Client, namespace: &str) -> Result<()> {
    let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let there = kube::runtime::wait::await_condition(api, "default", |account: Option<&ServiceAccount>| {
        account.is_some()
    });
    tokio::time::timeout(Duration::from_secs(60), there)
        .await
        .context("the namespace's default ServiceAccount does not come")??;
    Ok(())
}
