//! Messages: the scanner takes what is JSON and refuses what two readers could read differently, its members stand where
//! another reader finds them, and changing some of them changes nothing else.

use bytes::Bytes;
use portcullis_gateway::mcp::edit::Patch;
use portcullis_gateway::mcp::envelope::{Kind, MAX_ID_BYTES, Message, Refused};
use portcullis_gateway::mcp::method::Method;
use portcullis_gateway::mcp::scan::{
    self, Fault, Member, Members, Span, Strictness, elements, field, fields, repeats_a_key, scan_batch,
    scan_message, unescape,
};

use super::tree::Tree;

/// Divides a message from the bytes that choose what is changed in it: it stands in no UTF-8.
const DIVIDER: u8 = 0xFF;
/// Deepest nesting: one bound that is met soon, and the default.
const DEPTHS: [u32; 2] = [4, 64];
/// Longest batch.
const MAX_ITEMS: usize = 5;

/// A message or a batch; after a divider, choices.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == DIVIDER);
    let text = parts.next().unwrap_or_default();
    let choices = parts.next().unwrap_or_default();
    let tree = Tree::read(text);
    let is_json =
        std::str::from_utf8(text).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    for depth in DEPTHS {
        for strictness in [Strictness::Request, Strictness::Reply] {
            let mut members = Members::none();
            let verdict = scan_message(text, strictness, depth, &mut members);
            judged(verdict, is_json, tree.as_ref(), strictness, depth);
            if verdict.is_ok() {
                places(text, &members);
                if let Some(tree) = &tree {
                    found(text, &members, tree);
                }
            }
        }
        batch(text, is_json, tree.as_ref(), depth);
    }
    typed(text, tree.as_ref());
    let mut members = Members::none();
    if let Some(tree) = &tree
        && scan_message(text, Strictness::Request, 64, &mut members).is_ok()
    {
        walked(text, tree);
        edited(text, &members, tree, choices);
    }
}

/// The verdict is the one that follows from the rules and from what `serde_json` read.
fn judged(
    verdict: Result<(), Fault>,
    is_json: bool,
    tree: Option<&Tree>,
    strictness: Strictness,
    depth: u32,
) {
    match verdict {
        Ok(()) | Err(Fault::Shape(_)) => assert!(is_json, "{verdict:?} of what is no JSON"),
        Err(fault) if fault.is_parse_error() => assert!(!is_json, "{fault:?} of what is JSON"),
        Err(_) => {}
    }
    let Some(tree) = tree else { return };
    let strict = strictness == Strictness::Request;
    let deep = tree.depth() > depth;
    let repeats = if strict {
        tree.repeats_anywhere()
    } else {
        read_objects(tree).any(|(_, object)| object.repeats())
    };
    let imitates = strict && read_objects(tree).any(|(holder, object)| imitates(holder, object));
    match verdict {
        Ok(()) => assert!(
            tree.is_object() && !deep && !repeats && !imitates,
            "accepted: {tree:?}"
        ),
        Err(Fault::TooDeep) => assert!(deep, "{tree:?}"),
        Err(Fault::DuplicateKey(_)) => assert!(repeats, "{tree:?}"),
        Err(Fault::AmbiguousKey(_)) => assert!(imitates, "{tree:?}"),
        Err(Fault::Shape(_)) => assert!(!tree.is_object(), "{tree:?}"),
        Err(other) => panic!("{other:?} of {tree:?}"),
    }
}

/// The objects in which members are read, with the member each is the value of. Of keys that stand twice all values
/// count: which of them a reader takes is just what is not known.
fn read_objects(tree: &Tree) -> impl Iterator<Item = (Option<Member>, &Tree)> {
    let mut all = vec![];
    if tree.is_object() {
        all.push((None, tree));
    }
    let mut at = 0;
    while let Some(&(holder, object)) = all.get(at) {
        at += 1;
        for (key, value) in object.fields().iter().filter(|(_, value)| value.is_object()) {
            let member = Member::ALL
                .iter()
                .find(|member| member.within() == holder && member.name() == key);
            if let Some(member) = member
                && Member::ALL.iter().any(|inner| inner.within() == Some(*member))
            {
                all.push((Some(*member), value));
            }
        }
    }
    all.into_iter()
}

