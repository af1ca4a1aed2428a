//! `portcullis check`, as it is called.

use clap::Parser;
use portcullis_operator::check::{CheckArgs, run};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: CheckArgs,
}

const GATEWAY: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: McpGateway
metadata: {name: tools, namespace: agents}
spec:
  publicHost: mcp.example.com
  deniedSubjects: [{method: corp, subject: mallory}]
  tls: {secretName: tools-tls}
  auth:
    apiKeys: {secretName: agent-keys}
    jwt: [{name: corp, issuer: 'https://idp.example.com', jwks: {uri: 'https://idp.example.com/jwks'}}]
  servers: {namespaces: {from: All}}
  features: {resources: true}
  authorization:
    rules:
    - {name: analysts, action: Allow, principals: {method: corp, groups: [analysts]}, servers: ['*'], tools: ['read_*', write_file], resources: ['file:///pub/*']}
    - {name: writers, action: Allow, principals: {method: corp, scopes: [write, admin]}, servers: [files], tools: ['write_*']}
    - {name: no-keys, action: Deny, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*_key'], resources: ['*.pem']}
    - {name: past, action: Deny, principals: {anyAuthenticated: true}, servers: [files], tools: ['read_*'], expires: '2026-01-01T00:00:00Z'}
    - {name: watch, action: Audit, principals: {method: corp}, servers: [files], tools: [read_file]}
    - {name: public, action: Allow, principals: {method: corp, groups: [guests]}, servers: [files], tools: [open], when: 'path(request.arguments.path).under(\"/public\")'}
    - {name: ci, action: Allow, principals: {clients: [ci]}, servers: [other/web], tools: ['*']}
";

fn server(namespace: &str, name: &str, more: &str) -> String {
    format!(
        "
---
apiVersion: portcullis.dev/v1alpha1
kind: McpServer
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  gatewayRefs: [{{name: tools, namespace: agents}}]
  remote: {{url: 'https://{name}.example.com/mcp', tls: {{}}}}
  {more}
"
    )
}

fn objects() -> String {
    let open = "quarantine: {enabled: false}";
    [
        GATEWAY.to_owned(),
        server(
            "agents",
            "files",
            &format!("{open}\n  tools: {{deny: [read_raw]}}"),
        ),
        server("other", "web", open),
        server(
            "agents",
            "new",
            "quarantine: {enabled: true, exceptFor: [{method: corp, subject: tess}]}",
        ),
    ]
    .concat()
}

/// Exit code, answer, and what is said besides.
fn check(objects: &str, args: &[&str]) -> Result<(String, String, String), String> {
    let file = std::env::temp_dir().join(format!("portcullis-check-{:x}.yaml", rand::random::<u64>()));
    std::fs::write(&file, objects).unwrap();
    let path = file.to_string_lossy().into_owned();
    let line = [&["check", "-f", &path], args].concat();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ran = Command::try_parse_from(line)
        .map_err(|error| error.to_string())
        .and_then(|command| run(command.args, &mut out, &mut err).map_err(|error| format!("{error:#}")));
    std::fs::remove_file(&file).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    // The code itself cannot be read, only shown.
    Ok((format!("{:?}", ran?), text(out), text(err)))
}

fn code(number: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(number))
}

#[track_caller]
fn answers(args: &[&str], permitted: bool, wanted: &[&str]) {
    let (ended, out, err) = check(&objects(), args).unwrap();
    assert_eq!(ended, code(if permitted { 0 } else { 3 }), "{out}{err}");
    for words in wanted {
        assert!(out.contains(words), "{words:?} is not in:\n{out}");
    }
    assert_eq!(err, "");
}

#[test]
fn it_says_which_rule_decides_and_what_becomes_of_the_others() {
    let alice = [
        "--method",
        "corp",
        "--as",
        "alice",
        "--groups",
        "staff,analysts",
        "--tool",
    ];
    let ask = |tool| [&alice[..], &[tool]].concat();
    answers(
        &ask("files/read_file"),
        true,
        &[
            "McpGateway agents/tools: alice (method corp), tool read_file of McpServer agents/files",
            "permitted: rule analysts permits it",
            "analysts  Allow  matches",
            "past      Deny   expired at 2026-01-01T00:00:00Z",
            "watch     Audit  matches",
        ],
    );
    answers(
        &ask("files/read_key"),
        false,
        &["refused: rule no-keys forbids it", "analysts  Allow  matches"],
    );
    answers(
        &ask("files/delete"),
        false,
        &["refused: no rule permits it", "no rule is about"],
    );
    answers(&ask("other.web/read_file"), true, &["of McpServer other/web"]);
    answers(
        &[&ask("files/read_file")[..], &["--at", "2025-12-31T23:59:59Z"]].concat(),
        false,
        &["refused: rule past forbids it"],
    );
}

