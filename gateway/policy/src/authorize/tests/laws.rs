//! What holds for any rules.

use super::plain::{any_identity, any_rule};
use super::*;

/// How much a decision permits.
fn permits(decision: &Decision<'_>) -> u8 {
    match decision {
        Decision::Deny { .. } => 0,
        Decision::InsufficientScope { .. } => 1,
        Decision::Allow { .. } => 2,
    }
}

fn compiled(rules: &[Rule]) -> Policy {
    let mut config = config(AUTH, SERVERS);
    config.rules = rules.to_vec();
    for (at, rule) in config.rules.iter_mut().enumerate() {
        rule.name = format!("r{at}");
    }
    Policy::compile(&config).unwrap()
}

/// One question: who, of which server, what.
type Question = (&'static str, &'static str);

fn questions() -> impl Iterator<Item = Question> {
    ["agents/files", "agents/web"]
        .into_iter()
        .flat_map(|server| ["read", "write", "wx", "rd", "x"].map(|tool| (server, tool)))
}

/// Requests, with what conditions read.
fn requests() -> [Asked<'static>; 3] {
    ["{}", r#"{"n":1}"#, r#"{"n":"x"}"#].map(|json| Asked::request("tools/call", Some(json.as_bytes())))
}

fn answers_to(asked: &[Asked<'_>], rules: &[Rule], who: &Identity) -> Vec<u8> {
    let policy = compiled(rules);
    questions()
        .flat_map(|(server, tool)| asked.iter().map(move |asked| (server, tool, *asked)))
        .map(|(server, tool, asked)| permits(&policy.decide(who, server, Thing::Tool(tool), asked, NOW)))
        .collect()
}

/// To lists and requests.
fn answers(rules: &[Rule], who: &Identity) -> Vec<u8> {
    let [a, b, c] = requests();
    answers_to(&[a, b, c, Asked::LISTED], rules, who)
}

fn with(rules: &[Rule], more: Rule, at: usize) -> Vec<Rule> {
    let mut rules = rules.to_vec();
    rules.insert(at.min(rules.len()), more);
    rules
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn order_does_not_matter(
        (rules, shuffled) in prop::collection::vec(any_rule(), 0..12)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        who in any_identity(),
    ) {
        prop_assert_eq!(answers(&rules, &who), answers(&shuffled, &who));
    }

    #[test]
    fn a_shadow_rule_changes_no_decision(
        rules in prop::collection::vec(any_rule(), 0..12),
        mut more in any_rule(),
        at in 0_usize..12,
        who in any_identity(),
    ) {
        more.action = Action::Audit;
        prop_assert_eq!(answers(&rules, &who), answers(&with(&rules, more, at), &who));
        let acting: Vec<Rule> = rules.iter().filter(|rule| rule.action != Action::Audit).cloned().collect();
        prop_assert_eq!(answers(&rules, &who), answers(&acting, &who));
    }

    #[test]
    fn one_more_allow_takes_nothing_away_and_one_more_deny_gives_nothing(
        rules in prop::collection::vec(any_rule(), 0..12),
        mut more in any_rule(),
        at in 0_usize..12,
        who in any_identity(),
    ) {
        let before = answers(&rules, &who);
        more.action = Action::Allow;
        let after = answers(&with(&rules, more.clone(), at), &who);
        prop_assert!(before.iter().zip(&after).all(|(before, after)| after >= before));
        more.action = Action::Deny;
        let after = answers(&with(&rules, more, at), &who);
        prop_assert!(before.iter().zip(&after).all(|(before, after)| after <= before));
    }

    #[test]
    fn a_deny_that_matches_wins(
        rules in prop::collection::vec(any_rule(), 0..12),
        mut deny in any_rule(),
        at in 0_usize..12,
        who in any_identity(),
    ) {
        deny.action = Action::Deny;
        // By itself as an Allow it shows what it is about.
        let mut alone = deny.clone();
        alone.action = Action::Allow;
        let about = answers_to(&requests(), &[alone], &who);
        let decided = answers_to(&requests(), &with(&rules, deny, at), &who);
        prop_assert!(about.iter().zip(&decided).all(|(about, decided)| *about < 2 || *decided == 0));
    }

    #[test]
    fn what_a_shadow_names_is_what_it_would_decide(mut rule in any_rule(), who in any_identity()) {
        for asked in requests() {
            rule.action = Action::Allow;
            let as_allow = answers_to(&[asked], std::slice::from_ref(&rule), &who);
            let mut everything = rule.clone();
            everything.principals = Principals { method: Some(who.method.to_string()), ..Principals::default() };
            (everything.servers, everything.tools) = (vec!["*".into()], Some(vec!["*".into()]));
            (everything.when, everything.expires) = (None, None);
            rule.action = Action::Deny;
            let as_deny = answers_to(&[asked], &[everything, rule.clone()], &who);
            rule.action = Action::Audit;
            let policy = compiled(std::slice::from_ref(&rule));
            for (((server, tool), allowed), denied) in questions().zip(as_allow).zip(as_deny) {
                let found = policy.shadows(&who, server, Thing::Tool(tool), asked, NOW);
                prop_assert_eq!(!found.matching.is_empty(), allowed == 2);
                let would_deny = !found.matching.is_empty() || !found.unclear.is_empty();
                prop_assert_eq!(would_deny, denied == 0);
            }
        }
    }

    #[test]
    fn what_may_be_called_is_listed(
        rules in prop::collection::vec(any_rule(), 0..12),
        who in any_identity(),
    ) {
        let listed = answers_to(&[Asked::LISTED], &rules, &who);
        for asked in requests() {
            let called = answers_to(&[asked], &rules, &who);
            prop_assert!(listed.iter().zip(&called).all(|(listed, called)| listed >= called));
        }
    }

    #[test]
    fn what_is_explained_is_what_is_decided(
        rules in prop::collection::vec(any_rule(), 0..12),
        who in any_identity(),
    ) {
        use explain::Effect;
        let policy = compiled(&rules);
        for (server, tool) in questions() {
            for asked in requests() {
                let thing = Thing::Tool(tool);
                let told = policy.explain(&who, server, thing, asked, NOW);
                let first = |action, fits: &dyn Fn(&Effect<'_>) -> bool| {
                    let found = told.iter().find(|one| one.action == action && fits(&one.effect));
                    found.map(|one| one.rule)
                };
                let denies = first(Action::Deny, &|effect| matches!(effect, Effect::Matches | Effect::Fails(_)));
                let allows = first(Action::Allow, &|effect| matches!(effect, Effect::Matches));
                let decided = policy.decide(&who, server, thing, asked, NOW);
                match (denies, allows) {
                    (Some(rule), _) => prop_assert_eq!(decided, Decision::Deny { rule: Some(rule) }),
                    (None, Some(rule)) => prop_assert_eq!(decided, Decision::Allow { rule }),
                    (None, None) => {
                        let not_permitted = permits(&decided) < 2;
                        prop_assert!(not_permitted);
                    }
                }
            }
        }
    }
}
