//! What the documents say about the code is held against the code: names of tests, reasons of conditions, metrics, and that
//! every link leads somewhere.

#![allow(clippy::panic, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use portcullis_operator::metrics::{Gauges, Metrics};
use system_tests::chart;

/// Files below `folder` with this ending, hidden folders and what is built left out.
fn below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            below(&path, ending, found)?;
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    Ok(())
}

fn all(ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    below(&chart::path(""), ending, &mut found)?;
    ensure!(!found.is_empty(), "no {ending}");
    Ok(found)
}

/// The words between single backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_link_of_every_document_leads_to_a_file() -> Result<()> {
    let mut links = 0;
    for file in all(".md")? {
        let text = std::fs::read_to_string(&file)?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = file.parent().unwrap_or(Path::new("."));
            ensure!(folder.join(target).exists(), "{}: {target}", file.display());
            links += 1;
        }
    }
    ensure!(links > 20, "{links} links");
    Ok(())
}

/// Names of all test functions of the workspace.
fn tests() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in all(".rs")? {
        let text = std::fs::read_to_string(&file)?;
        let mut marked = false;
        for line in text.lines().map(str::trim_start) {
            marked |= line.starts_with("#[test")
                || line.starts_with("#[tokio::test")
                || line.starts_with("#[rstest");
            let after = line.split_once("fn ").map(|(_, after)| after);
            if let Some(name) = after.and_then(|after| after.split(['(', '<']).next()) {
                // In a macro of properties the attribute stands there as well.
                if marked {
                    names.insert(name.to_owned());
                }
                marked = false;
            }
        }
    }
    Ok(names)
}

#[test]
fn every_threat_names_tests_that_exist() -> Result<()> {
    let tests = tests()?;
    ensure!(tests.len() > 300, "{} tests", tests.len());
    let text = chart::read("docs/security.md")?;
    let mut rows = 0;
    for row in text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| threat"))
    {
        let proof = row
            .trim_end_matches(" |")
            .rsplit(" | ")
            .next()
            .context("a cell")?;
        let names: Vec<&str> = code(proof).collect();
        ensure!(!names.is_empty(), "no test: {row}");
        for name in names {
            ensure!(tests.contains(name), "there is no test {name}: {row}");
        }
        rows += 1;
    }
    ensure!(rows > 30, "{rows} threats");
    Ok(())
}

/// Words in quotes that stand alone in a line of Rust that gives a reason.
fn reasons(file: &str, is_reason: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let text = chart::read(file)?;
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let found: Vec<String> = product
        .lines()
        .filter(|line| is_reason(line))
        .filter_map(|line| line.split('"').nth(1))
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic()))
        .map(str::to_owned)
        .collect();
    ensure!(!found.is_empty(), "no reason in {file}");
    Ok(found)
}

#[test]
fn every_condition_and_reason_is_explained() -> Result<()> {
    let text = chart::read("docs/operations.md")?;
    let words: BTreeSet<&str> = code(&text).collect();
    let constant = |line: &str| line.trim_start().starts_with("pub const ") && line.contains(": &str = \"");
    let mut wanted = reasons("operator/src/status/conditions.rs", constant)?;
    wanted.extend(reasons("operator/src/validate.rs", constant)?);
    wanted.extend(reasons("operator/src/controller/error.rs", |line| {
        line.contains("=> \"") && line.trim_end().ends_with("\",") && line.contains("=> \"") && {
            let word = line.split('"').nth(1).unwrap_or_default();
            word.starts_with(|c: char| c.is_ascii_uppercase())
        }
    })?);
    wanted.extend(reasons("gateway/src/proxy/handshake/lists.rs", |line| {
        let word = line.split('"').nth(1).unwrap_or_default();
        line.contains("=> \"") && word.starts_with(|c: char| c.is_ascii_uppercase())
    })?);
    ensure!(wanted.len() > 40, "{wanted:?}");
    for word in wanted {
        ensure!(
            words.contains(word.as_str()),
            "{word} is not explained in docs/operations.md"
        );
    }
    Ok(())
}

#[test]
fn every_metric_of_the_operator_is_listed_with_its_type_and_no_other() -> Result<()> {
    // A family that counted nothing is not exposed.
    let metrics = Metrics::new();
    metrics.pass("McpGateway", None, std::time::Duration::ZERO);
    metrics.api_request("get", None);
    metrics.applied("Service");
    metrics.pruned("Service");
    metrics.reverted("Service");
    metrics.status_written("McpGateway");
    metrics.nudged(true);
    metrics.polled("ok");
    let exposed = metrics.text(Gauges::default())?;
    let exposed: BTreeSet<(String, String)> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, type_)| (name.to_owned(), type_.to_owned()))
        .collect();
    let text = chart::read("docs/operations.md")?;
    let listed: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `portcullis_operator_"))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim);
            let name = cells.next()?.trim_end_matches('`');
            Some((format!("portcullis_operator_{name}"), cells.next()?.to_owned()))
        })
        .collect();
    ensure!(exposed == listed, "exposed {exposed:#?}, listed {listed:#?}");
    Ok(())
}

#[test]
fn the_readme_names_commands_that_exist() -> Result<()> {
    let makefile = chart::read("Makefile")?;
    let readme = chart::read("README.md")?;
    let mut named = 0;
    for rest in readme.split("make ").skip(1) {
        let target: String = rest
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        if ["demo", "test", "help"]
            .iter()
            .any(|known| target.starts_with(known))
        {
            ensure!(makefile.contains(&format!("\n{target}:")), "make {target}");
            named += 1;
        }
    }
    ensure!(named >= 4, "{named} commands");
    Ok(())
}
