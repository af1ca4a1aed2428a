//! Which replicas there are: the ready pods behind the headless Service, asked once a second.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::earlier::Earlier;
use crate::mcp::session;
use crate::net::Resolver;

/// How often the name is asked for.
const EVERY: Duration = Duration::from_secs(1);
/// How long a replica that could not be reached is passed over; its address leaves the name within that time.
const SUSPECT: Duration = Duration::from_secs(5);
/// Tries to find a nonce that this replica owns by its weight; with N replicas each try succeeds one time in N.
const NONCE_TRIES: usize = 4096;

/// The replicas at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Moves when the members do, so that a session can remember for which set it knows its owner.
    pub epoch: u64,
    /// Sorted; this replica among them when it is ready.
    pub members: Vec<Member>,
}

/// A replica by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member([u8; 16]);

impl Member {
    /// The replica at this address.
    pub(super) fn new(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        })
    }

    /// Its address.
    pub fn address(self) -> IpAddr {
        IpAddr::from(self.0).to_canonical()
    }
}

/// What the choice of an owner hashes.
impl AsRef<[u8]> for Member {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Who a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This replica.
    Me,
    /// Another one.
    Peer(SocketAddr),
}

/// Keeps [`Peers`] up to date.
pub struct Discovery {
    /// This replica's address and the peers' port, once known. Until then it is alone.
    me: OnceLock<(IpAddr, u16)>,
    peers: ArcSwap<Peers>,
    suspects: Mutex<HashMap<IpAddr, Instant>>,
    earlier: Mutex<Earlier>,
}

impl Discovery {
    /// The only replica there is: it owns every session.
    pub fn alone() -> Arc<Self> {
        Arc::new(Self {
            me: OnceLock::new(),
            peers: ArcSwap::default(),
            suspects: Mutex::default(),
            earlier: Mutex::default(),
        })
    }

    /// This replica has address `me`, peers listen on `port`.
    pub fn join(&self, me: IpAddr, port: u16) {
        self.me.set((me, port)).ok();
    }

    /// The port peers listen on, once this replica is one of several.
    pub fn port(&self) -> Option<u16> {
        self.me.get().map(|(_, port)| *port)
    }

    /// The current set.
    pub fn peers(&self) -> Arc<Peers> {
        self.peers.load_full()
    }

    /// The epoch of the current set.
    pub fn epoch(&self) -> u64 {
        self.peers.load().epoch
    }

    /// Whose is the session with this nonce? Every replica that sees the same set gives the same answer.
    pub fn owner(&self, nonce: &[u8; 16]) -> Owner {
        let Some((me, port)) = self.me.get() else {
            return Owner::Me;
        };
        let peers = self.peers.load();
        let owner = session::owner(nonce, &peers.members).and_then(|index| peers.members.get(index));
        match owner.map(|member| member.address()) {
            Some(ip) if ip != *me => Owner::Peer(SocketAddr::new(ip, *port)),
            _ => Owner::Me,
        }
    }

    /// The address of this replica, once it is one of several.
    pub fn me(&self) -> Option<IpAddr> {
        self.me.get().map(|(me, _)| *me)
    }

    /// A nonce of what this replica owns as long as it is there, so that the first call needs no hop. Replicas of a release
    /// that knows no marks find the same owner, by its weight in the present set.
    pub fn own_nonce(&self) -> [u8; 16] {
        let mut nonce = rand::random();
        let Some((me, _)) = self.me.get() else {
            return nonce;
        };
        let me = Member::new(*me);
        let peers = self.peers.load();
        nonce = session::marked(nonce, me.as_ref());
        if !peers.members.contains(&me) {
            return nonce;
        }
        for _ in 0..NONCE_TRIES {
            nonce = session::marked(rand::random(), me.as_ref());
            if session::is_heaviest(&nonce, me.as_ref(), &peers.members) {
                break;
            }
        }
        nonce
    }

    /// Who owned the session with this nonce under the sets of the last minutes, besides `owner` and this replica. What is in
    /// flight there is answered and cancelled there.
    pub fn earlier_owners(&self, nonce: &[u8; 16], owner: Owner) -> Vec<SocketAddr> {
        let Some((me, port)) = self.me.get() else {
            return Vec::new();
        };
        let earlier = self.earlier();
        if earlier.is_empty() {
            return Vec::new();
        }
        let except = match owner {
            Owner::Me => [*me, *me],
            Owner::Peer(owner) => [*me, owner.ip()],
        };
        let owners = earlier.owners(nonce, &except, Instant::now());
        owners.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect()
    }

    /// Was there another set in the last minutes?
    pub fn has_changed(&self) -> bool {
        !self.earlier().is_empty()
    }

