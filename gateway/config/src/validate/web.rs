//! The public port beside MCP.

use super::Check;
use crate::web::{MAX_HSTS, Web};

pub(super) fn web(check: &mut Check<'_>, web: &Web) {
    check.that(
        web.headers.hsts <= MAX_HSTS,
        "web.headers.hsts",
        format!("at most {MAX_HSTS} seconds, two years"),
    );
}
