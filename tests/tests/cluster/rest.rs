//! The operator at rest, from the API server's own audit log.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use system_tests::demo::Demo;

use super::proven;

const OPERATOR: &str = "system:serviceaccount:portcullis-system:";

fn entries(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|entry| {
            entry["user"]["username"]
                .as_str()
                .is_some_and(|user| user.starts_with(OPERATOR))
        })
}

#[test]
fn g1_the_operator_never_reads_a_secret_and_is_silent_at_rest() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let path = demo.var("PORTCULLIS_CLUSTER_AUDIT_LOG")?;
    let text = std::fs::read_to_string(path)?;
    let mut verbs: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries(&text).filter(|entry| entry["objectRef"]["resource"] == "secrets") {
        *verbs
            .entry(entry["verb"].as_str().unwrap_or_default().to_owned())
            .or_default() += 1;
    }
    ensure!(
        verbs.keys().all(|verb| verb == "create"),
        "verbs on secrets: {verbs:?}"
    );
    ensure!(
        !verbs.is_empty(),
        "the log holds no request on secrets at all: is it the right one?"
    );
    // Whatever the tests before set in motion has to settle first.
    std::thread::sleep(Duration::from_secs(30));
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::End(0))?;
    std::thread::sleep(Duration::from_secs(60));
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    let requests: Vec<String> = entries(&rest)
        .filter(|entry| entry["verb"] != "watch" && entry["objectRef"]["resource"] != "leases")
        .map(|entry| format!("{} {}", entry["verb"], entry["requestURI"]))
        .collect();
    ensure!(
        requests.is_empty(),
        "{} requests in 60 s of rest: {requests:#?}",
        requests.len()
    );
    proven(&format!(
        "the operator's requests on secrets: {verbs:?}; none at all in 60 s of rest, watches and lease apart"
    ));
    Ok(())
}
