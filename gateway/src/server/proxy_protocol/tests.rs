use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// A header of these parts.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const FOUR: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0xd4, 0x31, 0x20, 0xfb];

fn six(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    [&source.octets()[..], &[0; 16], &[0xd4, 0x31, 0, 80]].concat()
}

async fn all(bytes: &[u8]) -> (Result<Option<SocketAddr>, ReadError>, usize) {
    let mut left = bytes;
    let result = read(&mut left).await;
    (result, left.len())
}

#[rstest]
#[case::four(header(0x21, 0x11, &FOUR), Some("203.0.113.9:54321"))]
#[case::six(header(0x21, 0x21, &six("2001:db8::7")), Some("[2001:db8::7]:54321"))]
#[case::four_in_six(header(0x21, 0x21, &six("::ffff:203.0.113.9")), Some("203.0.113.9:54321"))]
#[case::more_is_skipped(header(0x21, 0x11, &[&FOUR[..], &[0xee, 0, 2, 1, 2, 0x20, 0, 9]].concat()), Some("203.0.113.9:54321"))]
#[case::longest(header(0x21, 0x11, &[&FOUR[..], &[7; MAX_REST - 12]].concat()), Some("203.0.113.9:54321"))]
#[case::of_itself(header(0x20, 0x00, &[]), None)]
#[case::of_itself_with_addresses(header(0x20, 0x11, &FOUR), None)]
#[tokio::test]
async fn a_header_says_who_connected_and_nothing_more_is_read(
    #[case] header: Vec<u8>,
    #[case] who: Option<&str>,
) {
    let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
    let (result, left) = all(&bytes).await;
    assert_eq!(result.unwrap(), who.map(|who| who.parse().unwrap()));
    assert_eq!(left, 16, "what follows is not the header's");
    // One byte at a time.
    let (mut client, mut server) = tokio::io::duplex(1);
    let whole = header.clone();
    let sent = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &whole).await });
    assert_eq!(
        read(&mut server).await.unwrap(),
        who.map(|who| who.parse().unwrap())
    );
    sent.await.unwrap().unwrap();
}

#[rstest]
#[case::version_1(b"PROXY TCP4 203.0.113.9 192.0.2.1 54321 443\r\n".to_vec(), Invalid::Signature)]
#[case::none(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Invalid::Signature)]
#[case::tls(vec![0x16, 3, 1, 2, 0], Invalid::Signature)]
#[case::nearly([&b"\r\n\r\n\0\r\nQUIT\r"[..], &[0; 20]].concat(), Invalid::Signature)]
#[case::version_3(header(0x31, 0x11, &FOUR), Invalid::Command)]
#[case::unknown_command(header(0x22, 0x11, &FOUR), Invalid::Command)]
#[case::unspecified(header(0x21, 0x00, &FOUR), Invalid::Family)]
#[case::udp(header(0x21, 0x12, &FOUR), Invalid::Family)]
#[case::unix(header(0x21, 0x31, &[0; 216]), Invalid::Family)]
#[case::short_four(header(0x21, 0x11, &FOUR[..11]), Invalid::Short)]
#[case::short_six(header(0x21, 0x21, &FOUR), Invalid::Short)]
#[case::empty(header(0x21, 0x11, &[]), Invalid::Short)]
#[case::long(header(0x21, 0x11, &[0; MAX_REST + 1]), Invalid::Long)]
#[case::long_of_itself(header(0x20, 0x00, &[0; MAX_REST + 1]), Invalid::Long)]
#[tokio::test]
async fn anything_else_ends_the_connection(#[case] bytes: Vec<u8>, #[case] why: Invalid) {
    match all(&bytes).await.0 {
        Err(ReadError::Invalid(found)) => assert_eq!(found, why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_header_that_is_cut_off_is_none() {
    let whole = header(0x21, 0x11, &FOUR);
    for end in 0..whole.len() {
        assert!(
            matches!(all(&whole[..end]).await.0, Err(ReadError::Io(_))),
            "{end}"
        );
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    let (mut client, mut server) = tokio::io::duplex(64);
    tokio::io::AsyncWriteExt::write_all(&mut client, b"\r\nP")
        .await
        .unwrap();
    // The client is still there and says nothing more.
    let refused = tokio::time::timeout(std::time::Duration::from_secs(10), read(&mut server)).await;
    assert!(matches!(
        refused.unwrap(),
        Err(ReadError::Invalid(Invalid::Signature))
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_read_on(
        signed in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (result, left) = runtime.block_on(all(&bytes));
        if result.is_ok() {
            let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
            prop_assert_eq!(bytes.len() - left, FIXED + length);
        }
    }
}
