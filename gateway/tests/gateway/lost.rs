//! A replica is lost in the middle of a question to a client, of a call that waits, of a cancellation: what was in flight on it
//! gets a defined error, and the session goes on at those left.

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::asker::Asker;
use crate::cluster::{Cluster, Loss, answered, soon};
use crate::push::{Events, answer, retry, session, stateless};
use crate::scripted::doing;
use crate::support::{ALICE, Client, Server, Speaks};

const CAN: &str = r#"{"elicitation":{}}"#;

/// Answers a question at a replica. The client may be told that nobody is there for it; it must be told.
async fn answer_anyhow(client: &Client, id: &Value) {
    let body = json!({"jsonrpc":"2.0","id":id,"result":{"action":"accept","content":{"x":"late"}}});
    let told = soon("the answer", client.post(&body.to_string())).await;
    assert!(
        matches!(told.status, StatusCode::ACCEPTED | StatusCode::BAD_GATEWAY),
        "{told:?}"
    );
}

#[rstest]
#[tokio::test]
async fn a_question_whose_owner_is_lost_ends_its_call_and_the_session_goes_on(
    #[values(Loss::Killed, Loss::Paused)] loss: Loss,
    #[values(("/mcp", "s__"), ("/servers/s/mcp", ""))] (path, prefix): (&str, &str),
) {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = session(&cluster.all[0], ALICE, path).await;
    let ask = format!("{prefix}ask");
    let mut call = Events::call(&cluster.at(&client, 1), &ask).await;
    let question = call.message().await;
    assert_eq!(question["method"], "elicitation/create");
    cluster.lose(0, loss);
    // By way of the replica that passes the call on, which finds out with it.
    answer_anyhow(&cluster.at(&client, 1), &question["id"]).await;
    let last = soon("the call", call.message()).await;
    assert_eq!(
        (&last["id"], &last["error"]["data"]["reason"]),
        (&json!("c"), &json!("owner_lost"))
    );
    assert!(call.next().await.is_none());
    for replica in [2, 1, 2] {
        let client = cluster.at(&client, replica);
        let again = soon("the next call", Events::call(&client, &ask)).await;
        goes_on(&cluster, &client, again).await;
    }
}

/// The server asks, the answer comes by another replica than the call, and the call ends as it should.
async fn goes_on(cluster: &Cluster, client: &Client, mut call: Events) {
    let question = soon("the question", call.message()).await;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    for replica in [1, 2] {
        let other = cluster.at(client, replica);
        if other.address != client.address {
            soon("the answer", answer(&other, &question["id"], "x")).await;
        }
    }
    let last = soon("the end of the call", call.message()).await;
    assert_eq!(answered(&last), "x");
}

#[rstest]
#[tokio::test]
async fn a_waiting_call_whose_replica_is_lost_is_lost_and_can_begin_anew(
    #[values(Loss::Killed, Loss::Paused)] loss: Loss,
) {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = cluster.all[0].client(ALICE);
    let asked = stateless(&client, 1, "s__ask", CAN, "").await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    // The replicas know each other: a connection between them is open.
    let other = cluster.all[0].client(ALICE);
    let parked = stateless(&other, 1, "s__ask", CAN, "").await;
    let going = retry(&parked, &json!({"action":"accept","content":{"x":"y"}}));
    let done = stateless(&cluster.at(&client, 1), 2, "s__ask", CAN, &going).await;
    assert_eq!(answered(&done), "y");

    cluster.lose(0, loss);
    let more = retry(&asked, &json!({"action":"accept","content":{"x":"y"}}));
    for replica in [1, 2, 1] {
        let by = cluster.at(&client, replica);
        let lost = soon("the retry", stateless(&by, 3, "s__ask", CAN, &more)).await;
        assert_eq!(
            (&lost["id"], &lost["error"]["data"]["reason"]),
            (&json!(3), &json!("owner_lost")),
            "{lost}"
        );
    }
    let anew = stateless(&cluster.at(&client, 2), 4, "s__ask", CAN, "").await;
    let more = retry(&anew, &json!({"action":"accept","content":{"x":"z"}}));
    let done = stateless(&cluster.at(&client, 1), 5, "s__ask", CAN, &more).await;
    assert_eq!(answered(&done), "z");
}

#[tokio::test]
async fn a_state_that_is_used_at_two_replicas_at_once_is_used_once() {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = cluster.all[0].client(ALICE);
    for _ in 0..8 {
        let asked = stateless(&client, 1, "s__ask", CAN, "").await;
        let more = retry(&asked, &json!({"action":"accept","content":{"x":"y"}}));
        let (first, second) = (cluster.at(&client, 1), cluster.at(&client, 2));
        let both = futures::future::join(
            stateless(&first, 2, "s__ask", CAN, &more),
            stateless(&second, 3, "s__ask", CAN, &more),
        );
        let (first, second) = soon("a retry", both).await;
        let (won, lost) = if first["error"].is_null() {
            (first, second)
        } else {
            (second, first)
        };
        assert_eq!(answered(&won), "y");
        assert_eq!(lost["error"]["code"], -32602, "{lost}");
    }
}

#[rstest]
#[tokio::test]
async fn who_cancels_what_is_lost_is_answered(#[values(Loss::Killed, Loss::Paused)] loss: Loss) {
    let server = Server::start(Speaks::Sessions).await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = cluster.all[0].client(ALICE).initialize().await;
    let body = doing("1", "quiet");
    let by_way = cluster.at(&client, 1);
    let call = by_way.open(Method::POST, &[], &body).await;
    cluster.lose(0, loss);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}"#;
    let told = soon("the cancellation", by_way.post(note)).await;
    assert!(
        matches!(told.status, StatusCode::ACCEPTED | StatusCode::BAD_GATEWAY),
        "{told:?}"
    );
    let rest = soon("the call", http_body_util::BodyExt::collect(call.into_body())).await;
    let rest = rest.unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("owner_lost"), "{rest}");
}

/// Those left agree on who ends a session, so that it is ended at each of them.
#[rstest]
#[tokio::test]
async fn a_session_whose_owner_is_lost_is_ended_at_all_that_are_left(
    #[values(Loss::Killed, Loss::Paused)] loss: Loss,
) {
    let server = Server::start(Speaks::Sessions).await;
    let cluster = Cluster::start(server.address, 3).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(cluster.all[0].client(ALICE).initialize().await);
    }
    // Connections from both to the owner are open.
    for replica in [1, 2] {
        let called = cluster.at(&clients[0], replica).call("s__echo", "{}").await;
        assert_eq!(called.status, StatusCode::OK);
    }
    cluster.lose(0, loss);
    for (at, client) in clients.iter().enumerate() {
        let (first, second) = if at % 2 == 0 { (1, 2) } else { (2, 1) };
        let first = cluster.at(client, first);
        let ended = soon("DELETE", first.send(Method::DELETE, &[], "")).await;
        assert_eq!(ended.status, StatusCode::OK, "{at}: {ended:?}");
        let second = cluster.at(client, second);
        let mut called = soon("a call", second.call("s__echo", "{}")).await;
        if called.text.contains("owner_lost") {
            called = soon("a call", second.call("s__echo", "{}")).await;
        }
        assert_eq!(called.status, StatusCode::NOT_FOUND, "{at}: {called:?}");
    }
}
