//! Streams of events: wherever their bytes are cut they say the same, which is what a plain reading of the standard
//! finds in them, and no event is longer than allowed.

use bytes::Bytes;
use portcullis_gateway::mcp::sse::{Event, EventTooLarge, Parser, encode, head, is_one_line};

/// Largest events, from none at all to no bound.
const CAPS: [usize; 5] = [0, 9, 40, 300, usize::MAX];

/// What a line may hold beside a value: a byte order mark, or the longest name, and a colon and a space.
const MARKUP: usize = 10;

/// All events, then whether one was cut off.
type Read = (Vec<Event>, Result<bool, EventTooLarge>);

/// The bytes are a stream.
pub fn check(data: &[u8]) {
    for cap in CAPS {
        let want = model(data, cap);
        let sizes: [&mut dyn Iterator<Item = usize>; 5] = [
            &mut std::iter::repeat(data.len().max(1)),
            &mut std::iter::repeat(1),
            &mut std::iter::repeat(3),
            &mut std::iter::repeat(8),
            &mut uneven(data),
        ];
        for sizes in sizes {
            assert_eq!(read(data, cap, sizes), want, "cap {cap}");
        }
        assert_eq!(late(data, cap), want, "cap {cap}");
        for event in &want.0 {
            let long = [&event.data, &event.id, &event.event].map(|part| part.as_ref().map_or(0, Bytes::len));
            assert!(long.iter().sum::<usize>() <= cap);
            written(event);
        }
    }
}

/// What is written is read again.
fn written(event: &Event) {
    let bytes = encode(event);
    let mut want = event.clone();
    want.event = match (&event.data, &event.event) {
        (None, _) => None,
        (Some(_), None) => Some(Bytes::from_static(b"message")),
        (Some(_), Some(kind)) => Some(kind.clone()),
    };
    let want = if want == Event::default() {
        vec![]
    } else {
        vec![want]
    };
    assert_eq!(
        read(&bytes, usize::MAX, &mut std::iter::repeat(5)),
        (want, Ok(false))
    );
    if let Some(data) = event.data.as_deref()
        && is_one_line(data)
    {
        assert_eq!([&head(event)[..], data, b"\n\n"].concat(), bytes);
    }
}

/// Lengths of pieces that depend on all of the bytes.
fn uneven(data: &[u8]) -> impl Iterator<Item = usize> {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        1 + usize::try_from(state >> 60).expect("four bits")
    })
}

/// Reads a stream in pieces of these lengths, each to its end before the next comes.
fn read(data: &[u8], cap: usize, sizes: &mut dyn Iterator<Item = usize>) -> Read {
    let mut parser = Parser::new(cap);
    let mut events = vec![];
    let mut rest = data;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        parser.push(Bytes::copy_from_slice(piece));
        if let Err(fault) = drain(&mut parser, &mut events) {
            return (events, Err(fault));
        }
    }
    (events, Ok(parser.is_amid()))
}

/// Reads a stream after all of it has come.
fn late(data: &[u8], cap: usize) -> Read {
    let mut parser = Parser::new(cap);
    let mut events = vec![];
    for piece in data.chunks(7) {
        parser.push(Bytes::copy_from_slice(piece));
    }
    match drain(&mut parser, &mut events) {
        Ok(()) => (events, Ok(parser.is_amid())),
        Err(fault) => (events, Err(fault)),
    }
}

fn drain(parser: &mut Parser, events: &mut Vec<Event>) -> Result<(), EventTooLarge> {
    while let Some(event) = parser.next_event()? {
        events.push(event);
    }
    Ok(())
}

/// WHATWG HTML, section 9.2.6, line by line, with a bound on what is kept.
fn model(data: &[u8], cap: usize) -> Read {
    let mut events = vec![];
    let mut event = Event::default();
    let mut size = 0;
    let mut rest = data;
    let mut first = true;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (mut line, after) = rest.split_at(end);
        rest = after.strip_prefix(b"\r\n").unwrap_or(&after[1..]);
        if line.len() + size > cap.saturating_add(MARKUP) {
            return (events, Err(EventTooLarge));
        }
        if std::mem::take(&mut first) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            event.event = event.event.filter(|kind| !kind.is_empty());
            size = 0;
            let done = std::mem::take(&mut event);
            if done != Event::default() {
                events.push(done);
            }
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(0) => continue,
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                size += value.len() + 1;
                event.data = Some(match event.data {
                    None => Bytes::copy_from_slice(value),
                    Some(lines) => [&lines[..], b"\n", value].concat().into(),
                });
            }
            b"event" => {
                size += value.len();
                event.event = Some(Bytes::copy_from_slice(value));
            }
            b"id" if !value.contains(&0) => {
                size += value.len();
                event.id = Some(Bytes::copy_from_slice(value));
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                event.retry = std::str::from_utf8(value)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
        if size > cap {
            return (events, Err(EventTooLarge));
        }
    }
    if rest.len() + size > cap.saturating_add(MARKUP) {
        return (events, Err(EventTooLarge));
    }
    (events, Ok(!rest.is_empty() || size > 0))
}
