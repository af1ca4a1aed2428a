//! What the tests of this module share.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// A self-signed certificate for `localhost` that is valid until the first day of `year`, and its key, in PEM.
pub(crate) fn pair(year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}
