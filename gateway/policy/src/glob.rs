//! Globs on names and URIs: `*` stands for any text, `?` for one character, all else for itself.
//!
//! Compiled once, matched in one pass over the name: no backtracking, so no pattern and no name can make it slow.

/// One compiled glob.
#[derive(Clone, Debug)]
pub enum Glob {
    /// `*`.
    Any,
    /// No wildcard.
    Exact(Box<str>),
    /// `text*`.
    Prefix(Box<str>),
    /// `*text`.
    Suffix(Box<str>),
    /// Everything else.
    Automaton(Automaton),
}

impl Glob {
    /// Compiles `pattern`. Every text is a glob.
    pub fn new(pattern: &str) -> Self {
        if !pattern.contains(['*', '?']) {
            return Self::Exact(pattern.into());
        }
        let plain = |text: &str| !text.contains(['*', '?']);
        let inner = pattern.trim_matches('*');
        if inner.is_empty() {
            return Self::Any;
        }
        if plain(inner) {
            match (pattern.starts_with('*'), pattern.ends_with('*')) {
                (false, true) => return Self::Prefix(inner.into()),
                (true, false) => return Self::Suffix(inner.into()),
                _ => {}
            }
        }
        Self::Automaton(Automaton::new(pattern))
    }

    /// These texts in this order, with anything between them: what a URI template matches, whose literals may hold
    /// characters that mean something in a glob.
    pub fn around<'t>(literals: impl IntoIterator<Item = &'t str>) -> Self {
        let parts = literals.into_iter().enumerate().flat_map(|(at, text)| {
            let gap = (at > 0).then_some(Token::Any);
            gap.into_iter().chain(text.chars().map(Token::Letter))
        });
        Self::Automaton(Automaton::of(&parts.collect::<Vec<_>>()))
    }

    /// Does `name` match, from its first character to its last?
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => **text == *name,
            Self::Prefix(text) => name.starts_with(&**text),
            Self::Suffix(text) => name.ends_with(&**text),
            Self::Automaton(automaton) => automaton.matches(name),
        }
    }
}

/// One step of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Any text.
    Any,
    /// Any one character.
    One,
    /// This character.
    Letter(char),
}

/// Patterns of up to this many words of states are matched without allocation.
const INLINE_WORDS: usize = 4;

/// A pattern as a set of states, one bit each: bit `i` is set when the first `i` characters of the pattern (stars do
/// not count) are matched. All states step at once, by shift and mask, on each character of the name.
#[derive(Clone, Debug)]
pub struct Automaton {
    /// Which positions each character of the pattern stands at, sorted by character.
    letters: Box<[(char, Box<[u64]>)]>,
    /// Positions of `?`.
    wild: Box<[u64]>,
    /// States that a star keeps alive whatever comes.
    looping: Box<[u64]>,
    /// The state in which everything is matched.
    accept: usize,
}

impl Automaton {
    fn new(pattern: &str) -> Self {
        let token = |c| match c {
            '*' => Token::Any,
            '?' => Token::One,
            _ => Token::Letter(c),
        };
        Self::of(&pattern.chars().map(token).collect::<Vec<_>>())
    }

    fn of(tokens: &[Token]) -> Self {
        let accept = tokens.iter().filter(|token| **token != Token::Any).count();
        let words = accept / 64 + 1;
        let mut automaton = Self {
            letters: Box::default(),
            wild: zeros(words),
            looping: zeros(words),
            accept,
        };
        let mut letters = std::collections::BTreeMap::new();
        let mut position = 0;
        for token in tokens {
            match token {
                Token::Any => set(&mut automaton.looping, position),
                Token::One => set(&mut automaton.wild, position),
                Token::Letter(c) => set(letters.entry(*c).or_insert_with(|| zeros(words)), position),
            }
            if *token != Token::Any {
                position += 1;
            }
        }
        automaton.letters = letters.into_iter().collect();
        automaton
    }

    fn matches(&self, name: &str) -> bool {
        let mut inline = [0; INLINE_WORDS];
        let mut heap;
        let state = if let Some(state) = inline.get_mut(..self.wild.len()) {
            state
        } else {
            heap = zeros(self.wild.len());
            &mut *heap
        };
        set(state, 0);
        for c in name.chars() {
            if !self.step(state, c) {
                return false;
            }
        }
        state
            .get(self.accept / 64)
            .is_some_and(|word| word >> (self.accept % 64) & 1 == 1)
    }

