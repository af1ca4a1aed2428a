//! Constant load on a gateway, and every call that did not come back right.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::http::{Answer, Client, Endpoint};

/// What a load saw.
#[derive(Debug)]
pub struct Outcome {
    /// Calls that were answered as they should be.
    pub good: u64,
    /// What was wrong with the others, the first hundred.
    pub failures: Vec<String>,
}

/// A load that runs until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    workers: JoinSet<()>,
}

/// Between two calls of one worker.
const PAUSE: Duration = Duration::from_millis(20);

impl Load {
    /// Starts `workers` clients, each with a session, every other one calling statelessly, on the tool `echo` of
    /// `everything`.
    pub fn start(endpoint: &Endpoint, token: &str, workers: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            good: Arc::default(),
            failures: Arc::default(),
            workers: JoinSet::new(),
        };
        for number in 0..workers {
            let client = Client::new(endpoint, "/mcp", Some(token));
            let (stop, good, failures) = (
                Arc::clone(&load.stop),
                Arc::clone(&load.good),
                Arc::clone(&load.failures),
            );
            load.workers
                .spawn(async move { work(client, number, &stop, &good, &failures).await });
        }
        load
    }

    /// Good calls so far.
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Ends it and says what it saw.
    pub async fn stop(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        let failures = std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner));
        Outcome {
            good: self.good(),
            failures,
        }
    }
}

async fn work(
    mut client: Client,
    number: usize,
    stop: &AtomicBool,
    good: &AtomicU64,
    failures: &Mutex<Vec<String>>,
) {
    let note = |what: String| {
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < 100 {
            failures.push(format!("{:?} worker {number}: {what}", jiff::Timestamp::now()));
        }
    };
    if let Err(error) = client.initialize().await {
        note(format!("initialize: {error:#}"));
        return;
    }
    let mut count = 0u64;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let message = format!("{number}-{count}");
        let arguments = format!(r#"{{"message":"{message}"}}"#);
        let done = if number.is_multiple_of(2) {
            client.call("everything__echo", &arguments).await
        } else {
            client.call_stateless("everything__echo", &arguments).await
        };
        match judge(done, &message) {
            Ok(()) => {
                good.fetch_add(1, Ordering::Relaxed);
            }
            Err(what) => note(what),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn judge(done: Result<Answer>, message: &str) -> Result<(), String> {
    let answer = done.map_err(|error| format!("{error:#}"))?;
    let text = answer.body["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default();
    if answer.status.is_success() && text == format!("Echo: {message}") {
        Ok(())
    } else {
        Err(format!("{} {}", answer.status, answer.body))
    }
}
