//! Who may call what, with real clients, in the words of each era.

use anyhow::{Result, ensure};
use http::StatusCode;
use system_tests::demo::Demo;
use system_tests::http::Client;

use super::{block_on, endpoint, proven};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[test]
fn a1_nobody_gets_in_without_a_credential() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    block_on(async {
        let endpoint = endpoint(&demo)?;
        for token in [None, Some("pcl_wrong"), Some("a.b.c")] {
            for path in ["/mcp", "/servers/everything/mcp"] {
                let answer = Client::new(&endpoint, path, token).post(LIST, &[]).await?;
                ensure!(
                    answer.status == StatusCode::UNAUTHORIZED,
                    "{path} with {token:?}: {answer:?}"
                );
                let challenge = answer.headers["www-authenticate"].to_str()?;
                ensure!(challenge.contains("resource_metadata="), "{challenge}");
            }
        }
        proven("without a credential, or with a made-up one: 401, and where to get one");
        Ok(())
    })
}

#[test]
fn a2_a_forbidden_tool_looks_like_an_unknown_one() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    block_on(async {
        let endpoint = endpoint(&demo)?;
        let mut me = Client::new(&endpoint, "/mcp", Some(&demo.read("me.key")?));
        me.initialize().await?;
        let forbidden = me.call("everything__get-env", "{}").await?;
        let unknown = me.call("everything__no-such", "{}").await?;
        let (a, b) = (forbidden.body.to_string(), unknown.body.to_string());
        ensure!(forbidden.status == unknown.status, "{forbidden:?} {unknown:?}");
        ensure!(a.replace("get-env", "T") == b.replace("no-such", "T"), "{a} {b}");
        let list = me.post(LIST, &[]).await?.body.to_string();
        ensure!(
            !list.contains("get-env") && list.contains("everything__echo") && list.contains("python__add"),
            "{list}"
        );
        proven("a forbidden tool is not listed, and calling it is answered as for an unknown one");
        Ok(())
    })
}

#[test]
fn a3_over_the_limit_each_era_gets_its_own_words_and_the_session_goes_on() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    block_on(async {
        let endpoint = endpoint(&demo)?;
        let key = demo.read("me.key")?;
        let mut session = Client::new(&endpoint, "/mcp", Some(&key));
        session.initialize().await?;
        // Replicas count on their own, and one connection stays with one of them; sessions have one owner.
        let mut limited = None;
        for _ in 0..12 {
            let answer = session.call("everything__get-sum", r#"{"a":1,"b":2}"#).await?;
            if answer.body["error"]["data"]["reason"] == "rate_limited" {
                limited = Some(answer);
            }
        }
        let Some(limited) = limited else {
            anyhow::bail!("12 calls passed a limit of 3")
        };
        ensure!(limited.status == StatusCode::OK, "{limited:?}");
        ensure!(
            limited.body["error"]["data"]["retryAfter"]
                .as_u64()
                .is_some_and(|seconds| seconds > 0),
            "{limited:?}"
        );
        let still = session.call("everything__echo", r#"{"message":"x"}"#).await?;
        ensure!(
            still.body["result"]["content"][0]["text"] == "Echo: x",
            "{still:?}"
        );
        let mut stateless = Client::new(&endpoint, "/mcp", Some(&key));
        let mut refused = None;
        for _ in 0..12 {
            let answer = stateless
                .call_stateless("everything__get-sum", r#"{"a":1,"b":2}"#)
                .await?;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                refused = Some(answer);
            }
        }
        let Some(refused) = refused else {
            anyhow::bail!("12 stateless calls passed a limit of 3")
        };
        ensure!(refused.headers.contains_key("retry-after"), "{refused:?}");
        proven(
            "over the limit: 200 with a JSON-RPC error in a session, 429 with Retry-After statelessly; the session goes on",
        );
        Ok(())
    })
}

#[test]
fn a4_real_clients_list_and_call_with_a_key_and_with_a_token() -> Result<()> {
    let Some(demo) = Demo::find()? else { return Ok(()) };
    let ca = demo.folder.join("idp/ca.crt").display().to_string();
    let key = demo.folder.join("me.key").display().to_string();
    let token = demo.folder.join("analyst.token").display().to_string();
    let resolve = format!("localhost:{}", demo.gateway_ip()?);
    let mut table = Vec::new();
    for which in [
        "python-sdk-1",
        "python-sdk-2",
        "typescript-sdk-1",
        "typescript-sdk-2",
    ] {
        for (path, tool) in [("/mcp", "everything__echo"), ("/servers/everything/mcp", "echo")] {
            for (kind, file) in [("key", &key), ("token", &token)] {
                table.push((which, path, tool, kind, file.clone()));
            }
        }
    }
    for (which, path, tool, kind, file) in &table {
        let url = format!("https://localhost{path}");
        let common = ["--token-file", file, "--ca", &ca, "--resolve", &resolve];
        let mut list: Vec<&str> = vec![&url];
        list.extend(common);
        let mut call = list.clone();
        list.push("list");
        call.extend(["call", tool, r#"{"message":"hi"}"#]);
        let (code, lines) = demo.client(which, &list)?;
        ensure!(
            code == 0 && format!("{lines:?}").contains(tool),
            "{which} {path} {kind}: list: {code} {lines:?}"
        );
        let (code, lines) = demo.client(which, &call)?;
        ensure!(
            code == 0 && format!("{lines:?}").contains("Echo: hi"),
            "{which} {path} {kind}: call: {code} {lines:?}"
        );
    }
    proven(&format!(
        "{} combinations of real client, endpoint and credential list and call",
        table.len()
    ));
    Ok(())
}
