use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// All events of a stream that arrives in these chunks.
fn events<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Event> {
    let mut parser = Parser::new(1 << 20);
    let mut found = vec![];
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = parser.next_event().unwrap() {
            found.push(event);
        }
    }
    found
}

fn parse(text: &str) -> Vec<Event> {
    events([text.as_bytes()])
}

fn data(text: &'static str) -> Event {
    Event::message(Bytes::from_static(text.as_bytes()))
}

#[rstest]
#[case("data: a\n\n", vec![data("a")])]
#[case("data:a\r\rdata:  b\r\r", vec![data("a"), data(" b")])]
#[case("data: a\r\n\r\ndata: b\r\n\r\n", vec![data("a"), data("b")])]
#[case("data: a\ndata: b\ndata\ndata:\ndata: c\n\n", vec![data("a\nb\n\n\nc")])]
#[case("data\n\n", vec![data("")])]
#[case("\u{feff}data: a\n\n", vec![data("a")])]
#[case("\u{feff}\u{feff}data: a\n\n", vec![])]
#[case(": ping\n\n:\n\n\n\n", vec![])]
#[case("data: a\n: in between\ndata: b\n\n", vec![data("a\nb")])]
#[case("data: cut off\n", vec![])]
#[case("data: cut off", vec![])]
#[case("other: x\ndata : y\nDATA: z\n\n", vec![])]
#[case("data: a:b: c\n\n", vec![data("a:b: c")])]
fn lines_become_events(#[case] text: &str, #[case] want: Vec<Event>) {
    assert_eq!(parse(text), want);
}

