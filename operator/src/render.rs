//! `portcullis render`: every object that would be applied, without a cluster. For reviews of what a change of a few lines
//! comes to, and for tests.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use kube::ResourceExt;
use serde_json::Value;

use crate::api::labels::{self, Labels};
use crate::api::names::DnsLabel;
use crate::build::session_key::{AHEAD, KeyId, SessionKeys};
use crate::build::{self, Prepared, Resources};
use crate::identity::Key;
use crate::settings::{Settings, SettingsArgs};
use crate::validate::{
    self, DereferencedGateway, DereferencedServer, Problem, ServerInputs, TokenIssuer, World,
};
use input::Input;

pub mod input;
pub mod schema;

/// What stands for a UID that only an API server can give.
pub const PLACEHOLDER_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Where the Kubernetes API's Service is in a cluster that keeps kubeadm's defaults: the first address of 10.96.0.0/12.
const ASSUMED_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 443);

/// Reads McpGateways and McpServers from files and prints every object that the operator would apply for them.
///
/// Services, EndpointSlices, ConfigMaps and Namespaces in the files stand for those of the cluster. Session keys, UIDs and
/// (without --jwks) the cluster's public keys are placeholders. The schema's rules are not evaluated; the API server does
/// that (kubectl apply --dry-run=server).
#[derive(Clone, Debug, Args)]
pub struct RenderArgs {
    /// YAML or JSON with any number of objects; - is standard input. May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short = 'n', long, value_name = "NAME", default_value = "default")]
    pub namespace: DnsLabel,
    /// Issuer of the cluster's ServiceAccount tokens.
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://kubernetes.default.svc.cluster.local"
    )]
    pub issuer: String,
    /// File with the cluster's public keys: the answer of kubectl get --raw /openid/v1/jwks.
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// The operator's settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Every object, those of one owner in the order in which they would be applied.
    pub objects: Vec<Value>,
    /// What would stand in conditions: `McpServer agents/files: Attached=False/...`.
    pub problems: Vec<String>,
    /// What is permitted and worth knowing.
    pub notes: Vec<String>,
}

/// What the command line names, read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The objects.
    pub given: Input,
    /// The operator's settings.
    pub settings: Settings,
    /// How the cluster's tokens are verified.
    pub issuer: TokenIssuer,
}