    /// Feeds one character. False when no state is left.
    fn step(&self, state: &mut [u64], c: char) -> bool {
        let letter = self
            .letters
            .binary_search_by_key(&c, |(letter, _)| *letter)
            .ok()
            .and_then(|at| self.letters.get(at))
            .map_or(&[][..], |(_, positions)| positions);
        let mut carry = 0;
        let mut alive = 0;
        let masks = self.wild.iter().zip(&self.looping);
        for (at, (word, (wild, looping))) in state.iter_mut().zip(masks).enumerate() {
            let fits = wild | letter.get(at).copied().unwrap_or(0);
            let moved = *word & fits;
            *word = moved << 1 | carry | *word & looping;
            carry = moved >> 63;
            alive |= *word;
        }
        alive != 0
    }
}

fn zeros(words: usize) -> Box<[u64]> {
    vec![0; words].into()
}

fn set(words: &mut [u64], bit: usize) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// Several globs, of which one has to match.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    any: bool,
    /// Names without wildcards, sorted: lists of those can be long.
    exact: Box<[Box<str>]>,
    patterns: Box<[Glob]>,
}

impl Globs {
    /// Compiles a list. An empty one matches nothing.
    pub fn new<S: AsRef<str>>(list: &[S]) -> Self {
        let mut exact = Vec::new();
        let mut patterns = Vec::new();
        let mut any = false;
        for pattern in list {
            match Glob::new(pattern.as_ref()) {
                Glob::Any => any = true,
                Glob::Exact(name) => exact.push(name),
                other => patterns.push(other),
            }
        }
        exact.sort_unstable();
        exact.dedup();
        Self {
            any,
            exact: exact.into(),
            patterns: patterns.into(),
        }
    }

    /// Does one of them match `name`?
    pub fn matches(&self, name: &str) -> bool {
        self.any
            || self.exact.binary_search_by(|text| (**text).cmp(name)).is_ok()
            || self.patterns.iter().any(|glob| glob.matches(name))
    }

    /// Is `*` among them?
    pub fn matches_everything(&self) -> bool {
        self.any
    }

    /// Is the list empty?
    pub fn is_empty(&self) -> bool {
        !self.any && self.exact.is_empty() && self.patterns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// The definition, by trying everything.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => {
                naive(rest, name) || name.split_first().is_some_and(|(_, tail)| naive(pattern, tail))
            }
            (Some(('?', rest)), Some((_, tail))) => naive(rest, tail),
            (Some((c, rest)), Some((d, tail))) => c == d && naive(rest, tail),
            _ => false,
        }
    }

    #[rstest]
    #[case("read_*", "read_file", true)]
    #[case("read_*", "read_", true)]
    #[case("read_*", "unread_file", false)]
    #[case("*_file", "read_file", true)]
    #[case("*", "", true)]
    #[case("**", "x", true)]
    #[case("", "", true)]
    #[case("", "x", false)]
    #[case("a?c", "abc", true)]
    #[case("a?c", "ac", false)]
    #[case("a?c", "a\u{fc}c", true)]
    #[case("?", "\u{1F600}", true)]
    #[case("*a*b*", "xxaxxbxx", true)]
    #[case("*a*b*", "xxbxxaxx", false)]
    #[case("[a-z]", "a", false)]
    #[case("a.c", "abc", false)]
    #[case("Read", "read", false)]
    fn globs_mean_what_the_docs_say(#[case] glob: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(Glob::new(glob).matches(name), expected);
    }

    #[test]
    fn a_pattern_of_many_stars_is_not_slow() {
        let pattern = "a*".repeat(500) + "b";
        let name = "a".repeat(100_000);
        let before = std::time::Instant::now();
        assert!(!Glob::new(&pattern).matches(&name));
        assert!(before.elapsed() < std::time::Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_naive_matcher(pattern in "[ab*?]{0,9}", name in "[abc]{0,12}") {
            let p: Vec<char> = pattern.chars().collect();
            let n: Vec<char> = name.chars().collect();
            prop_assert_eq!(Glob::new(&pattern).matches(&name), naive(&p, &n));
        }

        #[test]
        fn it_agrees_over_word_boundaries(pattern in "([ab]{20,40}[*?]){2,8}", extra in "[ab]{0,3}") {
            // Build a name that matches by construction, then one that differs in its end.
            let name: String = pattern.chars().map(|c| match c { '*' => 'x', '?' => 'y', c => c }).collect();
            let glob = Glob::new(&pattern);
            prop_assert!(glob.matches(&name));
            let longer = format!("{name}{extra}");
            prop_assert_eq!(glob.matches(&longer), extra.is_empty() || pattern.ends_with('*'));
        }

        #[test]
        fn a_list_matches_when_one_of_it_does(list in prop::collection::vec("[ab*?]{0,4}", 0..6), name in "[ab]{0,5}") {
            let globs = Globs::new(&list);
            let expected = list.iter().any(|pattern| Glob::new(pattern).matches(&name));
            prop_assert_eq!(globs.matches(&name), expected);
            prop_assert_eq!(globs.is_empty(), list.is_empty());
        }
    }
}
