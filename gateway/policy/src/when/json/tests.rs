//! What is read, what is refused.

use super::*;
use proptest::prelude::*;
use rstest::rstest;

#[rstest]
#[case::twice(r#"{"a":1,"a":1}"#)]
#[case::twice_escaped(r#"{"a":1,"\u0061":1}"#)]
#[case::twice_inside(r#"[{"x":{"a":1,"b":2,"a":3}}]"#)]
#[case::half_a_pair_in_a_key(r#"{"\ud800":1}"#)]
#[case::low_half_in_a_key(r#"{"\udc00":1}"#)]
#[case::no_json("{a:1}")]
#[case::open("[1,2")]
#[case::comma("[1,]")]
#[case::more("{} {}")]
#[case::leading_zero("[01]")]
#[case::dot("[1.]")]
#[case::plus("[+1]")]
#[case::control("[\"a\u{1}\"]")]
#[case::nothing("")]
fn what_cannot_be_read_exactly_is_not_read(#[case] text: &str) {
    assert_eq!(Tree::read(text.as_bytes()).err(), Some(Failure::NotExact));
}

#[rstest]
#[case("18446744073709551616")]
#[case("9223372036854775808")]
#[case("-9223372036854775809")]
#[case("1e400")]
#[case(r#""\ud83d""#)]
#[case(r#""\ud83dx""#)]
#[case(r#""\ude00\ud83d""#)]
#[case(r#""\x""#)]
#[case(r#""\u12g4""#)]
fn a_value_without_an_exact_one_fails_where_it_is_read(#[case] text: &str) {
    let list = format!("[1,{text}]");
    let tree = Tree::read(list.as_bytes()).unwrap();
    let items: Vec<Json<'_>> = tree.root().items().collect();
    assert!(items[0].shape().is_ok());
    assert_eq!(items[1].shape().err(), Some(Failure::NotExact));
}

#[test]
fn what_is_too_large_is_not_taken_apart() {
    let long = format!("\"{}\"", "a".repeat(MAX_BYTES));
    let items = |count| format!("[{}]", vec!["1"; count].join(","));
    let many = format!("[{}]", vec![items(1000); 5].join(","));
    let deep = "[".repeat(100) + &"]".repeat(100);
    for text in [long, items(MAX_ITEMS + 1), many, deep] {
        assert_eq!(Tree::read(text.as_bytes()).err(), Some(Failure::TooLarge));
    }
    assert_eq!(
        Tree::read(items(MAX_ITEMS).as_bytes()).unwrap().size(),
        MAX_ITEMS + 1
    );
}

fn as_value(json: Json<'_>) -> serde_json::Value {
    use serde_json::Value;
    match json.shape().unwrap() {
        Shape::Null => Value::Null,
        Shape::Bool(value) => value.into(),
        Shape::Int(value) => value.into(),
        Shape::Double(value) => value.into(),
        Shape::Text(text, _) => text.into_owned().into(),
        Shape::List(_) => json.items().map(as_value).collect(),
        Shape::Object(_) => {
            let members = json.items().map(|key| {
                let Ok(Shape::Text(name, _)) = key.shape() else {
                    panic!("a key is text");
                };
                (name.to_string(), as_value(json.member(&name).0.unwrap()))
            });
            Value::Object(members.collect())
        }
    }
}

fn is_exact(json: Json<'_>) -> bool {
    json.shape().is_ok()
        && json.items().all(|item| match json.shape() {
            Ok(Shape::Object(_)) => {
                let value = Json {
                    at: item.at + 1,
                    ..item
                };
                is_exact(value)
            }
            _ => is_exact(item),
        })
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-9000..9000_i32).prop_map(|number| (f64::from(number) / 8.0).into()),
        "(?s).{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Into::into),
            prop::collection::hash_map("[a-d\"\\\\é]{0,3}", inner, 0..12)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_reads_what_serde_reads(value in any_json()) {
        let text = value.to_string();
        let tree = Tree::read(text.as_bytes()).unwrap();
        prop_assert_eq!(as_value(tree.root()), serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "[\\[\\]{}:,\"\\\\au0-9.eE+ -]{0,40}") {
        let read = Tree::read(text.as_bytes());
        let serde = serde_json::from_str::<&serde_json::value::RawValue>(&text);
        // Never laxer than JSON: what is wrong within a string shows when the string is read.
        let exact = read.is_ok_and(|tree| is_exact(tree.root()));
        prop_assert!(!exact || serde.is_ok(), "{:?}", text);
    }
}
