//! Does a stateless server have sessions as well? Many that do name only the stateless revision when they are asked what
//! they speak, because who asks that way speaks it.

use std::sync::Arc;

use http::StatusCode;

use super::{Seed, Upstream};
use crate::clock;
use crate::mcp::revision::Revision;
use crate::net::pool::ExchangeError;
use crate::proxy::channel::Channel;
use crate::proxy::exchange::Failure;
use crate::proxy::link::{SessionsToo, Shape};
use crate::proxy::opened::Opened;

/// How long a server that had no time to say so is taken for one without sessions, in seconds: calls do not ask it each.
const BUSY_HOLDS: u64 = 60;

impl Upstream {
    /// What the server speaks, for a client that has a session. A server that leaves open whether it has sessions is tried
    /// once, when the first such client comes: what it does in a session of its own is more than can be made up for.
    pub async fn shape_in_session(&self) -> Result<Arc<Shape>, Failure> {
        let shape = self.shape().await?;
        let settled = |shape: &Shape| {
            shape.sessions_too != SessionsToo::Unsaid || self.link.was_busy(BUSY_HOLDS, clock::now_unix())
        };
        if settled(&shape) {
            return Ok(shape);
        }
        let known = || {
            let now = self.link.shape();
            now.as_ref().filter(|shape| settled(shape)).cloned()
        };
        // Boxed: large and rare, and every call would carry the room.
        Box::pin(self.in_turn(&self.link.greeting, known, || self.try_sessions(shape))).await
    }

    async fn try_sessions(&self, shape: Arc<Shape>) -> Result<Arc<Shape>, Failure> {
        let opening = Channel {
            revision: Revision::V20250326,
            ..Channel::STATELESS
        };
        // Half of the time: a server that says nothing to it still serves the client without a session.
        let tried = self.initialize_in(opening, &Seed::GATEWAY);
        let tried = tokio::time::timeout(self.timeout / 2, tried).await;
        let sessions_too = match tried.unwrap_or(Err(Failure::Timeout)) {
            Ok((channel, _)) => {
                // Nobody calls in this one.
                Opened::new(&self.link, channel).end();
                SessionsToo::Yes
            }
            Err(failure @ Failure::Exchange(ExchangeError::Connect(_))) => return Err(failure),
            // It had no time for it, and is asked again later.
            Err(Failure::Status(status, _))
                if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS =>
            {
                self.link.set_busy(clock::now_unix());
                return Ok(shape);
            }
            Err(failure) => {
                tracing::info!(server = %self.link.name, why = %failure, "the server has no sessions");
                SessionsToo::No
            }
        };
        let found = Arc::new(Shape {
            sessions_too,
            ..(*shape).clone()
        });
        self.link.amend_shape(&shape, Arc::clone(&found));
        Ok(found)
    }
}
