//! A request's body: its form is checked by headers first, then it is read within its bounds of size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portcullis_config::limits::Limits;

use crate::budget::{Budget, Pieces};
use crate::mcp::headers;
use crate::mcp::reply::Cause;

/// A body that is on its way may take as long as headers may, and this much for each started 64 KiB it may hold.
const PER_64_KIB: Duration = Duration::from_millis(250);

/// Is it a body we read, from a client that can read what we answer?
pub fn check_form(headers: &HeaderMap) -> Result<(), Cause> {
    headers::check_content(headers)?;
    headers::check_accept_post(headers)
}

/// Reads the body. One that came with its head, as nearly all do, is not copied and starts no timer.
pub async fn read(mut body: Incoming, limits: &Limits, budget: &Arc<Budget>) -> Result<Bytes, Cause> {
    let most = usize::try_from(limits.max_request_bytes).unwrap_or(usize::MAX);
    if body.size_hint().lower() > limits.max_request_bytes {
        return Err(Cause::BodyTooLarge);
    }
    let mut pieces = Pieces::default();
    match body.frame().now_or_never() {
        Some(None) => return Ok(Bytes::new()),
        Some(Some(Ok(frame))) => {
            let first = frame.into_data().unwrap_or_default();
            if first.len() > most {
                return Err(Cause::BodyTooLarge);
            }
            pieces.push(budget, first)?;
            if body.is_end_stream() {
                return Ok(pieces.finish());
            }
        }
        Some(Some(Err(_))) => return Err(Cause::BodyIncomplete),
        None => {}
    }
    let blocks = u32::try_from(limits.max_request_bytes >> 16)
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let deadline = limits
        .header_timeout
        .get()
        .saturating_add(PER_64_KIB.saturating_mul(blocks));
    tokio::time::timeout(deadline, rest(body, pieces, most, budget))
        .await
        .unwrap_or(Err(Cause::BodyTimeout))
}

async fn rest(
    mut body: Incoming,
    mut pieces: Pieces,
    most: usize,
    budget: &Arc<Budget>,
) -> Result<Bytes, Cause> {
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|_| Cause::BodyIncomplete)?.into_data() else {
            continue;
        };
        if pieces.len() + chunk.len() > most {
            return Err(Cause::BodyTooLarge);
        }
        pieces.push(budget, chunk)?;
    }
    Ok(pieces.finish())
}
