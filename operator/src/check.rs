//! `portcullis check`: whether objects in files hold what the operator expects, and what a gateway made of them would
//! answer to a request. The decision is the gateway's own: the same configuration, compiled by the same crate.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use portcullis_config::Config;
use portcullis_config::policy::Action;
use portcullis_policy::authorize::explain::{Effect, Explained};
use portcullis_policy::authorize::{Decision, Kind, Policy, Thing};
use portcullis_policy::offer::Offer;

use crate::identity::Key;
use crate::render::input::Input;
use crate::render::{self, RenderArgs, Rendered};
use crate::validate::security_txt::{self, Currency, Judgement};
use question::{Question, QuestionArgs};

pub mod question;

/// Exit code of a request that would be refused.
pub const REFUSED: u8 = 3;

/// What `--help` says below the flags.
pub const HELP: &str = "\
With files alone, check says everything that the operator would put into conditions:

  portcullis check -f gateway.yaml -f servers.yaml

With a caller and a tool, prompt or resource, it says whether the gateway permits the request, which rule decides, and what
becomes of every other rule that is about it (expired, for want of a scope, recorded only):

  portcullis check -f all.yaml --as alice --groups analysts --tool files/read_file
  portcullis check -f all.yaml --as alice --tool files/read_file --arguments '{\"path\": \"/public/a\"}'
  portcullis check -f all.yaml --method apiKeys --as ci-bot --tool team-b.files/write_file
  kubectl get pgw,psrv,svc,cm -A -o yaml | portcullis check -f - --gateway agents/tools --as bob --resource files/file:///etc/hosts

It is the gateway's own decision, on the configuration that the operator would write. Limits are not asked, nor whether the server
has such a tool.

Exit codes: 0 permitted (or no problem found), 1 a problem or an error, 2 a mistake on the command line, 3 refused.";

/// What is checked, and what is asked.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// What is read, as render reads it.
    #[command(flatten)]
    pub render: RenderArgs,
    /// What is asked.
    #[command(flatten)]
    pub question: QuestionArgs,
}

