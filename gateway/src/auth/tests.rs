//! The matrix of credentials against [`Authenticator`]: what passes, and what must not.

mod callers;
mod remembered;
mod tokens;

use std::sync::Arc;

use serde_json::Value;

use super::testing::{Fake, NOW, bearer, jwks, jwt_config};
use super::{AuthFailure, AuthShared, Authenticator, Endpoint, Identity};

const FEDERATED: Endpoint<'static> = Endpoint::Federated;

fn with_keys(keys: &[Value]) -> Fake {
    Fake::default().file("/m/jwks", jwks(keys))
}

fn corp(fields: &str, keys: &[Value]) -> Authenticator {
    Authenticator::build(&jwt_config(fields), &with_keys(keys), &AuthShared::new()).unwrap()
}

fn reason(result: Result<Arc<Identity>, AuthFailure>) -> &'static str {
    match result {
        Err(AuthFailure::Invalid { reason }) => reason,
        other => panic!("not Invalid: {other:?}"),
    }
}

fn judge(auth: &Authenticator, token: &str) -> Result<Arc<Identity>, AuthFailure> {
    auth.authenticate(&bearer(token), FEDERATED, false, NOW)
}
