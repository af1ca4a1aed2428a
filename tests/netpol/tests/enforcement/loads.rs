//! nftables itself takes every table, in a network namespace of its own.

use std::io::Write;
use std::process::{Command, Stdio};

use portcullis_netpol::render::{NAME, removal};

use super::fixtures::rendered;
use super::tables::policies;

/// Runs a shell line in a fresh network namespace with the text as its input.
fn in_namespace(line: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        written.unwrap();
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Why this machine cannot load tables, if so.
pub(crate) fn unavailable() -> Option<String> {
    in_namespace("nft list tables", "").err()
}

#[test]
fn every_table_loads_twice_and_goes_away() {
    if let Some(reason) = unavailable() {
        eprintln!("SKIPPED: needs root and nft: {reason}");
        return;
    }
    for (name, given) in policies() {
        let script = rendered(given);
        // The second time it replaces itself.
        let both = format!("{script}{script}");
        let listed = in_namespace("nft -f - && nft list ruleset", &both)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(listed.starts_with(&format!("table ip {NAME} {{")), "{name}");

        let all = format!("{script}{}", removal());
        assert_eq!(
            in_namespace("nft -f - && nft list ruleset", &all),
            Ok(String::new())
        );
    }
}
