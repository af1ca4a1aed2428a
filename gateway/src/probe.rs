//! Proves from inside a container that its controls hold: the image has no shell to look around with.

mod connect;
mod own;

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::args::Probe;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Which control.
    name: &'static str,
    /// Does it hold?
    ok: bool,
    /// What was found.
    found: String,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Runs a probe and prints its report.
pub async fn run(probe: Probe) -> anyhow::Result<ExitCode> {
    let checks = match probe {
        Probe::Own(args) => own::checks(&args),
        Probe::Connect(args) => vec![connect::check(&args).await],
    };
    let report = Report {
        ok: checks.iter().all(|check| check.ok),
        checks,
    };
    print(&serde_json::to_string_pretty(&report)?)?;
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a line for the caller.
pub fn print(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}
