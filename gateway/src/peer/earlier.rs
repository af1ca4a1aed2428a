//! The sets of replicas that were: whose a session was before, since what is in flight there stays there.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::discovery::Member;
use crate::mcp::session;

/// How long what began under a set may still be in flight.
const KEPT: Duration = Duration::from_secs(3600);
/// Sets that are kept: one for each replica that comes or goes within that time, and more.
const MOST: usize = 16;

/// Sets that were in force, the youngest first.
#[derive(Debug, Default)]
pub(super) struct Earlier(VecDeque<(Vec<Member>, Instant)>);

impl Earlier {
    /// This set is not in force any more.
    pub(super) fn put(&mut self, members: Vec<Member>, now: Instant) {
        self.0.retain(|(known, until)| *until > now && *known != members);
        self.0.truncate(MOST - 1);
        self.0.push_front((members, now + KEPT));
    }

    /// Who owned the session with this nonce, but for `except`; each once.
    pub(super) fn owners(&self, nonce: &[u8; 16], except: &[IpAddr], now: Instant) -> Vec<IpAddr> {
        let mut owners: Vec<IpAddr> = Vec::new();
        for (members, until) in &self.0 {
            if *until <= now {
                break;
            }
            let owner = session::owner(nonce, members).and_then(|index| members.get(index));
            if let Some(owner) = owner.map(|member| member.address())
                && !owners.contains(&owner)
                && !except.contains(&owner)
            {
                owners.push(owner);
            }
        }
        owners
    }

    /// Nobody is at that address any more.
    pub(super) fn forget(&mut self, gone: IpAddr) {
        for (members, _) in &mut self.0 {
            members.retain(|member| member.address() != gone);
        }
    }

    /// Was there any?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
