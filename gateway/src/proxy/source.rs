//! A server's own stream in one of its sessions: opened, read, and opened again when it breaks off.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{HeaderValue, StatusCode};
use tokio::time::{Instant, sleep};

use super::channel::Channel;
use super::exchange::{Exchange, Failure, Place, Said};
use super::link::Link;
use super::upstream::Upstream;
use crate::mcp::envelope::Message;

/// The pause before a stream is opened again, unless the server names another.
const PAUSE: Duration = Duration::from_secs(1);
/// The shortest pause, whatever a server says.
pub const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause: after failures it doubles up to here, and no server's word goes beyond.
pub const LONGEST: Duration = Duration::from_secs(30);
/// A stream that ends sooner was hardly one.
const BRIEF: Duration = Duration::from_secs(1);

/// What is heard of a server.
pub struct Heard {
    /// In which session.
    pub channel: Arc<Channel>,
    /// A message; none where there is but a place.
    pub message: Option<Message>,
    /// Where one could go on.
    pub place: Option<Box<Place>>,
    /// The server forgot the session. Nothing follows.
    pub lost: bool,
}

/// What is heard, as it comes. Ends when the server has no such stream, forgot the session or is no longer configured.
pub type Source = Pin<Box<dyn Stream<Item = Heard> + Send>>;

struct State {
    link: Arc<Link>,
    channel: Arc<Channel>,
    exchange: Option<Exchange>,
    place: Place,
    failures: u32,
    /// Streams in a row that ended at once, whatever was said there.
    brief: u32,
    /// When the one that is read was opened.
    since: Instant,
    first: bool,
    /// There is nothing to try again.
    over: bool,
}

/// The stream of the session behind `channel`, after the event with the id `after`.
pub fn source(link: Arc<Link>, channel: Arc<Channel>, after: Option<HeaderValue>) -> Source {
    let state = State {
        link,
        channel,
        exchange: None,
        place: Place {
            id: after,
            retry: None,
        },
        failures: 0,
        brief: 0,
        since: Instant::now(),
        first: true,
        over: false,
    };
    state.stream()
}

/// The stream of a session that was opened for one call, open before the call goes out: what a server asks there at once
/// would be lost otherwise. `None`: the server has none.
pub async fn opened(upstream: &Arc<Upstream>, channel: &Arc<Channel>) -> Option<Source> {
    let exchange = Exchange::listen(upstream, channel, None).await.ok()?;
    let state = State {
        link: Arc::clone(&upstream.link),
        channel: Arc::clone(channel),
        exchange: Some(exchange),
        place: Place::default(),
        failures: 0,
        brief: 0,
        since: Instant::now(),
        first: false,
        over: false,
    };
    Some(state.stream())
}

/// The rest of one answer, after the event with the id `after`. Ends with it, or when it breaks off.
pub fn rest(upstream: &Arc<Upstream>, channel: Arc<Channel>, after: &HeaderValue) -> Source {
    let opening = Exchange::listen(upstream, &channel, Some(after));
    let opened = async move {
        let exchange = opening.await.ok()?;
        Some((exchange, channel))
    };
    let begun = futures::stream::once(opened).filter_map(std::future::ready);
    Box::pin(begun.flat_map(|(exchange, channel)| {
        futures::stream::unfold(Some((exchange, channel)), |state| async move {
            let (mut exchange, channel) = state?;
            let message = match exchange.said().await {
                Ok(Some(Said::Message(message))) => Some(message),
                Ok(Some(Said::Place)) => None,
                Ok(None) | Err(_) => return None,
            };
            let heard = Heard {
                channel: Arc::clone(&channel),
                message,
                place: exchange.place.take(),
                lost: false,
            };
            Some((heard, Some((exchange, channel))))
        })
    }))
}

/// Goes on with an answer from `place`, when the server wants it.
pub async fn go_on(
    upstream: Arc<Upstream>,
    channel: Arc<Channel>,
    place: Box<Place>,
) -> Result<Exchange, Failure> {
    sleep(place.retry.unwrap_or(PAUSE).clamp(SHORTEST, LONGEST)).await;
    Exchange::listen(&upstream, &channel, place.id.as_ref()).await
}

impl State {
    fn stream(self) -> Source {
        Box::pin(futures::stream::unfold(self, |mut state| async move {
            let heard = state.next().await?;
            Some((heard, state))
        }))
    }