/// Whether a key equals a member's but for case.
fn imitates(holder: Option<Member>, object: &Tree) -> bool {
    let fold = |key: &str| {
        key.to_ascii_lowercase()
            .replace('\u{17F}', "s")
            .replace('\u{212A}', "k")
    };
    let mut names = Member::ALL
        .iter()
        .filter(|member| member.within() == holder)
        .map(|member| member.name());
    names.any(|name| {
        let mut keys = object.fields().iter();
        keys.any(|(key, _)| key != name && fold(key) == fold(name))
    })
}

/// Members lie in the text, each in its object, none across another, from the first byte of a value to its last.
fn places(text: &[u8], members: &Members) {
    let there: Vec<(Member, Span)> = Member::ALL
        .iter()
        .filter_map(|member| Some((*member, members.get(*member)?)))
        .collect();
    for &(member, span) in &there {
        assert!(span.start() < span.end() && span.end() <= text.len());
        let value = span.of(text);
        assert_eq!(value.trim_ascii(), value);
        assert_eq!(span.first(text), value[0]);
        if let Some(holder) = member.within() {
            let holder = members.get(holder).expect("its object is there");
            assert!(holder.start() < span.start() && span.end() < holder.end());
            assert_eq!(holder.first(text), b'{');
        }
        for &(other, place) in there.iter().filter(|(other, _)| *other != member) {
            let apart = place.end() < span.start() || span.end() < place.start();
            let within = place.start() < span.start() && span.end() < place.end();
            let around = span.start() < place.start() && place.end() < span.end();
            assert!(apart || within || around, "{member:?} and {other:?}");
        }
    }
}

/// Members are those that `serde_json` sees.
fn found(text: &[u8], members: &Members, tree: &Tree) {
    for &member in Member::ALL {
        let ours = members
            .get(member)
            .map(|span| Tree::read(span.of(text)).expect("a value"));
        assert_eq!(ours.as_ref(), tree.at(member), "{member:?}");
    }
}

/// The message with its type.
fn typed(text: &[u8], tree: Option<&Tree>) {
    let bytes = Bytes::copy_from_slice(text);
    match Message::from_client(bytes.clone(), 64) {
        Ok(message) => kind(&message, &bytes, tree, true),
        Err(refused) => {
            if let Some(id) = &refused.id {
                assert!(id.len() <= MAX_ID_BYTES && !refused.fault.is_parse_error());
                let number = matches!(id[0], b'-' | b'0'..=b'9');
                assert!(number || unescape(id).is_ok() || Tree::read(id).is_none());
            }
        }
    }
    if let Ok(message) = Message::from_server(bytes.clone(), 64) {
        kind(&message, &bytes, tree, false);
    }
}

