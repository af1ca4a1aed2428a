//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A conjunction of requirements; none at all selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

/// A selector with an operator we do not know. What it selects cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOperator(pub String);

impl Selector {
    /// Reads the API's form.
    pub fn parse(selector: &LabelSelector) -> Result<Self, UnknownOperator> {
        let labels = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| Ok(Requirement::In(key.clone(), [value.clone()].into())));
        let expressions = selector.match_expressions.iter().flatten().map(|e| {
            let key = e.key.clone();
            let values = || e.values.iter().flatten().cloned().collect();
            match e.operator.as_str() {
                "In" => Ok(Requirement::In(key, values())),
                "NotIn" => Ok(Requirement::NotIn(key, values())),
                "Exists" => Ok(Requirement::Exists(key)),
                "DoesNotExist" => Ok(Requirement::DoesNotExist(key)),
                other => Err(UnknownOperator(other.to_owned())),
            }
        });
        labels.chain(expressions).collect::<Result<_, _>>().map(Self)
    }

    /// Whether labels meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            // An object without the label is selected: it does not have one of the values.
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn selector(value: Value) -> Selector {
        Selector::parse(&serde_json::from_value(value).unwrap()).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn expression(operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]})
    }

    #[rstest]
    #[case::empty_selects_all(json!({}), &[], true)]
    #[case::label(json!({"matchLabels": {"a": "1"}}), &[("a", "1")], true)]
    #[case::label_other_value(json!({"matchLabels": {"a": "1"}}), &[("a", "2")], false)]
    #[case::label_absent(json!({"matchLabels": {"a": "1"}}), &[("b", "1")], false)]
    #[case::all_labels_count(json!({"matchLabels": {"a": "1", "b": "1"}}), &[("a", "1")], false)]
    #[case::in_second(expression("In", &["1", "2"]), &[("a", "2")], true)]
    #[case::in_none(expression("In", &["1", "2"]), &[("a", "3")], false)]
    #[case::in_absent(expression("In", &["1"]), &[], false)]
    #[case::in_nothing(expression("In", &[]), &[("a", "1")], false)]
    #[case::not_in_other(expression("NotIn", &["1"]), &[("a", "2")], true)]
    #[case::not_in_one(expression("NotIn", &["1"]), &[("a", "1")], false)]
    #[case::not_in_absent(expression("NotIn", &["1"]), &[], true)]
    #[case::exists(expression("Exists", &[]), &[("a", "")], true)]
    #[case::exists_not(expression("Exists", &[]), &[("b", "")], false)]
    #[case::absent(expression("DoesNotExist", &[]), &[("b", "")], true)]
    #[case::absent_not(expression("DoesNotExist", &[]), &[("a", "")], false)]
    fn matching(#[case] given: Value, #[case] on: &[(&str, &str)], #[case] expected: bool) {
        assert_eq!(selector(given).matches(&labels(on)), expected);
    }

    #[test]
    fn labels_and_expressions_are_joined() {
        let both = selector(json!({
            "matchLabels": {"a": "1"},
            "matchExpressions": [{"key": "b", "operator": "Exists"}],
        }));
        assert!(both.matches(&labels(&[("a", "1"), ("b", "")])));
        assert!(!both.matches(&labels(&[("a", "1")])));
        assert!(!both.matches(&labels(&[("b", "")])));
    }

    #[test]
    fn an_unknown_operator_is_an_error() {
        let given = serde_json::from_value(expression("Gt", &["1"])).unwrap();
        assert_eq!(Selector::parse(&given), Err(UnknownOperator("Gt".to_owned())));
    }
}
