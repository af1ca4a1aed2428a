//! Strings: what stands between the quotes, with its escapes undone.

use std::borrow::Cow;

/// The string holds half of a surrogate pair: it has no Unicode text, although JSON's grammar allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lone surrogate")]
pub struct LoneSurrogate;

/// The text of a JSON string given with its quotes. Borrowed when nothing in it is escaped.
///
/// The string has been scanned; of anything else some text is made, without a panic.
pub fn unescape(quoted: &[u8]) -> Result<Cow<'_, str>, LoneSurrogate> {
    match unescape_raw(contents(quoted)) {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| LoneSurrogate),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| LoneSurrogate),
    }
}

/// What stands between the quotes, untouched.
pub fn contents(quoted: &[u8]) -> &[u8] {
    quoted
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(quoted)
}

/// Undoes the escapes of a string's contents. A lone surrogate becomes the three bytes that UTF-8 would give its code
/// point (WTF-8), so that unequal strings stay unequal and equal ones equal, however they are spelled.
pub(super) fn unescape_raw(contents: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = contents.iter().position(|byte| *byte == b'\\') else {
        return Cow::Borrowed(contents);
    };
    let (plain, mut rest) = contents.split_at(first);
    let mut out = Vec::with_capacity(contents.len());
    out.extend_from_slice(plain);
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = after;
            continue;
        }
        let Some((&kind, after)) = after.split_first() else {
            break;
        };
        rest = after;
        match kind {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => rest = unit(after, &mut out),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Reads the four digits of one `\u`, and those of the other half when they make a pair; gives back what follows.
fn unit<'t>(digits: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
    let Some((high, after)) = hex4(digits) else {
        return digits;
    };
    if (0xD800..0xDC00).contains(&high)
        && let Some((low, beyond)) = after.strip_prefix(b"\\u").and_then(hex4)
        && (0xDC00..0xE000).contains(&low)
    {
        push(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), out);
        return beyond;
    }
    push(high, out);
    after
}

/// Four hexadecimal digits and what follows them.
fn hex4(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((value, rest))
}

/// Generalised UTF-8: also for the surrogates, which `char` refuses.
fn push(code: u32, out: &mut Vec<u8>) {
    if let Some(character) = char::from_u32(code) {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        return;
    }
    // Masked to the bits that a byte holds.
    let low = |bits: u32| u8::try_from(bits & 0x3F).unwrap_or_default() | 0x80;
    out.extend_from_slice(&[0xED, low(code >> 6), low(code)]);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#""""#, "")]
    #[case(r#""plain""#, "plain")]
    #[case(r#""a\"b\\c\/d\b\f\n\r\t""#, "a\"b\\c/d\u{8}\u{c}\n\r\t")]
    #[case(r#""\u0041\u00e9\u20AC""#, "Aé€")]
    #[case(r#""x\ud83d\ude00y""#, "x😀y")]
    #[case(r#""é€😀""#, "é€😀")]
    fn escapes_are_undone(#[case] quoted: &str, #[case] text: &str) {
        assert_eq!(unescape(quoted.as_bytes()).unwrap(), text);
        assert_eq!(serde_json::from_str::<String>(quoted).unwrap(), text);
    }

    #[rstest]
    #[case(r#""\ud800""#)]
    #[case(r#""\udc00\ud800""#)]
    #[case(r#""\ud800\u0041""#)]
    fn half_a_pair_is_no_text(#[case] quoted: &str) {
        assert_eq!(unescape(quoted.as_bytes()), Err(LoneSurrogate));
    }

    #[test]
    fn halves_keep_apart() {
        let raw = |s: &'static str| unescape_raw(s.as_bytes()).into_owned();
        assert_eq!(raw(r"\ud800"), raw(r"\uD800"));
        assert_ne!(raw(r"\ud800"), raw(r"\ud801"));
        assert_eq!(raw(r"\udfff"), [0xED, 0xBF, 0xBF]);
        assert_eq!(
            raw(r"\ud83d\ud83d\ude00"),
            [&raw(r"\ud83d")[..], "😀".as_bytes()].concat()
        );
    }

    #[test]
    fn what_was_never_scanned_does_no_harm() {
        for odd in [&b"\\"[..], b"\\u", b"\\u12", b"\\uzzzz", b"\"\\ud83d\\u\"", b"\""] {
            assert!(unescape(odd).is_ok_and(|t| t.len() < 16) || unescape(odd).is_err());
        }
    }
}
