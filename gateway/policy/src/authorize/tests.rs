//! Rules against a table.

use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use portcullis_config::policy::Principals;

mod conditions;
mod laws;
mod plain;

/// The time in all tests.
const NOW: u64 = 1_800_000_000;

/// A configuration with this `auth`, and more top-level lines.
fn config(auth: &str, more: &str) -> Config {
    let text = format!(
        "
formatVersion: 1
gateway: {{id: u, name: tools, namespace: agents, profile: Development, publicHost: mcp.example.com}}
listen:
  public: {{address: '0.0.0.0:8443', tls: {{certFile: tls.crt, keyFile: tls.key}}}}
auth: {auth}
{more}
"
    );
    portcullis_config::parse(text.as_bytes(), std::path::Path::new("/m"))
        .unwrap()
        .config
}

const AUTH: &str = "{anonymous: {reason: demo}, apiKeys: {dir: keys}, jwt: [{name: corp, issuer: 'https://idp.example.com', jwks: {file: jwks}}]}";

const SERVERS: &str = "
servers:
- {name: files, namespace: agents, prefix: files, url: 'http://f.agents.svc/mcp', addressPolicy: Cluster}
- {name: web, namespace: agents, prefix: web, url: 'http://w.agents.svc/mcp', addressPolicy: Cluster}
";

fn policy(rules: &str) -> Policy {
    Policy::compile(&config(AUTH, &format!("rules: [{rules}]\n{SERVERS}"))).unwrap()
}

fn identity(method: &str, subject: &str, groups: &[&str], scopes: &[&str]) -> Identity {
    let names = |list: &[&str]| list.iter().map(|name| Arc::from(*name)).collect();
    Identity::new(method.into(), subject.into(), names(groups), names(scopes), None)
}

fn alice() -> Identity {
    identity("corp", "alice", &["analysts", "staff"], &["mcp:tools"])
}

/// A decision as text: `+rule`, `-rule`, `-`, `?rule: scopes`.
fn told(decision: Decision<'_>) -> String {
    match decision {
        Decision::Allow { rule } => format!("+{rule}"),
        Decision::Deny { rule } => format!("-{}", rule.map_or("", |rule| rule)),
        Decision::InsufficientScope { rule, scopes } => format!("?{rule}: {}", scopes.join(" ")),
    }
}

const ALL: &str =
    "{name: all, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*']}";

