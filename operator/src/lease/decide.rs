//! What to do about the lease, given what it says. Pure: no clock, no request.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A holder that claims a longer lease than this is taken to claim this much: a mistyped record must not stop the
/// operator for a day.
const MAX_LEASE: Duration = Duration::from_secs(300);

/// What a Lease object says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody when it was released.
    pub holder: Option<String>,
    /// For how long after a renewal the holder counts as alive.
    pub duration: Duration,
    /// The holder's own note of when it last renewed, compared for change only: its clock is not ours.
    pub renewed: Option<Timestamp>,
    /// The holder's own note of when it took over.
    pub acquired: Option<Timestamp>,
    /// How often the holder changed.
    pub transitions: i32,
    /// The object's resourceVersion, the precondition of every write.
    pub version: String,
}

/// A record and when it was first seen in this state, by this process's own monotonic clock.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What the object said.
    pub record: Record,
    /// Since when it has said so.
    pub since: Instant,
}

impl Observed {
    /// Takes in a freshly read record: the clock starts again whenever anything in it moved.
    pub fn update(previous: Option<Self>, record: Record, now: Instant) -> Self {
        match previous {
            Some(seen) if seen.record == record => seen,
            Some(_) | None => Self { record, since: now },
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is no such object: create it, held by us.
    Create,
    /// It is free, or its holder stopped renewing: take it over, from this version on.
    Acquire,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it; look again no later than after this long.
    Wait(Duration),
}

/// Decides for the process called `me`.
///
/// Whether a holder is gone is judged by how long the record stood still before our eyes, never by comparing its
/// wall-clock time with ours.
pub fn decide(observed: Option<&Observed>, me: &str, now: Instant) -> Decision {
    let Some(Observed { record, since }) = observed else {
        return Decision::Create;
    };
    match record.holder.as_deref() {
        None | Some("") => Decision::Acquire,
        Some(holder) if holder == me => Decision::Renew,
        Some(_) => {
            let patience = record.duration.min(MAX_LEASE);
            let still = now.saturating_duration_since(*since);
            if still >= patience {
                Decision::Acquire
            } else {
                Decision::Wait(patience.saturating_sub(still))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn record(holder: &str, renewed: i64) -> Record {
        Record {
            holder: Some(holder.into()),
            duration: Duration::from_secs(30),
            renewed: Some(Timestamp::from_second(renewed).unwrap()),
            acquired: None,
            transitions: 0,
            version: "1".into(),
        }
    }

    #[rstest]
    #[case::absent(None, 0, Decision::Create)]
    #[case::released(Some(""), 0, Decision::Acquire)]
    #[case::ours(Some("me"), 0, Decision::Renew)]
    #[case::ours_and_long_unrenewed(Some("me"), 100, Decision::Renew)]
    #[case::theirs_and_fresh(Some("they"), 0, Decision::Wait(Duration::from_secs(30)))]
    #[case::theirs_and_older(Some("they"), 29, Decision::Wait(Duration::from_secs(1)))]
    #[case::theirs_and_expired(Some("they"), 30, Decision::Acquire)]
    #[case::a_prefix_of_our_name_is_not_us(Some("m"), 1, Decision::Wait(Duration::from_secs(29)))]
    fn the_record_and_the_time_it_stood_still_decide(
        #[case] holder: Option<&str>,
        #[case] still_secs: u64,
        #[case] expected: Decision,
    ) {
        let now = Instant::now() + Duration::from_secs(1_000);
        let observed = holder.map(|holder| Observed {
            record: record(holder, 1),
            since: now - Duration::from_secs(still_secs),
        });
        assert_eq!(decide(observed.as_ref(), "me", now), expected);
    }

    #[test]
    fn a_record_without_holder_is_free() {
        let now = Instant::now();
        let observed = Observed {
            record: Record {
                holder: None,
                ..record("x", 1)
            },
            since: now,
        };
        assert_eq!(decide(Some(&observed), "me", now), Decision::Acquire);
    }

    #[test]
    fn a_renewal_restarts_the_clock_and_a_mere_look_does_not() {
        let start = Instant::now();
        let later = start + Duration::from_secs(29);
        let seen = Observed::update(None, record("they", 1), start);
        let same = Observed::update(Some(seen.clone()), record("they", 1), later);
        assert_eq!(same.since, start);
        let renewed = Observed::update(Some(seen), record("they", 2), later);
        assert_eq!(renewed.since, later);
        assert_eq!(
            decide(Some(&renewed), "me", start + Duration::from_secs(58)),
            Decision::Wait(Duration::from_secs(1))
        );
    }

    #[test]
    fn an_absurd_duration_is_capped() {
        let now = Instant::now();
        let observed = Observed {
            record: Record {
                duration: Duration::from_secs(1 << 30),
                ..record("they", 1)
            },
            since: now,
        };
        assert_eq!(decide(Some(&observed), "me", now), Decision::Wait(MAX_LEASE));
    }
}
