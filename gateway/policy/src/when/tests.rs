//! What conditions come to, what is refused when they are read, and what hostile ones may cost.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn alice() -> Identity {
    let names = |list: &[&str]| list.iter().map(|name| Arc::from(*name)).collect();
    Identity::new(
        "corp".into(),
        "alice".into(),
        names(&["analysts", "staff"]),
        names(&["mcp:tools"]),
        None,
    )
}

fn compile(text: &str) -> Result<Condition, Mistake> {
    Condition::compile(text, &mut Patterns::default())
}

/// The verdict on a call, and its steps.
fn judged(condition: &str, asked: Asked<'_>) -> (Verdict, u32) {
    let condition = compile(condition).unwrap_or_else(|mistake| panic!("{mistake}: {condition}"));
    let who = alice();
    let trial = Trial::new(&who, "agents/files", Some("read_file"), asked);
    let verdict = condition.judge(&trial);
    (verdict, trial.steps())
}

fn call(condition: &str, arguments: &str) -> Verdict {
    judged(
        condition,
        Asked::request("tools/call", Some(arguments.as_bytes())),
    )
    .0
}

const ARGUMENTS: &str = r#"{"path":"/public/a.txt","n":7,"big":9007199254740993,"d":2.5,"yes":true,"none":null,"text":"a\nb\u00e9",
 "tags":["a","b"],"nested":{"k":"v","list":[1,2,3]},"empty":[],"huge":18446744073709551616,"half":"\ud800","":"e"}"#;

#[rstest]
#[case::constants("true")]
#[case("!false && !!true")]
#[case("1 < 2 && 2 <= 2 && 3 > -1 && 1.5 >= 1 && 1e2 == 100 && 0x10 == 16")]
#[case(r#""a" < "b" && 'it' == "it" && r'\d' == "\\d" && "\x41\u00e9" == "Aé""#)]
#[case("1 in [1, 2] && !('x' in ['y', 'z']) && 1.0 in [1]")]
#[case("1 < 2 ? true : false")]
#[case::facts("principal.method == 'corp' && principal.subject == 'alice'")]
#[case("'staff' in principal.groups && !('root' in principal.groups) && size(principal.groups) == 2")]
#[case("principal.scopes.exists(s, s.startsWith('mcp:'))")]
#[case("server.name == 'files' && server.namespace == 'agents' && tool.name == 'read_file'")]
#[case("request.method == 'tools/call'")]
#[case("principal.groups == ['analysts', 'staff']")]
#[case::arguments("request.arguments.path == '/public/a.txt'")]
#[case("request.arguments['path'].endsWith('.txt') && request.arguments.path.contains('/a')")]
#[case("path(request.arguments.path).under('/public')")]
#[case("!path(request.arguments.path).under('/private')")]
#[case("request.arguments.n == 7 && request.arguments.n > 6.5 && request.arguments.n in [5, 7]")]
#[case::exactly("request.arguments.big != 9007199254740992.0 && request.arguments.big > 9007199254740992.0")]
#[case("request.arguments.d == 2.5 && request.arguments.yes && request.arguments.none == null")]
#[case("request.arguments.n != '7' && request.arguments.n != null")]
#[case("request.arguments.text == 'a\\nb\\u00e9' && size(request.arguments.text) == 4")]
#[case("request.arguments.text.matches('^a') && !request.arguments.path.matches('[0-9]')")]
#[case("request.arguments.tags == ['a', 'b'] && request.arguments.tags[1] == 'b'")]
#[case("request.arguments.tags.all(t, t in ['a', 'b', 'c']) && request.arguments.empty.all(t, false)")]
#[case("request.arguments.nested.k == 'v' && request.arguments.nested.list.exists(n, n == 3)")]
#[case("has(request.arguments.path) && !has(request.arguments.other) && has(request.arguments.nested.k)")]
#[case("'path' in request.arguments && !('other' in request.arguments) && '' in request.arguments")]
#[case("request.arguments.exists(k, k == 'path') && request.arguments.nested.all(k, k in ['k', 'list'])")]
#[case("size(request.arguments.nested) == 2 && request.arguments.tags.size() == 2")]
#[case::absorbed("true || request.arguments.other == 1")]
#[case("request.arguments.other == 1 || true")]
#[case("!(request.arguments.other == 1 && false)")]
#[case("request.arguments.tags.exists(t, t == 'b' || t > 1)")]
#[case("has(request.arguments.other) ? request.arguments.other == 1 : true")]
#[case::of_different_kinds("request.arguments.n != request.arguments.path")]
#[case::only_what_is_read_must_be_exact(
    "request.arguments.n == 7 && has(request.arguments.huge) && has(request.arguments.half)"
)]
#[case::comment("true // said\n && true")]
fn conditions_hold(#[case] condition: &str) {
    assert_eq!(call(condition, ARGUMENTS), Verdict::Holds);
    assert_eq!(call(&format!("!({condition})"), ARGUMENTS), Verdict::HoldsNot);
}

