//! The gateway listens to its servers: what they say that changed is asked for, and then told.

use std::time::Duration;

use http::StatusCode;
use portcullis_gateway::config::watch::Outcome;
use portcullis_gateway::proxy::news::News;
use portcullis_gateway::proxy::primitive::Primitive;
use rstest::rstest;
use tokio::sync::broadcast::Receiver;

use crate::pushing::Pushing;
use crate::support::{ALICE, Gateway, Speaks, config};

const ON: &str = "features: {prompts: true, resources: true, subscriptions: true}";

/// It takes milliseconds; machines that run tests are busy. Without being told it would take 30 s.
const SOON: Duration = Duration::from_secs(4);

async fn next(news: &mut Receiver<News>) -> Primitive {
    let next = tokio::time::timeout(SOON, news.recv()).await;
    next.expect("nobody is told").unwrap().list
}

/// Waits until the server has so many streams.
pub(crate) async fn streams(server: &Pushing, count: usize) {
    for _ in 0..400 {
        if server.streams() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} streams, not {count}", server.streams());
}

async fn tools(gateway: &Gateway) -> String {
    let client = gateway.client(ALICE).at("/servers/s/mcp");
    client.stateless("tools/list", None, "").await.text
}

/// Whatever the start told has been told.
async fn settled(gateway: &Gateway, server: &Pushing) {
    streams(server, 1).await;
    // Once by the keeper, once because the stream began.
    server.seen.wait("tools/list", 2).await;
    tools(gateway).await;
}

#[rstest]
#[tokio::test]
async fn a_change_is_told_when_the_new_list_is_in_force(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let server = Pushing::start(speaks).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    settled(&gateway, &server).await;
    let mut news = gateway.app.news();
    while let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(300), news.recv()).await {}
    server.add_tool("second");
    server.say_changed("tools");
    assert_eq!(next(&mut news).await, Primitive::Tools);
    let listed = tools(&gateway).await;
    assert!(listed.contains("second"), "{listed}");
    // Many words are one question, or two: one may have been on its way.
    let before = server.seen.of("tools/list").len();
    for _ in 0..100 {
        server.say_changed("prompts");
    }
    assert_eq!(next(&mut news).await, Primitive::Prompts);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let asked = server.seen.of("tools/list").len() - before;
    assert!((1..=3).contains(&asked), "{asked}");
}

#[rstest]
#[tokio::test]
async fn after_a_break_everything_is_told(#[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks) {
    let server = Pushing::start(speaks).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    settled(&gateway, &server).await;
    let mut news = gateway.app.news();
    server.break_streams();
    server.add_tool("meanwhile");
    let mut told = Vec::new();
    while told.len() < 3 {
        let list = next(&mut news).await;
        if !told.contains(&list) {
            told.push(list);
        }
    }
    assert!(tools(&gateway).await.contains("meanwhile"));
    streams(&server, 1).await;
}

#[rstest]
#[case::everywhere("features: {prompts: true, resources: true}")]
#[case::of_the_server(
    "features: {prompts: true, subscriptions: true}\nservers: [{name: s, namespace: a, prefix: s, addressPolicy: Loopback, url: URL, features: {subscriptions: false}}]"
)]
#[tokio::test]
async fn where_it_is_off_nobody_listens_and_nothing_is_told(
    #[case] more: &str,
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let server = Pushing::start(speaks).await;
    let url = format!("http://{}/mcp", server.address);
    let text = config(&[("s", server.address)], &more.replace("URL", &url));
    let gateway = Gateway::start(&text).await;
    let mut news = gateway.app.news();
    server.seen.wait("tools/list", 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let opened = [server.seen.of("GET"), server.seen.of("subscriptions/listen")];
    assert!(opened.iter().all(Vec::is_empty));
    assert!(news.try_recv().is_err());
    // Switched on, and off again.
    gateway.reload(&config(&[("s", server.address)], ON));
    streams(&server, 1).await;
    gateway.reload(&text);
    server.seen.wait("stream closed", 1).await;
}

#[rstest]
#[tokio::test]
async fn the_stream_ends_with_the_server_and_with_the_process(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
    #[values(false, true)] drain: bool,
) {
    let server = Pushing::start(speaks).await;
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    streams(&server, 1).await;
    if drain {
        gateway.app.drain.end_streams().cancel();
    } else {
        gateway.reload(&config(&[], ON));
    }
    server.seen.wait("stream closed", 1).await;
}

#[rstest]
#[tokio::test]
async fn a_server_without_a_stream_is_left_alone(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let server = Pushing::start(speaks).await;
    server.set_mute(true);
    let _gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    let method = match speaks {
        Speaks::Sessions => "GET",
        Speaks::Stateless => "subscriptions/listen",
    };
    server.seen.wait(method, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.seen.of(method).len(), 1);
}

/// Also where it takes longer to say so than a stream's head is waited for.
#[rstest]
#[case::as_it_should(StatusCode::METHOD_NOT_ALLOWED, 300)]
#[case::as_many_do(StatusCode::NOT_FOUND, 0)]
#[case::as_many_do_late(StatusCode::NOT_FOUND, 300)]
#[tokio::test]
async fn a_server_that_says_that_it_has_no_stream_is_believed(#[case] status: StatusCode, #[case] late: u64) {
    let server = Pushing::start(Speaks::Sessions).await;
    server.set_answer(status, Duration::from_millis(late));
    let gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    server.seen.wait("GET", 1).await;
    let client = gateway.client(ALICE).at("/servers/s/mcp").initialize().await;
    let _stream = client.open(http::Method::GET, &[], "").await;
    server.seen.wait("GET", 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        server.seen.of("GET").len(),
        2,
        "one of the gateway, one for the client"
    );
    assert_eq!(server.seen.of("initialize").len(), 2, "no session was lost");
    assert!(
        server.seen.of("tools/list").len() <= 3,
        "nothing is listed again and again"
    );
}

#[rstest]
#[tokio::test]
async fn without_its_credential_a_server_hears_nothing(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let server = Pushing::start(speaks).await;
    let text = config(&[("s", server.address)], ON).replace(
        "- addressPolicy:",
        "- credential: {name: x-key, file: upstream-key}\n  addressPolicy:",
    );
    let gateway = Gateway::start(&text).await;
    let answer = gateway
        .client(ALICE)
        .at("/mcp")
        .initialize()
        .await
        .call("s__first", "{}")
        .await;
    assert!(answer.json()["error"].is_object(), "{answer:?}");
    assert_eq!(server.seen.all().len(), 0, "{:?}", server.seen.all());
    std::fs::write(gateway.folder.join("upstream-key"), "secret").unwrap();
    assert!(matches!(gateway.look(), Outcome::Taken));
    streams(&server, 1).await;
    for (method, headers) in server.seen.all() {
        assert_eq!(headers["x-key"], "secret", "{method}");
    }
}

#[tokio::test]
async fn a_server_that_has_no_time_for_a_stream_is_asked_again() {
    let server = Pushing::start(Speaks::Sessions).await;
    server.set_answer(StatusCode::TOO_MANY_REQUESTS, Duration::ZERO);
    let _gateway = Gateway::start(&config(&[("s", server.address)], ON)).await;
    server.seen.wait("GET", 2).await;
    server.set_mute(false);
    streams(&server, 1).await;
}
