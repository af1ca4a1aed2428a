//! How many streams of news a principal has open on this replica.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::identity::PrincipalKey;

/// Everybody's.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<PrincipalKey, usize>>>);

/// One stream's place.
pub struct Place {
    places: Places,
    who: PrincipalKey,
}

impl Places {
    /// A place among `most` of this principal's, if one is left.
    pub fn take(&self, who: &PrincipalKey, most: u32) -> Option<Place> {
        let mut all = self.lock();
        let count = all.get(who).copied().unwrap_or_default();
        if count >= usize::try_from(most).unwrap_or(usize::MAX) {
            return None;
        }
        all.insert(*who, count + 1);
        drop(all);
        Some(Place {
            places: self.clone(),
            who: *who,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PrincipalKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        if let Some(count) = all.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 20;

    #[test]
    fn places_come_back() {
        let places = Places::default();
        let mut taken: Vec<_> = (0..MOST).map(|_| places.take(&[1; 16], MOST).unwrap()).collect();
        assert!(places.take(&[1; 16], MOST).is_none());
        assert!(places.take(&[2; 16], MOST).is_some());
        taken.pop();
        taken.push(places.take(&[1; 16], MOST).unwrap());
        drop(taken);
        assert!(places.lock().is_empty());
    }
}