/// Runs the command. The answer goes to `out`, problems and notes to `err`.
pub fn run(args: CheckArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    let CheckArgs { mut render, question } = args;
    // What a server's fence is proved against decides nothing that is asked here.
    render.settings.no_fence_probe |= render.settings.fence_probe.is_none();
    let read = render::read(render, err)?;
    let mut rendered = read.render();
    judge_by_clock(&read.given, Timestamp::now(), &mut rendered);
    read.say(&rendered, err)?;
    if !question.is_asked() {
        if !rendered.problems.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        let Input {
            gateways, servers, ..
        } = &read.given;
        writeln!(
            out,
            "no problems: McpGateways {}, McpServers {}",
            gateways.len(),
            servers.len()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let key = gateway(&read.given, question.gateway.as_deref())?;
    let Ok(config) = read.config(&key) else {
        bail!(
            "McpGateway {key} cannot be built, for the problems above: nothing can be said of its decisions"
        );
    };
    let arguments = question.arguments()?;
    let question = question.resolve(&config, arguments.as_deref())?;
    let policy = Policy::compile(&config).map_err(|_| {
        anyhow!("McpGateway {key} has a rule that cannot be compiled: see the problems above")
    })?;
    let answer = answer(&config, &policy, &question);
    answer.write(&key, &question, out)?;
    Ok(if answer.permitted {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}

/// Adds what is wrong, or will be, because of the time it is. Rendering itself knows no clock.
fn judge_by_clock(given: &Input, now: Timestamp, rendered: &mut Rendered) {
    for (key, gateway) in &given.gateways {
        let Some(Judgement {
            currency, message, ..
        }) = security_txt::judge(&gateway.spec, now)
        else {
            continue;
        };
        let told = |reason| format!("McpGateway {key}: SecurityTxtCurrent=False/{reason}: {message}");
        match currency {
            Currency::Current => {}
            Currency::EndsSoon => rendered.notes.push(format!("McpGateway {key}: {message}")),
            Currency::Expired => rendered.problems.push(told("Expired")),
            Currency::TooDistant => rendered.problems.push(told("TooDistant")),
        }
    }
}

/// The gateway that is asked.
fn gateway(given: &Input, named: Option<&str>) -> anyhow::Result<Key> {
    let known: Vec<&Key> = given.gateways.keys().collect();
    let listed = || {
        known
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fits = |key: &Key, text: &str| *text == *key.name || text == key.to_string();
    let found: Vec<&&Key> = known
        .iter()
        .filter(|key| named.is_none_or(|text| fits(key, text)))
        .collect();
    match (&*found, named) {
        ([only], _) => Ok((**only).clone()),
        ([], None) => bail!("the files hold no McpGateway"),
        ([], Some(text)) => bail!("the files hold no McpGateway {text}: they hold {}", listed()),
        (_, None) => bail!("several McpGateways: write --gateway and one of {}", listed()),
        (_, Some(_)) => bail!(
            "several McpGateways of that name: write NAMESPACE/NAME, of {}",
            listed()
        ),
    }
}

/// What the gateway answers, and why.
#[derive(Debug)]
struct Answer<'p> {
    permitted: bool,
    why: String,
    rules: Vec<Explained<'p>>,
}

fn answer<'p>(config: &Config, policy: &'p Policy, question: &Question<'_>) -> Answer<'p> {
    let Question {
        who,
        server,
        thing,
        asked,
        now,
    } = question;
    let name = server.full_name();
    let rules = policy.explain(who, &name, *thing, *asked, *now);
    let refused = |why: &str| (false, why.to_owned());
    let (permitted, why) = if let Some(why) = before_rules(config, question) {
        refused(why)
    } else {
        match policy.decide(who, &name, *thing, *asked, *now) {
            Decision::Allow { rule } => (true, format!("rule {rule} permits it")),
            Decision::Deny { rule: Some(rule) } => (false, format!("rule {rule} forbids it")),
            Decision::Deny { rule: None } => refused("no rule permits it"),
            Decision::InsufficientScope { rule, scopes } => (
                false,
                format!(
                    "rule {rule} would permit it with a scope: {} (the caller is asked for one, and sees it in lists)",
                    scopes.join(" or ")
                ),
            ),
        }
    };
    Answer {
        permitted,
        why,
        rules,
    }
}

/// What refuses a request whatever the rules say.
fn before_rules(config: &Config, question: &Question<'_>) -> Option<&'static str> {
    let Question {
        who, server, thing, ..
    } = question;
    let gateway = &config.gateway;
    let features = config.features.with(server.features);
    let offer = Offer::new(server);
    let denied = |one: &portcullis_config::policy::SubjectRef| {
        *one.method == *who.method && *one.subject == *who.subject
    };
    if gateway.suspend {
        Some("the gateway is suspended")
    } else if who.is_anonymous() && config.auth.anonymous.is_none() {
        Some("the gateway takes no callers without a credential")
    } else if gateway.denied_subjects.iter().any(denied) {
        Some("deniedSubjects names the caller")
    } else if !offer.is_visible_to(who) {
        Some("the server is quarantined, and the caller is no tester of it")
    } else {
        match thing {
            Thing::Tool(name) if !offer.has_tool(name) => {
                Some("the server's tools.allow and tools.deny withhold it from everybody")
            }
            Thing::Prompt(_) if !features.prompts => Some("features.prompts is off"),
            Thing::Listed(_) | Thing::Uri(_) if !features.resources => Some("features.resources is off"),
            _ => None,
        }
    }
}

impl Answer<'_> {
    fn write(&self, gateway: &Key, question: &Question<'_>, out: &mut impl Write) -> std::io::Result<()> {
        let Question { who, thing, .. } = question;
        let verdict = if self.permitted { "permitted" } else { "refused" };
        let kind = match thing.kind() {
            Kind::Tool => "tool",
            Kind::Prompt => "prompt",
            Kind::Resource => "resource",
        };
        writeln!(
            out,
            "McpGateway {gateway}: {} (method {}), {kind} {} of McpServer {}",
            who.subject,
            who.method,
            thing.name(),
            question.server.full_name()
        )?;
        writeln!(out, "{verdict}: {}", self.why)?;
        if self.rules.is_empty() {
            return writeln!(out, "no rule is about that caller, server and {kind}");
        }
        writeln!(out, "rules that are about it:")?;
        let width = self
            .rules
            .iter()
            .map(|one| one.rule.len())
            .max()
            .unwrap_or_default();
        for Explained { rule, action, effect } in &self.rules {
            let action = match action {
                Action::Allow => "Allow",
                Action::Deny => "Deny",
                Action::Audit => "Audit",
            };
            writeln!(out, "  {rule:width$}  {action:5}  {}", words(*effect))?;
        }
        Ok(())
    }
}

fn words(effect: Effect<'_>) -> String {
    match effect {
        Effect::Matches => "matches".to_owned(),
        Effect::Expired(at) => {
            let at = i64::try_from(at)
                .ok()
                .and_then(|at| Timestamp::from_second(at).ok());
            at.map_or_else(|| "expired".to_owned(), |at| format!("expired at {at}"))
        }
        Effect::LacksScope(scopes) => {
            format!("not for the caller, who has no scope of: {}", scopes.join(" "))
        }
        Effect::ConditionFalse => "its condition does not hold".to_owned(),
        Effect::Depends => "its condition depends on what the call says".to_owned(),
        Effect::Fails(failure) => format!(
            "its condition cannot be told: {}. A Deny denies then, an Allow does not allow",
            failure.as_str()
        ),
        Effect::OneForm => {
            "does not permit: it matches the URI only as it is written, or only in its normal form".to_owned()
        }
    }
}
