use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::*;
use crate::mcp::testing::{choices, object, spell, value};

fn scan(text: &[u8], strictness: Strictness, max_depth: u32) -> Result<Members, Fault> {
    let mut members = Members::none();
    scan_message(text, strictness, max_depth, &mut members).map(|()| members)
}

fn request(text: &[u8]) -> Result<Members, Fault> {
    scan(text, Strictness::Request, 64)
}

fn reply(text: &[u8]) -> Result<Members, Fault> {
    scan(text, Strictness::Reply, 64)
}

#[rstest]
#[case("")]
#[case("   ")]
#[case("{")]
#[case("{}}")]
#[case("{} {}")]
#[case(r#"{"a"}"#)]
#[case(r#"{"a":}"#)]
#[case(r#"{"a":1,}"#)]
#[case(r#"{,"a":1}"#)]
#[case("{a:1}")]
#[case("{'a':1}")]
#[case(r#"{"a":01}"#)]
#[case(r#"{"a":+1}"#)]
#[case(r#"{"a":1.}"#)]
#[case(r#"{"a":.5}"#)]
#[case(r#"{"a":1e}"#)]
#[case(r#"{"a":-}"#)]
#[case(r#"{"a":0x1}"#)]
#[case(r#"{"a":NaN}"#)]
#[case(r#"{"a":tru}"#)]
#[case(r#"{"a":truex}"#)]
#[case(r#"{"a":[1,]}"#)]
#[case(r#"{"a":[,1]}"#)]
#[case(r#"{"a":[1 2]}"#)]
#[case(r#"{"a":[1}"#)]
#[case(r#"{"a":"\x"}"#)]
#[case(r#"{"a":"\u12"}"#)]
#[case(r#"{"a":"\u12g4"}"#)]
#[case("{\"a\":\"\n\"}")]
#[case("{\"a\":\"x")]
#[case("{\"a\":1}\0")]
#[case("\u{feff}{}")]
#[case("{\"a\":1/*c*/}")]
fn not_json(#[case] text: &str) {
    assert!(serde_json::from_str::<Value>(text).is_err());
    for scanned in [request(text.as_bytes()), reply(text.as_bytes())] {
        assert!(scanned.unwrap_err().is_parse_error());
    }
}

#[rstest]
#[case(b"{\"a\":\"\xff\"}")]
#[case(b"{\"a\":\"\xc0\xaf\"}")]
#[case(b"{\"a\":\"\xed\xa0\x80\"}")]
#[case(b"{\"a\":\"\xf4\x90\x80\x80\"}")]
#[case(b"{\"a\":\"\xe2\x82\"}")]
#[case(b"{\"\x80\":1}")]
fn not_utf8(#[case] text: &[u8]) {
    assert!(matches!(request(text), Err(Fault::Utf8(_))));
    assert!(matches!(reply(text), Err(Fault::Utf8(_))));
}

#[rstest]
#[case(r#"{"a":"\ud800","b":"\udc00x\ud800"}"#)]
#[case(r#"{"a":1e400,"b":-0.0e-999,"c":18446744073709551617}"#)]
#[case(r#"{"a":"\u0000\u001f","":null}"#)]
#[case("\t{ \"a\" : [ ] , \"b\" : { } }\r\n")]
fn odd_but_json(#[case] text: &str) {
    assert!(request(text.as_bytes()).is_ok());
    assert!(reply(text.as_bytes()).is_ok());
}

#[rstest]
#[case("[]")]
#[case("1")]
#[case("\"x\"")]
#[case("null")]
fn json_but_no_object(#[case] text: &str) {
    assert!(matches!(request(text.as_bytes()), Err(Fault::Shape(_))));
    assert!(matches!(reply(text.as_bytes()), Err(Fault::Shape(_))));
}

#[rstest]
#[case(r#"{"a":1,"a":2}"#)]
#[case(r#"{"a":1,"b":2,"\u0061":3}"#)]
#[case(r#"{"params":{"arguments":{"x":[{"k":1,"\u006b":1}]}}}"#)]
#[case(r#"{"a":{"\ud800":1,"\uD800":2}}"#)]
#[case(r#"{"":1,"":2}"#)]
fn duplicate_keys_are_refused_on_requests(#[case] text: &str) {
    assert!(matches!(request(text.as_bytes()), Err(Fault::DuplicateKey(_))));
}

