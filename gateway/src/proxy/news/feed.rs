//! The stream on which the gateway itself listens to a server: one per server and replica, for all clients.

use std::sync::Arc;

use super::Lists;
use super::follow::{Listener, Unopened};
use super::source::{self, Stream};
use crate::mcp::envelope::Message;
use crate::mcp::revision::Era;
use crate::proxy::channel::Channel;
use crate::proxy::exchange::Failure;
use crate::proxy::upstream::Upstream;

/// The gateway, listening for changes of lists.
pub struct Own;

impl Listener for Own {
    fn wants(&self, upstream: &Upstream) -> bool {
        upstream.features.subscriptions && !upstream.credential.is_missing()
    }

    async fn open(&mut self, upstream: &Arc<Upstream>) -> Result<Stream, Unopened> {
        let unopened = |failure| (failure, None);
        let shape = upstream.shape().await.map_err(unopened)?;
        if shape.era() == Era::Stateless {
            let opened = source::open_stateless(upstream, Lists::on(upstream.features), &[]);
            return opened.await.map_err(unopened);
        }
        let channel = upstream.shared_channel().await.map_err(unopened)?;
        source::open_session(upstream, channel).await
    }

    fn forgotten(&mut self, upstream: &Upstream, channel: &Arc<Channel>) {
        upstream.link.forget_shared(channel);
    }

    fn granted(&mut self, word: &Message) -> bool {
        source::grants_lists(word)
    }

    async fn begin(
        &mut self,
        upstream: &Arc<Upstream>,
        _stream: &Stream,
        again: bool,
    ) -> Result<(), Failure> {
        if again {
            upstream.heard(Lists::ALL);
        } else {
            // What changed between the first list and now.
            upstream.link.ask_again();
        }
        Ok(())
    }

    fn hear(&mut self, upstream: &Upstream, message: &Message) {
        if let Some(lists) = Lists::changed_by(message.method()) {
            upstream.heard(lists);
        }
    }
}
