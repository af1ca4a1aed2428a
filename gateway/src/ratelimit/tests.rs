//! Limits of a configuration as requests meet them.

use std::path::Path;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn limits(text: &str, buckets: &Arc<Buckets>) -> RateLimits {
    let text = format!(
        "
formatVersion: 1
gateway: {{id: u, name: tools, namespace: agents, profile: Development, publicHost: mcp.example.com}}
listen:
  public: {{address: '0.0.0.0:8443', tls: {{certFile: tls.crt, keyFile: tls.key}}}}
auth: {{anonymous: {{reason: demo}}}}
rateLimits: [{text}]
"
    );
    let config = portcullis_config::parse(text.as_bytes(), Path::new("/m"))
        .unwrap()
        .config;
    RateLimits::build(&config, buckets)
}

fn identity(subject: &str) -> Identity {
    Identity::new(
        "corp".into(),
        subject.into(),
        Box::default(),
        Box::default(),
        None,
    )
}

fn call<'a>(who: &'a Identity, tool: &'a str) -> Subject<'a> {
    Subject {
        who,
        method: "tools/call",
        server: Some("agents/files"),
        tool: Some(tool),
        client: HERE,
    }
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn unknown_tool(who: &Identity) -> Subject<'_> {
    Subject {
        who,
        method: "tools/call",
        server: None,
        tool: None,
        client: HERE,
    }
}

fn list(who: &Identity) -> Subject<'_> {
    Subject {
        who,
        method: "tools/list",
        server: None,
        tool: None,
        client: HERE,
    }
}

/// How many of 50 pass.
fn passing(ask: impl Fn() -> Result<Option<Quota>, Limited>) -> usize {
    (0..50).filter(|_| ask().is_ok()).count()
}

#[test]
fn each_client_has_a_bucket_of_its_own() {
    let now = Instant::now();
    let limits = limits(
        "{name: c, key: Client, requests: 1, per: 1h, burst: 5}",
        &Buckets::new(now),
    );
    let (a, b) = (identity("a"), identity("b"));
    assert_eq!(passing(|| limits.client(&list(&a), now)), 5);
    assert_eq!(passing(|| limits.client(&call(&b, "read"), now)), 5);
    // The same principal, with another token.
    assert_eq!(passing(|| limits.client(&call(&identity("a"), "read"), now)), 0);
    assert!(matches!(limits.shared(&list(&a), now), Ok(None)));
}

#[rstest]
#[case::client_tool("ClientTool", 5, 5, 5)]
#[case::tool("Tool", 5, 0, 5)]
#[case::server("Server", 5, 0, 0)]
#[case::gateway("Gateway", 5, 0, 0)]
fn keys_say_what_is_counted_together(
    #[case] key: &str,
    #[case] first: usize,
    #[case] other_client: usize,
    #[case] other_tool: usize,
) {
    let now = Instant::now();
    let limits = limits(
        &format!("{{name: l, key: {key}, requests: 1, per: 1h, burst: 5}}"),
        &Buckets::new(now),
    );
    let (a, b) = (identity("a"), identity("b"));
    let ask = |subject: &Subject<'_>| limits.shared(subject, now);
    assert_eq!(passing(|| ask(&call(&a, "read"))), first);
    assert_eq!(passing(|| ask(&call(&b, "read"))), other_client);
    assert_eq!(passing(|| ask(&call(&a, "write"))), other_tool);
    let elsewhere = Subject {
        server: Some("agents/web"),
        ..call(&a, "read")
    };
    let elsewhere = passing(|| ask(&elsewhere));
    assert_eq!(elsewhere, if key == "Server" { 5 } else { other_tool });
}

#[test]
fn an_address_is_limited_whoever_calls_from_it() {
    let now = Instant::now();
    let limits = limits(
        "{name: l, key: IP, requests: 1, per: 1h, burst: 5}",
        &Buckets::new(now),
    );
    let (a, b) = (identity("a"), identity("b"));
    let from = |who: &Identity, client: &str| {
        let client: IpAddr = client.parse().unwrap();
        passing(|| limits.client(&Subject { client, ..list(who) }, now))
    };
    assert_eq!(from(&a, "192.0.2.1"), 5);
    assert_eq!(from(&b, "192.0.2.1"), 0);
    assert_eq!(from(&b, "::ffff:192.0.2.1"), 0, "the same in IPv6's notation");
    assert_eq!(from(&b, "192.0.2.2"), 5);
    assert_eq!(from(&a, "2001:db8::1"), 5);
    assert_eq!(from(&a, "2001:db8::ffff:1"), 0, "one host has the whole /64");
    assert_eq!(from(&a, "2001:db8:0:1::1"), 5);
}