#[test]
fn duplicate_keys_of_a_reply_are_refused_where_members_are_read() {
    assert!(matches!(
        reply(br#"{"id":1,"id":2}"#),
        Err(Fault::DuplicateKey(_))
    ));
    assert!(matches!(
        reply(br#"{"result":{"tools":[],"tools":[]}}"#),
        Err(Fault::DuplicateKey(_))
    ));
    assert!(reply(br#"{"result":{"structuredContent":{"a":1,"a":2}}}"#).is_ok());
}

#[rstest]
#[case(r#"{"Method":"tools/call"}"#)]
#[case(r#"{"params":{"Name":"x"}}"#)]
#[case(r#"{"params":{"n\u0041me":"x"}}"#)]
#[case(r#"{"paramſ":{}}"#)]
#[case(r#"{"params":{"_meta":{"io.modelcontextprotocol/ProtocolVersion":"x"}}}"#)]
fn keys_that_some_parsers_take_for_ours_are_refused(#[case] text: &str) {
    assert!(matches!(request(text.as_bytes()), Err(Fault::AmbiguousKey(_))));
    assert!(reply(text.as_bytes()).is_ok());
}

#[test]
fn other_objects_may_use_any_key() {
    let text = br#"{"Id2":1,"params":{"arguments":{"Name":1,"name":2,"METHOD":3},"names":1}}"#;
    assert!(request(text).is_ok());
}

#[rstest]
#[case(Strictness::Request)]
#[case(Strictness::Reply)]
fn depth_is_counted_exactly(#[case] strictness: Strictness) {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for max in [1, 2, 3, 63, 64, 65, 127, 128, 200, MAX_DEPTH] {
            for depth in [max, max + 1] {
                // The message's own object is the first level.
                let inner = (depth - 1) as usize;
                let text = format!("{{\"a\":{}1{}}}", open.repeat(inner), close.repeat(inner));
                let done = scan(text.as_bytes(), strictness, max).map(drop);
                let want = if depth > max { Err(Fault::TooDeep) } else { Ok(()) };
                assert_eq!(done, want, "{open} {depth} of {max}");
            }
        }
    }
}

#[test]
fn no_configuration_lets_the_stack_overflow() {
    let deep = "{\"a\":".repeat(200_000);
    for strictness in [Strictness::Request, Strictness::Reply] {
        assert_eq!(scan(deep.as_bytes(), strictness, u32::MAX), Err(Fault::TooDeep));
    }
    let elements = "[".repeat(200_000);
    let span = Span::new(0, elements.len()).unwrap();
    assert_eq!(
        super::elements(elements.as_bytes(), span).next(),
        Some(Err(Fault::TooDeep))
    );
}

#[test]
fn members_are_found_where_they_belong() {
    let text = br#"{ "id" : "x\"y" , "jsonrpc":"2.0", "params":{"name":"n","arguments":{"name":"inner","id":5},
        "_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","name":0}},"method":"tools/call"}"#;
    let members = request(text).unwrap();
    let at = |member| {
        members
            .get(member)
            .map(|span| std::str::from_utf8(span.of(text)).unwrap())
    };
    assert_eq!(at(Member::Id), Some("\"x\\\"y\""));
    assert_eq!(at(Member::Method), Some("\"tools/call\""));
    assert_eq!(at(Member::Name), Some("\"n\""));
    assert_eq!(at(Member::Arguments), Some(r#"{"name":"inner","id":5}"#));
    assert_eq!(at(Member::MetaProgressToken), Some("7"));
    assert_eq!(at(Member::MetaProtocolVersion), Some("\"2026-07-28\""));
    assert_eq!(at(Member::Result), None);
    assert_eq!(at(Member::ProgressToken), None);
}

#[test]
fn a_member_of_the_wrong_type_is_still_seen() {
    let members = request(br#"{"params":[{"name":1}],"error":null,"id":null}"#).unwrap();
    assert!(members.get(Member::Params).is_some() && members.get(Member::Name).is_none());
    assert!(members.get(Member::Error).is_some() && members.get(Member::Id).is_some());
}

#[test]
fn batches_are_split_and_capped() {
    let text = br#" [ {"id":1,"params":{"name":"a"}} , 5, {"id":2} ] "#;
    assert!(is_batch(text) && !is_batch(b" {}") && !is_batch(b""));
    let items = scan_batch(text, Strictness::Request, 8, 3).unwrap();
    let ids: Vec<_> = items
        .iter()
        .map(|(span, members)| members.get(Member::Id).map(|id| id.of(span.of(text))))
        .collect();
    assert_eq!(ids, [Some(&b"1"[..]), None, Some(b"2")]);
    assert_eq!(
        scan_batch(text, Strictness::Request, 8, 2),
        Err(Fault::BatchTooLong)
    );
    assert_eq!(scan_batch(b"[]", Strictness::Request, 8, 2), Ok(vec![]));
    assert_eq!(
        scan_batch(b"[{}", Strictness::Request, 8, 2),
        Err(Fault::Syntax(3))
    );
    assert_eq!(
        scan_batch(b"[{},]", Strictness::Request, 8, 9),
        Err(Fault::Syntax(4))
    );
    assert_eq!(
        scan_batch(b"[{}]x", Strictness::Request, 8, 9),
        Err(Fault::Syntax(4))
    );
    assert_eq!(
        scan_batch(br#"[{"a":{}}]"#, Strictness::Request, 2, 9),
        Err(Fault::TooDeep)
    );
}

/// A path of keys from the message to a member.
fn path(member: Member) -> Vec<&'static str> {
    let mut path = member.within().map(path).unwrap_or_default();
    path.push(member.name());
    path
}

/// A message in which members of every level stand, beside others.
fn message() -> impl Strategy<Value = Value> {
    let part = || (object(), object());
    (part(), part(), object(), object()).prop_map(|(params, result, error, mut message)| {
        let nest = |(mut outer, inner): (Map<String, Value>, Map<String, Value>)| {
            outer.insert("_meta".into(), inner.into());
            Value::from(outer)
        };
        message.insert("params".into(), nest(params));
        message.insert("result".into(), nest(result));
        message.insert("error".into(), error.into());
        message.into()
    })
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let wide = Span::new(0, text.len().max(1)).unwrap();
        // Whatever it says, it says it of JSON only if it is JSON.
        if request(&text).is_ok() {
            prop_assert!(std::str::from_utf8(&text).is_ok());
        }
        drop((reply(&text), scan_batch(&text, Strictness::Request, 9, 9), unescape(&text)));
        prop_assert!(elements(&text, wide).count() + fields(&text, wide).count() <= 2 * text.len());
        prop_assert!(field(&text, wide, "a").is_none_or(|span| span.end() <= text.len()));
    }

    #[test]
    fn bytes_near_json_are_judged_as_serde_judges_them(
        value in value(), choices in choices(), at in any::<proptest::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut text = spell(&json!({ "a": value }), &choices).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let ours = reply(&text);
        // serde_json merges duplicates, refuses numbers out of range and halves of pairs: ignore what only it minds.
        match serde_json::from_slice::<serde::de::IgnoredAny>(&text) {
            Ok(_) => prop_assert!(!matches!(ours, Err(Fault::Syntax(_)))),
            Err(error) => prop_assert!(
                ours.is_err() || error.to_string().contains("surrogate") || error.to_string().contains("number out of range"),
                "{error} {:?}", String::from_utf8_lossy(&text)
            ),
        }
    }

}

proptest! {
    // Each case holds several generated objects.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn spans_are_what_serde_sees(message in message(), choices in choices()) {
        let text = spell(&message, &choices);
        for members in [request(text.as_bytes()), reply(text.as_bytes())] {
            // Some random keys imitate known ones.
            if let Err(fault) = &members {
                prop_assert!(matches!(fault, Fault::AmbiguousKey(_)), "{fault}");
                continue;
            }
            for &member in Member::ALL {
                let theirs = path(member).into_iter().try_fold(&message, |value, key| value.get(key));
                let ours = members.as_ref().unwrap().get(member);
                prop_assert_eq!(ours.is_some(), theirs.is_some(), "{:?}", member);
                if let (Some(ours), Some(theirs)) = (ours, theirs) {
                    prop_assert_eq!(&serde_json::from_slice::<Value>(ours.of(text.as_bytes())).unwrap(), theirs);
                }
            }
        }
    }

}

