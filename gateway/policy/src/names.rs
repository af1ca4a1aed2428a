//! Lists of exact names to look a name up in.

use std::collections::HashSet;

/// From so many names on, hashing beats comparing. Most lists have one or two.
const MANY: usize = 8;

/// A list of exact names.
#[derive(Debug)]
pub struct Names(List);

#[derive(Debug)]
enum List {
    Few(Box<[Box<str>]>),
    Many(HashSet<Box<str>>),
}

impl Names {
    /// The names of a configured list.
    pub fn new<S: AsRef<str>>(list: &[S]) -> Self {
        let names = list.iter().map(|name| name.as_ref().into());
        Self(if list.len() < MANY {
            List::Few(names.collect())
        } else {
            List::Many(names.collect())
        })
    }

    /// Is `name` one of them?
    pub fn contains(&self, name: &str) -> bool {
        match &self.0 {
            List::Few(names) => names.iter().any(|one| **one == *name),
            List::Many(names) => names.contains(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_lists_are_the_same_to_look_at() {
        for length in [0, 1, MANY - 1, MANY, 100] {
            let list: Vec<String> = (0..length).map(|number| format!("n{number}")).collect();
            let names = Names::new(&list);
            assert!(list.iter().all(|name| names.contains(name)), "{length}");
            assert!(
                !names.contains("n") && !names.contains("") && !names.contains("n100"),
                "{length}"
            );
        }
    }
}
