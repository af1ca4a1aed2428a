//! What browsers and scanners see.

use portcullis_config::web;

use super::count;
use crate::api::v1alpha1 as api;

/// The public port beside MCP.
pub(super) fn web(web: &api::Web) -> web::Web {
    let api::Web { headers, cors } = web;
    web::Web {
        headers: self::headers(*headers),
        cors: self::cors(cors),
    }
}

fn cors(cors: &api::Cors) -> web::Cors {
    let api::Cors {
        allowed_origins,
        allow_credentials,
    } = cors;
    web::Cors {
        allowed_origins: allowed_origins.clone(),
        allow_credentials: *allow_credentials,
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