proptest! {
    #[test]
    fn walking_gives_what_serde_sees(value in value(), choices in choices()) {
        let text = spell(&value, &choices);
        let start = text.len() - text.trim_start().len();
        let span = Span::new(start, text.trim_end().len()).unwrap();
        let parse = |span: Span| serde_json::from_slice::<Value>(span.of(text.as_bytes())).unwrap();
        let items: Vec<Value> = elements(text.as_bytes(), span).map(|item| parse(item.unwrap())).collect();
        prop_assert_eq!(items, value.as_array().cloned().unwrap_or_default());
        let members: Map<String, Value> = fields(text.as_bytes(), span)
            .map(Result::unwrap)
            .map(|(key, item)| (unescape(key.of(text.as_bytes())).unwrap().into_owned(), parse(item)))
            .collect();
        prop_assert_eq!(&members, &value.as_object().cloned().unwrap_or_default());
        for (key, item) in &members {
            prop_assert_eq!(&parse(field(text.as_bytes(), span, key).unwrap()), item);
        }
    }

    #[test]
    fn strings_come_back(text in any::<String>(), choices in choices()) {
        let quoted = spell(&Value::from(text.clone()), &choices);
        prop_assert_eq!(unescape(quoted.trim().as_bytes()).unwrap(), text);
    }
}
