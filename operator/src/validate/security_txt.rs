//! Whether a `security.txt` is current. That depends on the clock, so neither the schema nor the rest of validation says it.

use jiff::{SignedDuration, Timestamp};

use crate::api::v1alpha1::{McpGatewaySpec, SecurityTxt};

/// RFC 9116, section 2.5.5: less than a year ahead, so that it is looked at again.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// From then on its end is told.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What the clock says of a `security.txt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Currency {
    /// It holds.
    Current,
    /// It holds, and ends within thirty days.
    EndsSoon,
    /// It is over.
    Expired,
    /// It is to hold for longer than it should.
    TooDistant,
}

/// A judgement, and when another is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How it stands.
    pub currency: Currency,
    /// What to do about it; empty where nothing is to be done.
    pub message: String,
    /// The second from which on the judgement is another. None: it stays as it is until somebody changes the object.
    pub until: Option<Timestamp>,
}

/// Judges the `security.txt` of a gateway, if it has one.
pub fn judge(spec: &McpGatewaySpec, now: Timestamp) -> Option<Judgement> {
    let SecurityTxt { expires, .. } = spec.web.well_known.security_txt.as_ref()?;
    let expires = expires.0;
    // Both ends of the calendar are further from anything than a year.
    let before = |span| expires.checked_sub(span).unwrap_or(Timestamp::MIN);
    let (soon, year) = (before(SOON), before(LONGEST));
    let remedy = "set web.wellKnown.securityTxt.expires to a time less than a year ahead";
    let (currency, message, until) = if now >= expires {
        (
            Currency::Expired,
            format!(
                "security.txt expired at {expires}, and readers are told to distrust it: check its contacts, then {remedy}"
            ),
            None,
        )
    } else if now < year {
        (
            Currency::TooDistant,
            format!("security.txt expires at {expires}, more than a year ahead: {remedy}"),
            Some(year),
        )
    } else if now >= soon {
        (
            Currency::EndsSoon,
            format!("security.txt expires at {expires}: check its contacts, then {remedy}"),
            Some(expires),
        )
    } else {
        (Currency::Current, String::new(), Some(soon))
    };
    Some(Judgement {
        currency,
        message,
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(expires: &str) -> McpGatewaySpec {
        serde_yaml::from_str(&format!(
            "{{publicHost: a.example, tls: {{secretName: t}}, auth: {{apiKeys: {{secretName: k}}}}, \
             web: {{wellKnown: {{securityTxt: {{contacts: ['mailto:a@b.example'], expires: '{expires}'}}}}}}}}"
        ))
        .unwrap()
    }

    const EXPIRES: &str = "2027-06-30T00:00:00Z";

    #[rstest]
    #[case("2026-06-29T23:59:59Z", Currency::TooDistant, Some("2026-06-30T00:00:00Z"))]
    #[case("2026-06-30T00:00:00Z", Currency::Current, Some("2027-05-31T00:00:00Z"))]
    #[case("2027-05-30T23:59:59Z", Currency::Current, Some("2027-05-31T00:00:00Z"))]
    #[case("2027-05-31T00:00:00Z", Currency::EndsSoon, Some(EXPIRES))]
    #[case("2027-06-29T23:59:59Z", Currency::EndsSoon, Some(EXPIRES))]
    #[case(EXPIRES, Currency::Expired, None)]
    #[case("2030-01-01T00:00:00Z", Currency::Expired, None)]
    fn it_is_judged_to_the_second(
        #[case] now: &str,
        #[case] currency: Currency,
        #[case] until: Option<&str>,
    ) {
        let judgement = judge(&spec(EXPIRES), at(now)).unwrap();
        assert_eq!(judgement.currency, currency);
        assert_eq!(judgement.until, until.map(at));
        assert_eq!(judgement.message.is_empty(), currency == Currency::Current);
    }

    #[test]
    fn each_judgement_holds_until_the_next() {
        let spec = spec(EXPIRES);
        let mut now = at("2020-01-01T00:00:00Z");
        let mut seen = Vec::new();
        while let Some(until) = judge(&spec, now).unwrap().until {
            let before = until.checked_sub(SignedDuration::from_secs(1)).unwrap();
            assert_eq!(judge(&spec, now), judge(&spec, before));
            seen.push(judge(&spec, now).unwrap().currency);
            now = until;
        }
        assert_eq!(
            seen,
            [Currency::TooDistant, Currency::Current, Currency::EndsSoon]
        );
    }

    #[test]
    fn the_ends_of_the_calendar_are_judged_too() {
        let far = spec("9999-12-01T00:00:00Z");
        assert_eq!(
            judge(&far, at("2026-01-01T00:00:00Z")).unwrap().currency,
            Currency::TooDistant
        );
        let past = spec("0001-01-01T00:00:00Z");
        assert_eq!(
            judge(&past, at("2026-01-01T00:00:00Z")).unwrap().currency,
            Currency::Expired
        );
    }

    #[test]
    fn without_one_nothing_is_judged() {
        let mut spec = spec(EXPIRES);
        spec.web.well_known.security_txt = None;
        assert_eq!(judge(&spec, at(EXPIRES)), None);
    }
}