fn kind(message: &Message, bytes: &Bytes, tree: Option<&Tree>, from_client: bool) {
    assert_eq!(message.bytes(), bytes);
    assert_eq!(message.whole().expect("an object").of(bytes), bytes.trim_ascii());
    for &member in Member::ALL {
        assert_eq!(message.slice(member).as_deref(), message.raw(member));
        assert_eq!(
            message.is_object(member),
            message.raw(member).is_some_and(|raw| raw[0] == b'{')
        );
    }
    let Some(tree) = tree else { return };
    assert_eq!(tree.at(Member::JsonRpc), Some(&Tree::Text("2.0".into())));
    let has = |member| tree.at(member).is_some();
    let object = |member| tree.at(member).is_some_and(Tree::is_object);
    let id = matches!(
        tree.at(Member::Id),
        Some(Tree::Text(_) | Tree::Integer(_) | Tree::Float(_))
    );
    let null = tree.at(Member::Id) == Some(&Tree::Null);
    assert_eq!(message.id().is_some(), id);
    let asks =
        tree.at(Member::Method).is_some_and(Tree::is_text) && !has(Member::Result) && !has(Member::Error);
    let (holds, named) = match message.kind() {
        Kind::Request => (asks && id, true),
        Kind::Notification => (asks && !has(Member::Id), true),
        Kind::Response => (object(Member::Result) && !has(Member::Error) && id, false),
        Kind::ErrorResponse => {
            let about = id || (!from_client && (null || !has(Member::Id)));
            (object(Member::Error) && !has(Member::Result) && about, false)
        }
    };
    assert!(holds, "{:?}: {tree:?}", message.kind());
    match tree.at(Member::Method) {
        Some(Tree::Text(name)) if named => assert_eq!(message.method(), Method::from_name(name.as_bytes())),
        _ => assert_eq!(message.method(), Method::Other),
    }
    for &member in Member::ALL {
        match tree.at(member) {
            Some(Tree::Text(text)) => assert_eq!(message.str(member).as_deref(), Some(&**text)),
            _ => assert!(message.text(member).is_none()),
        }
    }
}

/// A batch is its items, each judged as if it had come alone.
fn batch(text: &[u8], is_json: bool, tree: Option<&Tree>, depth: u32) {
    let all = scan_batch(text, Strictness::Request, depth, MAX_ITEMS);
    let typed = Message::batch_from_client(&Bytes::copy_from_slice(text), depth, MAX_ITEMS);
    let alone = |item: &[u8]| Message::from_client(Bytes::copy_from_slice(item), depth - 1);
    let Ok(items) = all else {
        assert!(typed.is_err());
        // One item that is refused by the scanner refuses all; else there is a reason of the whole.
        if let (Some(Tree::Array(trees)), Err(fault)) = (tree, all) {
            let refused = trees.len() > MAX_ITEMS
                || trees.iter().any(|item| {
                    item.depth() >= depth
                        || item.repeats_anywhere()
                        || read_objects(item).any(|(holder, object)| imitates(holder, object))
                });
            assert!(refused, "{fault:?} of {tree:?}");
        }
        return;
    };
    assert!(is_json && scan::is_batch(text) && items.len() <= MAX_ITEMS);
    if items.is_empty() {
        assert!(typed.is_err());
        return;
    }
    let typed = typed.expect("scanned as a batch");
    assert_eq!(typed.len(), items.len());
    let mut end = 0;
    for ((span, members), typed) in items.iter().zip(typed) {
        assert!(end < span.start() && span.end() < text.len());
        end = span.end();
        let item = span.of(text);
        assert_eq!(item.trim_ascii(), item);
        if item[0] == b'{' {
            places(item, members);
        }
        match (typed, alone(item)) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one.bytes(), item);
                assert_eq!((one.kind(), one.method()), (other.kind(), other.method()));
                for &member in Member::ALL {
                    assert_eq!(one.span(member), other.span(member));
                }
            }
            (Err(one), Err(other)) => same_refusal(&one, &other),
            (one, other) => panic!("{one:?} in a batch, {other:?} alone"),
        }
    }
}

fn same_refusal(one: &Refused, other: &Refused) {
    assert!(matches!(
        (one.fault, other.fault),
        (Fault::Shape(_), Fault::Shape(_))
    ));
    assert_eq!(one.id, other.id);
}

