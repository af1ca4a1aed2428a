//! Media types: what a client takes (RFC 9110, section 12.5.1), and whether a body is JSON.

use http::HeaderMap;
use http::header::ACCEPT;

/// What nearly every client sends with a POST, word for word as the specification has it.
const USUAL: &str = "application/json, text/event-stream";

/// Whether a client takes both kinds of answer to a POST. No `Accept` at all takes everything.
pub fn accepts_json_and_event_stream(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(ACCEPT).iter();
    if let (Some(only), None) = (values.next(), values.next())
        && only == USUAL
    {
        return true;
    }
    accepts(headers, "application", "json") && accepts(headers, "text", "event-stream")
}

/// Whether a client takes a stream.
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    accepts(headers, "text", "event-stream")
}

/// Whether a `Content-Type` is JSON in UTF-8.
pub fn is_json(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(b"application/json")
        && parts.all(|parameter| match split(parameter, b'=') {
            Some((name, charset)) if name.eq_ignore_ascii_case(b"charset") => {
                let charset = charset
                    .strip_prefix(b"\"")
                    .and_then(|rest| rest.strip_suffix(b"\""))
                    .unwrap_or(charset);
                charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"utf8")
            }
            _ => true,
        })
}

/// Whether the most specific range that covers the type has a weight above zero.
fn accepts(headers: &HeaderMap, main: &str, sub: &str) -> bool {
    let mut present = false;
    let mut best: Option<(u8, bool)> = None;
    let values = headers.get_all(ACCEPT).iter();
    for range in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        present = true;
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let Some((range_main, range_sub)) = split(parts.next().unwrap_or_default(), b'/') else {
            continue;
        };
        let specific = match (range_main, range_sub) {
            (b"*", b"*") => 0,
            (m, b"*") if m.eq_ignore_ascii_case(main.as_bytes()) => 1,
            (m, s) if m.eq_ignore_ascii_case(main.as_bytes()) && s.eq_ignore_ascii_case(sub.as_bytes()) => 2,
            _ => continue,
        };
        let taken = !parts.any(|parameter| {
            split(parameter, b'=')
                .is_some_and(|(name, weight)| name.eq_ignore_ascii_case(b"q") && is_zero(weight))
        });
        if best.is_none_or(|(so_far, _)| specific > so_far) {
            best = Some((specific, taken));
        } else if let Some((so_far, either)) = &mut best
            && *so_far == specific
        {
            *either |= taken;
        }
    }
    best.map_or(!present, |(_, taken)| taken)
}

/// `0`, `0.`, `0.000`
fn is_zero(weight: &[u8]) -> bool {
    let digits = weight.strip_prefix(b"0.").unwrap_or(weight);
    weight.starts_with(b"0") && digits.iter().all(|digit| *digit == b'0')
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((
        text.get(..place)?.trim_ascii(),
        text.get(place + 1..)?.trim_ascii(),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[rstest]
    #[case(&[], true)]
    #[case(&["application/json, text/event-stream"], true)]
    #[case(&["application/json", "text/event-stream"], true)]
    #[case(&["TEXT/Event-Stream;q=0.5 , application/JSON ; q=1"], true)]
    #[case(&["*/*"], true)]
    #[case(&["text/*, application/*"], true)]
    #[case(&["application/json"], false)]
    #[case(&["text/event-stream"], false)]
    #[case(&["text/html"], false)]
    #[case(&[""], false)]
    #[case(&["*/*, text/event-stream;q=0"], false)]
    #[case(&["*/*;q=0.000, application/json, text/event-stream"], true)]
    #[case(&["application/json; q=0.001, text/event-stream; q=0.0"], false)]
    #[case(&["json, event-stream"], false)]
    fn both(#[case] values: &[&'static str], #[case] taken: bool) {
        assert_eq!(accepts_json_and_event_stream(&headers(values)), taken);
    }

    #[rstest]
    #[case("text/event-stream", true)]
    #[case("application/json", false)]
    #[case("*/*", true)]
    fn a_stream(#[case] value: &'static str, #[case] taken: bool) {
        assert_eq!(accepts_event_stream(&headers(&[value])), taken);
    }

    #[rstest]
    #[case("application/json", true)]
    #[case("Application/JSON; charset=UTF-8", true)]
    #[case("application/json;charset=\"utf-8\"; x=y", true)]
    #[case("application/json; charset=utf-16", false)]
    #[case("application/json-rpc", false)]
    #[case("text/plain", false)]
    #[case("application/json, text/plain", false)]
    #[case("", false)]
    fn json(#[case] value: &str, #[case] is: bool) {
        assert_eq!(is_json(value.as_bytes()), is);
    }
}
