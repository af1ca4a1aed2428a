//! Answers that leave something open: a server wants to know more of the client first (`input_required`), or goes on by
//! itself and gives a task (`task`). What the client carries for the server is sealed on the way out.

use bytes::Bytes;

use super::exchange::Failure;
use super::origin::Origin;
use super::terms::Mapping;
use super::{question, states, tasks};
use crate::app::context::Context;
use crate::mcp::edit::Patch;
use crate::mcp::envelope::Message;
use crate::mcp::method::Method;
use crate::mcp::reply::json_string;
use crate::mcp::revision::Era;
use crate::mcp::scan::{self, Member, Span};
use crate::mcp::seal::SealError;
use crate::mcp::session::Capabilities;

/// How much a server may ask at once.
const MAX_QUESTIONS: usize = 64;

/// Why a result of another kind is no answer.
pub(super) const NOT_ASKED_FOR: &str = "its result is of a kind that was not asked for";

/// Does this result leave something open? One without a type is complete, and so is that of every server with sessions.
pub fn is_unfinished(message: &Message) -> bool {
    message
        .raw(Member::ResultType)
        .is_some_and(|kind| kind != b"\"complete\"")
}

/// The answer in the client's terms. It is checked first: what a server may not ask, and what is of no kind that is known
/// here, is no answer.
pub fn answer(
    ctx: &Context,
    origin: &Origin,
    message: &Message,
    mapping: &Mapping,
) -> Result<Bytes, Failure> {
    // Between the eras nobody could bring the rest.
    if mapping.era == Era::Session {
        return Err(Failure::Invalid(NOT_ASKED_FOR));
    }
    let sealed = match message.str(Member::ResultType).as_deref() {
        _ if mapping.task.is_some() && !is_unfinished(message) => {
            let at = tasks::id_in_answer(origin, message, mapping)?;
            at.zip(mapping.task.as_ref().map(|task| task.clients.to_vec()))
        }
        Some("input_required") if is_asked_back(mapping.method) => {
            let questions = message.span(Member::ResultInputRequests);
            let state = message.span(Member::ResultRequestState);
            if questions.is_none() && state.is_none() {
                return Err(Failure::Invalid("it wants something, and does not say what"));
            }
            if let Some(questions) = questions {
                let asked = may_be_asked(message.bytes(), questions, origin.declared);
                for method in asked.map_err(Failure::Invalid)? {
                    ctx.entry.asked(ctx.entry.server.as_deref(), method.as_str());
                }
            }
            state
                .map(|at| sealed_state(ctx, origin, message, at))
                .transpose()?
        }
        Some("task") if mapping.method == Method::ToolsCall && origin.tasks => {
            Some(tasks::sealed(ctx, message)?)
        }
        _ => return Err(Failure::Invalid(NOT_ASKED_FOR)),
    };
    let id = message
        .span(Member::Id)
        .filter(|id| id.of(message.bytes()) != mapping.client_id);
    let mut patch = Patch::new(message.bytes());
    if let Some(id) = id {
        patch.replace(id, &mapping.client_id);
    }
    if let Some((at, sealed)) = &sealed {
        patch.replace(*at, sealed);
    }
    let links = mapping.rewrite.as_ref().map(|rewrite| rewrite.edits(message));
    for (at, uri) in links.iter().flatten() {
        patch.replace(*at, uri);
    }
    let answer = patch
        .apply()
        .map_err(|_| Failure::Invalid("its result overlaps itself"))?;
    Ok(ctx.app.budget.count(answer)?)
}

/// Where a server may want to know more before it answers.
const fn is_asked_back(method: Method) -> bool {
    matches!(
        method,
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead
    )
}

fn sealed_state(
    ctx: &Context,
    origin: &Origin,
    message: &Message,
    at: Span,
) -> Result<(Span, Vec<u8>), Failure> {
    let raw = at.of(message.bytes());
    if raw.first() != Some(&b'"') {
        return Err(Failure::Invalid("its requestState is not a string"));
    }
    let sealed = states::seal(ctx, origin.request, raw).map_err(|error| {
        Failure::Invalid(match error {
            SealError::TooLong => "its requestState is longer than a gateway seals",
            SealError::NoRandom => "its requestState could not be sealed",
        })
    })?;
    let mut quoted = Vec::with_capacity(sealed.len() + 2);
    json_string(&sealed, &mut quoted);
    Ok((at, quoted))
}

/// What a server asks, if a client who can do that may be asked it.
pub fn may_be_asked(json: &[u8], questions: Span, can: Capabilities) -> Result<Vec<Method>, &'static str> {
    let mut asked = Vec::new();
    if questions.first(json) != b'{' {
        return Err("its inputRequests are not an object");
    }
    if scan::repeats_a_key(json, questions) {
        return Err("its inputRequests name a question twice");
    }
    for item in scan::fields(json, questions) {
        let (_, at) = item.map_err(|_| "its inputRequests are not to be read")?;
        let question = question::read(json, at, can)?;
        if asked.len() >= MAX_QUESTIONS {
            return Err("it asks the client more at once than a gateway lets pass");
        }
        asked.push(question.method);
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("{}", Capabilities::NONE, true)]
    #[case::one_of_two(
        r#"{"a":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{}}}"#,
        Capabilities::ROOTS,
        false
    )]
    #[case::both(
        r#"{"a":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{}}}"#,
        Capabilities::EVERY,
        true
    )]
    #[case::twice_the_same(
        r#"{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}"#,
        Capabilities::EVERY,
        false
    )]
    #[case::nothing_asked(r#"{"a":{}}"#, Capabilities::OF_ELICITATION, false)]
    #[case::no_object("[]", Capabilities::OF_ELICITATION, false)]
    fn only_what_a_client_can_do_is_asked_of_it(
        #[case] questions: &str,
        #[case] can: Capabilities,
        #[case] expected: bool,
    ) {
        let at = Span::new(0, questions.len()).unwrap();
        assert_eq!(may_be_asked(questions.as_bytes(), at, can).is_ok(), expected);
    }
}
