//! Which replica a session belongs to: the one that opened it, as long as there is that one; then rendezvous hashing, so
//! that a replica that goes moves only its own share. One that comes moves nothing that another one began.

/// How much of a nonce says who made it. The rest is random.
const MARK: usize = 4;

/// The index of the peer that owns the session with this nonce. The same on every replica that sees the same peers,
/// whatever their order. `None` when there are none.
pub fn owner<P: AsRef<[u8]>>(nonce: &[u8; 16], peers: &[P]) -> Option<usize> {
    let made_it = peers.iter().position(|peer| is_marked(nonce, peer.as_ref()));
    made_it.or_else(|| heaviest(nonce, peers))
}

/// The nonce, marked as made by `peer`.
pub fn marked(mut nonce: [u8; 16], peer: &[u8]) -> [u8; 16] {
    let mark = mark(&nonce, peer);
    for (byte, mark) in nonce.iter_mut().rev().zip(mark) {
        *byte = mark;
    }
    nonce
}

fn is_marked(nonce: &[u8; 16], peer: &[u8]) -> bool {
    marked(*nonce, peer) == *nonce
}

fn mark(nonce: &[u8; 16], peer: &[u8]) -> [u8; MARK] {
    let mut random = *nonce;
    random.iter_mut().rev().take(MARK).for_each(|byte| *byte = 0);
    let [a, b, c, d, ..] = weight(&random, peer).to_le_bytes();
    [a, b, c, d]
}

/// Does this peer weigh most, among `peers`?
pub fn is_heaviest<P: AsRef<[u8]>>(nonce: &[u8; 16], peer: &[u8], peers: &[P]) -> bool {
    let heaviest = heaviest(nonce, peers).and_then(|index| peers.get(index));
    heaviest.is_some_and(|heaviest| heaviest.as_ref() == peer)
}

/// Whose it is when nobody is there who made it.
fn heaviest<P: AsRef<[u8]>>(nonce: &[u8; 16], peers: &[P]) -> Option<usize> {
    let weighed = peers.iter().enumerate().map(|(index, peer)| {
        let id = peer.as_ref();
        (weight(nonce, id), id, index)
    });
    // Equal weights are settled by the peer's id, never by the order.
    weighed.max().map(|(_, _, index)| index)
}

/// FNV-1a over the nonce and the peer, then mixed so that every bit depends on every other. Replicas of two releases
/// run side by side during an upgrade: these numbers must never change.
fn weight(nonce: &[u8; 16], peer: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in nonce.iter().chain(peer) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(n: u32) -> [u8; 16] {
        let mut nonce = [0xA5; 16];
        nonce[4..8].copy_from_slice(&n.to_le_bytes());
        nonce
    }

    #[test]
    fn order_does_not_matter() {
        let peers = ["10.0.0.1:9443", "10.0.0.2:9443", "10.0.0.3:9443"];
        let turned = ["10.0.0.3:9443", "10.0.0.1:9443", "10.0.0.2:9443"];
        for n in 0..1000 {
            assert_eq!(
                peers[owner(&nonce(n), &peers).unwrap()],
                turned[owner(&nonce(n), &turned).unwrap()]
            );
        }
        assert_eq!(owner::<&str>(&nonce(0), &[]), None);
        assert_eq!(owner(&nonce(0), &["a", "a"]).map(|_| ()), Some(()));
    }

    #[test]
    fn shares_are_even_and_only_the_lost_one_moves() {
        let peers = ["10.0.0.1:9443", "10.0.0.2:9443", "10.0.0.3:9443"];
        let mut share = [0; 3];
        for n in 0..9000 {
            let at = owner(&nonce(n), &peers).unwrap();
            share[at] += 1;
            let left = owner(&nonce(n), &peers[..2]).unwrap();
            assert!(at == 2 || left == at);
        }
        assert!(
            share.iter().all(|count| (2700..3300).contains(count)),
            "{share:?}"
        );
    }

    #[test]
    fn who_made_a_nonce_owns_it_as_long_as_it_is_there() {
        let peers = ["10.0.0.1:9443", "10.0.0.2:9443", "10.0.0.3:9443", "10.0.0.4:9443"];
        for n in 0..1000 {
            let made = marked(nonce(n), peers[1].as_bytes());
            assert_eq!(made[..12], nonce(n)[..12]);
            for count in 2..=4 {
                assert_eq!(
                    owner(&made, &peers[..count]),
                    Some(1),
                    "who is added changes nothing"
                );
            }
            assert_eq!(owner(&made, &peers[2..]), heaviest(&made, &peers[2..]));
        }
    }

    #[test]
    fn the_numbers_are_those_of_every_release() {
        assert_eq!(weight(&[0; 16], b""), 0xa5e0_dba6_c385_580a);
        assert_eq!(weight(&nonce(7), b"10.0.0.1:9443"), 0x2355_6df3_3249_08cc);
    }
}