#[test]
fn every_field_is_read() {
    let text = "event: message\nid: 1/a b\nretry: 3000\ndata: {}\n\nevent:\nid\nretry: 3x\ndata: x\n\nid: a\0b\nid: only\n\n";
    let all = parse(text);
    assert_eq!(
        all,
        [
            Event {
                event: Some("message".into()),
                data: Some("{}".into()),
                id: Some("1/a b".into()),
                retry: Some(3000),
            },
            Event {
                event: None,
                data: Some("x".into()),
                id: Some("".into()),
                retry: None,
            },
            Event {
                id: Some("only".into()),
                ..Event::default()
            },
        ]
    );
    assert_eq!(
        all.iter().map(Event::is_message).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert!(!parse("id: 1\ndata:\n\n")[0].is_message());
    assert!(!parse("event: endpoint\ndata: /x\n\n")[0].is_message());
    assert_eq!(
        parse("retry: 99999999999999999999999\ndata: x\n\n")[0].retry,
        None
    );
}

#[test]
fn data_within_a_chunk_are_not_copied() {
    let chunk = Bytes::from_static(b"event: message\ndata: {\"a\":1}\n\ndata: second\n\n");
    let mut parser = Parser::new(100);
    parser.push(chunk.clone());
    let inside = |data: &Bytes| chunk.as_ptr_range().contains(&data.as_ptr());
    assert!(inside(&parser.next_event().unwrap().unwrap().data.unwrap()));
    assert!(inside(&parser.next_event().unwrap().unwrap().data.unwrap()));
    assert_eq!(parser.next_event(), Ok(None));
    assert!(!parser.is_amid());
}

#[test]
fn an_event_has_a_greatest_size() {
    let over = |text: String, max: usize| {
        // Both in one piece and byte by byte.
        let mut whole = Parser::new(max);
        whole.push(text.clone().into());
        let mut pieces = Parser::new(max);
        let mut refused = false;
        for byte in text.into_bytes() {
            pieces.push(vec![byte].into());
            refused |= pieces.next_event().is_err();
        }
        let at_once = std::iter::repeat_with(|| whole.next_event())
            .find_map(|event| match event {
                Err(EventTooLarge) => Some(true),
                Ok(None) => Some(false),
                Ok(Some(_)) => None,
            })
            .unwrap();
        (at_once, refused)
    };
    assert_eq!(over(format!("data: {}\n\n", "x".repeat(80)), 100), (false, false));
    assert_eq!(over(format!("data: {}\n\n", "x".repeat(101)), 100), (true, true));
    assert_eq!(over("data: 0123456789\n".repeat(20), 100), (true, true));
    assert_eq!(over(format!("id: {}\n", "x".repeat(101)), 100), (true, true));
    assert_eq!(over("data:\n".repeat(101), 100), (true, true));
    // A line without an end is refused as it grows, whatever it is.
    assert_eq!(over(format!(": {}", "x".repeat(110)), 100), (true, true));
    // Comments and unknown fields are not kept, so they do not add up.
    assert_eq!(over(": still here\nx: y\n".repeat(100), 100), (false, false));
    assert_eq!(over("data: small\n\n".repeat(100), 100), (false, false));
}

#[test]
fn the_greatest_size_is_the_same_however_the_stream_is_cut() {
    let read = |text: &str, piece: usize| {
        let mut parser = Parser::new(20);
        let mut found = vec![];
        for chunk in text.as_bytes().chunks(piece) {
            parser.push(Bytes::copy_from_slice(chunk));
            loop {
                match parser.next_event() {
                    Ok(Some(event)) => found.push(event),
                    Ok(None) => break,
                    Err(EventTooLarge) => return (found, true),
                }
            }
        }
        (found, false)
    };
    // Data count with the line feed that may join them to more; names, colons and spaces do not.
    for (length, too_large) in [(18, false), (19, false), (20, true), (25, true), (40, true)] {
        for (start, name) in [("", "data:"), ("\u{feff}", "data: "), ("data\n\n", "data: ")] {
            let text = format!("{start}{name}{}\n\n", "x".repeat(length));
            for piece in [1, 3, 8, 100] {
                assert_eq!(read(&text, piece).1, too_large, "{text:?} in pieces of {piece}");
            }
        }
    }
    // Comments are not kept, but a long one is held while it comes in pieces.
    for (length, too_large) in [(29, false), (30, true), (90, true)] {
        let text = format!("data: a\n\n:{}\n\ndata: b\n\n", "x".repeat(length));
        let events = if too_large {
            vec![data("a")]
        } else {
            vec![data("a"), data("b")]
        };
        for piece in [1, 3, 8, 200] {
            assert_eq!(
                read(&text, piece),
                (events.clone(), too_large),
                "{text:?} in pieces of {piece}"
            );
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_known_to() {
    let mut parser = Parser::new(100);
    for (text, amid) in [
        ("data: a\n", true),
        ("\n", false),
        ("dat", true),
        ("a: b", true),
        ("\n\n", false),
    ] {
        parser.push(Bytes::from_static(text.as_bytes()));
        while parser.next_event().unwrap().is_some() {}
        assert_eq!(parser.is_amid(), amid, "{text:?}");
    }
}

#[test]
fn written_as_expected() {
    let event = Event {
        event: None,
        data: Some("{\"a\":\r\n1}\n".into()),
        id: Some("7".into()),
        retry: Some(5),
    };
    assert_eq!(
        encode(&event),
        "event: message\nid: 7\nretry: 5\ndata: {\"a\":\ndata: 1}\ndata: \n\n"
    );
    assert_eq!(
        encode(&Event::message(Bytes::new())),
        "event: message\ndata: \n\n"
    );
    assert_eq!(
        encode(&Event {
            retry: Some(1),
            ..Event::default()
        }),
        "retry: 1\n\n"
    );
    let line = data("{}");
    assert!(is_one_line(b"{}") && !is_one_line(b"{\r}"));
    assert_eq!([&head(&line)[..], b"{}\n\n"].concat(), encode(&line));
    assert_eq!(events([KEEP_ALIVE]), []);
}

#[test]
fn no_field_can_smuggle_another() {
    let event = Event {
        event: Some("x\ndata: evil".into()),
        data: Some("{}".into()),
        id: Some("1\r\rdata: evil\r\r".into()),
        retry: None,
    };
    assert_eq!(encode(&event), "data: {}\n\n");
}

/// Text made of what streams are made of.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::sample::select(vec![
        "data: ",
        "data:",
        "data",
        "event: ",
        "id: ",
        "id",
        "retry: 12",
        ":",
        " ",
        "\n",
        "\n\n",
        "\r",
        "\r\n",
        "\r\n\r\n",
        "{\"a\":1}",
        "long enough to be scanned eight bytes at a time",
        "é",
        "\u{feff}",
        "\0",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn chunks_do_not_matter(text in stream(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let whole = events([&text[..]]);
        prop_assert_eq!(&events(cuts.windows(2).map(|cut| &text[cut[0]..cut[1]])), &whole);
        prop_assert_eq!(&events(text.chunks(1)), &whole);
        // Also when a reader falls behind.
        let mut late = Parser::new(1 << 20);
        text.chunks(3).for_each(|chunk| late.push(Bytes::copy_from_slice(chunk)));
        let mut found = vec![];
        while let Some(event) = late.next_event().unwrap() {
            found.push(event);
        }
        prop_assert_eq!(&found, &whole);
    }

    #[test]
    fn any_bytes_do_no_harm(text in proptest::collection::vec(any::<u8>(), 0..300), max in 0..40usize) {
        let mut parser = Parser::new(max);
        for chunk in text.chunks(7) {
            parser.push(Bytes::copy_from_slice(chunk));
            loop {
                match parser.next_event() {
                    Ok(Some(event)) => prop_assert!(event.data.is_none_or(|data| data.len() <= max)),
                    Ok(None) => break,
                    Err(EventTooLarge) => return Ok(()),
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        data in "[a-z{}\"\n\r ]{0,40}", id in proptest::option::of("[!-~]{0,8}"), retry in proptest::option::of(any::<u64>()),
    ) {
        let event = Event {
            event: Some("message".into()),
            data: Some(data.replace("\r\n", "\n").replace('\r', "\n").into()),
            id: id.map(Bytes::from),
            retry,
        };
        let written = Event { data: Some(data.into()), ..event.clone() };
        prop_assert_eq!(events([&encode(&written)[..]]), [event]);
    }
}
