//! Amounts as text: durations, byte sizes and shares of processors. Each keeps to one notation and knows its value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time: a whole number and one unit (`ms`, `s`, `m` or `h`), such as `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(portcullis_config::Duration);

impl Duration {
    /// A duration of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(portcullis_config::Duration::from_secs(secs))
    }

    /// The standard library's form.
    pub const fn get(self) -> time::Duration {
        self.0.get()
    }
}

impl From<Duration> for portcullis_config::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = portcullis_config::duration::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        portcullis_config::Duration::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Seven characters keep the largest value (999999h) within what CEL's `duration()` can hold.
        json_schema!({"type": "string", "minLength": 2, "maxLength": 7, "pattern": "^[0-9]+(ms|s|m|h)$"})
    }
}

/// The text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct InvalidAmount {
    text: String,
    kind: &'static str,
}

/// A number of bytes as a Kubernetes quantity: a whole number and, optionally, one of `k`, `M`, `G`, `T`, `Ki`, `Mi`,
/// `Gi` and `Ti`.
#[derive(Clone, Debug)]
pub struct ByteSize {
    text: String,
    bytes: u64,
}

impl ByteSize {
    const PATTERN: &'static str = "^[0-9]{1,12}(k|M|G|T|Ki|Mi|Gi|Ti)?$";
    const KIND: &'static str =
        "a size: write a whole number of bytes, or one with k, M, G, T, Ki, Mi, Gi or Ti, such as 64Mi";

    /// The number of bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The notation it was written in, which is a Kubernetes quantity.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// So many KiB.
    pub fn kibibytes(count: u32) -> Self {
        Self {
            text: format!("{count}Ki"),
            bytes: u64::from(count) << 10,
        }
    }

    /// So many MiB.
    pub fn mebibytes(count: u32) -> Self {
        Self {
            text: format!("{count}Mi"),
            bytes: u64::from(count) << 20,
        }
    }
}

impl FromStr for ByteSize {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let err = || InvalidAmount {
            text: text.chars().take(32).collect(),
            kind: Self::KIND,
        };
        let (number, suffix) = split_number(text).ok_or_else(err)?;
        let scale: u64 = match suffix {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return Err(err()),
        };
        let number: u64 = number.parse().map_err(|_| err())?;
        let bytes = number.checked_mul(scale).ok_or_else(err)?;
        Ok(Self {
            text: text.to_owned(),
            bytes,
        })
    }
}

/// A share of processors as a Kubernetes quantity: whole processors (`2`), or thousandths (`500m`).
#[derive(Clone, Debug)]
pub struct Cpu {
    text: String,
    millis: u64,
}

impl Cpu {
    const PATTERN: &'static str = "^[0-9]{1,6}m?$";
    const KIND: &'static str =
        "an amount of processors: write whole ones, such as 2, or thousandths, such as 500m";

    /// Thousandths of a processor.
    pub const fn millis(&self) -> u64 {
        self.millis
    }

    /// The notation it was written in, which is a Kubernetes quantity.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// So many thousandths of a processor.
    pub fn from_millis(millis: u32) -> Self {
        Self {
            text: format!("{millis}m"),
            millis: u64::from(millis),
        }
    }
}

impl FromStr for Cpu {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let err = || InvalidAmount {
            text: text.chars().take(32).collect(),
            kind: Self::KIND,
        };
        let (number, suffix) = split_number(text).ok_or_else(err)?;
        let scale: u64 = match suffix {
            "" => 1_000,
            "m" => 1,
            _ => return Err(err()),
        };
        let number: u64 = number.parse().map_err(|_| err())?;
        let millis = number.checked_mul(scale).ok_or_else(err)?;
        Ok(Self {
            text: text.to_owned(),
            millis,
        })
    }
}

/// Parts the leading digits, of which there must be some, from what follows them.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(digits)
        .filter(|(number, _)| !number.is_empty())
}

macro_rules! quantity {
    ($name:ident, $value:ident, max $max:literal) => {
        // Two notations of one amount are one amount.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.$value == other.$value
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.$value.cmp(&other.$value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl From<&$name> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
            fn from(amount: &$name) -> Self {
                Self(amount.text.clone())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                /// As YAML has it: `1024` is a number, `1Ki` is text.
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written {
                    Number(u64),
                    Text(String),
                }
                let text = match Written::deserialize(deserializer)? {
                    Written::Number(number) => number.to_string(),
                    Written::Text(text) => text,
                };
                text.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "x-kubernetes-int-or-string": true,
                    "maxLength": $max,
                    "pattern": Self::PATTERN,
                })
            }
        }
    };
}

quantity!(ByteSize, bytes, max 14);
quantity!(Cpu, millis, max 7);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", 0)]
    #[case("1024", 1024)]
    #[case("1k", 1000)]
    #[case("1Ki", 1024)]
    #[case("8Mi", 8 << 20)]
    #[case("2G", 2_000_000_000)]
    #[case("1Ti", 1 << 40)]
    fn sizes_are_understood(#[case] text: &str, #[case] bytes: u64) {
        assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes);
    }

    #[rstest]
    #[case("")]
    #[case("Mi")]
    #[case("1.5Gi")]
    #[case("-1")]
    #[case("1m")]
    #[case("1KiB")]
    #[case("1 Mi")]
    #[case("99999999999999Ti")]
    fn nonsense_is_no_size(#[case] text: &str) {
        assert!(text.parse::<ByteSize>().is_err());
    }

    #[rstest]
    #[case("2", 2000)]
    #[case("500m", 500)]
    fn shares_of_processors_are_understood(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(text.parse::<Cpu>().unwrap().millis(), millis);
    }

    #[rstest]
    #[case("0.5")]
    #[case("m")]
    #[case("1k")]
    fn nonsense_is_no_share(#[case] text: &str) {
        assert!(text.parse::<Cpu>().is_err());
    }

    #[test]
    fn a_plain_number_in_yaml_is_a_quantity_too() {
        let size: ByteSize = serde_yaml::from_str("1048576").unwrap();
        assert_eq!(size, ByteSize::mebibytes(1));
        let cpu: Cpu = serde_yaml::from_str("2").unwrap();
        assert_eq!(cpu, Cpu::from_millis(2000));
    }

    proptest! {
        #[test]
        fn what_is_written_is_kept(number in 0u32.., suffix in prop::sample::select(vec!["", "k", "M", "Ki", "Mi", "Gi"])) {
            let text = format!("{number}{suffix}");
            let size: ByteSize = text.parse().unwrap();
            prop_assert_eq!(size.as_str(), text.as_str());
            let again: ByteSize = serde_json::from_value(serde_json::to_value(&size).unwrap()).unwrap();
            prop_assert_eq!(again, size);
        }
    }
}