/// Going through what was scanned gives what `serde_json` sees.
fn walked(text: &[u8], tree: &Tree) {
    let start = text.len() - text.trim_ascii_start().len();
    let mut open = vec![(
        Span::new(start, text.trim_ascii_end().len()).expect("an object"),
        tree,
    )];
    while let Some((span, tree)) = open.pop() {
        let mut members = fields(text, span);
        for (key, value) in tree.fields() {
            let (name, at) = members.next().expect("as many").expect("scanned");
            assert_eq!(unescape(name.of(text)).as_deref(), Ok(&**key));
            assert_eq!(field(text, span, key), Some(at));
            open.push((at, value));
        }
        assert!(members.next().is_none());
        assert_eq!(repeats_a_key(text, span), tree.repeats());
        let mut items = elements(text, span);
        if let Tree::Array(values) = tree {
            for value in values {
                open.push((items.next().expect("as many").expect("scanned"), value));
            }
        }
        assert!(items.next().is_none());
    }
}

/// Changes: none gives every byte back, some give what they say.
fn edited(text: &[u8], members: &Members, tree: &Tree, choices: &[u8]) {
    assert_eq!(Patch::new(text).apply().expect("no change"), text);
    let start = text.len() - text.trim_ascii_start().len();
    let whole = Span::new(start, text.trim_ascii_end().len()).expect("an object");
    // Each value in its own place.
    let mut same = Patch::new(text);
    for &member in Member::ALL {
        let nests = Member::ALL.iter().any(|inner| inner.within() == Some(member));
        if let Some(span) = members.get(member).filter(|_| !nests) {
            same.replace(span, span.of(text));
        }
    }
    assert_eq!(same.apply().expect("apart"), text);
    let [which, low, high, act] = *choices.first_chunk::<4>().unwrap_or(&[0, 1, 0, 1]);
    let objects: Vec<Option<Member>> = read_objects(tree).map(|(holder, _)| holder).collect();
    let holder = objects[usize::from(which) % objects.len()];
    let object = holder
        .map_or(Some(whole), |member| members.get(member))
        .expect("there");
    let mask = u16::from_le_bytes([low, high]);
    let taken = |at: usize| mask >> (at % 16) & 1 == 1;
    let mut remove: Vec<Option<Span>> = fields(text, object)
        .map(|item| item.expect("scanned").1)
        .enumerate()
        .filter(|(at, _)| taken(*at))
        .map(|(_, span)| Some(span))
        .collect();
    if act & 4 != 0 {
        remove.reverse();
    }
    let insert: &[(&str, &[u8])] = match act % 3 {
        0 => &[],
        1 => &[("put in", b"[1]")],
        _ => &[("put in", b"{\"a\":\"b\"}"), ("and", b"null")],
    };
    let mut patch = Patch::new(text);
    patch.members(object, &remove, insert);
    let mut want = tree.clone();
    if let Some(Tree::Object(fields)) = object_mut(&mut want, holder) {
        let kept = fields
            .drain(..)
            .enumerate()
            .filter(|(at, _)| !taken(*at))
            .map(|(_, field)| field);
        let put = insert
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Tree::read(value).expect("JSON")));
        *fields = put.chain(kept.collect::<Vec<_>>()).collect();
    }
    // Another change elsewhere at the same time.
    if let Some(id) = members.get(Member::Id)
        && act & 8 != 0
        && holder.is_some()
    {
        patch.replace(id, b"\"another\"");
        *want.at_mut(Member::Id).expect("there") = Tree::Text("another".into());
    }
    let changed = patch.apply().expect("no two changes of one place");
    assert_eq!(
        Tree::read(&changed).as_ref(),
        Some(&want),
        "{:?}",
        String::from_utf8_lossy(&changed)
    );
    let mut again = Patch::new(text);
    again.members(object, &remove, insert);
    if mask != 0 && !remove.is_empty() || !insert.is_empty() {
        again.members(object, &[], &[("twice", b"1")]);
        assert!(
            again.apply().is_err(),
            "members of one object are changed at once"
        );
    }
}

fn object_mut(tree: &mut Tree, holder: Option<Member>) -> Option<&mut Tree> {
    match holder {
        None => Some(tree),
        Some(member) => tree.at_mut(member),
    }
}
