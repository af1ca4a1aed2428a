//! Client capabilities as bits: those the gateway knows how to serve, and nothing a client could make long.

use crate::mcp::revision::Era;
use crate::mcp::scan::{Span, contents, fields, unescape};

/// What a client can do for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u16);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// Lists its roots.
    pub const ROOTS: Self = Self(1);
    /// Says when they change.
    pub const ROOTS_LIST_CHANGED: Self = Self(1 << 1);
    /// Asks its model.
    pub const SAMPLING: Self = Self(1 << 2);
    /// ... with tools.
    pub const SAMPLING_TOOLS: Self = Self(1 << 3);
    /// ... with context of servers.
    pub const SAMPLING_CONTEXT: Self = Self(1 << 4);
    /// Asks its user.
    pub const ELICITATION: Self = Self(1 << 5);
    /// ... with a form.
    pub const ELICITATION_FORM: Self = Self(1 << 6);
    /// ... with a URL.
    pub const ELICITATION_URL: Self = Self(1 << 7);

    /// All about roots.
    pub const OF_ROOTS: Self = Self::ROOTS.with(Self::ROOTS_LIST_CHANGED);
    /// All about sampling.
    pub const OF_SAMPLING: Self = Self::SAMPLING
        .with(Self::SAMPLING_TOOLS)
        .with(Self::SAMPLING_CONTEXT);
    /// All about elicitation.
    pub const OF_ELICITATION: Self = Self::ELICITATION
        .with(Self::ELICITATION_FORM)
        .with(Self::ELICITATION_URL);

    /// Every one.
    pub const EVERY: Self = Self(Self::ALL);

    const ALL: u16 = (1 << 8) - 1;

    /// The bits, for storage.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From stored bits; `None` when a bit has no meaning here.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !Self::ALL == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`: for features that are off.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is among them.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// From the raw `capabilities` object of a client. What is unknown or of the wrong type is not taken over.
    pub fn read(capabilities: &[u8]) -> Self {
        let mut found = Self::NONE;
        for_each(capabilities, |name, value| {
            if value.first() != Some(&b'{') {
                return;
            }
            let (own, parts): (Self, &[(&str, Self)]) = match name {
                "roots" => (Self::ROOTS, &[("listChanged", Self::ROOTS_LIST_CHANGED)]),
                "sampling" => (
                    Self::SAMPLING,
                    &[
                        ("tools", Self::SAMPLING_TOOLS),
                        ("context", Self::SAMPLING_CONTEXT),
                    ],
                ),
                "elicitation" => (
                    Self::ELICITATION,
                    &[("form", Self::ELICITATION_FORM), ("url", Self::ELICITATION_URL)],
                ),
                _ => return,
            };
            found = found.with(own);
            for_each(value, |part, value| {
                let is_there = value.first() == Some(&b'{') || value == b"true";
                if let Some((_, bit)) = parts.iter().find(|(name, _)| *name == part && is_there) {
                    found = found.with(*bit);
                }
            });
        });
        found
    }

    /// As a JSON object, as that era writes it.
    pub fn to_json(self, era: Era) -> Vec<u8> {
        let mut out = vec![b'{'];
        let mut group = |own: Self, name: &str, parts: &[(Self, &str)]| {
            if !self.has(own) {
                return;
            }
            comma(&mut out);
            out.extend_from_slice(format!("\"{name}\":{{").as_bytes());
            for (_, part) in parts.iter().filter(|(bit, _)| self.has(*bit)) {
                comma(&mut out);
                out.extend_from_slice(part.as_bytes());
            }
            out.push(b'}');
        };
        // The stateless era has nothing that could announce a change of roots.
        let roots: &[_] = match era {
            Era::Session => &[(Self::ROOTS_LIST_CHANGED, "\"listChanged\":true")],
            Era::Stateless => &[],
        };
        group(Self::ROOTS, "roots", roots);
        group(
            Self::SAMPLING,
            "sampling",
            &[
                (Self::SAMPLING_TOOLS, "\"tools\":{}"),
                (Self::SAMPLING_CONTEXT, "\"context\":{}"),
            ],
        );
        group(
            Self::ELICITATION,
            "elicitation",
            &[
                (Self::ELICITATION_FORM, "\"form\":{}"),
                (Self::ELICITATION_URL, "\"url\":{}"),
            ],
        );
        out.push(b'}');
        out
    }
}

/// A comma, unless an object has just been opened.
fn comma(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Every member of an object whose key is a text.
fn for_each(object: &[u8], mut found: impl FnMut(&str, &[u8])) {
    let Some(span) = Span::new(0, object.len()) else {
        return;
    };
    for (key, value) in fields(object, span).map_while(Result::ok) {
        let key = key.of(object);
        if contents(key).len() <= 64
            && let Ok(name) = unescape(key)
        {
            found(&name, value.of(object));
        }
    }
}
