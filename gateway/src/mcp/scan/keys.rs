//! Duplicate keys of one object.

use std::borrow::Cow;
use std::collections::HashSet;

use super::text::unescape_raw;

/// Up to this many keys each new one is compared with all before it; beyond, they are hashed.
const LINEAR: usize = 16;

/// The keys of one object so far. Equal means equal after unescaping: two parsers must not be able to read the object differently.
pub(super) struct Keys<'t> {
    first: [&'t [u8]; LINEAR],
    /// Whether one of them holds an escape.
    escaped: bool,
    len: usize,
    /// All of them, once there are more than [`LINEAR`]. The standard hasher is keyed, so collisions cannot be chosen.
    hashed: Option<HashSet<Cow<'t, [u8]>>>,
}

impl<'t> Keys<'t> {
    pub(super) const fn new() -> Self {
        Self {
            first: [&[]; LINEAR],
            escaped: false,
            len: 0,
            hashed: None,
        }
    }

    /// Adds a key's contents; `false` when the object has it already.
    pub(super) fn add(&mut self, key: &'t [u8], escaped: bool) -> bool {
        if let Some(set) = &mut self.hashed {
            return set.insert(unescape_raw(key));
        }
        let seen = self.first.get(..self.len).unwrap_or_default();
        let repeated = if escaped || self.escaped {
            let key = unescape_raw(key);
            seen.iter().any(|other| unescape_raw(other) == key)
        } else {
            seen.contains(&key)
        };
        if repeated {
            return false;
        }
        if self.len == LINEAR {
            let all = seen.iter().chain([&key]);
            self.hashed = Some(all.map(|key| unescape_raw(key)).collect());
        } else if let Some(slot) = self.first.get_mut(self.len) {
            *slot = key;
            self.escaped |= escaped;
            self.len += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_found_wherever_it_stands() {
        let names: Vec<String> = (0..100).map(|n| format!("key{n}")).collect();
        for again in 0..100 {
            let mut keys = Keys::new();
            for name in &names {
                assert!(keys.add(name.as_bytes(), false));
            }
            assert!(!keys.add(names[again].as_bytes(), false), "{again}");
        }
    }

    #[test]
    fn spelling_does_not_hide_it() {
        for fill in [0, 15, 16, 17, 40] {
            let names: Vec<String> = (0..fill).map(|n| format!("key{n}")).collect();
            let mut keys = Keys::new();
            assert!(keys.add(br"n\u0061me", true));
            for name in &names {
                assert!(keys.add(name.as_bytes(), false));
            }
            assert!(!keys.add(b"name", false), "{fill}");
            assert!(!keys.add(br"\u006eame", true), "{fill}");
        }
    }
}
