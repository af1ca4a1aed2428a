//! The ServiceAccount of a gateway's or a server's pods. It has no rights and no token; it exists so that the pods do
//! not share one with whatever else runs in the namespace.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::meta::Owner;

/// A ServiceAccount called `name`.
pub fn service_account(owner: &Owner, name: String) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.meta(name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
