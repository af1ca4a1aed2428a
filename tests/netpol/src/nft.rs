//! Running the `nft` tool: the only place that touches the kernel's tables.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::render;

/// A transaction takes milliseconds; one that takes this long hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where tables are put.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
    netns: Option<PathBuf>,
}

impl Nft {
    /// The tool, and the network namespace to enter before running it.
    pub fn new(program: PathBuf, netns: Option<PathBuf>) -> Self {
        Self { program, netns }
    }

    /// Runs a script as one transaction: all of it is done or none.
    pub async fn run_script(&self, script: &str) -> Result<()> {
        let output = self.run(&["-f", "-"], script).await?;
        if !output.status.success() {
            bail!("nft refused the table: {}", stderr(&output));
        }
        Ok(())
    }

    /// Whether our table is there, left by a process that could not take it away.
    pub async fn table_exists(&self) -> Result<bool> {
        let output = self.run(&["list", "tables", "ip"], "").await?;
        if !output.status.success() {
            bail!("nft cannot list tables: {}", stderr(&output));
        }
        let wanted = format!("table ip {}", render::NAME);
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().any(|line| line == wanted))
    }

    async fn run(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut command = match &self.netns {
            None => Command::new(&self.program),
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", path.display()));
                command.arg("--").arg(&self.program);
                command
            }
        };
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let work = async {
            let mut child = command
                .spawn()
                .with_context(|| format!("cannot start {}", self.program.display()))?;
            let mut stdin = child.stdin.take().context("nft has no standard input")?;
            // A broken pipe means that nft ended early: its own message says why.
            let written = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            let output = child.wait_with_output().await?;
            if output.status.success() {
                written.context("cannot hand nft its script")?;
            }
            anyhow::Ok(output)
        };
        timeout(TIMEOUT, work).await.context("nft hangs")?
    }
}

/// The start of what the tool complained about.
fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .chars()
        .take(600)
        .collect()
}
