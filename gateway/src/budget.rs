//! The memory that bodies and events may take together, over all clients and servers (`limits.memoryBudget`).
//!
//! Each has a bound of its own; this one stands behind them all, so that many clients at their bounds at once cannot take more
//! memory than the process has. Small pieces are not counted: there are no more of them than connections and requests. A piece
//! that is counted stays so until nobody refers to its bytes any more, wherever they went: the count goes with them. Copies that
//! are made when a message is put into another's terms are not counted, which is why a budget is half of the memory at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;

/// What is shorter is not counted.
const SMALL: usize = 16 << 10;
/// Counted in steps of this many bytes, so that a piece that grows does not count at each read.
const STEP: usize = 64 << 10;

/// All of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's memory budget is used up")]
pub struct Full;

/// Bytes that are held, of those that may be.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    refused: Counter,
}

impl Budget {
    /// Nothing is held. `refused` counts what did not fit.
    pub fn new(limit: usize, refused: Counter) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            refused,
        })
    }

    /// Another limit. What is held already stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many bytes are held.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts bytes that are there already.
    pub fn count(self: &Arc<Self>, bytes: Bytes) -> Result<Bytes, Full> {
        let mut charge = Charge::default();
        charge.grow(self, bytes.len())?;
        Ok(charge.keep(bytes))
    }

    fn take(&self, bytes: usize) -> Result<(), Full> {
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| {
            self.refused.inc();
            Full
        })
    }
}

/// What one piece takes. Given back when it is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    /// Where it is counted, once it is.
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Charge {
    /// The piece has that many bytes now. It never shrinks.
    pub fn grow(&mut self, budget: &Arc<Budget>, bytes: usize) -> Result<(), Full> {
        if bytes <= SMALL || bytes <= self.bytes {
            return Ok(());
        }
        let wanted = bytes.checked_next_multiple_of(STEP).ok_or(Full)?;
        budget.take(wanted - self.bytes)?;
        self.budget.get_or_insert_with(|| Arc::clone(budget));
        self.bytes = wanted;
        Ok(())
    }

    /// The piece, which is counted for as long as anybody refers to it.
    pub fn keep(self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 {
            return bytes;
        }
        Bytes::from_owner(Kept { bytes, _charge: self })
    }
}

struct Kept {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body as far as it has come. One that comes in one piece is not copied.
#[derive(Debug, Default)]
pub struct Pieces {
    first: Bytes,
    rest: BytesMut,
    charge: Charge,
}

impl Pieces {
    /// How much has come.
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Has nothing come?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next piece.
    pub fn push(&mut self, budget: &Arc<Budget>, chunk: Bytes) -> Result<(), Full> {
        let needed = self.len() + chunk.len();
        if self.is_empty() {
            self.charge.grow(budget, needed)?;
            self.first = chunk;
            return Ok(());
        }
        // Room is counted, not what is in it.
        let room = self.rest.capacity();
        if room < needed {
            let more = needed.max(room.saturating_mul(2));
            self.charge.grow(budget, more)?;
            self.rest.reserve(more - self.rest.len());
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&chunk);
        Ok(())
    }

    /// The whole. Nothing is left.
    pub fn finish(&mut self) -> Bytes {
        let Self { first, rest, charge } = std::mem::take(self);
        charge.keep(if rest.is_empty() { first } else { rest.freeze() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize) -> Arc<Budget> {
        Budget::new(limit, Counter::default())
    }

    #[test]
    fn a_piece_is_counted_until_nobody_refers_to_it() {
        let budget = budget(1 << 20);
        let mut pieces = Pieces::default();
        pieces.push(&budget, Bytes::from(vec![b'a'; 10_000])).unwrap();
        assert_eq!(budget.used(), 0, "small");
        pieces.push(&budget, Bytes::from(vec![b'b'; 60_000])).unwrap();
        assert_eq!(budget.used(), 128 << 10);
        let whole = pieces.finish();
        assert_eq!(
            (whole.len(), whole[9_999], whole[10_000], whole[69_999]),
            (70_000, b'a', b'b', b'b')
        );
        let slice = whole.slice(1..3);
        drop(whole);
        assert_eq!(budget.used(), 128 << 10, "a part of it is referred to");
        drop(slice);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_there_stays() {
        let budget = budget(256 << 10);
        let mut one = Pieces::default();
        one.push(&budget, Bytes::from(vec![0; 200_000])).unwrap();
        let mut other = Pieces::default();
        assert_eq!(other.push(&budget, Bytes::from(vec![0; 100_000])), Err(Full));
        assert_eq!(
            other.push(&budget, Bytes::from(vec![0; 16_000])),
            Ok(()),
            "what is small goes on"
        );
        assert_eq!(budget.refused.get(), 1);
        drop(one);
        other.push(&budget, Bytes::from(vec![0; 100_000])).unwrap();
        budget.set_limit(0);
        assert_eq!(other.push(&budget, Bytes::from(vec![0; 100_000])), Err(Full));
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_body_that_comes_at_once_is_not_copied() {
        let body = Bytes::from(vec![1; 100_000]);
        let mut pieces = Pieces::default();
        pieces.push(&budget(1 << 20), body.clone()).unwrap();
        assert_eq!(pieces.finish().as_ptr(), body.as_ptr());
    }

    #[test]
    fn threads_never_hold_more_than_there_is() {
        let budget = budget(1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..5_000 {
                        let mut charge = Charge::default();
                        charge.grow(&budget, (round % 7 + 1) * 100_000).ok();
                        assert!(budget.used() <= 1 << 20);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
