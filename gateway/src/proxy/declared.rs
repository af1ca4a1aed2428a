//! What a stateless client says that it can do, as far as a server is told: the client's own words, without what is off
//! for that server. A server may ask for whatever it is told of, so that nothing unknown goes on.

use portcullis_config::Features;

use crate::mcp::scan::{self, Span, fields, unescape};

/// Long-running calls.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";
/// User interfaces of tools (MCP Apps).
pub const UI: &str = "io.modelcontextprotocol/ui";

/// `capabilities` (a JSON object of a client, its keys unique) without what is off or not known here. `None`: all of it
/// may go on, byte for byte.
pub fn narrowed(capabilities: &[u8], features: Features) -> Option<Vec<u8>> {
    if capabilities == b"{}" {
        return None;
    }
    let extensions = |value: &[u8]| keep(value, |name, _| is_extension(name).then_some(None));
    keep(capabilities, |name, value| match name {
        "elicitation" => features.elicitation.then_some(None),
        "sampling" => features.sampling.then_some(None),
        "roots" => features.roots.then_some(None),
        "extensions" => Some(extensions(value)),
        _ => None,
    })
}

/// Does a client's `capabilities` object have this extension?
pub fn has_extension(capabilities: &[u8], extension: &str) -> bool {
    member(capabilities, "extensions").is_some_and(|extensions| member(extensions, extension).is_some())
}

fn is_extension(name: &str) -> bool {
    matches!(name, TASKS | UI)
}

fn member<'t>(object: &'t [u8], name: &str) -> Option<&'t [u8]> {
    let whole = Span::new(0, object.len())?;
    scan::field(object, whole, name).map(|value| value.of(object))
}

/// The object with those members for which `judge` gives something, and in place of a value what it gives. `None`: with
/// all of them as they are.
fn keep(object: &[u8], judge: impl Fn(&str, &[u8]) -> Option<Option<Vec<u8>>>) -> Option<Vec<u8>> {
    let whole = Span::new(0, object.len())?;
    let judged = || {
        fields(object, whole).map_while(Result::ok).map(|(key, value)| {
            // An escaped spelling of a known name is as good as any other.
            let name = unescape(key.of(object)).unwrap_or_default();
            (key, value, judge(&name, value.of(object)))
        })
    };
    // Usually all of it goes on, and nothing is written anew.
    if judged().all(|(.., verdict)| matches!(verdict, Some(None))) {
        return None;
    }
    let mut out = vec![b'{'];
    for (key, value, verdict) in judged() {
        let Some(instead) = verdict else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(key.of(object));
        out.push(b':');
        out.extend_from_slice(instead.as_deref().unwrap_or_else(|| value.of(object)));
    }
    out.push(b'}');
    Some(out)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ON: Features = Features {
        prompts: false,
        resources: false,
        completions: false,
        elicitation: true,
        sampling: true,
        roots: true,
        logging: false,
        subscriptions: false,
    };

    #[rstest]
    #[case::nothing_said("{}")]
    #[case::word_for_word(
        r#"{ "elicitation" : {"form":{ },"url":{}},"sampling":{"tools":{},"x":1.0},"roots":{}}"#
    )]
    #[case::known_extensions(r#"{"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["a"]},"io.modelcontextprotocol/tasks":{}}}"#)]
    #[case::escaped(r#"{"root\u0073":{}}"#)]
    fn what_is_on_goes_untouched(#[case] declared: &str) {
        assert_eq!(narrowed(declared.as_bytes(), ON), None);
    }

    #[rstest]
    #[case(
        Features { elicitation: false, ..ON },
        r#"{"elicitation":{"form":{}},"sampling":{ }, "roots":{}}"#,
        r#"{"sampling":{ },"roots":{}}"#
    )]
    #[case(Features { sampling: false, ..ON }, r#"{"sampling":{},"roots":{}}"#, r#"{"roots":{}}"#)]
    #[case(Features { roots: false, ..ON }, r#"{"sampling":{},"roots":{}}"#, r#"{"sampling":{}}"#)]
    #[case::spelled_otherwise(Features { roots: false, ..ON }, r#"{"r\u006fots":{}}"#, "{}")]
    #[case::imitated(ON, r#"{"Elicitation":{},"roots":{}}"#, r#"{"roots":{}}"#)]
    #[case::unknown(ON, r#"{"experimental":{"x":{}},"tasks":{},"roots":{}}"#, r#"{"roots":{}}"#)]
    #[case::unknown_extensions(
        ON,
        r#"{"extensions":{"com.example/x":{},"io.modelcontextprotocol/tasks":{"a":1.0}},"roots":{}}"#,
        r#"{"extensions":{"io.modelcontextprotocol/tasks":{"a":1.0}},"roots":{}}"#
    )]
    #[case(Features::default(), r#"{"elicitation":{},"sampling":{},"roots":{}}"#, "{}")]
    fn what_is_off_or_unknown_stays_here(#[case] on: Features, #[case] declared: &str, #[case] told: &str) {
        let narrowed = narrowed(declared.as_bytes(), on).unwrap();
        assert_eq!(String::from_utf8(narrowed).unwrap(), told);
    }

    #[test]
    fn extensions_are_found_where_they_belong() {
        let has = |text: &str| has_extension(text.as_bytes(), TASKS);
        assert!(has(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#));
        assert!(!has(r#"{"io.modelcontextprotocol/tasks":{}}"#));
        assert!(!has(r#"{"extensions":{"io.modelcontextprotocol/ui":{}}}"#));
    }
}