#[test]
fn a_missing_scope_is_named() {
    let ask = ["--method", "corp", "--as", "bob", "--tool", "files/write_x"];
    answers(
        &ask,
        false,
        &[
            "refused: rule writers would permit it with a scope: write or admin",
            "not for the caller, who has no scope of: write admin",
        ],
    );
    answers(
        &[&ask[..], &["--scopes", "x,admin"]].concat(),
        true,
        &["rule writers permits it"],
    );
}

#[test]
fn what_refuses_before_any_rule_is_told() {
    let ask = |subject, tool| {
        [
            "--method", "corp", "--as", subject, "--groups", "analysts", "--tool", tool,
        ]
    };
    answers(
        &ask("mallory", "files/read_file"),
        false,
        &["refused: deniedSubjects names the caller"],
    );
    answers(
        &ask("alice", "files/read_raw"),
        false,
        &["tools.deny withhold it"],
    );
    answers(
        &ask("alice", "new/read_file"),
        false,
        &["refused: the server is quarantined"],
    );
    answers(&ask("tess", "new/read_file"), true, &["permitted"]);
    answers(
        &["--anonymous", "--tool", "files/read_file"],
        false,
        &["takes no callers without"],
    );
    answers(
        &[
            "--method", "corp", "--as", "a", "--groups", "analysts", "--prompt", "files/p",
        ],
        false,
        &["features.prompts is off"],
    );
    let suspended = objects().replace("publicHost:", "suspend: true\n  publicHost:");
    let (ended, out, _) = check(&suspended, &ask("alice", "files/read_file")).unwrap();
    assert_eq!(ended, code(3));
    assert!(out.contains("refused: the gateway is suspended"), "{out}");
}

#[test]
fn resources_are_judged_in_both_forms() {
    let ask = |uri| {
        [
            "--method",
            "corp",
            "--as",
            "a",
            "--groups",
            "analysts",
            "--resource",
            uri,
        ]
    };
    answers(&ask("files/file:///pub/x"), true, &["resource file:///pub/x of"]);
    answers(
        &ask("files/file:///pub/x.pem"),
        false,
        &["rule no-keys forbids it"],
    );
    answers(
        &ask("files/FILE:///pub/x"),
        false,
        &["no rule permits it", "only in its normal form"],
    );
    answers(&ask("files/file:///pub/../x"), false, &["no rule is about"]);
}