    async fn next(&mut self) -> Option<Heard> {
        loop {
            if self.over {
                return None;
            }
            let Some(exchange) = &mut self.exchange else {
                if let Err(failure) = self.open().await?
                    && self.failed(failure).await
                {
                    return Some(self.lost());
                }
                continue;
            };
            let said = exchange.said().await;
            let place = exchange.place.take();
            if let Some(place) = &place {
                self.note(place);
            }
            let message = match said {
                Ok(Some(Said::Message(message))) => Some(message),
                Ok(Some(Said::Place)) => None,
                Ok(None) => {
                    self.ended();
                    continue;
                }
                Err(failure) => {
                    self.ended();
                    if self.failed(failure).await {
                        return Some(self.lost());
                    }
                    continue;
                }
            };
            self.failures = 0;
            return Some(Heard {
                channel: Arc::clone(&self.channel),
                message,
                place,
                lost: false,
            });
        }
    }

    fn lost(&self) -> Heard {
        Heard {
            channel: Arc::clone(&self.channel),
            message: None,
            place: None,
            lost: true,
        }
    }

    /// `None`: the server is no longer configured.
    async fn open(&mut self) -> Option<Result<(), Failure>> {
        if !std::mem::replace(&mut self.first, false) {
            sleep(self.pause()).await;
        }
        let upstream = self.link.sessions.current()?;
        self.since = Instant::now();
        let opened = Exchange::listen(&upstream, &self.channel, self.place.id.as_ref()).await;
        Some(opened.map(|exchange| self.exchange = Some(exchange)))
    }

    /// True: the server forgot the session.
    async fn failed(&mut self, failure: Failure) -> bool {
        tracing::debug!(server = %self.link.name, error = %failure, "the server's own stream is not there");
        self.failures = self.failures.saturating_add(1);
        self.over = failure.is_unknown_there() || matches!(failure, Failure::SessionLost);
        if matches!(failure, Failure::SessionLost) {
            // Some answer so at a place where they have no stream.
            return match self.link.sessions.current() {
                Some(upstream) => upstream.has_forgotten(&self.channel).await,
                None => false,
            };
        }
        if matches!(failure, Failure::Status(StatusCode::BAD_REQUEST, _)) {
            // It may not know the place any more, of which nothing can be had then.
            self.place.id = None;
        }
        false
    }

    fn note(&mut self, place: &Place) {
        if place.id.is_some() {
            self.place.id.clone_from(&place.id);
        }
        self.place.retry = place.retry.or(self.place.retry);
    }

    fn ended(&mut self) {
        self.exchange = None;
        let brief = self.since.elapsed() < BRIEF;
        self.brief = if brief { self.brief.saturating_add(1) } else { 0 };
    }

    fn pause(&self) -> Duration {
        // Many replicas and clients do not come back together.
        pause(self.place.retry, self.failures, self.brief).mul_f64(rand::random_range(1.0..1.2))
    }
}

/// The pause before a stream is opened again: what the server asks for, unless it cannot be opened or ends each time at
/// once, which doubles the pause.
fn pause(asked: Option<Duration>, failures: u32, brief: u32) -> Duration {
    let failed = match failures {
        0 => Duration::ZERO,
        failures => PAUSE * (1 << failures.min(5)),
    };
    let brief = SHORTEST * (1 << brief.min(9));
    asked
        .unwrap_or(PAUSE)
        .max(failed)
        .max(brief)
        .clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[rstest]
    #[case::by_default(None, 0, 1, PAUSE)]
    #[case::as_the_server_asks(Some(ms(1500)), 0, 1, ms(1500))]
    #[case::but_not_at_once(Some(ms(0)), 0, 0, SHORTEST)]
    #[case::nor_never(Some(Duration::MAX), 0, 0, LONGEST)]
    #[case::it_ends_each_time_at_once(Some(ms(0)), 0, 4, ms(1600))]
    #[case::for_long(Some(ms(0)), 0, u32::MAX, LONGEST)]
    #[case::it_cannot_be_opened(Some(ms(0)), 2, 0, ms(4000))]
    #[case::for_long(None, u32::MAX, 0, LONGEST)]
    fn a_stream_is_opened_again_after(
        #[case] asked: Option<Duration>,
        #[case] failures: u32,
        #[case] brief: u32,
        #[case] expected: Duration,
    ) {
        assert_eq!(pause(asked, failures, brief), expected);
    }
}
