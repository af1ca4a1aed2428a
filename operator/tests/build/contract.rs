//! The contract with the gateway: each configuration that is written can be loaded, and finds its files where the pod
//! mounts them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use portcullis_config::keys::sha256_hex;
use portcullis_config::server::AddressPolicy;
use portcullis_config::{CONFIG_PATH, Config, STATUS_AUDIENCE};
use serde_json::Value;

use crate::worlds::{WORLDS, of_kind, one, rendered, settings};

/// Name of each gateway of a world, with its configuration's text.
pub(crate) fn configurations(objects: &[Value]) -> Vec<(String, String)> {
    of_kind(objects, "ConfigMap")
        .into_iter()
        .map(|object| {
            let text = object["data"]["gateway.yaml"]
                .as_str()
                .expect("the file's name")
                .to_owned();
            (object["metadata"]["name"].as_str().unwrap().to_owned(), text)
        })
        .collect()
}

pub(crate) fn load(text: &str) -> Config {
    let folder = Path::new(CONFIG_PATH).parent().unwrap();
    portcullis_config::parse(text.as_bytes(), folder)
        .unwrap_or_else(|error| panic!("{error}"))
        .config
}

#[test]
fn the_gateway_loads_every_configuration() {
    let mut seen = 0;
    for (world, _) in WORLDS {
        for (name, text) in configurations(&rendered(world).objects) {
            seen += 1;
            let config = load(&text);
            assert!(
                config
                    .servers
                    .iter()
                    .all(|server| server.address_policy != AddressPolicy::Loopback),
                "{world} {name}: a cluster has no business on this machine"
            );
            let status = config.listen.status.as_ref().expect("a status port");
            let token = status
                .token
                .as_ref()
                .expect("nobody reads the status without a token");
            assert_eq!(token.audience, STATUS_AUDIENCE);
            assert_eq!(token.subject, settings().operator.subject());
            assert!(config.session_keys.is_some(), "replicas share keys");
            assert!(config.listen.peer.is_some(), "replicas find each other");
        }
    }
    assert_eq!(seen, 6, "gateways in all worlds");
}

#[test]
fn the_hash_is_that_of_the_mounted_bytes() {
    for (world, _) in WORLDS {
        for (_, text) in configurations(&rendered(world).objects) {
            let folder = Path::new(CONFIG_PATH).parent().unwrap();
            let loaded = portcullis_config::parse(text.as_bytes(), folder).unwrap();
            assert_eq!(loaded.hash, sha256_hex(text.as_bytes()));
        }
    }
}

/// Every file a pod has from its volumes, and the folders of volumes that take all of an object.
fn mounted(pod: &Value) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    for volume in pod["volumes"].as_array().unwrap() {
        let mount = mounts
            .iter()
            .find(|mount| mount["name"] == volume["name"])
            .expect("each volume is mounted");
        let folder = PathBuf::from(mount["mountPath"].as_str().unwrap());
        match volume["projected"]["sources"].as_array() {
            None => {
                folders.insert(folder);
            }
            Some(sources) => {
                let items = sources.iter().flat_map(|source| {
                    let object = if source["secret"].is_object() {
                        &source["secret"]
                    } else {
                        &source["configMap"]
                    };
                    assert_eq!(object["optional"], true, "{source}");
                    object["items"].as_array().unwrap().clone()
                });
                for item in items {
                    let new = files.insert(folder.join(item["path"].as_str().unwrap()));
                    assert!(new, "two sources write {item}");
                }
            }
        }
    }
    (files, folders)
}

#[test]
fn every_path_in_a_configuration_is_mounted_and_every_mount_is_used() {
    for (world, _) in WORLDS {
        let objects = &rendered(world).objects;
        for (name, text) in configurations(objects) {
            let deployment = one(objects, "Deployment", &name);
            let (files, folders) = mounted(&deployment["spec"]["template"]["spec"]);
            let mut used = BTreeSet::from([
                PathBuf::from(CONFIG_PATH).parent().unwrap().to_owned(),
                "/tmp".into(),
            ]);
            load(&text).paths_mut(&mut |path| {
                assert!(
                    files.contains(path) || folders.contains(path),
                    "{world} {name}: {} is not mounted",
                    path.display()
                );
                used.insert(path.clone());
            });
            // Keys of the future are mounted ahead of their use, and nothing else is.
            let unused = files.union(&folders).filter(|path| !used.contains(*path));
            for path in unused {
                assert!(
                    path.starts_with("/etc/portcullis/session-keys"),
                    "{world} {name}: {} is for nothing",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_listeners_are_the_ports_of_the_pod() {
    for (world, _) in WORLDS {
        let objects = &rendered(world).objects;
        for (name, text) in configurations(objects) {
            let listen = load(&text).listen;
            let listening = [
                Some(listen.public.address),
                listen.metrics,
                listen.status.map(|status| status.address),
                listen.peer.map(|peer| peer.address),
            ];
            let listening: Vec<u16> = listening.iter().map(|address| address.unwrap().port()).collect();
            let deployment = one(objects, "Deployment", &name);
            let ports = deployment
                .pointer("/spec/template/spec/containers/0/ports")
                .unwrap()
                .as_array()
                .unwrap();
            let declared: Vec<u64> = ports
                .iter()
                .map(|port| port["containerPort"].as_u64().unwrap())
                .collect();
            assert_eq!(
                listening.iter().map(|port| u64::from(*port)).collect::<Vec<_>>(),
                declared,
                "{world} {name}"
            );
        }
    }
}

#[test]
fn a_pod_outlives_the_drain() {
    for (world, _) in WORLDS {
        let objects = &rendered(world).objects;
        for (name, text) in configurations(objects) {
            let config = load(&text);
            let deadline = config.shutdown.deadline.get();
            assert!(
                deadline > config.limits.max_call_duration.get(),
                "the longest call may finish"
            );
            let deployment = one(objects, "Deployment", &name);
            let grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
                .as_u64()
                .unwrap();
            assert!(
                grace > deadline.as_secs(),
                "{world} {name}: killed after {grace} s"
            );
        }
    }
}