#[test]
fn a_key_of_servers_or_tools_counts_what_is_about_one() {
    let now = Instant::now();
    let text = "{name: s, key: Server, requests: 1, per: 1h, burst: 1},
                {name: t, key: Tool, requests: 1, per: 1h, burst: 1},
                {name: c, key: ClientTool, requests: 1, per: 1h, burst: 1}";
    let limits = limits(text, &Buckets::new(now));
    let who = identity("a");
    assert_eq!(passing(|| limits.shared(&list(&who), now)), 50);
    let there = Subject {
        server: Some("agents/files"),
        ..list(&who)
    };
    let quota = limits.shared(&there, now).unwrap().unwrap();
    assert_eq!(&*quota.rule, "s");
    assert_eq!(passing(|| limits.shared(&there, now)), 0);
}

#[test]
fn a_server_has_limits_of_its_own() {
    let now = Instant::now();
    let text = "{name: all, key: Gateway, requests: 1, per: 1h, burst: 6}]
servers:
- {name: files, namespace: agents, prefix: files, url: 'https://f.example.com/mcp', addressPolicy: Public, rateLimits: [
    {name: own, key: Server, requests: 1, per: 1h, burst: 4},
    {name: each, key: ClientTool, match: {tools: [write]}, requests: 1, per: 1h, burst: 1}]}
- {name: web, namespace: agents, prefix: web, url: 'https://w.example.com/mcp', addressPolicy: Public, rateLimits: [
    {name: own, key: Server, requests: 1, per: 1h, burst: 4}]";
    let text = format!("{text}}}\nrules: [");
    let limits = limits(&text, &Buckets::new(now));
    let who = identity("a");
    assert!(limits.has_shared() && !limits.sees_things());
    assert_eq!(passing(|| limits.shared(&call(&who, "write"), now)), 1);
    let refused = limits.shared(&call(&who, "write"), now).unwrap_err();
    assert_eq!(&*refused.rule, "agents/files/each");
    assert_eq!(passing(|| limits.shared(&call(&who, "read"), now)), 3);
    let refused = limits.shared(&call(&who, "read"), now).unwrap_err();
    assert_eq!(&*refused.rule, "agents/files/own");
    let elsewhere = Subject {
        server: Some("agents/web"),
        ..call(&who, "read")
    };
    assert_eq!(
        passing(|| limits.shared(&elsewhere, now)),
        2,
        "the gateway's own limit is over all"
    );
}

#[rstest]
#[case("{name: l, key: Client, requests: 1, per: 1h, burst: 1}", false)]
#[case(
    "{name: l, key: Client, match: {methods: [ping]}, requests: 1, per: 1h, burst: 1}",
    false
)]
#[case(
    "{name: l, key: Client, match: {tools: [x]}, requests: 1, per: 1h, burst: 1}",
    true
)]
#[case(
    "{name: l, key: IP, match: {servers: [a/b]}, requests: 1, per: 1h, burst: 1}",
    true
)]
#[case(
    "{name: l, key: ClientTool, match: {tools: [x]}, requests: 1, per: 1h, burst: 1}",
    false
)]
fn limits_before_authorisation_may_see_tools(#[case] text: &str, #[case] sees: bool) {
    assert_eq!(limits(text, &Buckets::new(Instant::now())).sees_things(), sees);
}

#[test]
fn tools_that_do_not_exist_share_a_bucket() {
    let now = Instant::now();
    let limits = limits(
        "{name: l, key: ClientTool, requests: 1, per: 1h, burst: 5}",
        &Buckets::new(now),
    );
    let who = identity("a");
    assert_eq!(passing(|| limits.shared(&unknown_tool(&who), now)), 5);
    assert_eq!(passing(|| limits.shared(&call(&who, "read"), now)), 5);
    assert_eq!(passing(|| limits.shared(&unknown_tool(&who), now)), 0);
}

