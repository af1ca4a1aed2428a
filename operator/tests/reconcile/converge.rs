//! Whatever happens to any single request, the end is the same: everything made once, nothing left over, silence.

use std::time::Duration;

use crate::api::Fault;
use crate::bench::{Bench, GATEWAYS, SERVERS};

/// The end of an undisturbed run, and how many requests it took.
async fn undisturbed() -> (Vec<String>, usize) {
    let bench = Bench::new();
    bench.gateway_and_server();
    bench.api.set_faults(|_, _| None);
    let operator = bench.operator();
    bench
        .until("ready", |bench| {
            bench.is(GATEWAYS, "tools", "Ready", "True") && bench.is(SERVERS, "files", "Ready", "True")
        })
        .await;
    let calls = bench.api.calls().len();
    bench.quiet().await;
    operator.stop().await;
    (bench.made(), calls)
}

fn assert_same_end(bench: &Bench, expected: &[String], what: &str) {
    let mut made = bench.made();
    // A key may have been given up on the way; its marker and its Secret must be gone, or be a pair that is whole.
    made.dedup();
    assert_eq!(made, expected, "{what}");
    let names = |resource: &str| -> Vec<String> {
        let all = bench.api.list(resource).into_iter().map(|(place, _)| place.name);
        all.filter(|name| name.contains("-session-")).collect()
    };
    assert_eq!(names("configmaps"), names("secrets"), "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_request_converges() {
    let (expected, calls) = undisturbed().await;
    assert!(calls > 20, "{calls}");
    for at in 0..calls {
        let bench = Bench::new();
        bench.gateway_and_server();
        bench
            .api
            .set_faults(move |number, _| (number == at).then_some(Fault::DoAndCrash));
        let mut crashes = bench.api.crashes();
        let operator = bench.operator();
        crashes.changed().await.unwrap();
        operator.kill();
        let operator = bench.operator();
        bench.until_settled().await;
        assert_same_end(&bench, &expected, &format!("crash after request {at}"));
        operator.stop().await;
    }
}

async fn one_fault_anywhere(fault: Fault) {
    let (expected, calls) = undisturbed().await;
    for at in 0..calls {
        let bench = Bench::new();
        bench.gateway_and_server();
        bench
            .api
            .set_faults(move |number, _| (number == at).then_some(fault));
        let operator = bench.operator();
        bench.until_settled().await;
        assert_same_end(&bench, &expected, &format!("{fault:?} at request {at}"));
        operator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_at_any_request_converges() {
    one_fault_anywhere(Fault::Refuse(409)).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_at_any_request_converges() {
    one_fault_anywhere(Fault::Refuse(500)).await;
}

#[tokio::test(start_paused = true)]
async fn throttling_at_any_request_converges() {
    one_fault_anywhere(Fault::Refuse(429)).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_converges() {
    one_fault_anywhere(Fault::Hang).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_done_but_never_answered_converges() {
    one_fault_anywhere(Fault::DoAndHang).await;
}

/// Not each fifth: passes of as many requests would fail at the same one each time, however often they are made.
fn is_one_in_five(number: usize) -> bool {
    (u64::try_from(number).unwrap().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).is_multiple_of(5)
}

#[tokio::test(start_paused = true)]
async fn one_request_in_five_failing_still_converges() {
    let (expected, _) = undisturbed().await;
    let bench = Bench::new();
    bench.gateway_and_server();
    bench
        .api
        .set_faults(|number, _| is_one_in_five(number).then_some(Fault::Refuse(503)));
    let operator = bench.operator();
    bench
        .until("ready", |bench| {
            bench.is(GATEWAYS, "tools", "Ready", "True") && bench.is(SERVERS, "files", "Ready", "True")
        })
        .await;
    bench.api.no_faults();
    bench.quiet().await;
    assert_same_end(&bench, &expected, "one in five");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_operators_at_once_come_to_the_same_end() {
    let (expected, _) = undisturbed().await;
    let bench = Bench::new();
    bench.gateway_and_server();
    let (first, second) = (bench.operator(), bench.operator());
    bench.until_ready().await;
    assert_same_end(&bench, &expected, "two operators");
    tokio::time::sleep(Duration::from_secs(20 * 60)).await;
    bench.quiet().await;
    first.stop().await;
    second.stop().await;
}
