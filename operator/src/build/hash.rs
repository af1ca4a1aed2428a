//! Hashes by which one state is told from another.

use portcullis_config::Config;
use portcullis_config::keys::sha256_hex;
use portcullis_config::listen::Listen;
use serde::Serialize;

/// SHA-256 of an object as JSON, in hex. Maps are ordered, so equal objects have equal hashes.
pub fn of<T: Serialize>(object: &T) -> String {
    let json = serde_json::to_vec(object).expect("objects of the API have a JSON form");
    sha256_hex(&json)
}

/// Hash of what a gateway's process reads only once: where it listens, who it is, and how it ends. It stands in the pod
/// template, so that a change of these, and of nothing else in the configuration, starts new pods.
pub fn template(config: &Config) -> String {
    let Listen {
        public,
        metrics,
        status,
        peer,
    } = &config.listen;
    let unreloadable = (
        &config.gateway.id,
        (public.address, public.tls.is_some()),
        metrics,
        status
            .as_ref()
            .map(|status| (status.address, status.token.is_some())),
        peer,
        &config.shutdown,
    );
    let mut hash = of(&unreloadable);
    hash.truncate(16);
    hash
}
