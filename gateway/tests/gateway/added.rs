//! Replicas that come, and replicas that leave in good order: what a session or a call has at a replica that lives is
//! found there, whichever replica is asked.

use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::json;

use crate::asker::Asker;
use crate::cluster::{Cluster, answered, soon};
use crate::push::{Events, answer, retry, session, stateless};
use crate::scripted::doing;
use crate::support::{ALICE, Client, Server, Speaks};

const CAN: &str = r#"{"elicitation":{}}"#;
/// Enough that what holds for all of them is no chance.
const MANY: u8 = 12;

/// Calls of sessions of the replica `at`, each of which waits for its client's answer.
async fn asking(cluster: &Cluster, at: usize) -> Vec<(Client, Events, serde_json::Value)> {
    let mut all = Vec::new();
    for _ in 0..MANY {
        let client = session(&cluster.all[at], ALICE, "/mcp").await;
        let (call, question) = ask(&client).await;
        all.push((client, call, question));
    }
    all
}

async fn ask(client: &Client) -> (Events, serde_json::Value) {
    let mut call = soon("the call", Events::call(client, "s__ask")).await;
    let question = soon("the question", call.message()).await;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (call, question["id"].clone())
}

#[tokio::test]
async fn answers_find_the_call_after_a_replica_was_added() {
    let server = Asker::start().await;
    let mut cluster = Cluster::start(server.address, 2).await;
    let asking = asking(&cluster, 0).await;
    let added = cluster.begin().await;
    cluster.list(&[0, 1, added]);
    let opened = server.declared().len();
    for (number, (client, mut call, question)) in asking.into_iter().enumerate() {
        let by = cluster.at(&client, [added, 1, 0][number % 3]);
        soon("the answer", answer(&by, &question, "x")).await;
        assert_eq!(answered(&soon("the call", call.message()).await), "x", "{number}");
        // The session stays where it is, with what it has on the server.
        let (mut call, question) = ask(&cluster.at(&client, added)).await;
        soon("the answer", answer(&by, &question, "y")).await;
        assert_eq!(answered(&soon("the call", call.message()).await), "y");
    }
    assert_eq!(server.declared().len(), opened, "no session was opened again");
}

#[rstest]
#[case::at_the_one_that_leaves(0)]
#[case::at_one_that_stays(1)]
#[tokio::test]
async fn answers_find_the_call_while_its_replica_drains(#[case] by: usize) {
    let server = Asker::start().await;
    let cluster = Cluster::start(server.address, 3).await;
    let asking = asking(&cluster, 0).await;
    cluster.list(&[1, 2]);
    for (client, mut call, question) in asking {
        // Another request of the session comes first, which the next owner takes over.
        let listed = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
        let listed = cluster.at(&client, by).post(listed).await;
        assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
        soon("the answer", answer(&cluster.at(&client, by), &question, "x")).await;
        assert_eq!(answered(&soon("the call", call.message()).await), "x");
        let (mut call, question) = ask(&cluster.at(&client, 2)).await;
        soon("the answer", answer(&cluster.at(&client, 1), &question, "y")).await;
        assert_eq!(answered(&soon("the call", call.message()).await), "y");
    }
}

/// Sessions whose first owner is gone are those that a new replica may take over.
#[tokio::test]
async fn answers_find_the_call_of_a_session_that_a_new_replica_takes_over() {
    let server = Asker::start().await;
    let mut cluster = Cluster::start(server.address, 3).await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(session(&cluster.all[0], ALICE, "/mcp").await);
    }
    cluster.list(&[1, 2]);
    let mut calls = Vec::new();
    for client in &clients {
        calls.push(ask(&cluster.at(client, 1)).await);
    }
    let added = cluster.begin().await;
    cluster.list(&[1, 2, added]);
    for (number, (client, (mut call, question))) in clients.iter().zip(calls).enumerate() {
        let by = cluster.at(client, [added, 1, 2][number % 3]);
        soon("the answer", answer(&by, &question, "x")).await;
        assert_eq!(answered(&soon("the call", call.message()).await), "x", "{number}");
    }
}

#[rstest]
#[case::added(true)]
#[case::drained(false)]
#[tokio::test]
async fn a_waiting_call_goes_on_where_it_waits(#[case] added: bool) {
    let server = Asker::start().await;
    let mut cluster = Cluster::start(server.address, 2).await;
    let client = cluster.all[0].client(ALICE);
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        let asked = stateless(&client, 1, "s__ask", CAN, "").await;
        waiting.push(retry(&asked, &json!({"action":"accept","content":{"x":"y"}})));
    }
    let third = cluster.begin().await;
    if added {
        cluster.list(&[0, 1, third]);
    } else {
        cluster.list(&[1, third]);
    }
    for (number, more) in waiting.iter().enumerate() {
        let by = cluster.at(&client, [third, 1, 0][number % 3]);
        let done = soon("the retry", stateless(&by, 2, "s__ask", CAN, more)).await;
        assert!(done["error"].is_null(), "{number}: {done}");
        assert_eq!(answered(&done), "y");
    }
}

#[rstest]
#[case::cancelled(false)]
#[case::ended(true)]
#[tokio::test]
async fn a_call_is_cancelled_while_its_replica_drains(#[case] ended: bool, #[values(0, 1, 2)] by: usize) {
    let server = Server::start(Speaks::Sessions).await;
    let cluster = Cluster::start(server.address, 3).await;
    let client = cluster.all[0].client(ALICE).initialize().await;
    let call = client.open(Method::POST, &[], &doing("1", "quiet")).await;
    assert_eq!(call.status(), StatusCode::OK);
    cluster.list(&[1, 2]);
    let by = cluster.at(&client, by);
    if ended {
        let told = soon("DELETE", by.send(Method::DELETE, &[], "")).await;
        assert_eq!(told.status, StatusCode::OK);
    } else {
        let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}"#;
        assert_eq!(soon("the word", by.post(note)).await.status, StatusCode::ACCEPTED);
    }
    server.seen.wait("notifications/cancelled", 1).await;
    soon("the call", http_body_util::BodyExt::collect(call.into_body()))
        .await
        .unwrap();
    if ended {
        for replica in 0..3 {
            let called = cluster.at(&client, replica).call("s__echo", "{}").await;
            assert_eq!(called.status, StatusCode::NOT_FOUND, "{replica}");
        }
    }
}
