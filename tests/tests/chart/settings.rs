//! What the chart tells the operator, read by the operator's own command line: a variable that nobody reads, a value that is
//! misunderstood and a default that has moved on would all go unnoticed otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{ArgAction, CommandFactory as _, Parser as _};
use portcullis_operator::args::{Cli, Command, OperatorArgs};
use portcullis_operator::controller::client::WRITE_TIMEOUT;
use portcullis_operator::run::lease_config;
use portcullis_operator::settings::{Dns, Settings};
use serde_json::{Value, json};
use system_tests::chart;

/// What every pod is told besides.
const FROM_KUBERNETES: [(&str, &str); 2] = [
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
];

fn deployment(objects: &[Value]) -> Result<(&Value, &Value)> {
    let deployment = chart::one(objects, "Deployment")?;
    let pod = &deployment["spec"]["template"];
    Ok((pod, &pod["spec"]["containers"][0]))
}

/// The environment of the operator's container, as the kubelet would make it.
fn environment(objects: &[Value]) -> Result<BTreeMap<String, String>> {
    let (pod, container) = deployment(objects)?;
    let mut environment = BTreeMap::new();
    for variable in container["env"].as_array().context("env")? {
        let name = variable["name"].as_str().context("a name")?;
        let value = match (
            variable["value"].as_str(),
            variable["valueFrom"]["fieldRef"]["fieldPath"].as_str(),
        ) {
            (Some(value), None) => value,
            (None, Some("metadata.name")) => "portcullis-operator-1234",
            (None, Some("metadata.namespace")) => chart::NAMESPACE,
            (None, Some("spec.serviceAccountName")) => {
                pod["spec"]["serviceAccountName"].as_str().context("an account")?
            }
            _ => bail!("{variable}"),
        };
        ensure!(!value.is_empty(), "{name} is empty");
        ensure!(
            environment.insert(name.to_owned(), value.to_owned()).is_none(),
            "{name} stands twice"
        );
    }
    Ok(environment)
}

/// The command line that says the same as an environment.
fn arguments(environment: &BTreeMap<String, String>) -> Result<OperatorArgs> {
    let command = Cli::command();
    let operator = command.find_subcommand("operator").context("the subcommand")?;
    let mut line = vec!["portcullis".to_owned(), "operator".to_owned()];
    let further = FROM_KUBERNETES.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in environment.clone().into_iter().chain(further) {
        let flag = operator
            .get_arguments()
            .find(|flag| flag.get_env().is_some_and(|env| *env == *name))
            .with_context(|| format!("the operator does not read {name}"))?;
        let long = flag.get_long().context("a long flag")?;
        line.push(match flag.get_action() {
            ArgAction::SetTrue => {
                ensure!(value == "true", "{name} is {value}");
                format!("--{long}")
            }
            _ => format!("--{long}={value}"),
        });
    }
    match Cli::try_parse_from(line)?.command {
        Command::Operator(args) => Ok(*args),
        other => bail!("{other:?}"),
    }
}

fn read(values: Option<&Path>) -> Result<(Vec<Value>, OperatorArgs, Settings)> {
    let objects = chart::variant(values)?;
    let args = arguments(&environment(&objects)?)?;
    let settings = Settings::try_from(args.settings.clone())?;
    Ok((objects, args, settings))
}

#[test]
fn the_operator_understands_what_every_variant_says() -> Result<()> {
    for values in chart::variants()? {
        let (objects, args, settings) = read(values.as_deref()).with_context(|| format!("{values:?}"))?;
        let (pod, container) = deployment(&objects)?;
        ensure!(container["args"] == json!(["operator"]));

        // By these a gateway lets the operator in, and nobody else.
        let selector = &chart::one(&objects, "Deployment")?["spec"]["selector"]["matchLabels"];
        ensure!(serde_json::to_value(&settings.operator.pod_labels)? == *selector);
        ensure!(settings.operator.namespace == chart::NAMESPACE);
        ensure!(pod["spec"]["serviceAccountName"] == settings.operator.service_account);

        // Where the token is, and where the probes ask.
        let mount = container["volumeMounts"][0]["mountPath"]
            .as_str()
            .context("a mount")?;
        let token = &pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"];
        ensure!(args.status_token_file == Path::new(mount).join(token.as_str().context("a path")?));
        ensure!(container["ports"][0]["containerPort"] == args.metrics_address.port());

        // A lease under which no two write, by the name that the Role permits.
        let lease = lease_config(&args, chart::NAMESPACE);
        lease.check(WRITE_TIMEOUT)?;
        let permitted = objects
            .iter()
            .filter(|object| object["kind"] == "Role")
            .any(|role| role["rules"][0]["resourceNames"] == json!([lease.name]));
        ensure!(permitted, "no right to the Lease {}", lease.name);
    }
    Ok(())
}