#[rstest]
#[case::no_rules("", "-")]
#[case::everybody(ALL, "+all")]
#[case::group(
    "{name: g, action: Allow, principals: {method: corp, groups: [x, staff]}, servers: [agents/files], tools: ['read_*']}",
    "+g"
)]
#[case::subject(
    "{name: s, action: Allow, principals: {method: corp, subjects: [alice]}, servers: [agents/files], tools: [read_file]}",
    "+s"
)]
#[case::method_alone(
    "{name: m, action: Allow, principals: {method: corp}, servers: [agents/files], tools: [read_file]}",
    "+m"
)]
#[case::scope(
    "{name: c, action: Allow, principals: {method: corp, scopes: ['mcp:tools', other]}, servers: [agents/files], tools: ['*']}",
    "+c"
)]
#[case::and_between_lists(
    "{name: a, action: Allow, principals: {method: corp, subjects: [alice], groups: [nobody]}, servers: [agents/files], tools: ['*']}",
    "-"
)]
#[case::other_subject(
    "{name: a, action: Allow, principals: {method: corp, subjects: [bob]}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::subject_is_exact(
    "{name: a, action: Allow, principals: {method: corp, subjects: ['ali*', Alice]}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::other_method(
    "{name: a, action: Allow, principals: {method: apiKeys}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::clients_are_of_api_keys(
    "{name: a, action: Allow, principals: {clients: [alice]}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::other_server(
    "{name: a, action: Allow, principals: {anyAuthenticated: true}, servers: [agents/web], tools: ['*']}",
    "-"
)]
#[case::other_tool(
    "{name: a, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['write_*']}",
    "-"
)]
#[case::no_tools(
    "{name: a, action: Allow, principals: {anyAuthenticated: true}, servers: ['*']}",
    "-"
)]
#[case::deny_wins(&format!("{ALL}, {{name: d, action: Deny, principals: {{method: corp, groups: [staff]}}, servers: ['*'], tools: ['*_file']}}"), "-d")]
#[case::deny_before_allow_too(&format!("{{name: d, action: Deny, principals: {{method: corp, groups: [staff]}}, servers: ['*'], tools: ['*']}}, {ALL}"), "-d")]
#[case::deny_without_tools_is_about_none(&format!("{ALL}, {{name: d, action: Deny, principals: {{anyAuthenticated: true}}, servers: ['*']}}"), "+all")]
#[case::deny_of_other_group(&format!("{ALL}, {{name: d, action: Deny, principals: {{method: corp, groups: [interns]}}, servers: ['*'], tools: ['*']}}"), "+all")]
#[case::deny_of_a_scope_it_lacks(&format!("{ALL}, {{name: d, action: Deny, principals: {{method: corp, scopes: [admin]}}, servers: ['*'], tools: ['*']}}"), "+all")]
#[case::a_shadow_forbids_nothing(&format!("{ALL}, {{name: d, action: Audit, principals: {{anyAuthenticated: true}}, servers: ['*'], tools: ['*']}}"), "+all")]
#[case::a_shadow_permits_nothing(
    "{name: a, action: Audit, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::nor_does_it_ask_for_a_scope(
    "{name: a, action: Audit, principals: {method: corp, scopes: [admin]}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::expired(
    "{name: e, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], expires: '2020-01-01T00:00:00Z'}",
    "-"
)]
#[case::not_expired(
    "{name: e, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], expires: '2099-01-01T00:00:00Z'}",
    "+e"
)]
#[case::expired_deny(&format!("{ALL}, {{name: d, action: Deny, principals: {{anyAuthenticated: true}}, servers: ['*'], tools: ['*'], expires: '1969-01-01T00:00:00Z'}}"), "+all")]
#[case::step_up(
    "{name: u, action: Allow, principals: {method: corp, groups: [staff], scopes: [admin, root]}, servers: ['*'], tools: ['*']}",
    "?u: admin root"
)]
#[case::no_step_up_for_others(
    "{name: u, action: Allow, principals: {method: corp, groups: [admins], scopes: [admin]}, servers: ['*'], tools: ['*']}",
    "-"
)]
#[case::no_step_up_past_a_deny(
    "{name: u, action: Allow, principals: {method: corp, scopes: [admin]}, servers: ['*'], tools: ['*']}, {name: d, action: Deny, principals: {method: corp}, servers: ['*'], tools: ['*']}",
    "-d"
)]
#[case::step_up_is_the_second_choice(&format!("{{name: u, action: Allow, principals: {{method: corp, scopes: [admin]}}, servers: ['*'], tools: ['*']}}, {ALL}"), "+all")]
fn rules_decide_as_documented(#[case] rules: &str, #[case] expected: &str) {
    let policy = policy(rules);
    for _ in 0..2 {
        assert_eq!(
            told(policy.decide(
                &alice(),
                "agents/files",
                Thing::Tool("read_file"),
                Asked::LISTED,
                NOW
            )),
            expected
        );
    }
}

#[test]
fn anonymous_callers_are_nobody_but_themselves() {
    let nobody = Identity::anonymous();
    assert_eq!(
        told(policy(ALL).decide(&nobody, "agents/files", Thing::Tool("x"), Asked::LISTED, NOW)),
        "-"
    );
    let named =
        policy("{name: a, action: Allow, principals: {method: anonymous}, servers: ['*'], tools: ['*']}");
    assert_eq!(
        told(named.decide(&nobody, "agents/files", Thing::Tool("x"), Asked::LISTED, NOW)),
        "+a"
    );
    assert_eq!(
        told(named.decide(&alice(), "agents/files", Thing::Tool("x"), Asked::LISTED, NOW)),
        "-"
    );
}

