//! Open streams end when what permitted them is gone: within a second, for every reason that would refuse the call now,
//! and for no other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portcullis_gateway::config::watch::Outcome;
use rstest::rstest;
use serde_json::{Value, json};

use crate::scripted::{doing, doing_stateless};
use crate::support::{ALICE, Client, Gateway, Server, Speaks, config, key};

/// A configuration in which everything that is about to change is there.
fn text(server: &Server) -> Value {
    let more = "
features: {prompts: true}
toolSets: [{name: few, servers: [a/s], tools: [slow]}]
rules: [{name: all, action: Allow, principals: {anyAuthenticated: true}, servers: [a/s], tools: ['*'], prompts: ['*']}]
";
    serde_yaml::from_str(&config(&[("s", server.address)], more)).unwrap()
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap()
}

/// A call whose server has said something, and then waits.
async fn open(client: &Client, headers: &[(&str, &str)], body: &str) -> Response<Incoming> {
    let mut response = client.open(Method::POST, headers, body).await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first.into_data().unwrap()).contains("progress"));
    response
}

/// The rest of a stream that ends soon.
async fn rest(response: Response<Incoming>, within: Duration) -> String {
    let rest = tokio::time::timeout(within, response.into_body().collect());
    let rest = rest.await.expect("the stream goes on").unwrap().to_bytes();
    String::from_utf8(rest.to_vec()).unwrap()
}

/// It takes milliseconds; machines that run tests are busy. Without being told, a stream would be looked at after 15 s.
const SOON: Duration = Duration::from_secs(4);

fn reload(gateway: &Gateway, text: &str) {
    assert!(
        matches!(gateway.reload(text), Outcome::Taken),
        "the configuration is refused"
    );
}