/// Runs the command. Objects go to `out`, everything else to `err`.
pub fn run(args: RenderArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    let read = read(args, err)?;
    let rendered = read.render();
    write_yaml(out, &rendered.objects)?;
    read.say(&rendered, err)?;
    Ok(if rendered.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads what the command line names. What is assumed is said to `err`.
pub fn read(mut args: RenderArgs, err: &mut impl Write) -> anyhow::Result<Read> {
    let unknown = args.settings.kubernetes_service_host.is_none() && args.settings.fence_probe.is_none();
    if unknown && !args.settings.no_fence_probe {
        args.settings.fence_probe = Some(ASSUMED_API);
        writeln!(
            err,
            "note: the Kubernetes API's Service is taken to be at {ASSUMED_API}; --fence-probe says where it is"
        )?;
    }
    let settings = Settings::try_from(args.settings)?;
    let jwks = match &args.jwks {
        Some(file) => input::read_file(file)?,
        None => r#"{"keys":[]}"#.to_owned(),
    };
    let mut given = Input::default();
    for file in &args.files {
        given.add_text(
            &input::read_file(file)?,
            &file.display().to_string(),
            &args.namespace,
        )?;
    }
    let issuer = TokenIssuer {
        issuer: args.issuer,
        jwks,
    };
    Ok(Read {
        given,
        settings,
        issuer,
    })
}

impl Read {
    /// Renders it.
    pub fn render(&self) -> Rendered {
        render(&self.given, &self.settings, &self.issuer)
    }

    /// Says what is worth knowing besides the objects.
    pub fn say(&self, rendered: &Rendered, err: &mut impl Write) -> io::Result<()> {
        for note in self.given.notes.iter().chain(&rendered.notes) {
            writeln!(err, "note: {note}")?;
        }
        for problem in &rendered.problems {
            writeln!(err, "problem: {problem}")?;
        }
        Ok(())
    }

    /// The configuration that the pods of a gateway would load.
    pub fn config(&self, gateway: &Key) -> Result<portcullis_config::Config, Vec<Problem>> {
        let inputs = inputs(&world(&self.given), gateway, &self.issuer);
        let valid = validate::gateway(&inputs, &self.settings)?;
        let config = build::config::config(&valid, &self.settings);
        let rendered = build::config_map::render(&config).map_err(|problem| vec![problem])?;
        Ok(rendered.config)
    }
}

/// What a gateway's reconciliation would read.
fn inputs(world: &World, gateway: &Key, issuer: &TokenIssuer) -> DereferencedGateway {
    DereferencedGateway {
        key: gateway.clone(),
        world: world.clone(),
        session_keys: placeholder_keys(),
        token_issuer: issuer.clone(),
    }
}

/// Writes objects as one YAML stream.
pub fn write_yaml(out: &mut impl Write, objects: &[Value]) -> io::Result<()> {
    for object in objects {
        let text = serde_yaml::to_string(object).map_err(io::Error::other)?;
        write!(out, "---\n{text}")?;
    }
    Ok(())
}

/// Renders what was read. Gateways come first, then servers, each by namespace and name.
pub fn render(given: &Input, settings: &Settings, issuer: &TokenIssuer) -> Rendered {
    let world = world(given);
    let mut rendered = Rendered::default();
    for key in world.gateways.keys() {
        let inputs = inputs(&world, key, issuer);
        let built = validate::gateway(&inputs, settings)
            .and_then(|valid| build::gateway(&valid, settings).map(|objects| (valid, objects)));
        match built {
            Err(problems) => rendered.report("McpGateway", key, &problems),
            Ok((valid, objects)) => {
                rendered.take(&objects.resources);
                for server in &valid.unattached {
                    let message = format!("rules or limits name McpServer {server}, which is not attached");
                    rendered.notes.push(format!("McpGateway {key}: {message}"));
                }
            }
        }
    }
    for key in world.servers.keys() {
        let inputs = DereferencedServer {
            key: key.clone(),
            world: world.clone(),
        };
        match validate::server(&inputs, settings) {
            Err(problems) => rendered.report("McpServer", key, &problems),
            Ok(valid) => {
                for (gateway, verdict) in &valid.gateways {
                    if let Err(problem) = verdict {
                        rendered
                            .problems
                            .push(format!("McpServer {key} at McpGateway {gateway}: {problem}"));
                    }
                }
                rendered.take(&build::server(&valid, settings));
            }
        }
    }
    rendered
}

impl Rendered {
    fn report(&mut self, kind: &str, key: &Key, problems: &[Problem]) {
        self.problems
            .extend(problems.iter().map(|problem| format!("{kind} {key}: {problem}")));
    }

    /// Takes over a set of objects. The number of pods is applied apart, but it is a field of the Deployment all the same.
    fn take(&mut self, resources: &Resources<Prepared>) {
        let mut objects = resources.objects();
        for replicas in &resources.replicas {
            let deployment = objects.iter_mut().find(|object| {
                object["kind"] == "Deployment" && object["metadata"]["name"] == replicas.deployment.as_str()
            });
            if let Some(deployment) = deployment {
                deployment["spec"]["replicas"] = replicas.count.into();
            }
        }
        self.objects.extend(objects);
    }
}

fn world(given: &Input) -> World {
    let Input {
        gateways,
        servers,
        services,
        endpoint_slices,
        config_maps,
        namespaces,
        notes: _,
    } = given;
    let inputs =
        |server: &Arc<crate::api::v1alpha1::McpServer>| {
            let namespace = server.namespace().unwrap_or_default();
            let named = server
                .spec
                .service
                .as_ref()
                .map(|service| Key::new(namespace.as_str(), service.name.as_str()));
            let tls = match (&server.spec.remote, &server.spec.service) {
                (Some(remote), _) => Some(&remote.tls),
                (None, Some(service)) => service.tls.as_ref(),
                (None, None) => None,
            };
            let bundle = tls.and_then(|tls| tls.ca_bundle.as_ref());
            ServerInputs {
                server: Arc::clone(server),
                // Kubernetes gives each namespace its name as a label.
                namespace_labels: Some(namespaces.get(&*namespace).cloned().unwrap_or_else(|| {
                    Labels::from([(labels::NAMESPACE_NAME.to_owned(), namespace.clone())])
                })),
                service: named.as_ref().and_then(|key| services.get(key)).cloned(),
                endpoint_slices: named
                    .iter()
                    .flat_map(|service| endpoint_slices.get(service).into_iter().flatten())
                    .cloned()
                    .collect(),
                ca_bundle: bundle
                    .and_then(|bundle| {
                        config_maps.get(&Key::new(namespace.as_str(), bundle.config_map_name.as_str()))
                    })
                    .cloned(),
            }
        };
    World {
        gateways: gateways.clone(),
        servers: servers
            .iter()
            .map(|(key, server)| (key.clone(), inputs(server)))
            .collect(),
    }
}

/// Names of keys that nobody made. Real ones are random.
fn placeholder_keys() -> SessionKeys {
    let id = |letter: char| {
        let text = format!("placeholder{}", String::from(letter).repeat(5));
        KeyId::parse(&text).expect("a well-formed id")
    };
    SessionKeys {
        seal_with: id('a'),
        also_accepted: Vec::new(),
        ahead: ('b'..='z').take(AHEAD).map(id).collect(),
    }
}
