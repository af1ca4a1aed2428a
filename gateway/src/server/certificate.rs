//! When a certificate expires. The one field of X.509 that we need and the TLS library does not show.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, the version.
const VERSION: u8 = 0xa0;

/// `notAfter` of a certificate in DER (RFC 5280, section 4.1). None: it is not one.
pub fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (outer, _) = expect(certificate, SEQUENCE)?;
    let (mut tbs, _) = expect(outer, SEQUENCE)?;
    if let Some((_, rest)) = expect(tbs, VERSION) {
        tbs = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // Serial number, signature algorithm, issuer.
        (_, tbs) = expect(tbs, tag)?;
    }
    let (validity, _) = expect(tbs, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, rest) = element(rest)?;
    if !rest.is_empty() {
        return None;
    }
    instant(tag, std::str::from_utf8(time).ok()?)
}

/// The first element's content and what follows it, if it has this tag.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The first element's tag and content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // DER has no indefinite form, and no certificate needs more than four bytes of length.
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        let length = digits
            .iter()
            .fold(0u64, |sum, digit| sum << 8 | u64::from(*digit));
        (usize::try_from(length).ok()?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn instant(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year: i16 = year.parse().ok()?;
            // RFC 5280: 50 and above is the last century.
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut parts = [0i8; 5];
    for (part, pair) in parts.iter_mut().zip(rest.as_bytes().chunks(2)) {
        *part = std::str::from_utf8(pair).ok()?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = parts;
    let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    // The last day of the year 9999 means "no end" and lies beyond what a timestamp can say.
    let zoned = time.to_zoned(TimeZone::UTC).ok();
    Some(zoned.map_or(Timestamp::MAX, |zoned| zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// A certificate that ends on this day at midnight.
    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["example.com".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1990, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[rstest]
    #[case(1999, 12, 31, "1999-12-31T00:00:00Z")]
    #[case(2026, 2, 28, "2026-02-28T00:00:00Z")]
    #[case(2049, 12, 31, "2049-12-31T00:00:00Z")]
    // From 2050 on the other form of time is used.
    #[case(2050, 1, 1, "2050-01-01T00:00:00Z")]
    #[case(4096, 6, 15, "4096-06-15T00:00:00Z")]
    fn the_end_is_read(#[case] year: i32, #[case] month: u8, #[case] day: u8, #[case] expected: &str) {
        let expected: Timestamp = expected.parse().unwrap();
        assert_eq!(not_after(&certificate(year, month, day)), Some(expected));
    }

    #[rstest]
    #[case(UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00Z"))]
    #[case(UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59Z"))]
    #[case(GENERALIZED_TIME, "99991230000000Z", Some("9999-12-30T00:00:00Z"))]
    #[case(UTC_TIME, "4912312359Z", None)]
    #[case(UTC_TIME, "491231235959+0100", None)]
    #[case(UTC_TIME, "491331235959Z", None)]
    #[case(UTC_TIME, "49-231235959Z", None)]
    #[case(GENERALIZED_TIME, "20260101000000.5Z", None)]
    #[case(SEQUENCE, "491231235959Z", None)]
    fn times_are_read_as_the_standard_writes_them(
        #[case] tag: u8,
        #[case] text: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(instant(tag, text), expected.map(|text| text.parse().unwrap()));
    }

    #[test]
    fn a_certificate_without_an_end_is_understood() {
        // RFC 5280, section 4.1.2.5.
        assert_eq!(instant(GENERALIZED_TIME, "99991231235959Z"), Some(Timestamp::MAX));
    }

    #[test]
    fn every_cut_of_a_certificate_is_refused_without_a_panic() {
        let whole = certificate(2030, 1, 1);
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = not_after(&bytes);
        }

        #[test]
        fn a_damaged_certificate_does_not_make_it_panic(at in 0usize..300, byte: u8) {
            let mut bytes = certificate(2030, 1, 1);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = not_after(&bytes);
        }
    }
}