#[rstest]
#[case("request.arguments.other == 1", Failure::Missing)]
#[case("request.arguments.tags[2] == 'c'", Failure::Missing)]
#[case("request.arguments.tags[-1] == 'c'", Failure::Missing)]
#[case("has(request.arguments.other.more)", Failure::Missing)]
#[case("request.arguments.path.more == 1", Failure::WrongKind)]
#[case("request.arguments.n.startsWith('7')", Failure::WrongKind)]
#[case("request.arguments.n < 'a'", Failure::WrongKind)]
#[case("request.arguments.n", Failure::WrongKind)]
#[case(
    "request.arguments.nested == request.arguments.nested.k || request.arguments.nested['k'] > 1",
    Failure::WrongKind
)]
#[case("request.arguments.nested[0] == 1", Failure::WrongKind)]
#[case("request.arguments.path.all(c, true)", Failure::WrongKind)]
#[case("!request.arguments.path", Failure::WrongKind)]
#[case("request.arguments.huge > 5", Failure::NotExact)]
#[case("request.arguments.half == 'x'", Failure::NotExact)]
#[case("path(request.arguments.text).under('/public')", Failure::UnclearPath)]
#[case("request.arguments.tags.all(t, t == 'a' || t > 1)", Failure::WrongKind)]
fn what_cannot_be_told_fails(#[case] condition: &str, #[case] expected: Failure) {
    assert_eq!(call(condition, ARGUMENTS), Verdict::Fails(expected));
    assert_eq!(
        call(&format!("({condition}) || 1 > 2"), ARGUMENTS),
        Verdict::Fails(expected)
    );
}

#[rstest]
#[case::no_object("request.arguments.path == 'x'", "[1]", Failure::WrongKind)]
#[case::a_key_twice("request.arguments.a == 1", r#"{"a":1,"a":1}"#, Failure::NotExact)]
#[case::a_key_twice_elsewhere(
    "request.arguments.a == 1",
    r#"{"a":1,"b":{"c":1,"\u0063":2}}"#,
    Failure::NotExact
)]
#[case::half_a_key("has(request.arguments.a)", r#"{"\udfff":1}"#, Failure::NotExact)]
#[case::no_json("has(request.arguments.a)", "{", Failure::NotExact)]
fn arguments_that_servers_may_read_differently_are_not_read(
    #[case] condition: &str,
    #[case] arguments: &str,
    #[case] expected: Failure,
) {
    assert_eq!(call(condition, arguments), Verdict::Fails(expected));
    assert_eq!(call(&format!("{condition} || true"), arguments), Verdict::Holds);
    // Who does not read them does not mind.
    assert_eq!(call("tool.name == 'read_file'", arguments), Verdict::Holds);
}

#[rstest]
#[case("request.arguments.path == 'x'", Verdict::Depends)]
#[case("path(request.arguments.path).under('/x')", Verdict::Depends)]
#[case("has(request.arguments.path)", Verdict::Depends)]
#[case("request.arguments.tags.all(t, t == 1)", Verdict::Depends)]
#[case("!(request.arguments.n in [1])", Verdict::Depends)]
#[case("request.arguments['a'][0].matches('x')", Verdict::Depends)]
#[case("size(request.arguments) == 1 ? true : false", Verdict::Depends)]
#[case("request.method == 'tools/call'", Verdict::Depends)]
#[case("request.arguments.n > 1 && tool.name == 'other'", Verdict::HoldsNot)]
#[case("tool.name == 'read_file' || request.arguments.n > 1", Verdict::Holds)]
#[case("principal.subject == 'alice'", Verdict::Holds)]
fn lists_are_made_before_arguments_are_known(#[case] condition: &str, #[case] expected: Verdict) {
    assert_eq!(judged(condition, Asked::LISTED).0, expected);
}

