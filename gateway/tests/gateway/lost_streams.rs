//! Streams that clients listen on, and the replicas that carry them: they end or go on, and who opens one anew is told.

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use rstest::rstest;
use serde_json::json;

use crate::asker::Asker;
use crate::cluster::{Cluster, Loss, soon};
use crate::listen::Told;
use crate::news::streams;
use crate::push::{Events, session};
use crate::pushing::Pushing;
use crate::support::{ALICE, Speaks};

const SUBSCRIBE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"s+note:1"}}"#;

/// The way of the client's own stream leads by another replica to the owner, which is lost.
#[rstest]
#[tokio::test]
async fn a_clients_own_stream_ends_with_its_owner_and_another_goes_on(
    #[values(Loss::Killed, Loss::Paused)] loss: Loss,
) {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = session(&cluster.all[0], ALICE, "/mcp").await;
    let mut own = Events::listen(&cluster.at(&client, 1)).await;
    assert_eq!(client.post(SUBSCRIBE).await.status, StatusCode::OK);
    assert_eq!(own.message().await["method"], "notifications/resources/updated");
    cluster.lose(0, loss);
    if loss == Loss::Paused {
        // Somebody's request shows it; without any it is three signs of life that do not come.
        let ping = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
        soon("a request", cluster.at(&client, 1).post(ping)).await;
    }
    soon("the stream", async { while own.next().await.is_some() {} }).await;
    for replica in [1, 2] {
        let client = cluster.at(&client, replica);
        let mut anew = soon("a new stream", Events::listen(&client)).await;
        let subscribed = soon("to subscribe", client.post(SUBSCRIBE)).await;
        assert!(subscribed.json()["result"].is_object(), "{subscribed:?}");
        let news = soon("the news", anew.message()).await;
        assert_eq!(news["params"]["uri"], "s+note:1");
    }
}

#[rstest]
#[case::killed(Some(Loss::Killed))]
#[case::paused(Some(Loss::Paused))]
#[case::drained(None)]
#[tokio::test]
async fn with_one_server_a_client_goes_on_from_its_place_at_another_replica(#[case] loss: Option<Loss>) {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    // By way of the owner that then is, and not: either as it comes.
    for by in [1, 2, 1, 2, 1, 2] {
        let client = session(&cluster.all[0], ALICE, "/servers/s/mcp").await;
        let mut call = Events::call(&cluster.at(&client, by), "poll").await;
        let id = call.next().await.unwrap().id.unwrap();
        assert!(call.next().await.is_none(), "the server closed the stream");
        match loss {
            Some(loss) => cluster.lose(0, loss),
            None => cluster.list(&[1, 2]),
        }
        let client = cluster.at(&client, 3 - by);
        let headers = [("last-event-id", id.as_str())];
        let rest = soon("the rest", client.open(Method::GET, &headers, "")).await;
        assert_eq!(rest.status(), StatusCode::OK);
        let mut rest = Events::from(rest);
        let last = soon("the answer", rest.next()).await.unwrap();
        assert_eq!(last.data["result"]["content"][0]["text"], "polled");
        if loss.is_some() {
            return;
        }
        cluster.list(&[0, 1, 2]);
    }
}

/// No replica knows another's streams: who lost one listens at the next, and misses nothing from then on.
#[rstest]
#[tokio::test]
async fn a_client_without_a_session_listens_at_another_replica(
    #[values(Speaks::Sessions, Speaks::Stateless)] speaks: Speaks,
) {
    let server = Pushing::start(speaks).await;
    let mut cluster = Cluster::start(server.address, 3).await;
    streams(&server, 3).await;
    let client = cluster.all[0].client(ALICE);
    let filter = r#"{"toolsListChanged":true,"resourceSubscriptions":["s+note:1"]}"#;
    let mut old = Told::open(&client, "1", filter).await;
    assert_eq!(old.granted().await["toolsListChanged"], true);
    let mut anew = Told::open(&cluster.at(&client, 1), "2", filter).await;
    let mut other = Told::open(&cluster.at(&client, 2), "3", filter).await;
    assert_eq!(anew.granted().await["resourceSubscriptions"], json!(["s+note:1"]));
    assert_eq!(
        other.granted().await["resourceSubscriptions"],
        json!(["s+note:1"])
    );
    cluster.lose(0, Loss::Killed);
    cluster.list(&[1, 2]);
    let added = cluster.begin().await;
    cluster.list(&[1, 2, added]);
    server.add_tool("second");
    server.say_changed("tools");
    for stream in [&mut anew, &mut other] {
        let told = stream.next().await.unwrap();
        assert_eq!(told["method"], "notifications/tools/list_changed");
    }
    let mut last = Told::open(&cluster.at(&client, added), "4", filter).await;
    assert_eq!(last.granted().await["resourceSubscriptions"], json!(["s+note:1"]));
    server.say_updated("note:1", None);
    for stream in [&mut anew, &mut other, &mut last] {
        loop {
            let told = stream.next().await.unwrap();
            if told["method"] == "notifications/resources/updated" {
                assert_eq!(told["params"]["uri"], "s+note:1");
                break;
            }
        }
    }
}

/// Nothing would come there any more: it ends with the next sign of life, and the client comes back to where its session is.
#[tokio::test]
async fn a_clients_own_stream_ends_where_its_session_is_no_longer() {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = session(&cluster.all[0], ALICE, "/mcp").await;
    let own = client.open(Method::GET, &[], "").await;
    assert_eq!(own.status(), StatusCode::OK);
    cluster.list(&[1, 2]);
    let two_signs = std::time::Duration::from_secs(30);
    let rest = tokio::time::timeout(two_signs, own.into_body().collect()).await;
    rest.expect("the stream goes on").unwrap();
    let client = cluster.at(&client, 1);
    let mut anew = soon("a new stream", Events::listen(&client)).await;
    assert!(client.post(SUBSCRIBE).await.json()["result"].is_object());
    assert_eq!(
        soon("the news", anew.message()).await["params"]["uri"],
        "s+note:1"
    );
}
