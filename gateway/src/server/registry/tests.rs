use super::*;
use crate::telemetry::metrics::{Metrics, Port};
use rstest::rstest;

const DEADLINES: Deadlines = Deadlines {
    header: Duration::from_secs(10),
    idle: Duration::from_secs(600),
    idle_pressed: Duration::from_secs(2),
    stalled_pressed: Duration::from_secs(15),
    stalled_write: Duration::from_secs(60),
    ping: Duration::from_secs(30),
    pong: Duration::from_secs(20),
};

fn registry() -> Arc<Registry> {
    Registry::new(DEADLINES, Metrics::new(0.0).connections(Port::Public))
}

/// A link that entered its phase at the beginning, judged `after` so many seconds.
fn judge(link: &Link, after: u64) -> Option<(Order, Option<CloseReason>)> {
    link.verdict(after * 1000, &DEADLINES, false)
}

#[test]
fn a_connection_that_sends_no_whole_head_is_aborted() {
    let registry = registry();
    let entry = registry.enter();
    assert_eq!(judge(entry.link(), 10), None);
    assert_eq!(
        judge(entry.link(), 11),
        Some((Order::Abort, Some(CloseReason::HeaderTimeout)))
    );
}

#[test]
fn a_request_may_take_as_long_as_it_likes() {
    let registry = registry();
    let entry = registry.enter();
    entry.link().request_began();
    assert_eq!(judge(entry.link(), 100_000), None);
}

#[test]
fn between_requests_the_idle_time_counts_until_the_first_byte_of_the_next() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.request_began();
    link.request_ended();
    assert_eq!(judge(link, 11), None);
    assert_eq!(judge(link, 601), Some((Order::Finish, Some(CloseReason::Idle))));
    link.received();
    assert_eq!(
        judge(link, 11),
        Some((Order::Abort, Some(CloseReason::HeaderTimeout)))
    );
}

#[test]
fn bytes_in_the_middle_of_a_request_do_not_begin_a_head() {
    let registry = registry();
    let entry = registry.enter();
    entry.link().request_began();
    entry.link().received();
    assert_eq!(judge(entry.link(), 100), None);
}

#[test]
fn several_streams_make_one_busy_connection() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.request_began();
    link.request_began();
    link.request_ended();
    assert_eq!(judge(link, 100_000), None);
    link.request_ended();
    assert_eq!(
        judge(link, 100_000),
        Some((Order::Finish, Some(CloseReason::Idle)))
    );
}

#[test]
fn a_peer_that_takes_no_bytes_is_dropped_even_while_busy() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.request_began();
    link.wrote(false);
    assert_eq!(judge(link, 60), None);
    assert_eq!(
        judge(link, 62),
        Some((Order::Abort, Some(CloseReason::WriteStalled)))
    );
    link.wrote(true);
    assert_eq!(judge(link, 62), None);
}

#[test]
fn answers_that_nobody_takes_make_room_where_places_are_short() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.request_began();
    link.request_began();
    link.held();
    let pressed = |after: u64| link.verdict(after * 1000, &DEADLINES, true);
    assert_eq!(pressed(100_000), None, "the other one is worked on");
    link.held();
    assert_eq!(pressed(15), None);
    assert_eq!(pressed(16), Some((Order::Abort, Some(CloseReason::WriteStalled))));
    assert_eq!(judge(link, 100_000), None, "each has an end of its own");
    link.moved();
    assert_eq!(pressed(15), None);
}

#[test]
fn a_full_socket_makes_room_where_places_are_short() {
    let registry = registry();
    let entry = registry.enter();
    entry.link().request_began();
    entry.link().wrote(false);
    assert_eq!(judge(entry.link(), 16), None);
    assert_eq!(entry.link().verdict(15_000, &DEADLINES, true), None);
    assert_eq!(
        entry.link().verdict(16_000, &DEADLINES, true),
        Some((Order::Abort, Some(CloseReason::WriteStalled)))
    );
}

#[test]
fn what_an_http2_client_sends_between_requests_begins_no_head() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.is_framed();
    assert_eq!(
        judge(link, 11),
        Some((Order::Abort, Some(CloseReason::HeaderTimeout))),
        "the first request is waited for as on HTTP/1"
    );
    link.request_began();
    link.request_ended();
    link.received();
    assert_eq!(judge(link, 600), None);
    assert_eq!(judge(link, 601), Some((Order::Finish, Some(CloseReason::Idle))));
}

#[test]
fn who_was_told_to_finish_has_time_after_the_last_answer() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.request_began();
    link.forsake();
    assert_eq!(link.order(), Order::Finish);
    registry.clock.millis.store(100_000, Ordering::Relaxed);
    link.request_ended();
    assert_eq!(judge(link, 105), None);
    assert_eq!(
        judge(link, 111),
        Some((Order::Abort, Some(CloseReason::HeaderTimeout)))
    );
}

#[test]
fn one_that_lingers_goes_soon_and_uncounted() {
    let registry = registry();
    let entry = registry.enter();
    entry.link().lingers();
    assert_eq!(judge(entry.link(), 2), None);
    assert_eq!(judge(entry.link(), 3), Some((Order::Abort, None)));
    // Where places are short, at once.
    assert_eq!(
        entry.link().verdict(0, &DEADLINES, true),
        Some((Order::Abort, None))
    );
}

#[test]
fn one_that_was_told_to_finish_and_lingers_with_half_a_request_is_aborted() {
    let registry = registry();
    let entry = registry.enter();
    let link = entry.link();
    link.request_began();
    link.request_ended();
    link.tell(Order::Finish);
    assert_eq!(judge(link, 9), None);
    assert_eq!(
        judge(link, 11),
        Some((Order::Abort, Some(CloseReason::HeaderTimeout)))
    );
}

#[rstest]
#[case(Order::Leave)]
#[case(Order::Finish)]
fn who_comes_later_gets_the_standing_order(#[case] order: Order) {
    let registry = registry();
    let before = registry.enter();
    registry.tell_all(order);
    let after = registry.enter();
    assert_eq!(before.link().order(), order);
    assert_eq!(after.link().order(), order);
}

#[test]
fn every_order_wakes_the_connection_not_only_the_first() {
    struct Count(AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let registry = registry();
    let entry = registry.enter();
    let mut orders = Orders::new(entry.link());
    assert_eq!(orders.latest(&waker), Order::None);
    for (told, order) in (1..).zip([Order::Leave, Order::Finish, Order::Abort]) {
        entry.link().tell(order);
        assert_eq!(count.0.load(Ordering::SeqCst), told);
        assert_eq!(orders.latest(&waker), order);
    }
}

#[test]
fn orders_only_grow() {
    let registry = registry();
    let entry = registry.enter();
    registry.abort_all();
    registry.leave_all();
    assert_eq!(entry.link().order(), Order::Abort);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_empty_ends_with_the_last_connection() {
    let registry = registry();
    let (one, two) = (registry.enter(), registry.enter());
    let waiting = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.wait_empty().await }
    });
    drop(one);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(two);
    waiting.await.unwrap();
}

#[test]
fn a_shorter_header_deadline_is_swept_more_often() {
    let short = Deadlines {
        header: Duration::from_millis(80),
        ..DEADLINES
    };
    assert_eq!(short.sweep_interval(), Duration::from_millis(10));
    assert_eq!(DEADLINES.sweep_interval(), Duration::from_millis(250));
}
