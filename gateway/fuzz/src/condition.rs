//! Conditions of rules: any text is read or refused, any condition ends within its steps whatever the arguments are, and
//! what is certain without the arguments stays so with them.

use portcullis_gateway::auth::identity::Identity;
use portcullis_gateway::auth::when::{Asked, Condition, Failure, MAX_STEPS, Patterns, Trial, Verdict};

/// Divides the bytes: it stands in no UTF-8.
const DIVIDER: u8 = 0xFF;

/// A condition and, after a divider, the arguments of a call.
pub fn check(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == DIVIDER);
    let (text, arguments) = match at {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"{}"[..]),
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let condition = match Condition::compile(text, &mut Patterns::default()) {
        Ok(condition) => condition,
        Err(mistake) => {
            assert!(mistake.at <= text.chars().count() + 1, "{mistake}");
            return;
        }
    };
    let called = Asked::request("tools/call", Some(arguments));
    let listed = judged(&condition, Asked::LISTED);
    let verdict = judged(&condition, called);
    let late = Verdict::Fails(Failure::TooMuch);
    // Which of several failures it is may depend on what is looked at first.
    let alike = listed == verdict || matches!((listed, verdict), (Verdict::Fails(_), Verdict::Fails(_)));
    assert!(
        alike || listed == Verdict::Depends || verdict == late,
        "{listed:?} {verdict:?}"
    );
    assert_ne!(verdict, Verdict::Depends, "all is known of a call");
    // Turned round, it is the other way round.
    let Ok(not) = Condition::compile(&format!("!(\n{text}\n)"), &mut Patterns::default()) else {
        return;
    };
    let turned = judged(&not, called);
    let expected = match verdict {
        Verdict::Holds => Verdict::HoldsNot,
        Verdict::HoldsNot => Verdict::Holds,
        other => other,
    };
    assert!(turned == expected || turned == late, "{verdict:?} {turned:?}");
}

fn judged(condition: &Condition, asked: Asked<'_>) -> Verdict {
    let names = |list: [&str; 2]| list.map(Into::into).into();
    let who = Identity::new(
        "corp".into(),
        "alice".into(),
        names(["analysts", "staff"]),
        names(["read", "write"]),
        None,
    );
    let trial = Trial::new(&who, "agents/files", Some("read_file"), asked);
    let verdict = condition.judge(&trial);
    assert!(trial.steps() <= MAX_STEPS);
    verdict
}
