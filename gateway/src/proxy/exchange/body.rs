//! What an answer's body is, and the reading of one.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{Failure, MAX_ERROR_BODY};

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
pub(in crate::proxy) async fn read_short(body: Incoming) -> Result<(), Failure> {
    read(body, MAX_ERROR_BODY).await.map(drop)
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(mut body: Incoming, most: usize) -> Result<Bytes, Failure> {
    Pieces::default().read(&mut body, most).await
}

/// A body as far as it came. One that came in one piece is not copied; a reader that is dropped while it waits loses
/// nothing.
#[derive(Default)]
pub(super) struct Pieces {
    first: Bytes,
    rest: BytesMut,
}

impl Pieces {
    pub(super) async fn read(&mut self, body: &mut Incoming, most: usize) -> Result<Bytes, Failure> {
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
            if self.first.len() + self.rest.len() + chunk.len() > most {
                return Err(Failure::TooLarge);
            }
            if self.first.is_empty() && self.rest.is_empty() {
                self.first = chunk;
            } else {
                if self.rest.is_empty() {
                    self.rest.extend_from_slice(&std::mem::take(&mut self.first));
                }
                self.rest.extend_from_slice(&chunk);
            }
        }
        let rest = std::mem::take(&mut self.rest);
        Ok(if rest.is_empty() {
            std::mem::take(&mut self.first)
        } else {
            rest.freeze()
        })
    }
}