#[test]
fn the_chart_and_the_command_line_have_the_same_defaults() -> Result<()> {
    let (_, args, settings) = read(None)?;
    let plain = arguments(&BTreeMap::new())?;
    let defaults = Settings::try_from(plain.settings)?;
    ensure!(settings.dns == Dns::default());
    ensure!(settings.cluster == defaults.cluster);
    ensure!(settings.gateway_image == defaults.gateway_image);
    ensure!(settings.fence_probe == defaults.fence_probe && settings.fence_probe.is_some());
    ensure!(
        settings.monitoring == defaults.monitoring && settings.user_namespaces == defaults.user_namespaces
    );
    ensure!((args.log, args.log_format) == (plain.log, plain.log_format));
    for (chart, line) in [
        (args.lease.lease_duration, plain.lease.lease_duration),
        (args.lease.lease_renew_deadline, plain.lease.lease_renew_deadline),
        (args.lease.lease_retry_period, plain.lease.lease_retry_period),
    ] {
        ensure!(chart == line);
    }
    Ok(())
}

#[test]
fn values_arrive_as_they_were_written() -> Result<()> {
    let hardened = read(Some(&chart::path("charts/portcullis/ci/hardened-values.yaml")))?.2;
    ensure!(hardened.cluster.pod_cidrs == ["10.244.0.0/16".parse()?, "fd00:10:244::/56".parse()?]);
    ensure!(hardened.cluster.service_cidrs == ["10.96.0.0/16".parse()?, "fd00:10:96::/112".parse()?]);
    ensure!(hardened.cluster.api_server.contains(&"203.0.113.10/32".parse()?));
    ensure!(hardened.monitoring.len() == 1);
    let digest = "2".repeat(64);
    ensure!(
        hardened.gateway_image == format!("registry.example.com/portcullis-gateway:0.1.0@sha256:{digest}"),
        "{}",
        hardened.gateway_image
    );

    let weakened = read(Some(&chart::path("charts/portcullis/ci/weakened-values.yaml")))?.2;
    ensure!(weakened.fence_probe.is_none());

    let local = read(Some(&chart::path(
        "charts/portcullis/ci/node-local-dns-values.yaml",
    )))?
    .2;
    ensure!(local.user_namespaces && local.cluster.domain == "k8s.example.com");
    ensure!(local.dns.peers.len() == 2);

    let openshift = read(Some(&chart::path("charts/portcullis/ci/openshift-values.yaml")))?.2;
    let ports = serde_json::to_value(&openshift.dns.ports)?;
    ensure!(
        ports == json!([{"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"}]),
        "{ports}"
    );
    Ok(())
}

/// Flags that the chart leaves to their defaults, since it has no value that would say anything else.
const LEFT_ALONE: [&str; 3] = [
    "PORTCULLIS_METRICS_ADDRESS",
    "PORTCULLIS_STATUS_TOKEN_FILE",
    "PORTCULLIS_WATCH_NAMESPACES",
];

#[test]
fn every_setting_of_the_operator_can_be_set_by_the_chart() -> Result<()> {
    let mut set: BTreeSet<String> = FROM_KUBERNETES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    for values in chart::variants()? {
        set.extend(environment(&chart::variant(values.as_deref())?)?.into_keys());
    }
    let probe = chart::template(chart::OPERATOR, &["--set", "fenceProbe.address=10.0.0.1:443"])?;
    set.extend(environment(&chart::objects(&probe)?)?.into_keys());
    let command = Cli::command();
    let operator = command.find_subcommand("operator").context("the subcommand")?;
    for variable in operator.get_arguments().filter_map(clap::Arg::get_env) {
        let name = variable.to_string_lossy();
        ensure!(set.contains(&*name) != LEFT_ALONE.contains(&&*name), "{name}");
    }
    Ok(())
}