#[rstest]
#[case::suspended("/gateway/suspend", json!(true), "suspended")]
#[case::denied("/gateway/deniedSubjects", json!([{"method":"apiKeys","subject":"alice"}]), "unauthenticated")]
#[case::method_gone("/auth", json!({"anonymous":{"reason":"test"}}), "unauthenticated")]
#[case::no_rule("/rules/0/tools", json!(["echo"]), "tool_unknown")]
#[case::rule_of_another("/rules/0/principals", json!({"clients":["bob"]}), "tool_unknown")]
#[case::denied_by_rule("/rules/0/action", json!("Deny"), "tool_unknown")]
#[case::quarantined("/servers/0/quarantine", json!({}), "tool_unknown")]
#[case::not_among_the_tools("/servers/0/tools", json!({"allow":["echo"]}), "tool_unknown")]
#[case::among_the_forbidden("/servers/0/tools", json!({"deny":["sl*"]}), "tool_unknown")]
#[case::server_gone("/servers", json!([]), "tool_unknown")]
#[tokio::test]
async fn a_stream_ends_with_what_permitted_it(
    #[case] at: &str,
    #[case] value: Value,
    #[case] reason: &str,
    #[values(false, true)] stateless: bool,
) {
    let server = Server::start(Speaks::Sessions).await;
    let before = text(&server);
    let gateway = Gateway::start(&yaml(&before)).await;
    let stream = if stateless {
        let (body, headers) = doing_stateless("quiet");
        open(&gateway.client(ALICE), &headers, &body).await
    } else {
        let client = gateway.client(ALICE).initialize().await;
        open(&client, &[], &doing("1", "quiet")).await
    };
    let mut after = before.clone();
    let (parent, name) = at.rsplit_once('/').unwrap();
    after.pointer_mut(parent).unwrap()[name] = value;
    if at == "/servers" {
        after["rules"][0]["servers"] = json!(["*"]);
        after["toolSets"] = json!([]);
    }
    reload(&gateway, &yaml(&after));
    let text = rest(stream, SOON).await;
    assert!(text.contains(&format!(r#""reason":"{reason}""#)), "{text}");
    assert_eq!(
        text.matches("data: ").count(),
        1,
        "the error is the last event: {text}"
    );
    if at != "/servers" {
        server.seen.wait("notifications/cancelled", 1).await;
    }
    let records = gateway.audit().await;
    let ended: Vec<_> = records.iter().filter(|record| record["tool"] == "slow").collect();
    assert_eq!(ended.len(), 1);
    assert_ne!(ended[0]["decision"], "allow", "{ended:?}");
}

#[tokio::test]
async fn a_stream_of_a_set_ends_with_the_set_or_its_tool() {
    for change in [
        json!([]),
        json!([{"name":"few","servers":["a/s"],"tools":["echo"]}]),
    ] {
        let server = Server::start(Speaks::Sessions).await;
        let mut text = text(&server);
        let gateway = Gateway::start(&yaml(&text)).await;
        let client = gateway.client(ALICE).at("/sets/few/mcp").initialize().await;
        let stream = open(&client, &[], &doing("1", "quiet")).await;
        text["toolSets"] = change;
        reload(&gateway, &yaml(&text));
        let text = rest(stream, SOON).await;
        assert!(text.contains("tool_unknown"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_about_a_prompt_ends_with_the_feature() {
    for (at, value) in [
        ("/features", json!({})),
        ("/servers/0/features", json!({"prompts":false})),
    ] {
        let server = Server::start(Speaks::Sessions).await;
        let mut text = text(&server);
        let gateway = Gateway::start(&yaml(&text)).await;
        let client = gateway.client(ALICE).initialize().await;
        let body = doing("1", "quiet").replace("tools/call", "prompts/get");
        let stream = open(&client, &[], &body.replace("s__slow", "s__greet")).await;
        let (parent, name) = at.rsplit_once('/').unwrap();
        text.pointer_mut(parent).unwrap()[name] = value;
        reload(&gateway, &yaml(&text));
        let text = rest(stream, SOON).await;
        assert!(text.contains("prompt_unknown"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_api_key_and_not_with_another_of_the_same_client() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&yaml(&text(&server))).await;
    let line = |client: u8| {
        let digest = portcullis_config::keys::sha256_hex(key(client).as_bytes());
        format!("sha256:{digest}\n")
    };
    let file = gateway.folder.join("keys/alice");
    std::fs::write(&file, [line(ALICE), line(70)].concat()).unwrap();
    assert!(matches!(gateway.look(), Outcome::Taken));
    let client = gateway.client(ALICE).initialize().await;
    let with_other_key = Client {
        token: Some(key(70)),
        ..client.clone()
    };
    let first = open(&client, &[], &doing("1", "quiet")).await;
    let second = open(&with_other_key, &[], &doing("2", "quiet")).await;
    std::fs::write(&file, line(70)).unwrap();
    assert!(matches!(gateway.look(), Outcome::Taken));
    let text = rest(first, SOON).await;
    assert!(text.contains("unauthenticated"), "{text}");
    server.script.release();
    let text = rest(second, SOON).await;
    assert!(text.contains("done"), "{text}");
}

#[tokio::test]
async fn a_stream_goes_on_over_a_reload_that_does_not_concern_it() {
    let server = Server::start(Speaks::Sessions).await;
    let mut text = text(&server);
    let gateway = Gateway::start(&yaml(&text)).await;
    let client = gateway.client(ALICE).initialize().await;
    let stream = open(&client, &[], &doing("1", "quiet")).await;
    text["servers"][0]["tools"] = json!({"deny":["echo"]});
    text["gateway"]["deniedSubjects"] = json!([{"method":"apiKeys","subject":"bob"}]);
    text["limits"] = json!({"requestTimeout":"59s"});
    reload(&gateway, &yaml(&text));
    assert!(client.call("s__echo", "{}").await.text.contains("tool_unknown"));
    server.script.release();
    let text = rest(stream, SOON).await;
    assert!(text.contains("done"), "{text}");
}

#[tokio::test]
async fn a_stream_ends_at_the_second_at_which_its_rule_does() {
    let server = Server::start(Speaks::Sessions).await;
    let mut text = text(&server);
    let at = i64::try_from(unix()).unwrap() + 3;
    text["rules"][0]["expires"] = json!(jiff::Timestamp::from_second(at).unwrap().to_string());
    let gateway = Gateway::start(&yaml(&text)).await;
    let client = gateway.client(ALICE).initialize().await;
    let stream = open(&client, &[], &doing("1", "quiet")).await;
    let text = rest(stream, Duration::from_secs(7)).await;
    assert!(text.contains("tool_unknown"), "{text}");
}

#[rstest]
#[case::of_these_arguments("request.arguments.do == 'quiet'", true)]
#[case::of_others("request.arguments.do == 'loud'", false)]
#[case::that_it_lacks("request.arguments.path == '/etc'", true)]
#[tokio::test]
async fn a_stream_is_judged_anew_with_the_arguments_of_its_call(#[case] when: &str, #[case] ends: bool) {
    let server = Server::start(Speaks::Sessions).await;
    let mut text = text(&server);
    let anybody = json!({"anyAuthenticated":true});
    // What reads arguments has them kept.
    text["rules"][0]["when"] = json!("has(request.arguments.do)");
    let gateway = Gateway::start(&yaml(&text)).await;
    let client = gateway.client(ALICE).initialize().await;
    let stream = open(&client, &[], &doing("1", "quiet")).await;
    text["rules"].as_array_mut().unwrap().push(
        json!({"name":"no","action":"Deny","principals":anybody,"servers":["a/s"],"tools":["slow"],"when":when}),
    );
    reload(&gateway, &yaml(&text));
    if !ends {
        server.script.release();
    }
    let text = rest(stream, SOON).await;
    assert_eq!(text.contains("tool_unknown"), ends, "{text}");
    assert_eq!(text.contains("done"), !ends, "{text}");
}

#[tokio::test]
async fn a_stream_whose_arguments_nobody_kept_ends_with_the_first_rule_that_reads_them() {
    let server = Server::start(Speaks::Sessions).await;
    let mut text = text(&server);
    let gateway = Gateway::start(&yaml(&text)).await;
    let client = gateway.client(ALICE).initialize().await;
    let stream = open(&client, &[], &doing("1", "quiet")).await;
    text["rules"][0]["when"] = json!("request.arguments.do == 'quiet'");
    reload(&gateway, &yaml(&text));
    let text = rest(stream, SOON).await;
    assert!(text.contains("tool_unknown"), "{text}");
}

pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An issuer with one key.
pub(crate) struct Issuer {
    pair: Ed25519KeyPair,
    kid: &'static str,
}

impl Issuer {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self {
            pair: Ed25519KeyPair::generate().unwrap(),
            kid,
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty":"OKP","crv":"Ed25519","kid":self.kid,"x":x})
    }

    fn token(&self, expires: u64) -> String {
        self.token_with_scopes(expires, "")
    }

    pub(crate) fn token_with_scopes(&self, expires: u64, scopes: &str) -> String {
        let header = json!({"typ":"JWT","alg":"EdDSA","kid":self.kid});
        let claims = json!({
            "iss":"https://idp.test","sub":"carol","aud":"http://gateway.test","exp":expires,"scope":scopes,
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

pub(crate) fn trusting(text: &Value, keys: &[Value]) -> String {
    let mut text = text.clone();
    let keys = json!({"keys":keys}).to_string();
    text["auth"]["jwt"] =
        json!([{"name":"corp","issuer":"https://idp.test","algorithms":["EdDSA"],"jwks":{"inline":keys}}]);
    yaml(&text)
}

#[tokio::test]
async fn a_stream_lasts_as_long_as_its_token_is_admitted() {
    let server = Server::start(Speaks::Sessions).await;
    let issuer = Issuer::new("k1");
    let gateway = Gateway::start(&trusting(&text(&server), &[issuer.jwk()])).await;
    // Clocks may differ by a minute, so that this one is admitted for four seconds more.
    let client = Client {
        token: Some(issuer.token(unix() - 56)),
        ..gateway.client(ALICE)
    };
    let began = Instant::now();
    let client = client.initialize().await;
    let stream = open(&client, &[], &doing("1", "quiet")).await;
    // Not a reason: what has expired by the letter is still admitted.
    reload(
        &gateway,
        &trusting(&text(&server), &[issuer.jwk(), Issuer::new("k9").jwk()]),
    );
    let text = rest(stream, Duration::from_secs(8)).await;
    assert!(text.contains("unauthenticated"), "{text}");
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    let refused = client.call("s__echo", "{}").await;
    assert_eq!(refused.status, http::StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_its_token_was_signed_with() {
    let server = Server::start(Speaks::Sessions).await;
    let (old, new) = (Issuer::new("k1"), Issuer::new("k2"));
    let gateway = Gateway::start(&trusting(&text(&server), &[old.jwk()])).await;
    let client = Client {
        token: Some(old.token(unix() + 600)),
        ..gateway.client(ALICE)
    };
    let client = client.initialize().await;
    let mut stream = open(&client, &[], &doing("1", "quiet")).await;
    reload(&gateway, &trusting(&text(&server), &[new.jwk(), old.jwk()]));
    let more = tokio::time::timeout(Duration::from_millis(200), stream.body_mut().frame()).await;
    assert!(more.is_err(), "the token's key is still among them: {more:?}");
    reload(&gateway, &trusting(&text(&server), &[new.jwk()]));
    let text = rest(stream, SOON).await;
    assert!(text.contains("unauthenticated"), "{text}");
}

#[tokio::test]
async fn at_the_end_of_the_process_a_stream_has_a_last_word() {
    let server = Server::start(Speaks::Sessions).await;
    let gateway = Gateway::start(&yaml(&text(&server))).await;
    let client = gateway.client(ALICE).initialize().await;
    let stream = open(&client, &[], &doing("1", "quiet")).await;
    gateway.app.drain.end_streams().cancel();
    let text = rest(stream, SOON).await;
    assert!(
        text.contains(r#""reason":"draining"}"#) && text.contains(r#""id":"1""#),
        "{text}"
    );
    server.seen.wait("notifications/cancelled", 1).await;
}
