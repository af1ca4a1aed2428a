//! What a server has asked the client in a call.

use std::sync::Arc;

use crate::proxy::asks::Key;
use crate::proxy::registry::Session;

/// What the server has asked the client in this call: with the call ends the wait for the answers.
pub(super) struct Asked {
    pub(super) session: Arc<Session>,
    pub(super) keys: Vec<Key>,
}

impl Asked {
    /// Does the server still wait for the client?
    pub(super) fn waits(&mut self) -> bool {
        let asks = &self.session.asks;
        self.keys.retain(|key| asks.waits(*key));
        !self.keys.is_empty()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        for key in &self.keys {
            self.session.asks.remove(*key);
        }
    }
}
