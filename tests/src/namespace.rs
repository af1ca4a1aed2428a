//! The end of a test's namespace.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DeleteParams;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

/// Pods in it get their grace period.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// Deletes `namespace` and waits until it is gone: the cluster is then as it was, and what comes next (definitions
/// removed, the same namespace made again) does not meet the end of this one.
///
/// # Errors
/// When the API server refuses, or it is still there after two minutes.
pub async fn remove(client: &Client, namespace: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let uid = namespaces.get(namespace).await?.metadata.uid.unwrap_or_default();
    namespaces.delete(namespace, &DeleteParams::background()).await?;
    let gone = await_condition(namespaces, namespace, is_deleted(&uid));
    tokio::time::timeout(GONE_WITHIN, gone)
        .await
        .with_context(|| format!("the namespace {namespace} is not removed"))??;
    Ok(())
}
