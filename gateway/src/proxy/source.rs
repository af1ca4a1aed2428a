//! A server's own stream in one of its sessions: opened, read, and opened again when it breaks off.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::time::sleep;

use super::channel::Channel;
use super::exchange::{Exchange, Failure, Place};
use super::link::Link;
use crate::mcp::envelope::Message;

/// The pause before a stream is opened again, unless the server names another.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: after failures it doubles up to here, and no server's word goes beyond.
const LONGEST: Duration = Duration::from_secs(30);

/// Messages as they come. Ends when the server has no such stream, forgot the session or is no longer configured.
pub type Source = Pin<Box<dyn Stream<Item = (Arc<Channel>, Message)> + Send>>;

struct State {
    link: Arc<Link>,
    channel: Arc<Channel>,
    exchange: Option<Exchange>,
    place: Place,
    failures: u32,
    first: bool,
}

/// The stream of the session behind `channel`.
pub fn source(link: Arc<Link>, channel: Arc<Channel>) -> Source {
    let state = State {
        link,
        channel,
        exchange: None,
        place: Place::default(),
        failures: 0,
        first: true,
    };
    Box::pin(futures::stream::unfold(state, |mut state| async move {
        let message = state.next().await?;
        Some(((Arc::clone(&state.channel), message), state))
    }))
}

impl State {
    async fn next(&mut self) -> Option<Message> {
        loop {
            let Some(exchange) = &mut self.exchange else {
                self.open().await?;
                continue;
            };
            let next = exchange.next().await;
            if let Some(place) = exchange.place.take() {
                self.note(*place);
            }
            match next {
                Ok(Some(message)) => {
                    self.failures = 0;
                    return Some(message);
                }
                Ok(None) => self.exchange = None,
                Err(error) => {
                    tracing::debug!(server = %self.link.name, %error, "the server's own stream broke off");
                    self.failures += 1;
                    self.exchange = None;
                }
            }
        }
    }

    async fn open(&mut self) -> Option<()> {
        if !std::mem::replace(&mut self.first, false) {
            sleep(self.pause()).await;
        }
        let upstream = self.link.sessions.current()?;
        match Exchange::listen(&upstream, &self.channel, self.place.id.as_ref()).await {
            Ok(exchange) => {
                self.exchange = Some(exchange?);
                Some(())
            }
            Err(Failure::SessionLost) => None,
            Err(error) => {
                tracing::debug!(server = %self.link.name, %error, "the server's own stream cannot be opened");
                self.failures += 1;
                Some(())
            }
        }
    }

    fn note(&mut self, place: Place) {
        self.place.id = place.id.or(self.place.id.take());
        self.place.retry = place.retry.or(self.place.retry);
    }

    fn pause(&self) -> Duration {
        let asked = self.place.retry.unwrap_or(PAUSE);
        let doubled = PAUSE.saturating_mul(1 << self.failures.min(5));
        let pause = if self.failures > 0 { asked.max(doubled) } else { asked };
        // Many replicas and clients do not come back together.
        pause.min(LONGEST).mul_f64(rand::random_range(1.0..1.2))
    }
}
