//! Durations as text: a whole number and one unit, `250ms`, `30s`, `10m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in the one notation that the API and the configuration file accept: `^[0-9]+(ms|s|m|h)$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write a whole number and a unit (ms, s, m or h), such as 30s")]
pub struct ParseError(String);

impl Duration {
    /// A duration of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }

    /// A duration of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(time::Duration::from_secs(secs))
    }

    /// The standard library's form.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl From<Duration> for time::Duration {
    fn from(value: Duration) -> Self {
        value.0
    }
}

impl FromStr for Duration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = || ParseError(text.chars().take(32).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(err)?;
        let number: u64 = number.parse().map_err(|_| err())?;
        let scale = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(err()),
        };
        number.checked_mul(scale).map(Self::from_millis).ok_or_else(err)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (scale, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if millis != 0 && millis.is_multiple_of(scale) {
                return write!(f, "{}{unit}", millis / scale);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("250ms", 250)]
    #[case("30s", 30_000)]
    #[case("10m", 600_000)]
    #[case("1h", 3_600_000)]
    #[case("0s", 0)]
    fn units_are_understood(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(text.parse(), Ok(Duration::from_millis(millis)));
    }

    #[rstest]
    #[case("")]
    #[case("30")]
    #[case("s")]
    #[case("1.5s")]
    #[case("-1s")]
    #[case("1d")]
    #[case("99999999999999999999h")]
    #[case("18446744073709551615h")]
    #[case("1m30s")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(text.parse::<Duration>().is_err());
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