#[test]
fn conditions_are_judged_with_the_arguments_that_are_given() {
    let file = std::env::temp_dir().join(format!("portcullis-arguments-{:x}.json", rand::random::<u64>()));
    let at_file = format!("@{}", file.display());
    let ask = [
        "--method",
        "corp",
        "--as",
        "g",
        "--groups",
        "guests",
        "--tool",
        "files/open",
    ];
    let with = |arguments| [&ask[..], &["--arguments", arguments]].concat();
    answers(
        &with(r#"{"path": "/public/a"}"#),
        true,
        &["rule public permits it"],
    );
    answers(
        &with(r#"{"path": "/etc/passwd"}"#),
        false,
        &["no rule permits it", "public  Allow  its condition does not hold"],
    );
    answers(
        &with(r#"{"path": "/public/../etc/passwd"}"#),
        false,
        &["its condition cannot be told: what the path leads to cannot be told from its text"],
    );
    answers(&ask, false, &["it reads a member or an item that is not there"]);
    std::fs::write(&file, "\n{\"path\": \"/public\"}\n").unwrap();
    answers(&with(&at_file), true, &["rule public permits it"]);
    std::fs::remove_file(&file).unwrap();
    let error = check(&objects(), &with("{path: x}")).unwrap_err();
    assert!(error.contains("--arguments holds no JSON"), "{error}");
}

#[test]
fn a_condition_that_cannot_be_compiled_is_found() {
    let broken = objects().replace("request.arguments.path", "request.argument.path");
    let (ended, _, err) = check(&broken, &[]).unwrap();
    assert_eq!(ended, code(1));
    let expected = "problem: McpGateway agents/tools: Accepted=False/InvalidSpec: rules[public].when: at character 6: of request only";
    assert!(err.contains(expected), "{err}");
}

#[test]
fn keys_are_clients_by_name() {
    answers(
        &["--method", "apiKeys", "--as", "ci", "--tool", "other.web/x"],
        true,
        &["rule ci permits it"],
    );
    answers(
        &["--method", "apiKeys", "--as", "ci", "--tool", "files/x"],
        false,
        &["no rule permits it"],
    );
}

#[test]
fn without_a_question_problems_are_the_answer() {
    let (ended, out, err) = check(&objects(), &[]).unwrap();
    assert_eq!(
        (ended, out.as_str(), err.as_str()),
        (code(0), "no problems: McpGateways 1, McpServers 3\n", "")
    );
    let broken = objects().replace("{method: corp, groups: [analysts]}", "{method: corp, groups: []}");
    let (ended, out, err) = check(&broken, &[]).unwrap();
    assert_eq!((ended, out.as_str()), (code(1), ""));
    assert!(
        err.contains("problem: McpGateway agents/tools: Accepted=False/InvalidSpec: rules[analysts]"),
        "{err}"
    );
    let asked = check(&broken, &["--method", "corp", "--as", "a", "--tool", "files/x"]).unwrap_err();
    assert!(asked.contains("cannot be built"), "{asked}");
}

#[test]
fn a_question_that_makes_no_sense_is_an_error() {
    for (args, expected) in [
        (
            &["--as", "a", "--tool", "files/x"][..],
            "several methods: write --method and one of corp, apiKeys",
        ),
        (
            &["--as", "a", "--method", "x", "--tool", "files/x"],
            "no method of the gateway",
        ),
        (
            &["--as", "a", "--method", "anonymous", "--tool", "files/x"],
            "are --anonymous",
        ),
        (
            &[
                "--as", "a", "--method", "apiKeys", "--groups", "g", "--tool", "files/x",
            ],
            "no groups",
        ),
        (
            &["--as", "a", "--method", "corp", "--tool", "x"],
            "write SERVER/NAME",
        ),
        (
            &["--as", "a", "--method", "corp", "--tool", "none/x"],
            "McpServer agents/none is not attached",
        ),
        (
            &[
                "--as",
                "a",
                "--method",
                "corp",
                "--tool",
                "files/x",
                "--gateway",
                "b",
            ],
            "no McpGateway b: they hold agents/tools",
        ),
        (&["--as", "a", "--method", "corp"], "required"),
        (&["--tool", "files/x"], "required"),
        (
            &["--as", "a", "--anonymous", "--tool", "files/x"],
            "cannot be used with",
        ),
        (
            &["--as", "a", "--tool", "files/x", "--prompt", "files/x"],
            "cannot be used with",
        ),
        (
            &["--as", "a", "--tool", "files/x", "--at", "tomorrow"],
            "invalid value",
        ),
    ] {
        let error = check(&objects(), args).unwrap_err();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}

/// The objects of these tests, with a `security.txt` that expires so many days from now.
fn with_security_txt(days: i64) -> String {
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let web = format!(
        "\n  web: {{wellKnown: {{securityTxt: {{contacts: ['mailto:a@b.example'], expires: '{expires}'}}}}}}\n  tls:"
    );
    objects().replacen("\n  tls:", &web, 1)
}

#[test]
fn a_security_txt_that_is_over_is_found_offline() {
    for (days, ended, word) in [
        (
            -1,
            1,
            "problem: McpGateway agents/tools: SecurityTxtCurrent=False/Expired: security.txt expired at",
        ),
        (
            400,
            1,
            "problem: McpGateway agents/tools: SecurityTxtCurrent=False/TooDistant",
        ),
        (10, 0, "note: McpGateway agents/tools: security.txt expires at"),
    ] {
        let (code_of, _, err) = check(&with_security_txt(days), &[]).unwrap();
        assert_eq!(code_of, code(ended), "{err}");
        assert!(
            err.contains(word) && err.contains("less than a year ahead"),
            "{err}"
        );
    }
    let (ended, _, err) = check(&with_security_txt(100), &[]).unwrap();
    assert_eq!((ended, &*err), (code(0), ""));
}