#[test]
fn arguments_may_be_absent_or_gone() {
    for absent in [None, Some(&b"null"[..])] {
        let asked = Asked::request("resources/read", absent);
        assert_eq!(judged("size(request.arguments) == 0", asked).0, Verdict::Holds);
        assert_eq!(
            judged("request.method == 'resources/read'", asked).0,
            Verdict::Holds
        );
    }
    let gone = Asked::without_arguments("tools/call");
    assert_eq!(
        judged("has(request.arguments.a)", gone).0,
        Verdict::Fails(Failure::NotKept)
    );
    let before = Asked::about_a_call("tasks/get");
    assert_eq!(judged("has(request.arguments.a)", before).0, Verdict::Depends);
    assert_eq!(judged("request.method == 'tasks/get'", before).0, Verdict::Holds);
}

#[rstest]
#[case("", 1, "a value is expected")]
#[case("true true", 6, "the end, or an operator")]
#[case(
    "request.argument.path == 'x'",
    1,
    "only request.method and request.arguments"
)]
#[case("request == 1", 1, "only request.method")]
#[case("user.name == 'x'", 1, "user is unknown")]
#[case("tool.annotations.readOnlyHint", 1, "only tool.name")]
#[case("'a'", 1, "a condition is true or false, this is a string")]
#[case("request.arguments.n + 1 == 2", 21, "+ is not available")]
#[case("request.arguments.n % 2 == 0", 21, "% is not available")]
#[case("tool.name = 'x'", 11, "'=' means nothing")]
#[case("tool.name == 1", 11, "a string is never equal to a number")]
#[case("1 == 2 == 3", 8, "never equal")]
#[case("tool.name && true", 1, "a side of && is true or false")]
#[case("!tool.name", 2, "what stands after !")]
#[case("tool.name.length == 3", 11, "a string has no member length")]
#[case("tool.name.lower() == 'x'", 11, "lower() is not available")]
#[case("1.startsWith('x')", 3, "what startsWith() is asked of is a string")]
#[case("tool.name.startsWith(1)", 22, "what startsWith() takes is a string")]
#[case("tool.name.matches(server.name)", 19, "a string that stands here")]
#[case("tool.name.matches('(')", 19, "no such regular expression")]
#[case("tool.name.matches('(a{90}){90}')", 19, "too large")]
#[case("path(tool.name)", 1, "asked one thing")]
#[case("path(tool.name).under(server.name)", 23, "a string that stands here")]
#[case("path(tool.name).under('/a/../b')", 23, "without ..")]
#[case("path(1).under('/a')", 6, "what path() takes is a string")]
#[case("has(tool.name)", 5, "a member of an object")]
#[case("has(request.arguments)", 5, "a member of an object")]
#[case(
    "principal.groups.all(g, principal.scopes.exists(s, s == g))",
    42,
    "in one another"
)]
#[case("principal.groups.all(true, true)", 22, "choose another name")]
#[case("principal.groups.all('g', true)", 22, "a name for the item")]
#[case("principal.groups.all(g, 1)", 25, "what is asked of each item")]
#[case("principal.groups.exists(g, g == 1)", 30, "never equal")]
#[case("g == 1", 1, "g is unknown")]
#[case("principal.groups.all(g, true) && g == 'x'", 34, "g is unknown")]
#[case("tool.name in 'abc'", 11, "in takes a list")]
#[case("1 in [tool.name]", 7, "a list that stands in a condition holds")]
#[case("[1, 2 == true", 7, "] or , is expected")]
#[case("request.arguments == request.arguments", 19, "objects cannot be compared")]
#[case("'a", 1, "not closed")]
#[case("b'a' == 'a'", 1, "bytes are not available")]
#[case("'\\q' == 'a'", 1, "no such escape")]
#[case("'\\ud800' == 'a'", 1, "is no character")]
#[case("9223372036854775808 == 1", 1, "does not fit")]
#[case("1e999 == 1", 1, "does not fit")]
#[case("1u == 1", 1, "a number is written")]
#[case("-tool.name == 'x'", 1, "before a number")]
#[case("tool.name == 'é' && x", 21, "x is unknown")]
#[case("#", 1, "means nothing")]
#[case("true ? 1 : 2", 1, "this is a number")]
fn what_is_not_available_is_refused_with_its_place(
    #[case] condition: &str,
    #[case] at: usize,
    #[case] expected: &str,
) {
    let mistake = compile(condition).unwrap_err();
    assert!(mistake.message.contains(expected), "{mistake}");
    assert_eq!(mistake.at, at, "{mistake}");
}

