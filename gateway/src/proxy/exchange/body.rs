//! What an answer's body is, and the reading of one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{Failure, MAX_ERROR_BODY};
use crate::budget::{Budget, Pieces};

pub(super) enum Media {
    Json,
    Events,
}

pub(super) fn media_type(headers: &HeaderMap) -> Option<Media> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let essence = value
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Some(Media::Json)
    } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Some(Media::Events)
    } else {
        None
    }
}

/// Reads a body that means nothing.
pub(in crate::proxy) async fn read_short(body: Incoming, budget: &Arc<Budget>) -> Result<(), Failure> {
    read(body, MAX_ERROR_BODY, budget).await.map(drop)
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(mut body: Incoming, most: usize, budget: &Arc<Budget>) -> Result<Bytes, Failure> {
    read_on(&mut Pieces::default(), &mut body, most, budget).await
}

/// The same, from where it was left: a reader that is dropped while it waits loses nothing.
pub(super) async fn read_on(
    pieces: &mut Pieces,
    body: &mut Incoming,
    most: usize,
    budget: &Arc<Budget>,
) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > most as u64 {
        return Err(Failure::TooLarge);
    }
    // Its announced end is not waited for once it is there: that would be one more turn of the event loop.
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let Ok(chunk) = frame.map_err(|_| Failure::CutOff)?.into_data() else {
            continue;
        };
        if pieces.len() + chunk.len() > most {
            return Err(Failure::TooLarge);
        }
        pieces.push(budget, chunk)?;
    }
    Ok(pieces.finish())
}
