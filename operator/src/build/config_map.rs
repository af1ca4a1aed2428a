//! The ConfigMap that carries the gateway's configuration, in the form the gateway is known to accept.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use portcullis_config::{CONFIG_PATH, Config, LoadError};
use portcullis_policy::authorize::Policy;

use super::meta::Owner;
use crate::api::names::gateway_child;
use crate::validate::{Condition, Problem, reasons};

/// The most a configuration may take. A ConfigMap holds 1 MiB in all, and the rest is for its metadata.
pub const MAX_BYTES: usize = 960 << 10;

/// A configuration as text, and what the gateway reports once it has loaded it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The configuration.
    pub config: Config,
    /// The file.
    pub text: String,
    /// SHA-256 of the file's bytes, in hex.
    pub hash: String,
}

/// Renders a configuration. What the gateway would refuse is refused here, by the very same code, and never written.
pub fn render(config: &Config) -> Result<Rendered, Problem> {
    let refuse = |message: String| Problem::new(Condition::Accepted, reasons::INVALID_SPEC, message);
    let text = config
        .to_yaml()
        .map_err(|error| refuse(format!("the configuration cannot be written as YAML: {error}")))?;
    if text.len() > MAX_BYTES {
        return Err(Problem::new(
            Condition::Accepted,
            reasons::CONFIG_TOO_LARGE,
            format!(
                "the gateway's configuration takes {} KiB, more than the {} KiB that fit into a ConfigMap: \
                 attach fewer servers to this gateway, or use shorter lists of tools, rules and certificates",
                text.len().div_ceil(1024),
                MAX_BYTES >> 10
            ),
        ));
    }
    let folder = Path::new(CONFIG_PATH).parent().unwrap_or(Path::new("/"));
    let invalid = |problems: Vec<portcullis_config::Problem>| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        refuse(all.join("; "))
    };
    let loaded = match portcullis_config::parse(text.as_bytes(), folder) {
        Ok(loaded) => loaded,
        Err(LoadError::Invalid(problems)) => return Err(invalid(problems)),
        Err(error) => return Err(refuse(error.to_string())),
    };
    // What only the rules' compiler can tell: conditions.
    Policy::compile(&loaded.config).map_err(invalid)?;
    Ok(Rendered {
        config: loaded.config,
        hash: loaded.hash,
        text,
    })
}

/// The ConfigMap. It is changed in place: what the gateway can reload never starts new pods.
pub fn config_map(owner: &Owner, rendered: &Rendered) -> ConfigMap {
    let file = Path::new(CONFIG_PATH)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    ConfigMap {
        metadata: owner.meta(gateway_child(&owner.identity.key.name)),
        data: Some(BTreeMap::from([(
            file.expect("the configuration is a file"),
            rendered.text.clone(),
        )])),
        ..ConfigMap::default()
    }
}