#[rstest]
#[case::methods("{methods: [tools/call]}", true, false, true)]
#[case::servers("{servers: [agents/files]}", true, false, false)]
#[case::other_server("{servers: [agents/web]}", false, false, false)]
#[case::tools("{tools: ['read*']}", true, false, false)]
#[case::all_tools("{tools: ['*']}", true, false, true)]
#[case::other_tools("{tools: ['write*']}", false, false, false)]
#[case::all_at_once(
    "{methods: [tools/call], servers: [agents/files], tools: [x, read]}",
    true,
    false,
    false
)]
#[case::not_all_at_once("{methods: [tools/list], tools: [read]}", false, false, false)]
fn a_limit_counts_what_it_matches(
    #[case] matches: &str,
    #[case] called: bool,
    #[case] listed: bool,
    #[case] unknown: bool,
) {
    let now = Instant::now();
    let text = format!("{{name: l, key: Client, match: {matches}, requests: 1, per: 1h, burst: 1}}");
    let counts = |subject: &Subject<'_>| {
        let limits = limits(&text, &Buckets::new(now));
        limits.client(subject, now).unwrap().is_some() && limits.client(subject, now).is_err()
    };
    let who = identity("a");
    assert_eq!(counts(&call(&who, "read")), called);
    assert_eq!(counts(&list(&who)), listed);
    assert_eq!(counts(&unknown_tool(&who)), unknown);
}

#[test]
fn a_refused_request_costs_nothing_anywhere() {
    let now = Instant::now();
    let text = "{name: wide, key: Client, requests: 1, per: 1h, burst: 9},
                {name: tight, key: Client, match: {tools: [write]}, requests: 1, per: 1h, burst: 2}";
    let limits = limits(text, &Buckets::new(now));
    let who = identity("a");
    assert_eq!(passing(|| limits.client(&call(&who, "write"), now)), 2);
    assert_eq!(
        &*limits.client(&call(&who, "write"), now).unwrap_err().rule,
        "tight"
    );
    assert_eq!(passing(|| limits.client(&call(&who, "read"), now)), 7);
}

#[test]
fn the_tightest_limit_is_told_and_the_longest_wait() {
    let now = Instant::now();
    let text = "{name: a, key: Client, requests: 60, per: 1m, burst: 9},
                {name: b, key: Client, requests: 1, per: 1m, burst: 2},
                {name: c, key: Client, requests: 1, per: 1h, burst: 2}";
    let limits = limits(text, &Buckets::new(now));
    let who = identity("a");
    let quota = limits.client(&list(&who), now).unwrap().unwrap();
    assert_eq!(
        (&*quota.rule, quota.remaining, quota.reset),
        ("b", 1, Duration::from_mins(1))
    );
    limits.client(&list(&who), now).unwrap();
    let limited = limits.client(&list(&who), now).unwrap_err();
    assert_eq!(
        (&*limited.rule, limited.retry_after),
        ("c", Duration::from_hours(1))
    );
    let later = limits
        .client(&list(&who), now + Duration::from_mins(1))
        .unwrap_err();
    assert_eq!((&*later.rule, later.retry_after), ("c", Duration::from_mins(59)));
}

#[test]
fn a_reload_keeps_the_buckets_of_limits_that_stayed_the_same() {
    let now = Instant::now();
    let buckets = Buckets::new(now);
    let text = |burst| format!("{{name: l, key: ClientTool, requests: 1, per: 1h, burst: {burst}}}");
    let who = identity("a");
    let before = limits(&text(5), &buckets);
    assert_eq!(passing(|| before.shared(&call(&who, "read"), now)), 5);
    let same = limits(
        &format!(
            "{{name: new, key: Gateway, requests: 99, per: 1h, burst: 99}}, {}",
            text(5)
        ),
        &buckets,
    );
    drop(before);
    assert_eq!(passing(|| same.shared(&call(&who, "read"), now)), 0);
    let changed = limits(&text(6), &buckets);
    assert_eq!(passing(|| changed.shared(&call(&who, "read"), now)), 6);
    drop((same, changed));
    assert_eq!(
        passing(|| limits(&text(5), &buckets).shared(&call(&who, "read"), now)),
        50,
        "nobody held them"
    );
}

#[test]
fn threads_charging_several_limits_never_get_more_than_each_allows() {
    let now = Instant::now();
    let text = "{name: a, key: Gateway, requests: 1, per: 24h, burst: 700},
                {name: b, key: ClientTool, requests: 1, per: 24h, burst: 500}";
    let limits = limits(text, &Buckets::new(now));
    let who = identity("a");
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..400)
                        .filter(|_| limits.shared(&call(&who, "x"), now).is_ok())
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 500);
    // What lost a race gave back what it had taken of the wider limit.
    let rest: usize = (0..400)
        .filter(|_| limits.shared(&call(&who, "y"), now).is_ok())
        .count();
    assert_eq!(rest, 200);
}

