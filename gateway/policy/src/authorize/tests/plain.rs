//! Any rules, against an evaluator that is too plain to be wrong.

use super::*;

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<String>>> {
    let list = prop::sample::subsequence(names, 1..=names.len());
    prop::option::weighted(
        0.4,
        list.prop_map(|list| list.into_iter().map(str::to_owned).collect()),
    )
}

prop_compose! {
    pub(super) fn any_rule()(
        action in prop::sample::select(vec![
            Action::Allow, Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Audit,
        ]),
        method in prop::sample::select(vec![Some("corp"), Some("apiKeys"), Some("anonymous"), None]),
        subjects in some_of(&["a", "b"]),
        groups in some_of(&["g", "h"]),
        scopes in some_of(&["s", "t"]),
        clients in some_of(&["a", "b"]),
        servers in some_of(&["agents/files", "agents/web", "*"]),
        tools in some_of(&["read", "r*", "*d", "w?", "*"]),
        when in prop::option::weighted(0.3, prop::sample::select(vec![
            "principal.subject == 'a'", "request.arguments.n == 1", "has(request.arguments.n)",
            "request.arguments.n > 0", "!(tool.name in ['read', 'wx'])", "request.method == 'tools/call'",
        ])),
        expires in prop::option::weighted(0.3, -1_i64..=1),
    ) -> Rule {
        let method = method.map(str::to_owned);
        let nobody = method.is_none() && clients.is_none();
        Rule {
            name: String::new(),
            action,
            principals: Principals { any_authenticated: nobody, method, subjects, groups, scopes, clients },
            servers: servers.unwrap_or_else(|| vec!["*".into()]),
            tools,
            prompts: None,
            resources: None,
            when: when.map(str::to_owned),
            expires: expires.map(|by| Timestamp::from_second(i64::try_from(NOW).unwrap() + by).unwrap()),
        }
    }
}

prop_compose! {
    pub(super) fn any_identity()(
        method in prop::sample::select(vec!["corp", "apiKeys", "anonymous"]),
        subject in prop::sample::select(vec!["a", "b", "c"]),
        groups in prop::sample::subsequence(vec!["g", "h", "i"], 0..=3),
        scopes in prop::sample::subsequence(vec!["s", "t"], 0..=2),
    ) -> Identity {
        identity(method, subject, &groups, &scopes)
    }
}

/// The rules once more, read straight from the configuration.
fn plainly(rules: &[Rule], who: &Identity, server: &str, tool: &str, now: u64) -> String {
    let holds = |list: &Option<Vec<String>>, has: &dyn Fn(&str) -> bool| {
        list.as_ref().is_none_or(|list| list.iter().any(|name| has(name)))
    };
    let about = |rule: &&Rule, with_scopes: bool| {
        let p = &rule.principals;
        p.method.as_deref().is_none_or(|method| method == &*who.method)
            && (!p.any_authenticated || &*who.method != "anonymous")
            && holds(&p.subjects, &|name| name == &*who.subject)
            && holds(&p.clients, &|name| {
                &*who.method == "apiKeys" && name == &*who.subject
            })
            && holds(&p.groups, &|name| who.groups.iter().any(|group| &**group == name))
            && (!with_scopes || holds(&p.scopes, &|name| who.scopes.iter().any(|scope| &**scope == name)))
            && rule.servers.iter().any(|name| name == "*" || name == server)
            && rule
                .tools
                .iter()
                .flatten()
                .any(|glob| crate::glob::Glob::new(glob).matches(tool))
            && rule
                .expires
                .is_none_or(|at| i64::try_from(now).unwrap() < at.as_second())
    };
    let find = |action, with_scopes| {
        rules
            .iter()
            .filter(|rule| rule.action == action)
            .find(|rule| about(rule, with_scopes))
    };
    if let Some(rule) = find(Action::Deny, true) {
        format!("-{}", rule.name)
    } else if let Some(rule) = find(Action::Allow, true) {
        format!("+{}", rule.name)
    } else if let Some(rule) = find(Action::Allow, false) {
        format!(
            "?{}: {}",
            rule.name,
            rule.principals.scopes.clone().unwrap().join(" ")
        )
    } else {
        "-".into()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn it_agrees_with_the_plain_evaluator(
        mut rules in prop::collection::vec(any_rule(), 0..140),
        people in prop::collection::vec(any_identity(), 1..4),
        server in prop::sample::select(vec!["agents/files", "agents/web"]),
        tool in prop::sample::select(vec!["read", "write", "wx", "rd", "x"]),
    ) {
        for (at, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("r{at}");
            rule.when = None;
        }
        let mut config = config(AUTH, SERVERS);
        config.rules = rules.clone();
        let policy = Policy::compile(&config).unwrap();
        for who in &people {
            for now in [NOW - 1, NOW, NOW + 1] {
                let expected = plainly(&rules, who, server, tool, now);
                prop_assert_eq!(told(policy.decide(who, server, Thing::Tool(tool), Asked::LISTED, now)), expected);
            }
            let listed = |tool| policy.decide(who, server, Thing::Tool(tool), Asked::LISTED, NOW).is_listed();
            if ["read", "write", "wx"].into_iter().any(listed) {
                prop_assert!(policy.any(who, server, Kind::Tool, NOW));
            }
        }
    }
}
