//! Rules with conditions.

use super::explain::Effect;
use super::*;
use crate::when::Failure;

/// The decision on a call of `read_file` with these arguments.
fn called(policy: &Policy, arguments: &str) -> String {
    let asked = Asked::request("tools/call", Some(arguments.as_bytes()));
    told(policy.decide(&alice(), "agents/files", Thing::Tool("read_file"), asked, NOW))
}

fn listed(policy: &Policy) -> bool {
    policy
        .decide(
            &alice(),
            "agents/files",
            Thing::Tool("read_file"),
            Asked::LISTED,
            NOW,
        )
        .is_listed()
}

fn rule(name: &str, action: &str, when: &str) -> String {
    format!(
        "{{name: {name}, action: {action}, principals: {{method: corp}}, servers: ['*'], tools: ['*'], when: \"{when}\"}}"
    )
}

const PUBLIC: &str = "path(request.arguments.path).under('/public')";

#[rstest]
#[case(r#"{"path":"/public/a"}"#, "+a")]
#[case(r#"{"path":"/etc/passwd"}"#, "-")]
#[case(r#"{"path":"/public/../etc/passwd"}"#, "-")]
#[case("{}", "-")]
#[case(r#"{"path":7}"#, "-")]
#[case(r#"{"path":"/public/a","path":"/etc/passwd"}"#, "-")]
#[case(r#"{"path":"\u002fpublic/a"}"#, "+a")]
#[case(r#"{"path":"\ud800"}"#, "-")]
fn an_allow_permits_only_where_its_condition_holds(#[case] arguments: &str, #[case] expected: &str) {
    let policy = policy(&rule("a", "Allow", PUBLIC));
    assert_eq!(called(&policy, arguments), expected);
    assert!(listed(&policy));
    assert!(policy.any(&alice(), "agents/files", Kind::Tool, NOW));
}

#[rstest]
#[case(r#"{"path":"/secret/a"}"#, "-d")]
#[case(r#"{"path":"/public/a"}"#, "+all")]
#[case::cannot_be_told(r#"{"path":"/public/../secret/a"}"#, "-d")]
#[case::nor_can_this("{}", "-d")]
#[case(r#"{"path":["/public/a"]}"#, "-d")]
#[case(r#"{"path":"/public/a","path":"/secret/a"}"#, "-d")]
fn a_deny_denies_where_its_condition_holds_or_cannot_be_told(
    #[case] arguments: &str,
    #[case] expected: &str,
) {
    let policy = policy(&format!(
        "{ALL}, {}",
        rule("d", "Deny", "path(request.arguments.path).under('/secret')")
    ));
    assert_eq!(called(&policy, arguments), expected);
    assert!(listed(&policy), "a Deny that depends on arguments hides nothing");
    assert!(policy.any(&alice(), "agents/files", Kind::Tool, NOW));
}

#[test]
fn a_condition_on_what_is_known_decides_lists_too() {
    let only = |when| policy(&rule("a", "Allow", when));
    assert!(listed(&only("tool.name == 'read_file'")));
    assert!(!listed(&only("tool.name == 'other'")));
    assert!(!listed(&only(
        "'root' in principal.groups && has(request.arguments.x)"
    )));
    let denied = |when| policy(&format!("{ALL}, {}", rule("d", "Deny", when)));
    assert!(!listed(&denied("server.name == 'files'")));
    assert!(listed(&denied("server.name == 'web'")));
}

#[test]
fn shadow_rules_have_conditions_too() {
    let policy = policy(&rule("w", "Audit", "request.arguments.n > 5"));
    let named = |json: &str| {
        let asked = Asked::request("tools/call", Some(json.as_bytes()));
        let found = policy.shadows(&alice(), "agents/files", Thing::Tool("x"), asked, NOW);
        (found.matching.len(), found.unclear.len())
    };
    assert_eq!(
        [r#"{"n":6}"#, r#"{"n":5}"#, "{}"].map(named),
        [(1, 0), (0, 0), (0, 1)]
    );
    let listed = policy.shadows(&alice(), "agents/files", Thing::Tool("x"), Asked::LISTED, NOW);
    assert_eq!(listed, Shadows::default());
}

#[test]
fn what_needs_no_arguments_does_not_take_them_apart() {
    let policy = policy(&format!(
        "{}, {}",
        rule("a", "Allow", "tool.name == 'read_file'"),
        "{name: b, action: Allow, principals: {method: apiKeys}, servers: ['*'], tools: ['*'], when: 'has(request.arguments.a)'}"
    ));
    assert!(policy.reads_arguments());
    // They are no JSON: whoever read them would fail.
    assert_eq!(called(&policy, "{"), "+a");
}

#[test]
fn a_greedy_condition_leaves_nothing_to_the_rules_after_it() {
    let greedy = rule(
        "g",
        "Deny",
        "!request.arguments.l.all(x, x in request.arguments.l)",
    );
    let policy = policy(&format!(
        "{greedy}, {}",
        rule("a", "Allow", "has(request.arguments.l)")
    ));
    assert_eq!(called(&policy, r#"{"l":[1,2]}"#), "+a");
    let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(called(&policy, &format!(r#"{{"l":[{}]}}"#, many.join(","))), "-g");
}

#[test]
fn conditions_are_explained() {
    let policy = policy(
        &[
            rule("yes", "Allow", "request.arguments.n == 1"),
            rule("no", "Allow", "request.arguments.n == 2"),
            rule("fails", "Deny", "request.arguments.other == 2"),
        ]
        .join(", "),
    );
    let effects = |asked| {
        let told = policy.explain(&alice(), "agents/files", Thing::Tool("x"), asked, NOW);
        told.into_iter().map(|one| one.effect).collect::<Vec<_>>()
    };
    let asked = Asked::request("tools/call", Some(br#"{"n":1}"#));
    assert_eq!(
        effects(asked),
        [
            Effect::Matches,
            Effect::ConditionFalse,
            Effect::Fails(Failure::Missing)
        ]
    );
    assert_eq!(effects(Asked::LISTED), [Effect::Depends; 3]);
}

#[rstest]
#[case(
    "tool.nam == 'x'",
    "tools: ['*']",
    "rules[a].when: at character 1: of tool only tool.name can be read"
)]
#[case(
    "tool.name == 'x'",
    "tools: ['*'], prompts: ['*']",
    "rules[a].when: it reads tool.name"
)]
#[case("tool.name == 'x'", "resources: ['*']", "rules[a].when: it reads tool.name")]
fn a_condition_that_cannot_be_compiled_is_a_problem(
    #[case] when: &str,
    #[case] about: &str,
    #[case] expected: &str,
) {
    let rules = format!(
        "rules: [{{name: a, action: Allow, principals: {{method: corp}}, servers: ['*'], {about}, when: \"{when}\"}}]"
    );
    let problems = Policy::compile(&config(AUTH, &format!("{rules}\n{SERVERS}"))).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with(expected), "{}", problems[0]);
}