    /// Nobody answers at `peer`, which is none of the present set: there is nothing in flight.
    pub fn gone(&self, peer: IpAddr) {
        let there = |member: &Member| member.address() == peer;
        if !self.peers.load().members.iter().any(there) {
            self.earlier().forget(peer);
        }
    }

    fn earlier(&self) -> MutexGuard<'_, Earlier> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica could not be reached: the next one in line owns its sessions until it answers again.
    pub fn suspect(&self, peer: IpAddr) {
        self.suspects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peer, Instant::now() + SUSPECT);
        self.set(
            self.peers
                .load()
                .members
                .iter()
                .map(|member| member.address())
                .collect(),
        );
    }

    /// Takes over a new set, less the suspects.
    pub fn set(&self, mut members: Vec<IpAddr>) {
        {
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            suspects.retain(|_, until| *until > now);
            members.retain(|member| !suspects.contains_key(member));
        }
        let mut members: Vec<Member> = members.into_iter().map(Member::new).collect();
        members.sort_unstable();
        members.dedup();
        let old = self.peers.load();
        if old.members != members {
            tracing::info!(replicas = members.len(), "the set of replicas changed");
            let before = if old.members.is_empty() {
                // What this one finds when it begins: it was not among them.
                let others = members
                    .iter()
                    .filter(|member| Some(member.address()) != self.me());
                others.copied().collect()
            } else {
                old.members.clone()
            };
            if !before.is_empty() {
                self.earlier().put(before, Instant::now());
            }
            self.peers.store(Arc::new(Peers {
                epoch: old.epoch + 1,
                members,
            }));
        }
    }

    /// Asks for `service` until cancelled. A failed question keeps the last answer.
    pub async fn run(self: Arc<Self>, service: String, resolver: Resolver, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match resolver.resolve(&service).await {
                Ok(members) => self.set(members),
                Err(error) => tracing::debug!(%error, "the replicas' name gave no answer"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn replica(last: u8) -> Arc<Discovery> {
        let one = Discovery::alone();
        one.join(ip(last), 9443);
        one
    }

    #[test]
    fn all_replicas_agree_on_an_owner() {
        let all: Vec<_> = (1..=3).map(replica).collect();
        for one in &all {
            one.set(vec![ip(3), ip(1), ip(2)]);
        }
        for n in 0..64u8 {
            let nonce = [n; 16];
            let owners: Vec<IpAddr> = all
                .iter()
                .map(|one| match one.owner(&nonce) {
                    Owner::Me => one.me.get().unwrap().0,
                    Owner::Peer(address) => address.ip(),
                })
                .collect();
            assert!(owners.windows(2).all(|pair| pair[0] == pair[1]), "{owners:?}");
        }
    }

    #[test]
    fn alone_everything_is_mine() {
        assert_eq!(Discovery::alone().owner(&[7; 16]), Owner::Me);
    }

    #[test]
    fn what_a_replica_began_stays_with_it_and_its_owners_are_remembered() {
        let (one, two) = (replica(1), replica(2));
        for each in [&one, &two] {
            each.set(vec![ip(1), ip(2)]);
        }
        let nonce = one.own_nonce();
        assert_eq!(one.owner(&nonce), Owner::Me);
        for last in 3..20 {
            two.set(vec![ip(1), ip(2), ip(last)]);
            assert_eq!(two.owner(&nonce), Owner::Peer(SocketAddr::new(ip(1), 9443)));
        }
        two.set(vec![ip(2), ip(3)]);
        let owner = two.owner(&nonce);
        assert_ne!(owner, Owner::Peer(SocketAddr::new(ip(1), 9443)));
        assert!(
            two.earlier_owners(&nonce, owner)
                .contains(&SocketAddr::new(ip(1), 9443))
        );
        two.gone(ip(1));
        assert!(
            !two.earlier_owners(&nonce, owner)
                .contains(&SocketAddr::new(ip(1), 9443))
        );
        // One that comes later learns who was there without it.
        let late = replica(3);
        late.set(vec![ip(1), ip(3)]);
        let nonce = (0..=255)
            .map(|n| [n; 16])
            .find(|nonce| late.owner(nonce) == Owner::Me)
            .unwrap();
        assert_eq!(
            late.earlier_owners(&nonce, Owner::Me),
            [SocketAddr::new(ip(1), 9443)]
        );
    }

    #[test]
    fn a_suspect_is_passed_over_and_the_epoch_moves() {
        let one = replica(1);
        one.set(vec![ip(1), ip(2)]);
        let before = one.epoch();
        one.set(vec![ip(2), ip(1)]);
        assert_eq!(one.epoch(), before);
        one.suspect(ip(2));
        assert!(one.epoch() > before);
        assert!((0..64u8).all(|n| one.owner(&[n; 16]) == Owner::Me));
        one.set(vec![ip(1), ip(2)]);
        assert_eq!(one.peers().members, [Member::new(ip(1))]);
    }
}
