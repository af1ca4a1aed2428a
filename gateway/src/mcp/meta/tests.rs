use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::mcp::testing::{choices, object, spell};

const CAPABILITIES: &[u8] = br#"{"roots":{}}"#;
const INFO: &[u8] = br#"{"name":"c","version":"1"}"#;

fn meta() -> StatelessMeta {
    StatelessMeta::new(CAPABILITIES, Some(INFO), Some("debug"))
}

fn wanted() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
        "io.modelcontextprotocol/logLevel": "debug",
    })
}

fn put(body: &str) -> Value {
    let message = Message::from_client(Bytes::copy_from_slice(body.as_bytes()), 64).unwrap();
    let meta = meta();
    let mut patch = Patch::new(message.bytes());
    meta.put_into(&message, &mut patch);
    let changed = patch.apply().unwrap();
    let changed = Message::from_client(changed, 64).unwrap();
    assert_eq!(check_stateless(&changed), Ok(()));
    serde_json::from_slice(changed.bytes()).unwrap()
}

#[rstest]
#[case(r#" {"jsonrpc":"2.0","id":1,"method":"x"} "#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{}}}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":null}}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/logLevel":"error"}}}"#)]
fn it_is_put_where_it_belongs(#[case] body: &str) {
    let changed = put(body);
    assert_eq!(changed["params"]["_meta"], wanted());
    assert_eq!((&changed["id"], &changed["method"]), (&json!(1), &json!("x")));
}

#[test]
fn what_else_is_there_stays() {
    let changed = put(
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"n","_meta":{"progressToken":5,"io.modelcontextprotocol/clientInfo":0,"a/b":[]}}}"#,
    );
    let mut want = wanted();
    want["progressToken"] = json!(5);
    want["a/b"] = json!([]);
    assert_eq!(changed["params"], json!({"name": "n", "_meta": want}));
}

#[test]
fn what_is_not_known_is_not_said() {
    let meta = StatelessMeta::new(b"{}", None, None);
    let object: Value = serde_json::from_slice(meta.object()).unwrap();
    assert_eq!(
        object,
        json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}})
    );
    let params: Value = serde_json::from_slice(meta.params()).unwrap();
    assert_eq!(params, json!({"_meta": object}));
}

#[rstest]
#[case(r#"{"resultType":"complete","tools":[],"ttlMs":5,"cacheScope":"public"}"#, json!({"tools": []}))]
#[case(r#"{"resultType":"complete"}"#, json!({}))]
#[case(r#"{"content":[]}"#, json!({"content": []}))]
fn a_session_sees_no_stateless_members(#[case] result: &str, #[case] want: Value) {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
    let message = Message::from_server(body.into(), 64).unwrap();
    let mut patch = Patch::new(message.bytes());
    strip_result(&message, &mut patch);
    let changed: Value = serde_json::from_slice(&patch.apply().unwrap()).unwrap();
    assert_eq!(changed["result"], want);
}

#[rstest]
#[case("{}", true, json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}))]
#[case(r#"{"content":[]}"#, false, json!({"resultType": "complete", "content": []}))]
#[case(r#"{"resultType":"task","ttlMs":9}"#, true, json!({"resultType": "task", "ttlMs": 9, "cacheScope": "private"}))]
fn a_stateless_client_sees_all_it_must(#[case] result: &str, #[case] cacheable: bool, #[case] want: Value) {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
    let message = Message::from_server(body.into(), 64).unwrap();
    let mut patch = Patch::new(message.bytes());
    complete_result(&message, cacheable, &mut patch);
    let changed: Value = serde_json::from_slice(&patch.apply().unwrap()).unwrap();
    assert_eq!(changed["result"], want);
}

#[test]
fn errors_are_left_alone() {
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#);
    let message = Message::from_server(body.clone(), 64).unwrap();
    let mut patch = Patch::new(message.bytes());
    complete_result(&message, true, &mut patch);
    strip_result(&message, &mut patch);
    assert_eq!(patch.apply().unwrap(), body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Put in and taken out again, any message is what it was but for a `_meta` that was made for it.
    #[test]
    fn in_and_out(params in object(), inner in object(), choices in choices()) {
        let mut params = params;
        params.insert("_meta".into(), inner.into());
        let body = json!({"jsonrpc": "2.0", "id": "é\n", "method": "x", "params": params});
        let text = spell(&body, &choices);
        // Some random keys imitate known ones.
        let Ok(message) = Message::from_client(Bytes::from(text), 64) else { return Ok(()) };
        let meta = meta();
        let mut patch = Patch::new(message.bytes());
        meta.put_into(&message, &mut patch);
        let put = Message::from_client(patch.apply().unwrap(), 64).unwrap();
        prop_assert_eq!(check_stateless(&put), Ok(()));
        let mut patch = Patch::new(put.bytes());
        strip_stateless(&put, &mut patch);
        let back: Value = serde_json::from_slice(&patch.apply().unwrap()).unwrap();
        prop_assert_eq!(back, body);
    }
}
