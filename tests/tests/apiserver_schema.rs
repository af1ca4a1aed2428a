//! A real API server accepts our definitions, and judges the table of `operator/tests/fixtures/schema.yaml` as the offline
//! rules do. Needs a cluster (`make cluster-up`); without one it says so and passes. It leaves the cluster as it was: a
//! chart could not install definitions that somebody else left behind.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what is wrong by failing, and why it is skipped"
)]

#[path = "../../operator/tests/support/table.rs"]
mod table;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{ApiResource, ObjectMeta};
use kube::runtime::conditions::{is_crd_established, is_deleted};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, CustomResourceExt as _};
use portcullis_operator::api::v1alpha1::{McpGateway, McpServer};
use portcullis_operator::crds;
use serde_json::{Value, json};

const MANAGER: &str = "portcullis-schema-test";
/// Said by the API server when it stopped early; it names no field and no cause of its own.
const STOPPED_EARLY: &str = "some validation rules were not checked because the object was invalid";

/// A namespace of its own for the objects of this test; nothing is stored in it.
struct Cluster {
    client: Client,
    namespace: String,
    /// Definitions that were not there before.
    installed: Vec<String>,
}

impl Cluster {
    /// `None` without a cluster.
    async fn connect() -> Result<Option<Self>> {
        if std::env::var_os("PORTCULLIS_CLUSTER_KIND").is_none() {
            println!("skipped: PORTCULLIS_CLUSTER_KIND is not set, so there is no test cluster");
            return Ok(None);
        }
        // Whoever comes second finds the same one installed.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = Client::try_default().await?;
        let installed = install(&client).await?;
        let namespace = format!("schema-{}", std::process::id());
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await?;
        Ok(Some(Self {
            client,
            namespace,
            installed,
        }))
    }

    /// The API for objects of `object`'s kind.
    fn api(&self, object: &Value) -> Result<Api<DynamicObject>> {
        let resource = match object["kind"].as_str() {
            Some("McpGateway") => McpGateway::api_resource(),
            Some("McpServer") => McpServer::api_resource(),
            other => bail!("{other:?} is no kind of ours"),
        };
        Ok(self.api_of(&resource))
    }

    fn api_of(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// Creates `object` without storing it: what the API server made of it, or everything it found wrong.
    async fn try_create(&self, mut object: Value) -> Result<Result<Value, Vec<String>>> {
        object["metadata"]["namespace"] = json!(self.namespace);
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let api = self.api(&object)?;
        let name = object["metadata"]["name"].clone();
        let Ok(typed) = serde_json::from_value::<DynamicObject>(object) else {
            bail!("{name} is no object");
        };
        match api.create(&params, &typed).await {
            Ok(created) => Ok(Ok(serde_json::to_value(created)?)),
            Err(kube::Error::Api(status)) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let mut reasons: Vec<String> = causes
                    .filter(|cause| !cause.message.contains(STOPPED_EARLY))
                    .map(|cause| format!("{}: {}", cause.field, cause.message))
                    .collect();
                if reasons.is_empty() {
                    reasons.push(status.message.clone());
                }
                Ok(Err(reasons))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Applies `object` as `kubectl apply --server-side --validate=strict` does, without storing it.
    async fn try_apply(&self, mut object: Value) -> Result<Value> {
        object["metadata"]["namespace"] = json!(self.namespace);
        let params = PatchParams {
            dry_run: true,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(MANAGER)
        };
        let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
        let applied = self
            .api(&object)?
            .patch(&name, &params, &Patch::Apply(&object))
            .await?;
        Ok(serde_json::to_value(applied)?)
    }

    async fn remove(&self) -> Result<()> {
        system_tests::namespace::remove(&self.client, &self.namespace).await?;
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
        for name in &self.installed {
            let uid = definitions.get(name).await?.metadata.uid.unwrap_or_default();
            definitions.delete(name, &DeleteParams::default()).await?;
            await_condition(definitions.clone(), name, is_deleted(&uid)).await?;
        }
        Ok(())
    }
}

/// Has the API server judge each definition; installs those that are not there, and says which.
async fn install(client: &Client) -> Result<Vec<String>> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let mut installed = Vec::new();
    for crd in crds::all() {
        let name = crd.metadata.name.clone().context("a name")?;
        let there = api.get_opt(&name).await?.is_some();
        let params = PatchParams {
            dry_run: there,
            ..PatchParams::apply(MANAGER).force()
        };
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .with_context(|| format!("{name} is refused"))?;
        await_condition(api.clone(), &name, is_crd_established()).await?;
        if !there {
            installed.push(name);
        }
    }
    Ok(installed)
}

/// Every object of every sample, with its file's name.
fn samples() -> Result<Vec<(String, Value)>> {
    use serde::Deserialize as _;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path)?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            found.push((file.clone(), Value::deserialize(document)?));
        }
    }
    ensure!(!found.is_empty(), "no samples in {}", folder.display());
    Ok(found)
}

#[tokio::test]
async fn the_api_server_judges_as_the_offline_rules_do() -> Result<()> {
    let Some(cluster) = Cluster::connect().await? else {
        return Ok(());
    };
    let found = async {
        table_holds(&cluster).await?;
        samples_pass(&cluster).await?;
        fields_are_pruned_and_filled(&cluster).await
    }
    .await;
    cluster.remove().await?;
    found
}

async fn table_holds(cluster: &Cluster) -> Result<()> {
    let mut wrong = Vec::new();
    for case in table::cases() {
        let verdict = cluster.try_create(case.object()).await?.err().unwrap_or_default();
        wrong.extend(case.disagrees_with(&verdict));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn samples_pass(cluster: &Cluster) -> Result<()> {
    for (file, object) in samples()? {
        cluster.try_apply(object).await.with_context(|| file)?;
    }
    Ok(())
}

/// Unknown fields are refused, nulls are as good as absent, and the defaults are those of the types.
async fn fields_are_pruned_and_filled(cluster: &Cluster) -> Result<()> {
    let minimal = json!({
        "apiVersion": "portcullis.dev/v1alpha1",
        "kind": "McpGateway",
        "metadata": {"name": "minimal"},
        "spec": {
            "publicHost": "mcp.example.com",
            "tls": {"secretName": "tls", "plaintext": null},
            "auth": {"apiKeys": {"secretName": "keys"}, "anonymous": null},
            "limits": {"requestTimeout": "30s", "maxJsonDepth": null},
        },
    });

    let mut unknown = minimal.clone();
    unknown["spec"]["auth"]["allowEverybody"] = json!(true);
    let refusal = cluster
        .try_apply(unknown)
        .await
        .err()
        .context("an unknown field was accepted")?;
    ensure!(format!("{refusal:#}").contains("allowEverybody"), "{refusal:#}");

    let stored = match cluster.try_create(minimal.clone()).await? {
        Ok(stored) => stored,
        Err(reasons) => bail!("{reasons:?}"),
    };
    ensure!(
        stored["spec"]["tls"] == json!({"secretName": "tls"}),
        "{}",
        stored["spec"]["tls"]
    );
    ensure!(
        stored["spec"]["limits"]["maxJsonDepth"] == 64,
        "{}",
        stored["spec"]["limits"]
    );
    let by_server: McpGateway = serde_json::from_value(stored)?;
    let mut plain = minimal;
    plain["spec"]["limits"] = json!({"requestTimeout": "30s"});
    let by_types: McpGateway = serde_json::from_value(plain)?;
    ensure!(
        by_server.spec == by_types.spec,
        "{:#?}\n{:#?}",
        by_server.spec,
        by_types.spec
    );
    Ok(())
}
