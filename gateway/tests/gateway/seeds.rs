//! What must hold whatever a stranger sends, held against the fuzzers' seeds: where they begin, and what they have found
//! so far. `gateway/fuzz` searches further, with a compiler that not every machine has.

use std::path::Path;

use rstest::rstest;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/condition.rs"]
mod condition;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/events.rs"]
mod events;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/front.rs"]
mod front;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/header.rs"]
mod header;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/message.rs"]
mod message;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/token.rs"]
mod token;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "part of another crate, where it is public"
)]
#[path = "../../fuzz/src/tree.rs"]
mod tree;

#[rstest]
#[case::condition("condition", condition::check)]
#[case::events("events", events::check)]
#[case::front("front", front::check)]
#[case::header("header", header::check)]
#[case::message("message", message::check)]
#[case::token("token", token::check)]
fn what_fuzzers_begin_with_holds(#[case] target: &str, #[case] check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    assert!(fuzz.join(format!("fuzz_targets/{target}.rs")).is_file());
    let mut held = 0;
    for seed in std::fs::read_dir(fuzz.join("seeds").join(target)).unwrap() {
        let seed = seed.unwrap().path();
        // The last one printed is the one that fails.
        println!("{}", seed.display());
        check(&std::fs::read(&seed).unwrap());
        held += 1;
    }
    assert!(held >= 8, "{held} seeds");
}
