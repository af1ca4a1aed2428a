//! Sets of numbers kept as sorted, disjoint ranges: addresses and ports.
//!
//! nftables refuses a set whose intervals overlap, and `except` needs subtraction, so the
//! arithmetic is done here and the kernel gets the result.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Inclusive ranges, sorted, neither overlapping nor touching.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// The union of inclusive ranges given in any order; an empty one (`first > last`) adds nothing.
    pub fn of(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut given: Vec<_> = ranges.into_iter().filter(|(a, b)| a <= b).collect();
        given.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match merged.last_mut() {
                // Touching ranges become one as well: `saturating` for a range that ends at the top.
                Some(previous) if first <= previous.1.saturating_add(1) => {
                    previous.1 = previous.1.max(last);
                }
                Some(_) | None => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The addresses of a network, its first and last included.
    pub fn net(net: Ipv4Net) -> Self {
        Self(vec![(net.network().into(), net.broadcast().into())])
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied())
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.0.clone();
        for &(cut_first, cut_last) in &other.0 {
            left = left
                .into_iter()
                .flat_map(|(first, last)| {
                    let below = cut_first
                        .checked_sub(1)
                        .map(|end| (first, last.min(end)))
                        .filter(|(a, b)| a <= b);
                    let above = cut_last
                        .checked_add(1)
                        .map(|start| (first.max(start), last))
                        .filter(|(a, b)| a <= b);
                    [below, above]
                })
                .flatten()
                .collect();
        }
        Self::of(left)
    }

    /// Whether `value` is in one of the ranges.
    pub fn contains(&self, value: u32) -> bool {
        self.0
            .iter()
            .any(|&(first, last)| (first..=last).contains(&value))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is exactly `first..=last`.
    pub fn is_all(&self, first: u32, last: u32) -> bool {
        self.0 == [(first, last)]
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// As elements of a set of addresses.
    pub fn addresses(&self) -> impl Iterator<Item = String> + '_ {
        self.iter().map(|(first, last)| {
            let (low, high) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
            let size = u64::from(last - first) + 1;
            // A range is a network when its size is a power of two and its start a multiple of that.
            if first == last {
                low.to_string()
            } else if size.is_power_of_two() && u64::from(first).is_multiple_of(size) {
                format!("{low}/{}", 32 - size.trailing_zeros())
            } else {
                format!("{low}-{high}")
            }
        })
    }

    /// As elements of a set of ports.
    pub fn numbers(&self) -> impl Iterator<Item = String> + '_ {
        self.iter().map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn net(text: &str) -> Ranges {
        Ranges::net(text.parse().unwrap())
    }

    fn shown(ranges: &Ranges) -> String {
        ranges.addresses().collect::<Vec<_>>().join(" ")
    }

    #[rstest]
    #[case(&[], &[])]
    #[case(&[(5, 4)], &[])]
    #[case(&[(8, 9), (1, 2)], &[(1, 2), (8, 9)])]
    #[case(&[(1, 2), (3, 4)], &[(1, 4)])]
    #[case(&[(1, 9), (2, 3)], &[(1, 9)])]
    #[case(&[(0, u32::MAX), (7, 7)], &[(0, u32::MAX)])]
    #[case(&[(u32::MAX, u32::MAX), (u32::MAX - 1, u32::MAX)], &[(u32::MAX - 1, u32::MAX)])]
    fn union_merges(#[case] given: &[(u32, u32)], #[case] expected: &[(u32, u32)]) {
        assert_eq!(Ranges::of(given.iter().copied()).0, expected);
    }

    #[rstest]
    #[case("10.0.0.0/8", "10.0.0.0/8", "")]
    #[case("10.0.0.0/8", "11.0.0.0/8", "10.0.0.0/8")]
    #[case("10.0.0.0/30", "10.0.0.1/32", "10.0.0.0 10.0.0.2/31")]
    #[case("10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31")]
    #[case("10.0.0.0/30", "10.0.0.3/32", "10.0.0.0-10.0.0.2")]
    #[case("0.0.0.0/0", "10.0.0.0/8", "0.0.0.0-9.255.255.255 11.0.0.0-255.255.255.255")]
    #[case("10.0.0.1/32", "0.0.0.0/0", "")]
    fn subtraction(#[case] from: &str, #[case] cut: &str, #[case] expected: &str) {
        assert_eq!(shown(&net(from).minus(&net(cut))), expected);
    }

    #[test]
    fn several_cuts_at_once() {
        let cuts = net("10.0.0.0/32").union(&net("10.0.0.2/32"));
        assert_eq!(
            shown(&net("10.0.0.0/29").minus(&cuts)),
            "10.0.0.1 10.0.0.3-10.0.0.7"
        );
    }

    #[test]
    fn agrees_with_counting_one_by_one() {
        // Every pair of ranges within 0..6, against plain membership.
        let all = || (0..6u32).flat_map(|a| (a..6).map(move |b| (a, b)));
        for first in all() {
            for second in all() {
                let (one, two) = (Ranges::of([first]), Ranges::of([second]));
                for n in 0..7 {
                    assert_eq!(one.minus(&two).contains(n), one.contains(n) && !two.contains(n));
                    assert_eq!(one.union(&two).contains(n), one.contains(n) || two.contains(n));
                }
            }
        }
    }

    #[test]
    fn the_whole_space_is_recognised() {
        assert!(net("0.0.0.0/0").is_all(0, u32::MAX));
        assert_eq!(shown(&net("0.0.0.0/0")), "0.0.0.0/0");
        assert!(!net("0.0.0.0/1").is_all(0, u32::MAX));
    }

    #[test]
    fn ports_show_as_numbers() {
        let ports = Ranges::of([(80, 80), (1000, 2000)]);
        assert_eq!(ports.numbers().collect::<Vec<_>>(), ["80", "1000-2000"]);
    }
}
