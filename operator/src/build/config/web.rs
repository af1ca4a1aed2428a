//! What browsers and scanners see.

use portcullis_config::web;

use super::count;
use crate::api::v1alpha1 as api;

/// The public port beside MCP.
pub(super) fn web(web: &api::Web) -> web::Web {
    let api::Web {
        headers,
        cors,
        well_known,
    } = web;
    web::Web {
        headers: self::headers(*headers),
        cors: self::cors(cors),
        well_known: self::well_known(well_known),
    }
}

fn well_known(well_known: &api::WellKnown) -> web::WellKnown {
    let api::WellKnown {
        robots,
        security_txt,
        custom,
    } = well_known;
    web::WellKnown {
        robots: robots.clone(),
        security_txt: security_txt.as_ref().map(self::security_txt),
        custom: custom.clone(),
    }
}

fn security_txt(text: &api::SecurityTxt) -> web::SecurityTxt {
    let api::SecurityTxt {
        contacts,
        expires,
        preferred_languages,
        policy,
        encryption,
        acknowledgments,
        canonical,
        hiring,
    } = text;
    web::SecurityTxt {
        contacts: contacts.clone(),
        expires: expires.0,
        preferred_languages: preferred_languages.clone(),
        policy: policy.clone(),
        encryption: encryption.clone(),
        acknowledgments: acknowledgments.clone(),
        canonical: canonical.clone(),
        hiring: hiring.clone(),
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
