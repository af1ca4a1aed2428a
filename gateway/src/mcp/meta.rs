//! `_meta`: what the stateless era says in it on every request, and how that is put in and taken out.

use super::edit::{NewMember, Patch};
use super::envelope::{Kind, Message};
use super::reply::{Cause, json_string};
use super::revision::Revision;
use super::scan::Member;

/// Key of the protocol version.
pub const PROTOCOL_VERSION: &str = Member::MetaProtocolVersion.name();
/// Key of the client's capabilities.
pub const CLIENT_CAPABILITIES: &str = Member::MetaClientCapabilities.name();
/// Key of the client's name and version.
pub const CLIENT_INFO: &str = Member::MetaClientInfo.name();
/// Key of the least level of log messages.
pub const LOG_LEVEL: &str = Member::MetaLogLevel.name();
/// Key of the stream a notification belongs to.
pub const SUBSCRIPTION_ID: &str = Member::MetaSubscriptionId.name();
/// Key of the server's name and version, in results.
pub const SERVER_INFO: &str = Member::ResultMetaServerInfo.name();

/// The keys that exist in the stateless era only.
const STATELESS_ONLY: [Member; 4] = [
    Member::MetaProtocolVersion,
    Member::MetaClientCapabilities,
    Member::MetaClientInfo,
    Member::MetaLogLevel,
];

/// Refuses a stateless message without what its `_meta` must carry. The values are checked for their type; what the
/// version is, is another question.
pub fn check_stateless(message: &Message) -> Result<(), Cause> {
    let missing = |key| Err(Cause::MissingMeta { key });
    let request = message.kind() == Kind::Request;
    if message.span(Member::Meta).is_some() && !message.is_object(Member::Meta) {
        return missing("_meta");
    }
    // A claim that is there must be whole, also where none is needed.
    let claimed = message.span(Member::MetaProtocolVersion).is_some();
    if (request || claimed) && message.str(Member::MetaProtocolVersion).is_none() {
        return missing(PROTOCOL_VERSION);
    }
    let declared = message.span(Member::MetaClientCapabilities).is_some();
    if (request || declared) && !message.is_object(Member::MetaClientCapabilities) {
        return missing(CLIENT_CAPABILITIES);
    }
    if message.span(Member::MetaClientInfo).is_some() && !message.is_object(Member::MetaClientInfo) {
        return missing(CLIENT_INFO);
    }
    if message.span(Member::MetaLogLevel).is_some() && !message.is_string(Member::MetaLogLevel) {
        return missing(LOG_LEVEL);
    }
    Ok(())
}

/// What a request to a stateless server carries in `_meta` on behalf of a client that said it at `initialize`.
/// Written once for a session, then put into every request.
#[derive(Clone, Debug)]
pub struct StatelessMeta {
    /// `{"_meta":{...}}`
    params: Box<[u8]>,
    info: Option<Box<[u8]>>,
    capabilities: Box<[u8]>,
    log_level: Option<Box<[u8]>>,
}

const VERSION_VALUE: &[u8] = b"\"2026-07-28\"";
const META_HEAD: &[u8] = b"{\"_meta\":";

impl StatelessMeta {
    /// From the client's capabilities and info, both JSON objects, and the level it has set.
    pub fn new(capabilities: &[u8], client_info: Option<&[u8]>, log_level: Option<&str>) -> Self {
        debug_assert_eq!(VERSION_VALUE, format!("\"{}\"", Revision::STATELESS).as_bytes());
        let log_level = log_level.map(|level| {
            let mut quoted = Vec::new();
            json_string(level, &mut quoted);
            quoted.into_boxed_slice()
        });
        let mut meta = Self {
            params: Box::default(),
            info: client_info.map(Into::into),
            capabilities: capabilities.into(),
            log_level,
        };
        let mut params = META_HEAD.to_vec();
        for (at, (key, value)) in meta.members().enumerate() {
            params.push(if at == 0 { b'{' } else { b',' });
            json_string(key, &mut params);
            params.push(b':');
            params.extend_from_slice(value);
        }
        params.extend_from_slice(b"}}");
        meta.params = params.into();
        meta
    }

