//! What a server's spec says, checked against the gateways it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attachment::{self, Attached};
use super::{Backend, Condition, DereferencedServer, Port, Problem, ServerInputs, reasons, refs, service};
use crate::api::v1alpha1::{Container, LabelSelector, McpServer};
use crate::identity::{Identity, Key};
use crate::settings::Settings;

/// A server that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedServer {
    /// Who it is.
    pub identity: Identity,
    /// The object.
    pub server: Arc<McpServer>,
    /// How each gateway that it names treats it.
    pub gateways: BTreeMap<Key, Result<Attached, Problem>>,
    /// What Portcullis makes for it.
    pub form: ServerForm,
}

/// What Portcullis makes for a server.
#[derive(Clone, Debug)]
pub enum ServerForm {
    /// Nothing: it runs elsewhere.
    Elsewhere,
    /// A network policy around pods that somebody else runs.
    Fenced(ValidatedFence),
    /// Everything.
    Container(Box<ValidatedContainer>),
    /// No pods, because it must not run: an image without digest under a Production gateway. The fence stays, since pods
    /// that ran before take their time to end.
    Withheld,
}

/// A fence around a server that somebody else runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedFence {
    /// Its pods. Never everything.
    pub pods: LabelSelector,
    /// Its port. None while its Service cannot be resolved: then the fence lets nobody in.
    pub port: Option<Port>,
}

/// A server that Portcullis runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedContainer {
    /// The spec.
    pub container: Container,
    /// Its port.
    pub port: u16,
}

impl ValidatedServer {
    /// The gateways that take it, and may connect to it.
    pub fn attached(&self) -> impl Iterator<Item = &Key> {
        self.gateways
            .iter()
            .filter(|(_, verdict)| verdict.is_ok())
            .map(|(key, _)| key)
    }
}

/// Validates a server. What single gateways object to is in [`ValidatedServer::gateways`].
pub fn server(inputs: &DereferencedServer, settings: &Settings) -> Result<ValidatedServer, Vec<Problem>> {
    let invalid = |message: &str| vec![Problem::new(Condition::Accepted, reasons::INVALID_SPEC, message)];
    let Some(own) = inputs.world.servers.get(&inputs.key) else {
        return Err(invalid("the server does not exist"));
    };
    let Some(identity) = Identity::of(&*own.server) else {
        return Err(invalid("the object has no name, namespace or UID"));
    };
    Ok(ValidatedServer {
        form: form(own, inputs, settings).map_err(|problem| vec![problem])?,
        gateways: verdicts(inputs, settings),
        identity,
        server: Arc::clone(&own.server),
    })
}

fn form(own: &ServerInputs, inputs: &DereferencedServer, settings: &Settings) -> Result<ServerForm, Problem> {
    let spec = &own.server.spec;
    match (&spec.remote, &spec.service, &spec.container) {
        (Some(_), None, None) => Ok(ServerForm::Elsewhere),
        (None, Some(named), None) => Ok(match &named.fence {
            None => ServerForm::Elsewhere,
            Some(fence) => ServerForm::Fenced(ValidatedFence {
                pods: not_everything(&fence.pod_selector)?,
                port: match service::backend(named, &inputs.key, own, &settings.cluster) {
                    Ok(Backend::Pods { port, .. }) => Some(port),
                    Ok(Backend::Addresses(_)) | Err(_) => None,
                },
            }),
        }),
        (None, None, Some(container)) => {
            let strictest = attachment::strictest(own, &inputs.world, &settings.scope);
            if attachment::image_is_pinned(&own.server, &strictest).is_err() {
                return Ok(ServerForm::Withheld);
            }
            Ok(ServerForm::Container(Box::new(ValidatedContainer {
                port: refs::port_number(refs::endpoint(container)?.0)?,
                container: container.clone(),
            })))
        }
        _ => Err(Problem::new(
            Condition::Accepted,
            reasons::INVALID_SPEC,
            "exactly one of remote, service and container is required",
        )),
    }
}

fn not_everything(selector: &LabelSelector) -> Result<LabelSelector, Problem> {
    if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
        return Err(Problem::new(
            Condition::Accepted,
            reasons::INVALID_SPEC,
            "service.fence.podSelector is empty and would fence every pod of the namespace: name the server's labels",
        ));
    }
    Ok(selector.clone())
}

/// The verdict of each gateway, found exactly as that gateway finds it.
fn verdicts(inputs: &DereferencedServer, settings: &Settings) -> BTreeMap<Key, Result<Attached, Problem>> {
    let Some(own) = inputs.world.servers.get(&inputs.key) else {
        return BTreeMap::new();
    };
    attachment::gateways_named(&own.server)
        .map(|key| {
            let verdict = inputs.world.gateways.get(&key).map_or_else(
                || {
                    Err(Problem::new(
                        Condition::Attached,
                        reasons::GATEWAY_NOT_FOUND,
                        format!(
                            "McpGateway {key} does not exist, or the operator does not watch its namespace"
                        ),
                    ))
                },
                |gateway| {
                    attachment::attachments(gateway, &inputs.world, settings)
                        .remove(&inputs.key)
                        .expect("a gateway judges each server that names it")
                },
            );
            (key, verdict)
        })
        .collect()
}