#[test]
fn conditions_that_are_too_long_or_too_deep_are_refused() {
    let long = format!("true{}", " ".repeat(MAX_LENGTH));
    assert_eq!(compile(&long).unwrap_err().at, MAX_LENGTH + 1);
    let nested = |open: &str, close: &str| format!("{}true{}", open.repeat(200), close.repeat(200));
    for text in [
        nested("(", ")"),
        nested("!(", ")"),
        format!("request.arguments{} == 1", ".a".repeat(1000)),
        format!("request.arguments{} == 1", "[0]".repeat(600)),
        format!("true{}", " == true".repeat(200)),
        "true ? ".repeat(100) + "true" + &" : true".repeat(100),
    ] {
        assert!(compile(&text).unwrap_err().message.contains("too many"), "{text}");
    }
    assert!(compile(&("!".repeat(1000) + "true")).is_ok());
    assert!(compile(&(0..300).map(|_| "true").collect::<Vec<_>>().join("&&")).is_ok());
}

/// Conditions that look at as much as they can.
const GREEDY: [&str; 8] = [
    "request.arguments.a.all(x, !(2 in request.arguments.a))",
    "request.arguments.a.all(x, request.arguments.a.size() > 0 && !request.arguments.t.contains('zzzz'))",
    "request.arguments.a.all(x, request.arguments.t == request.arguments.u)",
    "request.arguments.a.all(x, !request.arguments.t.matches('(a|b)*c'))",
    "request.arguments.a.all(x, !path(request.arguments.t).under('/x'))",
    "request.arguments.a.all(x, request.arguments.a == request.arguments.b)",
    "request.arguments.a.all(x, size(request.arguments.e) > 0)",
    "request.arguments.a.all(x, !(request.arguments.t in request.arguments.o))",
];

fn greedy_arguments(long: usize) -> String {
    let list = vec!["1"; json::MAX_ITEMS].join(",");
    let members = (0..json::MAX_ITEMS / 2)
        .map(|at| format!("\"k{at}\":1"))
        .collect::<Vec<_>>()
        .join(",");
    let text = "a".repeat(long);
    let escaped = "\\n".repeat(long / 2);
    format!(r#"{{"a":[{list}],"b":[{list}],"o":{{{members}}},"t":"{text}","u":"{text}","e":"{escaped}"}}"#)
}

#[test]
fn no_condition_takes_more_than_its_steps() {
    let arguments = greedy_arguments(30_000);
    assert!(arguments.len() < json::MAX_BYTES);
    for condition in GREEDY {
        let (verdict, steps) = judged(
            condition,
            Asked::request("tools/call", Some(arguments.as_bytes())),
        );
        assert_eq!(verdict, Verdict::Fails(Failure::TooMuch), "{condition}");
        assert!(steps <= MAX_STEPS, "{steps}");
    }
}

#[test]
fn the_conditions_of_one_decision_share_their_steps() {
    let arguments = greedy_arguments(1000);
    let who = alice();
    let trial = Trial::new(
        &who,
        "a/b",
        None,
        Asked::request("tools/call", Some(arguments.as_bytes())),
    );
    let modest = compile("request.arguments.a.exists(x, x == 2)").unwrap();
    let verdicts: Vec<Verdict> = (0..20).map(|_| modest.judge(&trial)).collect();
    assert_eq!(verdicts[0], Verdict::HoldsNot);
    assert_eq!(verdicts[19], Verdict::Fails(Failure::TooMuch));
    assert_eq!(trial.steps(), MAX_STEPS);
}

#[test]
fn an_ordinary_condition_takes_few_steps() {
    let condition = "path(request.arguments.path).under('/public') && request.arguments.n < 10";
    let (verdict, steps) = judged(
        condition,
        Asked::request("tools/call", Some(ARGUMENTS.as_bytes())),
    );
    assert_eq!(verdict, Verdict::Holds);
    assert!(steps < 100, "{steps}");
}

#[test]
fn arguments_beyond_the_bounds_fail_before_they_are_read() {
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(json::MAX_BYTES));
    assert_eq!(
        call("has(request.arguments.a)", &large),
        Verdict::Fails(Failure::TooLarge)
    );
    let many = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(json::MAX_ITEMS));
    assert_eq!(
        call("has(request.arguments.a)", &many),
        Verdict::Fails(Failure::TooLarge)
    );
    let deep = format!(
        r#"{{"a":{}{}}}"#,
        "[".repeat(100_000 / 2),
        "]".repeat(100_000 / 2)
    );
    assert_eq!(
        call("has(request.arguments.a)", &deep),
        Verdict::Fails(Failure::TooLarge)
    );
}