    fn members(&self) -> impl Iterator<Item = NewMember<'_>> {
        [
            Some((PROTOCOL_VERSION, VERSION_VALUE)),
            Some((CLIENT_CAPABILITIES, &*self.capabilities)),
            self.info.as_deref().map(|info| (CLIENT_INFO, info)),
            self.log_level.as_deref().map(|level| (LOG_LEVEL, level)),
        ]
        .into_iter()
        .flatten()
    }

    /// The whole `_meta` object.
    pub fn object(&self) -> &[u8] {
        self.params
            .strip_prefix(META_HEAD)
            .and_then(|rest| rest.strip_suffix(b"}"))
            .unwrap_or_default()
    }

    /// `params` that hold nothing else.
    pub const fn params(&self) -> &[u8] {
        &self.params
    }

    /// Puts it into a request's `_meta`, which is made where it is missing. What the client wrote under these keys
    /// itself is replaced: a session's client has said these things at `initialize`.
    pub fn put_into<'a>(&'a self, message: &Message, patch: &mut Patch<'a>) {
        if let Some(meta) = message.span(Member::Meta) {
            if !message.is_object(Member::Meta) {
                patch.replace(meta, self.object());
                return;
            }
            let remove = STATELESS_ONLY.map(|member| message.span(member));
            let mut insert = [("", &[][..]); STATELESS_ONLY.len()];
            let mut count = 0;
            for (slot, member) in insert.iter_mut().zip(self.members()) {
                *slot = member;
                count += 1;
            }
            patch.members(meta, &remove, insert.get(..count).unwrap_or_default());
        } else if let Some(params) = message.span(Member::Params) {
            patch.members(params, &[], &[("_meta", self.object())]);
        } else if let Some(whole) = message.whole() {
            patch.members(whole, &[], &[("params", self.params())]);
        }
    }
}

/// Takes the stateless era's keys out of a request's `_meta`, for a server that knows them from `initialize`.
pub fn strip_stateless(message: &Message, patch: &mut Patch<'_>) {
    if let Some(meta) = message
        .span(Member::Meta)
        .filter(|_| message.is_object(Member::Meta))
    {
        patch.members(meta, &STATELESS_ONLY.map(|member| message.span(member)), &[]);
    }
}

/// Turns a session-era result into a stateless one: the members it must have and lacks are added. `cacheable` is true
/// for the results that say how long they may be kept; these then may not be kept at all.
pub fn complete_result(message: &Message, cacheable: bool, patch: &mut Patch<'_>) {
    let Some(result) = message.span(Member::Result) else {
        return;
    };
    let wanted: [(Member, bool, &[u8]); 3] = [
        (Member::ResultType, true, b"\"complete\""),
        (Member::ResultTtl, cacheable, b"0"),
        (Member::ResultCacheScope, cacheable, b"\"private\""),
    ];
    let mut insert = [("", &[][..]); 3];
    let mut count = 0;
    for (member, wanted, value) in wanted {
        if wanted
            && message.span(member).is_none()
            && let Some(slot) = insert.get_mut(count)
        {
            *slot = (member.name(), value);
            count += 1;
        }
    }
    patch.members(result, &[], insert.get(..count).unwrap_or_default());
}

/// Turns a stateless result into one of the session era: what only the stateless era has is taken out.
pub fn strip_result(message: &Message, patch: &mut Patch<'_>) {
    if let Some(result) = message.span(Member::Result) {
        let only = [Member::ResultType, Member::ResultTtl, Member::ResultCacheScope];
        patch.members(result, &only.map(|member| message.span(member)), &[]);
    }
}

#[cfg(test)]
mod tests;
