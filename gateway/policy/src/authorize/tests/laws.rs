//! What holds for any rules.

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
    Policy::compile(&config)
}

/// One question: who, of which server, what.
type Question = (&'static str, &'static str);

fn questions() -> impl Iterator<Item = Question> {
    ["agents/files", "agents/web"]
        .into_iter()
        .flat_map(|server| ["read", "write", "wx", "rd", "x"].map(|tool| (server, tool)))
}

fn answers(rules: &[Rule], who: &Identity) -> Vec<u8> {
    let policy = compiled(rules);
    questions()
        .map(|(server, tool)| permits(&policy.decide(who, server, Thing::Tool(tool), NOW)))
        .collect()
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
        let about = answers(&[alone], &who);
        let decided = answers(&with(&rules, deny, at), &who);
        prop_assert!(about.iter().zip(&decided).all(|(about, decided)| *about < 2 || *decided == 0));
    }

    #[test]
    fn what_a_shadow_names_is_what_it_would_decide(mut rule in any_rule(), who in any_identity()) {
        rule.action = Action::Allow;
        let as_allow = answers(std::slice::from_ref(&rule), &who);
        rule.action = Action::Audit;
        let policy = compiled(&[rule]);
        for ((server, tool), permits) in questions().zip(as_allow) {
            let named = !policy.shadows(&who, server, Thing::Tool(tool), NOW).is_empty();
            prop_assert_eq!(named, permits == 2);
        }
    }
}
