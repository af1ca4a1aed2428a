//! The common command line, as far as this client knows it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

pub enum Era {
    Auto,
    Session,
    Stateless,
}

/// One thing to do; `do` says what.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Step {
    List,
    Call(Tool),
    Progress(Tool),
    Answer {
        #[serde(flatten)]
        tool: Tool,
        content: Option<Value>,
    },
    #[serde(rename_all = "camelCase")]
    Beside {
        #[serde(flatten)]
        tool: Tool,
        refused: String,
        #[serde(default)]
        refused_arguments: Map<String, Value>,
        times: Option<u32>,
        after: Option<f64>,
    },
}

#[derive(Debug, Deserialize)]
pub struct Tool {
    pub tool: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

pub struct Options {
    pub url: String,
    pub token: Option<String>,
    pub era: Era,
    pub timeout: Duration,
    pub steps: Vec<Step>,
    /// Whether the user can be asked: only in `steps`, where there are answers.
    pub asked: bool,
}

pub fn parse(arguments: &[String]) -> Result<Options> {
    let mut words = arguments.iter();
    let mut next = |what: &str| {
        words
            .next()
            .cloned()
            .with_context(|| format!("{what} is missing"))
    };
    let mut options = Options {
        url: next("URL")?,
        token: None,
        era: Era::Auto,
        timeout: Duration::from_secs(30),
        steps: Vec::new(),
        asked: false,
    };
    let command = loop {
        let word = next("a command")?;
        match word.as_str() {
            "--token" => options.token = Some(next("the token")?),
            "--token-file" => {
                let file = next("the file")?;
                let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
                options.token = Some(text.trim().to_owned());
            }
            "--era" => {
                options.era = match next("the era")?.as_str() {
                    "auto" => Era::Auto,
                    "session" => Era::Session,
                    "stateless" => Era::Stateless,
                    other => bail!("no such era: {other}"),
                }
            }
            "--timeout" => options.timeout = Duration::try_from_secs_f64(next("the seconds")?.parse()?)?,
            option if option.starts_with("--") => bail!("this client does not know {option}"),
            _ => break word,
        }
    };
    options.steps = match command.as_str() {
        "list" => vec![Step::List],
        "call" => vec![Step::Call(tool(&mut words)?)],
        "progress" => vec![Step::Progress(tool(&mut words)?)],
        "steps" => {
            options.asked = true;
            serde_json::from_str(words.next().context("the steps are missing")?)?
        }
        other => bail!("this client does not know {other}"),
    };
    if words.next().is_some() {
        bail!("too many words");
    }
    Ok(options)
}

fn tool<'a>(words: &mut impl Iterator<Item = &'a String>) -> Result<Tool> {
    let tool = words.next().context("a tool is missing")?.clone();
    let arguments = words
        .next()
        .map_or_else(|| Ok(Map::new()), |text| serde_json::from_str(text))?;
    Ok(Tool { tool, arguments })
}
