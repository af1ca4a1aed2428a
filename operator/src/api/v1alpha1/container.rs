//! A server that Portcullis runs, isolated.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cel::{exactly_one, rule};
use super::patterns;
use super::refs::ImagePullSecret;
use super::resources::ServerResources;
use super::secret_look;
use super::upstream::mcp_path;
use super::volumes::Volume;
use crate::api::names::{DataKey, DnsSubdomain};

/// A server that Portcullis runs: non-root, with a read-only root, without capabilities, without a token, without any way
/// out into the network, and reachable by its gateways only. /tmp is writable, and HOME points into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "!has(self.volumes) || self.volumes.all(a, self.volumes.exists_one(b, b.mountPath == a.mountPath))",
    "two volumes have the same mountPath",
))]
pub struct Container {
    /// Image of the server, best by digest (NAME@sha256:DIGEST): a tag can come to mean another program.
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = patterns::IMAGE)
    )]
    pub image: String,
    /// How the gateway talks to it.
    pub transport: Transport,
    /// Arguments of the image's entry point. No secrets. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = secret_look::no_credential_in_args())]
    #[x_kube(validation = secret_look::no_secret_flag_in_args())]
    pub args: Vec<String>,
    /// Environment variables. No secrets: use secretFiles. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Secrets as files under /var/run/portcullis/secrets, followed when they change. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub secret_files: Vec<SecretFile>,
    /// Volumes. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub volumes: Vec<Volume>,
    /// Processors, memory and local disk of each pod.
    #[serde(default)]
    pub resources: ServerResources,
    /// How many pods. The gateway keeps a session-era session on the pod where it began. 1 to 50.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 50))]
    pub replicas: i32,
    /// Number of the user (and group) it runs as, 1 to 2147483647; never root. FromPlatform: none is written, for platforms
    /// that assign one from a range of the namespace (OpenShift).
    #[serde(default)]
    #[x_kube(validation = rule(
        "string(self) == 'FromPlatform' || (int(string(self)) >= 1 && int(string(self)) <= 2147483647)",
        "user must be a number from 1 to 2147483647, since root is refused, or FromPlatform",
    ))]
    pub user: ContainerUser,
    /// Secrets with which the image is pulled. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ImagePullSecret>,
}

const fn one() -> i32 {
    1
}

/// How the gateway talks to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = exactly_one(&["streamableHttp", "sse"]))]
pub struct Transport {
    /// MCP's streamable HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streamable_http: Option<HttpEndpoint>,
    /// HTTP with SSE, the transport of revision 2024-11-05: for a server that has no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<SseEndpoint>,
}

/// A port and a path in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpEndpoint {
    /// Port the server listens on, on all addresses of its pod. 1024 to 65535: a lower one would need a capability.
    #[schemars(range(min = 1024, max = 65_535))]
    pub port: i32,
    /// Path of the endpoint.
    #[serde(default = "mcp_path")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = patterns::PATH)
    )]
    pub path: String,
}

/// A port of a container, and the path of its stream of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SseEndpoint {
    /// Port the server listens on, on all addresses of its pod. 1024 to 65535: a lower one would need a capability.
    #[schemars(range(min = 1024, max = 65_535))]
    pub port: i32,
    /// Path of the stream. Where messages go, the server says on it.
    #[serde(default = "sse_path")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = patterns::PATH)
    )]
    pub path: String,
}

fn sse_path() -> String {
    "/sse".into()
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable. One that announces a secret is refused, unless it ends like the name of something about it,
    /// such as _FILE or _URL.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    #[x_kube(validation = secret_look::no_secret_name())]
    #[x_kube(validation = rule(
        "!self.startsWith('KUBERNETES_') && !self.startsWith('PORTCULLIS_') && !(self in ['LD_PRELOAD', 'LD_LIBRARY_PATH', 'LD_AUDIT'])",
        "variables of the dynamic linker, KUBERNETES_ and PORTCULLIS_ variables cannot be set",
    ))]
    pub name: String,
    /// Its value, taken literally: $(NAME) is not replaced. At most 2048 characters.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = secret_look::no_credential_in_value())]
    pub value: String,
}

/// One key of a Secret as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretFile {
    /// Name of a Secret in this namespace.
    pub secret_name: DnsSubdomain,
    /// Key in the Secret's data.
    pub key: DataKey,
    /// Name of the file under /var/run/portcullis/secrets.
    pub path: DataKey,
}

/// Whose rights a server runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerUser {
    /// This user, and the group of the same number.
    Id(i64),
    /// The one the platform assigns.
    FromPlatform,
}

impl ContainerUser {
    /// The word in place of a number.
    const FROM_PLATFORM: &'static str = "FromPlatform";
}

impl Default for ContainerUser {
    fn default() -> Self {
        Self::Id(65_532)
    }
}

impl Serialize for ContainerUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => serializer.serialize_i64(*id),
            Self::FromPlatform => serializer.serialize_str(Self::FROM_PLATFORM),
        }
    }
}

impl<'de> Deserialize<'de> for ContainerUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// As YAML has it.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Id(i64),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Id(id) if (1..=i64::from(i32::MAX)).contains(&id) => Ok(Self::Id(id)),
            Written::Word(word) if word == Self::FROM_PLATFORM => Ok(Self::FromPlatform),
            Written::Id(_) | Written::Word(_) => Err(D::Error::custom(
                "a user is a number from 1 to 2147483647, or FromPlatform",
            )),
        }
    }
}

impl JsonSchema for ContainerUser {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ContainerUser".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 12,
            "pattern": "^FromPlatform$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("65532", Some(ContainerUser::Id(65_532)))]
    #[case("FromPlatform", Some(ContainerUser::FromPlatform))]
    #[case("0", None)]
    #[case("-1", None)]
    #[case("2147483648", None)]
    #[case("root", None)]
    #[case("'1000'", None)]
    fn a_user_is_a_number_above_zero_or_the_word(
        #[case] yaml: &str,
        #[case] expected: Option<ContainerUser>,
    ) {
        let read = serde_yaml::from_str::<ContainerUser>(yaml).ok();
        assert_eq!(read, expected);
        if let Some(user) = read {
            let json = serde_json::to_value(user).unwrap();
            assert_eq!(serde_json::from_value::<ContainerUser>(json).unwrap(), user);
        }
    }
}
