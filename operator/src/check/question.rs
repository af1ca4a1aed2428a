//! What is asked: who wants what of which server.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use portcullis_config::Config;
use portcullis_config::auth::{METHOD_ANONYMOUS, METHOD_API_KEYS};
use portcullis_policy::authorize::{Kind, Thing};
use portcullis_policy::identity::Identity;
use portcullis_policy::when::Asked;
use serde_json::value::RawValue;

use crate::render::input::read_file;

/// A request to judge.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The request to judge")]
#[command(group = ArgGroup::new("who").args(["subject", "anonymous"]))]
#[command(group = ArgGroup::new("thing").args(["tool", "prompt", "resource"]))]
pub struct QuestionArgs {
    /// Subject of the caller: a token's subject, or an API key's name.
    #[arg(long = "as", value_name = "SUBJECT", requires = "thing")]
    pub subject: Option<String>,
    /// The caller presents no credential.
    #[arg(long, requires = "thing")]
    pub anonymous: bool,
    /// Method of auth that judged the caller. May be left out where there is only one.
    #[arg(long, value_name = "NAME", requires = "subject")]
    pub method: Option<String>,
    /// Groups in the caller's token.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "subject")]
    pub groups: Vec<String>,
    /// Scopes in the caller's token.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "subject")]
    pub scopes: Vec<String>,
    /// Tool to call, by the server's own name for it. A server of another namespace is NAMESPACE.NAME.
    #[arg(long, value_name = "SERVER/NAME", requires = "who")]
    pub tool: Option<String>,
    /// Prompt to get, likewise.
    #[arg(long, value_name = "SERVER/NAME", requires = "who")]
    pub prompt: Option<String>,
    /// Resource to read, likewise.
    #[arg(long, value_name = "SERVER/URI", requires = "who")]
    pub resource: Option<String>,
    /// Arguments of the call as JSON, or @FILE to read them from: conditions of rules may look at them. Default: none.
    #[arg(long, value_name = "JSON", requires = "who", conflicts_with = "resource")]
    pub arguments: Option<String>,
    /// McpGateway that is asked. May be left out where the files hold only one.
    #[arg(long, value_name = "NAME", requires = "who")]
    pub gateway: Option<String>,
    /// When, instead of now: rules may expire.
    #[arg(long, value_name = "TIME", requires = "who")]
    pub at: Option<Timestamp>,
}

/// The same, resolved by a gateway's configuration.
#[derive(Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub who: Identity,
    /// Place of the server in the configuration.
    pub server: &'a portcullis_config::server::Server,
    /// What of it.
    pub thing: Thing<'a>,
    /// With which request.
    pub asked: Asked<'a>,
    /// Seconds since 1970.
    pub now: u64,
}

impl QuestionArgs {
    /// Is anything asked?
    pub fn is_asked(&self) -> bool {
        self.subject.is_some() || self.anonymous
    }

    /// The arguments of the call, as JSON.
    pub fn arguments(&self) -> anyhow::Result<Option<String>> {
        let Some(given) = &self.arguments else {
            return Ok(None);
        };
        let text = match given.strip_prefix('@') {
            Some(file) => read_file(Path::new(file))?,
            None => given.clone(),
        };
        let parsed: Result<&RawValue, _> = serde_json::from_str(&text);
        parsed.context("--arguments holds no JSON")?;
        Ok(Some(text))
    }

    /// Finds what is asked in `config`.
    pub fn resolve<'a>(
        &'a self,
        config: &'a Config,
        arguments: Option<&'a str>,
    ) -> anyhow::Result<Question<'a>> {
        let (text, thing): (_, fn(&'a str) -> Thing<'a>) = match (&self.tool, &self.prompt, &self.resource) {
            (Some(text), ..) => (text, Thing::Tool),
            (_, Some(text), _) => (text, Thing::Prompt),
            (.., Some(text)) => (text, Thing::Uri),
            _ => bail!("one of --tool, --prompt and --resource is needed"),
        };
        let Some((server, name)) = text.split_once('/').filter(|(_, name)| !name.is_empty()) else {
            bail!("{text:?} names no server: write SERVER/NAME");
        };
        let thing = thing(name);
        let method = match thing.kind() {
            Kind::Tool => "tools/call",
            Kind::Prompt => "prompts/get",
            Kind::Resource => "resources/read",
        };
        let at = self.at.unwrap_or_else(Timestamp::now);
        Ok(Question {
            who: self.who(config)?,
            server: attached(config, server)?,
            thing,
            asked: Asked::request(method, arguments.map(|json| json.trim().as_bytes())),
            now: u64::try_from(at.as_second()).unwrap_or_default(),
        })
    }

    fn who(&self, config: &Config) -> anyhow::Result<Identity> {
        let Some(subject) = &self.subject else {
            return Ok(Identity::anonymous());
        };
        let auth = &config.auth;
        let tokens = auth.jwt.iter().map(|jwt| jwt.name.as_str());
        let keys = auth.api_keys.iter().map(|_| METHOD_API_KEYS);
        let methods: Vec<&str> = tokens.chain(keys).collect();
        let listed = || methods.join(", ");
        let method = match (&self.method, &*methods) {
            (Some(named), methods) => {
                ensure!(
                    named != METHOD_ANONYMOUS,
                    "callers without a credential are --anonymous"
                );
                let found = methods.iter().find(|method| *method == named);
                *found.ok_or_else(|| {
                    anyhow::anyhow!("{named:?} is no method of the gateway: it has {}", listed())
                })?
            }
            (None, [only]) => only,
            (None, []) => bail!("the gateway has no method but anonymous: write --anonymous"),
            (None, _) => bail!(
                "the gateway has several methods: write --method and one of {}",
                listed()
            ),
        };
        ensure!(
            method != METHOD_API_KEYS || (self.groups.is_empty() && self.scopes.is_empty()),
            "an API key has no groups and no scopes: tokens have"
        );
        let names = |list: &[String]| list.iter().map(|name| name.as_str().into()).collect();
        Ok(Identity::new(
            method.into(),
            subject.as_str().into(),
            names(&self.groups),
            names(&self.scopes),
            None,
        ))
    }
}

/// The attached server that is called so: NAME in the gateway's namespace, NAMESPACE.NAME in another, as in paths.
fn attached<'a>(config: &'a Config, text: &str) -> anyhow::Result<&'a portcullis_config::server::Server> {
    let (namespace, name) = text
        .split_once('.')
        .unwrap_or((config.gateway.namespace.as_str(), text));
    config
        .servers
        .iter()
        .find(|server| server.namespace == namespace && server.name == name)
        .ok_or_else(|| anyhow::anyhow!("McpServer {namespace}/{name} is not attached to the gateway"))
}