#[test]
fn clients_are_named_by_their_file() {
    let policy =
        policy("{name: a, action: Allow, principals: {clients: [ci]}, servers: ['*'], tools: ['*']}");
    assert_eq!(
        told(policy.decide(
            &identity("apiKeys", "ci", &[], &[]),
            "agents/web",
            Thing::Tool("x"),
            Asked::LISTED,
            NOW
        )),
        "+a"
    );
    assert_eq!(
        told(policy.decide(
            &identity("apiKeys", "cd", &[], &[]),
            "agents/web",
            Thing::Tool("x"),
            Asked::LISTED,
            NOW
        )),
        "-"
    );
}

#[test]
fn a_star_means_attached_servers_only() {
    assert_eq!(
        told(policy(ALL).decide(&alice(), "other/server", Thing::Tool("x"), Asked::LISTED, NOW)),
        "-"
    );
    assert!(!policy(ALL).any(&alice(), "other/server", Kind::Tool, NOW));
}

#[rstest]
#[case(ALL, true)]
#[case("", false)]
#[case(
    "{name: a, action: Allow, principals: {anyAuthenticated: true}, servers: ['*']}",
    false
)]
#[case(
    "{name: a, action: Allow, principals: {anyAuthenticated: true}, servers: [agents/web], tools: ['*']}",
    false
)]
#[case(
    "{name: u, action: Allow, principals: {method: corp, scopes: [admin]}, servers: ['*'], tools: ['*']}",
    true
)]
#[case(
    "{name: e, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], expires: '2020-01-01T00:00:00Z'}",
    false
)]
#[case(&format!("{ALL}, {{name: d, action: Deny, principals: {{method: corp}}, servers: ['*'], tools: ['*']}}"), false)]
#[case(&format!("{ALL}, {{name: d, action: Deny, principals: {{method: corp}}, servers: ['*'], tools: ['write_*']}}"), true)]
fn a_server_exists_for_whom_it_has_a_tool(#[case] rules: &str, #[case] expected: bool) {
    assert_eq!(
        policy(rules).any(&alice(), "agents/files", Kind::Tool, NOW),
        expected
    );
}

const KINDS: &str = "
{name: t, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['a*']},
{name: p, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], prompts: ['a*']},
{name: r, action: Allow, principals: {anyAuthenticated: true}, servers: [agents/files], resources: ['file:///pub/*', 'x://{id}/*', a]},
{name: no, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], resources: ['*/key.pem', '*.PEM']}";

#[rstest]
#[case(Thing::Tool("a1"), "+t")]
#[case(Thing::Prompt("a1"), "+p")]
#[case(Thing::Prompt("b"), "-")]
#[case(Thing::Uri("a"), "+r")]
#[case(Thing::Uri("a1"), "-")]
#[case(Thing::Uri("file:///pub/x"), "+r")]
#[case(Thing::Listed("file:///pub/x"), "+r")]
#[case::template(Thing::Listed("x://{id}/{more}"), "+r")]
#[case::template_as_it_is_written(Thing::Listed("file:///{path}"), "-")]
#[case::denied(Thing::Uri("file:///pub/key.pem"), "-no")]
#[case::denied_when_decoded(Thing::Uri("file:///pub/%6bey.pem"), "-no")]
#[case::denied_as_written(Thing::Uri("FILE:///pub/x.PEM"), "-no")]
#[case::allowed_in_one_form_only(Thing::Uri("FILE:///pub/x"), "-")]
#[case::a_way_out(Thing::Uri("file:///pub/../etc/passwd"), "-")]
#[case::a_way_out_encoded(Thing::Uri("file:///pub/%2e%2e/etc/passwd"), "-")]
#[case::a_way_out_that_is_listed(Thing::Listed("file:///pub/../etc/passwd"), "-")]
fn prompts_and_resources_are_judged_by_their_own_globs(#[case] thing: Thing<'_>, #[case] expected: &str) {
    let policy = policy(KINDS);
    // Twice: what was found is remembered.
    for _ in 0..2 {
        assert_eq!(
            told(policy.decide(&alice(), "agents/files", thing, Asked::LISTED, NOW)),
            expected
        );
    }
}