#[test]
fn a_quota_is_the_tighter_of_two() {
    let now = Instant::now();
    let text = "{name: a, key: Client, requests: 1, per: 1h, burst: 3}, {name: g, key: Gateway, requests: 1, per: 1h, burst: 9}";
    let limits = limits(text, &Buckets::new(now));
    let who = identity("a");
    let ask = || {
        (
            limits.client(&list(&who), now).unwrap(),
            limits.shared(&list(&who), now).unwrap(),
        )
    };
    let (client, shared) = ask();
    assert_eq!(
        &*Quota::tighter(client.clone(), shared.clone()).unwrap().rule,
        "a"
    );
    assert_eq!(&*Quota::tighter(shared.clone(), client).unwrap().rule, "a");
    assert_eq!(&*Quota::tighter(None, shared).unwrap().rule, "g");
    assert!(Quota::tighter(None, None).is_none());
}

/// When, by whom, of which tool.
type Passed = (u64, u8, u8);

proptest! {
    /// A group is charged whole or not at all, as a plain model of it says.
    #[test]
    fn a_group_is_charged_whole_or_not_at_all(
        bursts in prop::array::uniform3(1_u32..6),
        steps in prop::collection::vec((prop_oneof![Just(0_u64), 0_u64..4_000], 0_u8..3), 1..200),
    ) {
        let start = Instant::now();
        let [a, b, c] = bursts;
        let text = format!(
            "{{name: g, key: Gateway, requests: 5, per: 10s, burst: {a}}},
             {{name: s, key: Server, match: {{servers: [agents/files]}}, requests: 4, per: 10s, burst: {b}}},
             {{name: t, key: Tool, requests: 2, per: 10s, burst: {c}}}"
        );
        let limits = limits(&text, &Buckets::new(start));
        let who = identity("a");
        let tools = ["t0", "t1", "t2"];
        // What each bucket would hold if it were charged for what passed, and for nothing else.
        let mut model: HashMap<&str, u64> = HashMap::new();
        let mut now = 0;
        for (pause, tool) in steps {
            now += pause;
            let tool = tools[usize::from(tool)];
            let of_group = [("g", 2_000, a), ("s", 2_500, b), (tool, 5_000, c)];
            let has_room = of_group.iter().all(|(key, interval, burst)| {
                let tat = model.get(key).copied().unwrap_or(0).max(now);
                tat + interval <= now + interval * u64::from(*burst)
            });
            let passed = limits.shared(&call(&who, tool), start + Duration::from_millis(now));
            prop_assert_eq!(passed.is_ok(), has_room);
            if has_room {
                for (key, interval, _) in of_group {
                    let tat = model.entry(key).or_default();
                    *tat = (*tat).max(now) + interval;
                }
            }
        }
    }

    /// Whatever the clients do, no limit lets more through than it says, over any window.
    #[test]
    fn every_limit_holds_for_every_key(
        steps in prop::collection::vec((0_u64..2_000, 0_u8..3, 0_u8..3), 1..300),
    ) {
        let start = Instant::now();
        let text = "{name: c, key: Client, requests: 5, per: 10s, burst: 3},
                    {name: t, key: ClientTool, match: {tools: [t1]}, requests: 2, per: 10s, burst: 1},
                    {name: s, key: Tool, requests: 4, per: 10s, burst: 2},
                    {name: g, key: Gateway, requests: 8, per: 10s, burst: 4}";
        let limits = limits(text, &Buckets::new(start));
        let people = ["a", "b", "c"].map(identity);
        let tools = ["t0", "t1", "t2"];
        let mut now = 0;
        let mut passed = Vec::new();
        for (pause, who, tool) in steps {
            now += pause;
            let subject = call(&people[usize::from(who)], tools[usize::from(tool)]);
            let at = start + Duration::from_millis(now);
            if limits.client(&subject, at).is_ok() && limits.shared(&subject, at).is_ok() {
                passed.push((now, who, tool));
            }
        }
        let most = |counts: &dyn Fn(&Passed, &Passed) -> bool| {
            passed.iter().enumerate().map(|(at, first)| {
                passed[at..].iter().filter(|one| one.0 <= first.0 + 10_000 && counts(first, one)).count()
            }).max().unwrap_or(0)
        };
        prop_assert!(most(&|a, b| a.1 == b.1) <= 8);
        prop_assert!(most(&|a, b| a.1 == b.1 && a.2 == 1 && b.2 == 1) <= 3);
        prop_assert!(most(&|a, b| a.2 == b.2) <= 6);
        prop_assert!(most(&|_, _| true) <= 12);
    }
}
