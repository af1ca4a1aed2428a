//! What a server asks a client, wherever it stands: as a request in a session, or in an answer that wants to know more.

use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::scan::{self, Member, Span};
use crate::mcp::session::Capabilities;

/// The members that say what is asked.
const OF_QUESTION: [&str; 2] = ["method", "params"];
/// The members of its `params` that say what a client must be able to do.
const OF_PARAMS: [&str; 3] = ["mode", "tools", "toolChoice"];

const UNREADABLE: &str = "what it asks the client can be read in two ways, or not at all";
const UNKNOWN: &str = "it asks the client for something that is not known here";
const NOT_ALLOWED: &str = "it asks the client for what is off, or what the client cannot do";

/// One question, which the client may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What is asked.
    pub method: Method,
    /// Its `params`, an object.
    pub params: Option<Span>,
}

/// The question at `at` in an answer, if a client with these capabilities may be asked it.
pub fn read(json: &[u8], at: Span, can: Capabilities) -> Result<Question, &'static str> {
    if !is_plain(json, at, &OF_QUESTION) {
        return Err(UNREADABLE);
    }
    let method = scan::field(json, at, "method").and_then(|at| scan::unescape(at.of(json)).ok());
    let method = method.map_or(Method::Other, |name| Method::from_name(name.as_bytes()));
    let params = scan::field(json, at, "params");
    check(json, method, params, can)?;
    Ok(Question { method, params })
}

/// May a client with these capabilities be asked this request?
pub fn may_be_asked(request: &Message, can: Capabilities) -> bool {
    let params = request.span(Member::Params);
    check(request.bytes(), request.method(), params, can).is_ok()
}

fn check(json: &[u8], method: Method, params: Option<Span>, can: Capabilities) -> Result<(), &'static str> {
    if params.is_some_and(|params| !is_plain(json, params, &OF_PARAMS)) {
        return Err(UNREADABLE);
    }
    let member = |name| scan::field(json, params?, name);
    let needs = match method {
        Method::ElicitationCreate => {
            let by_url = member("mode").is_some_and(|mode| mode.of(json) != b"\"form\"");
            if by_url {
                Capabilities::ELICITATION.with(Capabilities::ELICITATION_URL)
            } else {
                Capabilities::ELICITATION
            }
        }
        Method::SamplingCreateMessage => {
            if member("tools").is_some() || member("toolChoice").is_some() {
                Capabilities::SAMPLING.with(Capabilities::SAMPLING_TOOLS)
            } else {
                Capabilities::SAMPLING
            }
        }
        Method::RootsList => Capabilities::ROOTS,
        _ => return Err(UNKNOWN),
    };
    // Who names modes has those only; who names none has forms.
    let no_forms = can.has(Capabilities::ELICITATION_URL) && !can.has(Capabilities::ELICITATION_FORM);
    if !can.has(needs) || (needs == Capabilities::ELICITATION && no_forms) {
        return Err(NOT_ALLOWED);
    }
    Ok(())
}

/// An object that every parser reads in the same way, as far as those members go: no key stands twice, and none is one
/// of them but for its case.
fn is_plain(json: &[u8], at: Span, keys: &[&str]) -> bool {
    let imitates = |name: &str| {
        keys.iter()
            .any(|key| name != *key && name.eq_ignore_ascii_case(key))
    };
    at.first(json) == b'{'
        && !scan::repeats_a_key(json, at)
        && !scan::fields(json, at)
            .map_while(Result::ok)
            .any(|(key, _)| scan::unescape(key.of(json)).is_ok_and(|name| imitates(&name)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::form(
        r#"{"method":"elicitation/create","params":{"message":"?"}}"#,
        Capabilities::ELICITATION,
        true
    )]
    #[case::form_by_name(
        r#"{"method":"elicitation/create","params":{"mode":"form"}}"#,
        Capabilities::ELICITATION,
        true
    )]
    #[case::url(
        r#"{"method":"elicitation/create","params":{"mode":"url"}}"#,
        Capabilities::ELICITATION,
        false
    )]
    #[case::url_declared(
        r#"{"method":"elicitation/create","params":{"mode":"url"}}"#,
        Capabilities::OF_ELICITATION,
        true
    )]
    #[case::form_of_who_has_urls_only(
        r#"{"method":"elicitation/create","params":{}}"#,
        Capabilities::ELICITATION.with(Capabilities::ELICITATION_URL),
        false
    )]
    #[case::another_mode(
        r#"{"method":"elicitation/create","params":{"mode":"\u0075rl"}}"#,
        Capabilities::ELICITATION,
        false
    )]
    #[case::sampling(
        r#"{"method":"sampling/createMessage","params":{}}"#,
        Capabilities::SAMPLING,
        true
    )]
    #[case::sampling_with_tools(
        r#"{"method":"sampling/createMessage","params":{"tools":[]}}"#,
        Capabilities::SAMPLING,
        false
    )]
    #[case::roots(r#"{"method":"roots/list"}"#, Capabilities::ROOTS, true)]
    #[case::unknown(r#"{"method":"tools/call","params":{}}"#, Capabilities::EVERY, false)]
    #[case::mode_twice(
        r#"{"method":"elicitation/create","params":{"mode":"form","mode":"url"}}"#,
        Capabilities::ELICITATION,
        false
    )]
    #[case::mode_in_another_case(
        r#"{"method":"elicitation/create","params":{"Mode":"url"}}"#,
        Capabilities::ELICITATION,
        false
    )]
    #[case::params_of_no_object(r#"{"method":"roots/list","params":[]}"#, Capabilities::EVERY, false)]
    fn only_what_a_client_can_do_is_asked_of_it(
        #[case] question: &str,
        #[case] can: Capabilities,
        #[case] expected: bool,
    ) {
        let at = Span::new(0, question.len()).unwrap();
        assert_eq!(read(question.as_bytes(), at, can).is_ok(), expected);
        let request = question.replacen('{', r#"{"jsonrpc":"2.0","id":1,"#, 1);
        // What is no message at all is no question either.
        let asked = Message::from_server(Bytes::from(request), 64);
        assert_eq!(asked.is_ok_and(|asked| may_be_asked(&asked, can)), expected);
    }

    #[rstest]
    #[case::method_twice(r#"{"method":"elicitation/create","method":"sampling/createMessage","params":{}}"#)]
    #[case::method_in_another_spelling(r#"{"method":"roots/list","m\u0065thod":"sampling/createMessage"}"#)]
    #[case::method_in_another_case(r#"{"method":"roots/list","Method":"sampling/createMessage"}"#)]
    #[case::params_twice(r#"{"method":"elicitation/create","params":{},"params":{"mode":"url"}}"#)]
    #[case::nothing("{}")]
    #[case::no_object("[]")]
    fn what_can_be_read_in_two_ways_is_not_asked(#[case] question: &str) {
        let at = Span::new(0, question.len()).unwrap();
        assert!(read(question.as_bytes(), at, Capabilities::EVERY).is_err());
    }
}
