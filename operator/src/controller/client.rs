//! Every request to the API server but the watches and the lease: under a time-out, counted, and writes only while this
//! process leads.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::Client;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, Resource, ResourceExt,
};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ApiError, Request};
use crate::lease::Leadership;
use crate::metrics::Metrics;

/// How long a read may take.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write may take. It is less than the lease's duration minus its renewal deadline, so that a write begun
/// under the lease ends under it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A namespaced object of a kind known at compile time.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + ResourceExt
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + ResourceExt
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The API server, as the controllers see it.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
}

impl Kube {
    /// Requests by `client`, writes only under `leadership`.
    pub const fn new(client: Client, leadership: Leadership, metrics: Metrics) -> Self {
        Self {
            client,
            leadership,
            metrics,
        }
    }

    /// The client itself, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether this process may write now.
    pub fn leads(&self) -> bool {
        self.leadership.may_write()
    }

    fn api<K: Object>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads one object; none if it is not there.
    pub async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
        let request = request::<K>("get", "", namespace, name);
        let api = self.api::<K>(namespace);
        self.timed(request, READ_TIMEOUT, api.get_opt(name)).await
    }

    /// Lists the objects of a namespace that `labels` select, as they are now and not as the watch saw them.
    pub async fn list<K: Object>(&self, namespace: &str, labels: &str) -> Result<Vec<K>, ApiError> {
        let request = request::<K>("list", "", namespace, labels);
        let params = ListParams::default().labels(labels);
        let api = self.api::<K>(namespace);
        let list = self.timed(request, READ_TIMEOUT, api.list(&params)).await?;
        Ok(list.items)
    }

    /// Applies an object as `manager`, taking over every field it names.
    pub async fn apply<K: Object>(&self, manager: &str, object: &Value, at: &At<'_>) -> Result<K, ApiError> {
        let request = request::<K>("patch", "", at.namespace, at.name);
        let params = PatchParams::apply(manager).force();
        let api = self.api::<K>(at.namespace);
        let patch = Patch::Apply(object);
        self.write(request, api.patch(at.name, &params, &patch)).await
    }

    /// Creates an object.
    pub async fn create<K: Object>(&self, manager: &str, object: &K) -> Result<K, ApiError> {
        let namespace = object.namespace().unwrap_or_default();
        let request = request::<K>("create", "", &namespace, &object.name_any());
        let params = PostParams {
            field_manager: Some(manager.to_owned()),
            ..PostParams::default()
        };
        let api = self.api::<K>(&namespace);
        self.write(request, api.create(&params, object)).await
    }

    /// Changes some fields of an object that must still be the one with this UID.
    pub async fn merge<K: Object>(&self, manager: &str, at: &At<'_>, patch: &Value) -> Result<K, ApiError> {
        let request = request::<K>("patch", "", at.namespace, at.name);
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api::<K>(at.namespace);
        self.write(request, api.patch(at.name, &params, &Patch::Merge(patch)))
            .await
    }

    /// Applies an object's status as `manager`.
    pub async fn apply_status<K: Object>(
        &self,
        manager: &str,
        at: &At<'_>,
        status: &Value,
    ) -> Result<K, ApiError> {
        let request = request::<K>("patch", "/status", at.namespace, at.name);
        let params = PatchParams::apply(manager).force();
        let api = self.api::<K>(at.namespace);
        self.write(request, api.patch_status(at.name, &params, &Patch::Apply(status)))
            .await
    }

    /// Changes metadata of an object through its status subresource.
    pub async fn merge_status<K: Object>(
        &self,
        manager: &str,
        at: &At<'_>,
        patch: &Value,
    ) -> Result<K, ApiError> {
        let request = request::<K>("patch", "/status", at.namespace, at.name);
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api::<K>(at.namespace);
        self.write(request, api.patch_status(at.name, &params, &Patch::Merge(patch)))
            .await
    }

    /// Deletes exactly the object that was seen, in the very state in which it was seen. That it is gone already is
    /// as good.
    pub async fn delete<K: Object>(&self, seen: &K) -> Result<(), ApiError> {
        let namespace = seen.namespace().unwrap_or_default();
        let name = seen.name_any();
        let request = request::<K>("delete", "", &namespace, &name);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version: seen.resource_version(),
            }),
            ..DeleteParams::background()
        };
        let api = self.api::<K>(&namespace);
        match self.write(request, api.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A read of something that is no object, such as a discovery document.
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let request = Request {
            verb: "get",
            resource: path.to_owned(),
            object: String::new(),
        };
        let http = match http::Request::get(path).body(Vec::new()) {
            Ok(http) => http,
            Err(error) => {
                return Err(ApiError::Unsendable {
                    request,
                    message: error.to_string(),
                });
            }
        };
        self.timed(request, READ_TIMEOUT, self.client.request_text(http))
            .await
    }

    /// A write by someone else's code that takes a client, such as an event recorder.
    pub async fn write<T>(
        &self,
        request: Request,
        call: impl Future<Output = Result<T, kube::Error>> + Send,
    ) -> Result<T, ApiError> {
        if !self.leadership.may_write() {
            return Err(ApiError::NotLeading(request));
        }
        self.timed(request, WRITE_TIMEOUT, call).await
    }

    async fn timed<T>(
        &self,
        request: Request,
        limit: Duration,
        call: impl Future<Output = Result<T, kube::Error>> + Send,
    ) -> Result<T, ApiError> {
        let verb = request.verb;
        let result = match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(ApiError::from_kube(request, error)),
            Err(_elapsed) => Err(ApiError::TimedOut {
                request,
                seconds: limit.as_secs(),
            }),
        };
        self.metrics.api_request(verb, result.as_ref().err());
        result
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// What is asked, for errors and metrics.
pub fn request<K: Object>(verb: &'static str, subresource: &str, namespace: &str, name: &str) -> Request {
    Request {
        verb,
        resource: format!("{}{subresource}", K::plural(&())),
        object: format!("{namespace}/{name}"),
    }
}
