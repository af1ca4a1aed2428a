//! What browsers and scanners see.

use portcullis_config::web;

use super::count;
use crate::api::v1alpha1 as api;

/// The public port beside MCP.
pub(super) fn web(web: &api::Web) -> web::Web {
    let api::Web { headers } = web;
    web::Web {
        headers: self::headers(*headers),
    }
}

fn headers(headers: api::WebHeaders) -> web::Headers {
    let api::WebHeaders { frame_options, hsts } = headers;
    web::Headers {
        frame_options: match frame_options {
            api::FrameOptions::Deny => web::FrameOptions::Deny,
            api::FrameOptions::SameOrigin => web::FrameOptions::SameOrigin,
        },
        hsts: count(hsts),
    }
}
