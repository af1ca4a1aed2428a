use rstest::rstest;

use super::*;

fn client(text: &str) -> Result<Message, Refused> {
    Message::from_client(Bytes::copy_from_slice(text.as_bytes()), 64)
}

fn server(text: &str) -> Result<Message, Fault> {
    Message::from_server(Bytes::copy_from_slice(text.as_bytes()), 64)
}

#[rstest]
#[case(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#,
    Kind::Request,
    Method::ToolsCall
)]
#[case(
    r#"{"jsonrpc":"2.0","id":"a","method":"t\u006fols/call"}"#,
    Kind::Request,
    Method::ToolsCall
)]
#[case(
    r#"{"jsonrpc":"2.0","id":-1.0e0,"method":"nobody/knows"}"#,
    Kind::Request,
    Method::Other
)]
#[case(r#"{"jsonrpc":"2.0","id":0,"method":"\ud800"}"#, Kind::Request, Method::Other)]
#[case(
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#,
    Kind::Notification,
    Method::Cancelled
)]
#[case(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Kind::Response, Method::Other)]
#[case(
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
    Kind::ErrorResponse,
    Method::Other
)]
fn kinds(#[case] text: &str, #[case] kind: Kind, #[case] method: Method) {
    for message in [client(text).unwrap(), server(text).unwrap()] {
        assert_eq!((message.kind(), message.method()), (kind, method));
        assert_eq!(&message.bytes()[..], text.as_bytes());
    }
}

#[rstest]
#[case("{}")]
#[case(r#"{"jsonrpc":"2.0"}"#)]
#[case(r#"{"id":1,"method":"ping"}"#)]
#[case(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#)]
#[case(r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":5}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":null}"#)]
#[case(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#)]
#[case(r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#)]
#[case(r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#)]
#[case(r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"ping","error":{}}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"result":[]}"#)]
#[case(r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#)]
#[case(r#"{"jsonrpc":"2.0","result":{}}"#)]
fn neither_side_may_send(#[case] text: &str) {
    assert!(matches!(client(text).unwrap_err().fault, Fault::Shape(_)));
    assert!(matches!(server(text), Err(Fault::Shape(_))));
}

#[rstest]
#[case(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#)]
#[case(r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#)]
fn only_a_server_may_fail_without_an_id(#[case] text: &str) {
    assert!(client(text).is_err());
    let message = server(text).unwrap();
    assert_eq!((message.kind(), message.id()), (Kind::ErrorResponse, None));
}

#[rstest]
#[case(
    r#"{"jsonrpc":"2.0","id":"a\"b","method":"ping","method":"ping"}"#,
    Some(r#""a\"b""#)
)]
#[case(
    r#"{"jsonrpc":"2.0","id":9007199254740993,"method":7}"#,
    Some("9007199254740993")
)]
#[case(r#"{"jsonrpc":"1.0","id":null,"method":"ping"}"#, None)]
#[case(r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, None)]
#[case(r#"{"method":"ping","method":"ping","id":1}"#, None)]
fn a_refusal_knows_the_id_if_it_was_read(#[case] text: &str, #[case] id: Option<&str>) {
    let refused = client(text).unwrap_err();
    assert_eq!(refused.id.as_deref(), id.map(str::as_bytes));
}

#[test]
fn an_id_has_an_ordinary_length() {
    let with = |length: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#,
            "x".repeat(length)
        )
    };
    assert!(client(&with(MAX_ID_BYTES - 2)).is_ok());
    let refused = client(&with(MAX_ID_BYTES - 1)).unwrap_err();
    assert_eq!(refused.id, None);
}

#[test]
fn members_are_read_by_type() {
    let message = client(
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a\tb","uri":"\ud800","cursor":5,"progress":0.5}}"#,
    )
    .unwrap();
    assert_eq!(message.str(Member::Name).unwrap(), "a\tb");
    assert_eq!(message.text(Member::Uri), Some(Err(LoneSurrogate)));
    assert_eq!(message.str(Member::Uri), None);
    assert_eq!(message.text(Member::Cursor), None);
    assert_eq!(message.integer(Member::Cursor), Some(5));
    assert_eq!(message.integer(Member::Progress), None);
    assert_eq!(message.integer(Member::Name), None);
    assert!(
        message.is_string(Member::Name)
            && message.is_object(Member::Params)
            && !message.is_object(Member::Meta)
    );
    assert_eq!(message.slice(Member::Cursor).unwrap(), "5");
}

#[test]
fn a_batch_is_judged_item_by_item() {
    let text = Bytes::from_static(
        br#" [{"jsonrpc":"2.0","id":7,"method":"ping"}, 5 ,{"jsonrpc":"2.0","id":8}, {"jsonrpc":"2.0","method":"x","params":{"name":"n"}}]"#,
    );
    let items = Message::batch_from_client(&text, 64, 10).unwrap();
    assert_eq!(items[0].as_ref().unwrap().id(), Some(&b"7"[..]));
    assert_eq!(items[1].as_ref().unwrap_err().id, None);
    assert_eq!(items[2].as_ref().unwrap_err().id.as_deref(), Some(&b"8"[..]));
    assert_eq!(items[3].as_ref().unwrap().str(Member::Name).unwrap(), "n");
    assert!(Message::batch_from_client(&Bytes::from_static(b"[]"), 64, 10).is_err());
    assert_eq!(
        Message::batch_from_client(&text, 64, 3).unwrap_err(),
        Fault::BatchTooLong
    );
}
