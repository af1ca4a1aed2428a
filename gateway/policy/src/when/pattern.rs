//! Regular expressions: only such as become a table of bounded size when the configuration is loaded. A search then is
//! one look-up per byte, whatever the expression and the text.

use std::collections::HashMap;
use std::sync::Arc;

use regex_automata::Input;
use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton as _, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

/// The largest table of one expression.
const MAX_BYTES: usize = 128 << 10;
/// Of all expressions of a configuration.
const MAX_TOTAL: usize = 4 << 20;
/// What making a table may take besides.
const MAX_WORK: usize = 1 << 20;

/// One expression, compiled.
#[derive(Debug)]
pub(super) struct Pattern(DFA<Vec<u32>>);

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        // Classes, word boundaries and case are those of ASCII, as in RE2 by default; other text is compared as it is.
        let built = dense::Builder::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(32))
            .thompson(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(MAX_BYTES)),
            )
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .dfa_size_limit(Some(MAX_BYTES))
                    .determinize_size_limit(Some(MAX_WORK)),
            )
            .build(text);
        built.map(Self).map_err(|error| {
            let cause = innermost(&error);
            if error.is_size_limit_exceeded() || cause.contains("exceeded") {
                return "the regular expression is too large: write fewer and smaller repetitions".to_owned();
            }
            format!("no such regular expression can be written here: {cause}")
        })
    }

    /// Does it match anywhere in `text`?
    pub(super) fn is_in(&self, text: &str) -> bool {
        let input = Input::new(text).earliest(true);
        // No byte makes such a table give up.
        matches!(self.0.try_search_fwd(&input), Ok(Some(_)))
    }
}

/// The words of the innermost cause, in one line.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// The expressions of one configuration: each is compiled once.
#[derive(Debug, Default)]
pub struct Patterns {
    known: HashMap<Box<str>, Arc<Pattern>>,
    bytes: usize,
}

impl Patterns {
    pub(super) fn get(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.known.get(text) {
            return Ok(Arc::clone(known));
        }
        let pattern = Arc::new(Pattern::new(text)?);
        self.bytes += pattern.0.memory_usage();
        if self.bytes > MAX_TOTAL {
            return Err("the regular expressions of all rules together are too large".into());
        }
        self.known.insert(text.into(), Arc::clone(&pattern));
        Ok(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r"^[a-z0-9-]+\.csv$", "report-7.csv", true)]
    #[case(r"^[a-z0-9-]+\.csv$", "report-7.csv.exe", false)]
    #[case(r"b", "abc", true)]
    #[case(r"(?i)drop\s+table", "x; DROP  TABLE y", true)]
    #[case(r"\bcat\b", "concatenate", false)]
    #[case(r"\d", "\u{0663}", false)]
    #[case(r"ü|é", "café", true)]
    #[case(r"^$", "", true)]
    #[case(r"^a.c$", "a\nc", false)]
    fn expressions_match(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(Pattern::new(pattern).unwrap().is_in(text), expected);
    }

    #[rstest]
    #[case("(a", "unclosed")]
    #[case(r"(.)\1", "backreference")]
    #[case("(?=a)", "look")]
    #[case("(a{100}){100}", "too large")]
    #[case("[a-z]*(x|y)[a-z]{20}", "too large")]
    #[case("[é]", "Unicode")]
    fn what_cannot_be_a_small_table_is_refused(#[case] pattern: &str, #[case] expected: &str) {
        let error = Pattern::new(pattern).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn each_is_compiled_once_and_all_together_are_bounded() {
        let mut patterns = Patterns::default();
        let first = patterns.get("a+b").unwrap();
        assert!(Arc::ptr_eq(&first, &patterns.get("a+b").unwrap()));
        let refused = (0..2000).find_map(|at| patterns.get(&format!("x{at}[a-z]{{50}}[0-9]{{50}}")).err());
        assert!(refused.is_some_and(|error| error.contains("together")));
    }
}