fn any_condition() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "true",
        "false",
        "request.arguments.a == 1",
        "request.arguments.b.c",
        "has(request.arguments.a)",
        "tool.name == 'x'",
        "'g' in principal.groups",
        "request.arguments.l.all(x, x > 1)",
        "request.arguments.l.exists(x, x == 'y')",
        "path(request.arguments.p).under('/p')",
        "request.arguments.p.matches('^/p')",
        "request.method == 'tools/call'",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn any_arguments() -> impl Strategy<Value = String> {
    let member = prop::sample::select(vec![
        r#""a":1"#,
        r#""a":"1""#,
        r#""b":{"c":true}"#,
        r#""b":{"c":1}"#,
        r#""l":[1,2]"#,
        r#""l":["y",5]"#,
        r#""p":"/p/x""#,
        r#""p":"/p/../x""#,
        r#""p":7"#,
    ]);
    prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_a_list_says_no_call_contradicts(condition in any_condition(), arguments in any_arguments()) {
        prop_assume!(condition.chars().count() <= MAX_LENGTH && compile(&condition).is_ok());
        let listed = judged(&condition, Asked::LISTED).0;
        let called = call(&condition, &arguments);
        // Certain without the arguments, it is the same with them.
        prop_assert!(listed == Verdict::Depends || listed == called, "{condition}: {listed:?} {called:?}");
    }

    #[test]
    fn swapping_sides_changes_nothing(a in any_condition(), b in any_condition(), arguments in any_arguments()) {
        for mark in ["&&", "||"] {
            let (one, two) = (format!("({a}) {mark} ({b})"), format!("({b}) {mark} ({a})"));
            prop_assume!(one.chars().count() <= MAX_LENGTH && compile(&one).is_ok());
            let (one, two) = (call(&one, &arguments), call(&two, &arguments));
            let fails = |verdict| matches!(verdict, Verdict::Fails(_));
            prop_assert!(one == two || fails(one) && fails(two));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        if let Err(mistake) = compile(&text) {
            prop_assert!(mistake.at <= text.chars().count() + 1);
        }
    }

    #[test]
    fn anything_of_its_words_is_read_or_refused(
        words in prop::collection::vec(prop::sample::select(vec![
            "request", "arguments", ".", "(", ")", "[", "]", "has", "size", "path", "under", "all", "x", ",", "'/a'",
            "1", "==", "in", "&&", "||", "!", "?", ":", "-", "true", "null", "principal", "groups",
        ]), 0..40),
        arguments in any_arguments(),
    ) {
        if let Ok(condition) = compile(&words.join(" ")) {
            let who = alice();
            condition.judge(&Trial::new(&who, "a/b", None, Asked::request("m", Some(arguments.as_bytes()))));
        }
    }
}