#[test]
fn a_kind_that_no_rule_is_about_does_not_exist() {
    let policy = policy(KINDS);
    let has = |server| Kind::ALL.map(|kind| policy.any(&alice(), server, kind, NOW));
    assert_eq!(has("agents/files"), [true, true, true]);
    assert_eq!(has("agents/web"), [true, true, false]);
}

#[test]
fn what_was_found_under_one_policy_does_not_hold_under_the_next() {
    let who = alice();
    let (open, closed) = (policy(ALL), policy(""));
    for _ in 0..3 {
        assert_eq!(
            told(open.decide(&who, "agents/files", Thing::Tool("x"), Asked::LISTED, NOW)),
            "+all"
        );
        assert_eq!(
            told(closed.decide(&who, "agents/files", Thing::Tool("x"), Asked::LISTED, NOW)),
            "-"
        );
    }
}

const WATCH: &str = "
{name: w1, action: Audit, principals: {method: corp}, servers: ['*'], tools: ['read_*']},
{name: w2, action: Audit, principals: {method: corp, groups: [nobody]}, servers: ['*'], tools: ['*']},
{name: w3, action: Audit, principals: {method: corp}, servers: [agents/web], tools: ['*']},
{name: w4, action: Audit, principals: {method: corp, scopes: [admin]}, servers: ['*'], tools: ['*']},
{name: w5, action: Audit, principals: {method: corp}, servers: ['*'], tools: ['*'], expires: '2020-01-01T00:00:00Z'},
{name: w6, action: Audit, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], resources: ['*/key.pem']}";

#[rstest]
#[case(Thing::Tool("read_file"), &["w1", "w6"])]
#[case(Thing::Tool("write_file"), &["w6"])]
#[case(Thing::Prompt("read_file"), &[])]
#[case(Thing::Uri("file:///key.pem"), &["w6"])]
#[case::in_either_form(Thing::Uri("file:///%6bey.pem"), &["w6"])]
#[case::not_to_be_judged(Thing::Uri("file:///../key.pem"), &[])]
fn shadow_rules_tell_where_they_match_and_decide_nothing(
    #[case] thing: Thing<'_>,
    #[case] expected: &[&str],
) {
    let policy = policy(WATCH);
    assert!(policy.has_shadows());
    let found = policy.shadows(&alice(), "agents/files", thing, Asked::LISTED, NOW);
    assert_eq!(
        found.matching.iter().map(|name| &**name).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        told(policy.decide(&alice(), "agents/files", thing, Asked::LISTED, NOW)),
        "-"
    );
    assert!(!policy.any(&alice(), "agents/files", thing.kind(), NOW));
    assert!(policy.shadows(&alice(), "other/server", thing, Asked::LISTED, NOW) == Shadows::default());
}

#[test]
fn a_rule_ends_at_its_second() {
    let at = Timestamp::from_second(i64::try_from(NOW).unwrap()).unwrap();
    let policy = policy(&ALL.replace("tools: ['*']", &format!("tools: ['*'], expires: '{at}'")));
    assert!(
        policy
            .decide(&alice(), "agents/files", Thing::Tool("x"), Asked::LISTED, NOW - 1)
            .is_listed()
    );
    assert!(
        !policy
            .decide(&alice(), "agents/files", Thing::Tool("x"), Asked::LISTED, NOW)
            .is_listed()
    );
}

#[test]
fn only_so_many_tools_are_remembered_and_the_rest_are_judged_all_the_same() {
    let policy = policy(&ALL.replace("'*']}", "'t*5']}"));
    let who = alice();
    for _ in 0..2 {
        for number in 0..2 * MAX_THINGS {
            let expected = if number % 10 == 5 { "+all" } else { "-" };
            assert_eq!(
                told(policy.decide(
                    &who,
                    "agents/files",
                    Thing::Tool(&format!("t{number}")),
                    Asked::LISTED,
                    NOW
                )),
                expected
            );
        }
    }
    let known = of_kind(&policy.servers["agents/files"], Kind::Tool)
        .things
        .load()
        .len();
    assert_eq!(known, MAX_THINGS);
}
