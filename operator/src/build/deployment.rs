//! Deployments: the gateway's pods, and a server's.
//!
//! Neither carries `replicas`: that field has a manager of its own, so that an autoscaler can take it over.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::config_map::Rendered;
use super::meta::Owner;
use super::pod::{self, Dns, Parts, Placement};
use super::security::{NOBODY, RunAs};
use super::{container, hash, volumes};
use crate::api::labels;
use crate::api::names::{gateway_child, server_child};
use crate::api::v1alpha1::{self as api, ContainerUser, GatewayUser};
use crate::settings::Settings;
use crate::validate::{ValidatedContainer, ValidatedGateway};

/// Where a server finds its secret files.
pub const SECRET_FILES: &str = "/var/run/portcullis/secrets";
/// What the kubelet waits beyond the process's own deadline before it kills.
const GRACE_MARGIN: i64 = 15;
/// How long a server may take to end.
const SERVER_GRACE: i64 = 30;

/// The gateway's pods.
pub fn gateway(
    owner: &Owner,
    gateway: &ValidatedGateway,
    rendered: &Rendered,
    settings: &Settings,
) -> Deployment {
    let api::Workload {
        replicas: _,  // has a field manager of its own
        resources: _, // the container's
        image,
        image_pull_secrets,
        node_selector,
        tolerations,
        priority_class_name,
        user,
    } = &gateway.spec().workload;
    let run_as = match user {
        GatewayUser::Fixed => RunAs::Id(NOBODY),
        GatewayUser::FromPlatform => RunAs::Platform,
    };
    let name = gateway_child(&owner.identity.key.name);
    let image = image.as_deref().unwrap_or(&settings.gateway_image);
    let (volumes, mounts) = volumes::gateway(gateway);
    let deadline = rendered.config.shutdown.deadline.get().as_secs();
    let template = pod::template(Parts {
        owner,
        service_account: name.clone(),
        run_as,
        user_namespace: settings.user_namespaces,
        dns: Dns::Cluster,
        init: Vec::new(),
        container: container::gateway(gateway, image, run_as, mounts),
        volumes,
        pull_secrets: image_pull_secrets,
        grace: i64::try_from(deadline).unwrap_or(i64::MAX - GRACE_MARGIN) + GRACE_MARGIN,
        placement: Placement {
            node_selector: node_selector.clone(),
            tolerations: tolerations.iter().map(Into::into).collect(),
            priority_class: priority_class_name.as_ref().map(ToString::to_string),
        },
        annotations: BTreeMap::from([(labels::TEMPLATE_HASH.to_owned(), hash::template(&rendered.config))]),
    });
    deployment(owner, name, rolling(), template)
}

/// A server's pods.
pub fn server(owner: &Owner, server: &ValidatedContainer, settings: &Settings) -> Deployment {
    let run_as = match server.container.user {
        ContainerUser::Id(id) => RunAs::Id(id),
        ContainerUser::FromPlatform => RunAs::Platform,
    };
    let name = server_child(&owner.identity.key.name);
    let (volumes, mounts) = server_volumes(&server.container);
    let proof = settings
        .fence_probe
        .map(|target| container::fence_proof(&settings.gateway_image, target, run_as));
    let template = pod::template(Parts {
        owner,
        service_account: name.clone(),
        run_as,
        user_namespace: settings.user_namespaces,
        dns: Dns::None,
        init: proof.into_iter().collect(),
        container: container::server(server, run_as, mounts),
        volumes,
        pull_secrets: &server.container.image_pull_secrets,
        grace: SERVER_GRACE,
        placement: Placement::default(),
        annotations: BTreeMap::new(),
    });
    // A claim that one pod writes to may keep the next one from starting.
    let claims = server
        .container
        .volumes
        .iter()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .any(|claim| !claim.read_only);
    let strategy = if claims { recreate() } else { rolling() };
    deployment(owner, name, strategy, template)
}

fn deployment(
    owner: &Owner,
    name: String,
    strategy: DeploymentStrategy,
    template: PodTemplateSpec,
) -> Deployment {
    Deployment {
        metadata: owner.meta(name),
        spec: Some(DeploymentSpec {
            selector: owner.selector(),
            strategy: Some(strategy),
            template,
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(600),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A new pod is ready before an old one goes.
fn rolling() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::Int(1)),
        }),
    }
}

fn recreate() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("Recreate".to_owned()),
        rolling_update: None,
    }
}

/// The volumes of a server, the spec's under names that cannot meet ours.
fn server_volumes(container: &api::Container) -> (Vec<Volume>, Vec<VolumeMount>) {
    let (tmp, tmp_mount) = volumes::tmp("64Mi");
    let (mut volumes, mut mounts) = (vec![tmp], vec![tmp_mount]);
    let files = container
        .secret_files
        .iter()
        .map(
            |api::SecretFile {
                 secret_name,
                 key,
                 path,
             }| {
                // Required: a server without its secret would fail in ways of its own, the kubelet's are known.
                volumes::secret_source(secret_name, key, path.to_string(), false)
            },
        )
        .collect();
    if let Some(volume) = volumes::projected(volumes::SECRETS, files) {
        mounts.push(volumes::read_only(&volume.name, SECRET_FILES));
        volumes.push(volume);
    }
    for volume in &container.volumes {
        let (volume, mount) = spec_volume(volume);
        volumes.push(volume);
        mounts.push(mount);
    }
    (volumes, mounts)
}

fn spec_volume(volume: &api::Volume) -> (Volume, VolumeMount) {
    let api::Volume {
        name,
        mount_path,
        empty_dir,
        config_map,
        secret,
        persistent_volume_claim,
    } = volume;
    let name = format!("volume-{name}");
    let source = match (empty_dir, config_map, secret, persistent_volume_claim) {
        (_, Some(api::ConfigMapVolume { name: config_map }), _, _) => {
            volumes::whole_config_map(&name, config_map)
        }
        (_, _, Some(api::SecretVolume { secret_name }), _) => {
            volumes::whole_secret(&name, secret_name, false)
        }
        (
            _,
            _,
            _,
            Some(api::ClaimVolume {
                claim_name,
                read_only,
            }),
        ) => Volume {
            name: name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name.to_string(),
                read_only: read_only.then_some(true),
            }),
            ..Volume::default()
        },
        (empty_dir, None, None, None) => Volume {
            name: name.clone(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: None,
                size_limit: empty_dir.as_ref().map(|dir| (&dir.size_limit).into()),
            }),
            ..Volume::default()
        },
    };
    let writable = source.empty_dir.is_some()
        || source
            .persistent_volume_claim
            .as_ref()
            .is_some_and(|claim| claim.read_only.is_none());
    let mount = VolumeMount {
        name,
        mount_path: mount_path.clone(),
        read_only: (!writable).then_some(true),
        ..VolumeMount::default()
    };
    (source, mount)
}
