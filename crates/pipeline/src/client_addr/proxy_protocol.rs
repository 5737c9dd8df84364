//! The PROXY protocol, versions 1 and 2: a connection's own note of where it came from.
//!
//! A load balancer that forwards TCP connections writes a short header before the client's first
//! byte. A listener either expects it on every connection or on none: [`accept`] reads it where it
//! is expected, and nobody but a trusted proxy may connect there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::TrustedProxies;

/// The longest header that is read, in bytes. Version 1 ends at 107; version 2 may carry more
/// notes than anybody needs.
pub const MAX_LENGTH: usize = 4096;

/// Both ends of a client's connection to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Where the client connected from.
    pub client: SocketAddr,
    /// Where it connected to.
    pub server: SocketAddr,
}

/// Why a connection is not to be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyProtocolError {
    /// The peer is no trusted proxy.
    #[error("{0} is not a trusted proxy, and may not connect here")]
    Untrusted(SocketAddr),
    /// The header did not come in time.
    #[error("no PROXY protocol header came within {0:?}")]
    Timeout(Duration),
    /// There is something else in its place.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// Version 1, but not well-formed.
    #[error("the PROXY protocol header (version 1) is malformed")]
    Version1(#[source] v1::BinaryParseError),
    /// Version 2, but not well-formed.
    #[error("the PROXY protocol header (version 2) is malformed")]
    Version2(#[source] v2::ParseError),
    /// It is longer than [`MAX_LENGTH`].
    #[error("the PROXY protocol header is {0} bytes long; at most {MAX_LENGTH} are read")]
    TooLong(usize),
    /// It speaks of datagrams, which this connection does not carry.
    #[error("the PROXY protocol header speaks of datagrams")]
    Datagram,
    /// The connection broke off.
    #[error("the connection broke off within the PROXY protocol header")]
    Io(#[source] io::Error),
}

/// Reads the PROXY protocol header from a connection that `peer` has just made, and not one byte
/// more, within `limit`.
///
/// `None` when the proxy speaks for itself, as in its health checks (`LOCAL`), or does not know
/// its client's address (`UNKNOWN`, `UNSPEC`, a Unix socket): then the client is `peer`.
///
/// # Errors
/// When `peer` is not trusted, or anything but a whole header comes in time. The connection is to
/// be closed: who speaks is not known.
///
/// # Cancellation safety
/// Not safe: what has been read of the header is lost. Drop the connection, too.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use onlyonce_pipeline::client_addr::{TrustedProxies, proxy_protocol};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let trusted = TrustedProxies::parse(["10.0.0.0/8"])?;
/// let mut connection = &b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n"[..];
/// let peer = "10.0.0.7:49152".parse()?;
/// let limit = Duration::from_secs(5);
///
/// let proxied = proxy_protocol::accept(&mut connection, peer, &trusted, limit).await?;
/// assert_eq!(proxied.map(|proxied| proxied.client), Some("192.0.2.1:4711".parse()?));
/// assert_eq!(connection, b"GET / HTTP/1.1\r\n");
/// # Ok(())
/// # }
/// ```
pub async fn accept<IO: AsyncRead + Unpin>(
    stream: &mut IO,
    peer: SocketAddr,
    trusted: &TrustedProxies,
    limit: Duration,
) -> Result<Option<Proxied>, ProxyProtocolError> {
    if !trusted.contains(peer.ip()) {
        return Err(ProxyProtocolError::Untrusted(peer));
    }
    tokio::time::timeout(limit, read(stream))
        .await
        .unwrap_or(Err(ProxyProtocolError::Timeout(limit)))
}

const VERSION_1: &[u8] = b"PROXY ";
const VERSION_2: &[u8] = v2::PROTOCOL_PREFIX;
/// The fixed part of version 2: signature, command, family, and the length of the rest.
const FIXED_PART: usize = 16;

async fn read<IO: AsyncRead + Unpin>(
    stream: &mut IO,
) -> Result<Option<Proxied>, ProxyProtocolError> {
    let mut header = Vec::with_capacity(108);
    loop {
        // Both are longer than what tells them apart.
        if header.len() < VERSION_1.len() {
            if !VERSION_1.starts_with(&header) && !VERSION_2.starts_with(&header) {
                return Err(ProxyProtocolError::Missing);
            }
            let missing = VERSION_1.len() - header.len();
            more(stream, &mut header, missing).await?;
        } else if header == VERSION_1 {
            return version_1(stream, header).await;
        } else {
            return version_2(stream, header).await;
        }
    }
}

/// Reads at least one byte and at most `count`. What is not there yet is waited for by the caller,
/// who looks at what came first.
async fn more<IO: AsyncRead + Unpin>(
    stream: &mut IO,
    header: &mut Vec<u8>,
    count: usize,
) -> Result<(), ProxyProtocolError> {
    let read = stream.take(count as u64).read_buf(header).await;
    match read.map_err(ProxyProtocolError::Io)? {
        0 => Err(ProxyProtocolError::Io(io::ErrorKind::UnexpectedEof.into())),
        _ => Ok(()),
    }
}

async fn version_1<IO: AsyncRead + Unpin>(
    stream: &mut IO,
    mut header: Vec<u8>,
) -> Result<Option<Proxied>, ProxyProtocolError> {
    while !header.ends_with(b"\r\n") && header.len() < LONGEST_LINE {
        let least = least_missing(&header).min(LONGEST_LINE - header.len());
        more(stream, &mut header, least).await?;
    }
    // Whatever else stands in such a line is to be ignored.
    let unknown = header[VERSION_1.len()..].strip_prefix(b"UNKNOWN");
    if unknown.is_some_and(|rest| rest.ends_with(b"\r\n") && b" \r".contains(&rest[0])) {
        return Ok(None);
    }
    let parsed = v1::Header::try_from(&header[..]).map_err(ProxyProtocolError::Version1)?;
    Ok(match parsed.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ends) => Some(Proxied::between(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
        v1::Addresses::Tcp6(ends) => Some(Proxied::between(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
    })
}

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// How many bytes a sound header of version 1 that begins like this is short of at the least:
/// reading as many never reads what follows it.
fn least_missing(header: &[u8]) -> usize {
    // `PROXY TCP4 a b p q`, and each of the parts has a character.
    const SPACES: usize = 5;
    let spaces = header.iter().filter(|&&byte| byte == b' ').count();
    match header.last() {
        Some(b'\r') => 1,
        _ if header[VERSION_1.len()..].starts_with(b"TCP") => 2 + 2 * SPACES.saturating_sub(spaces),
        _ => 2,
    }
}

async fn version_2<IO: AsyncRead + Unpin>(
    stream: &mut IO,
    mut header: Vec<u8>,
) -> Result<Option<Proxied>, ProxyProtocolError> {
    loop {
        let signature = header.len().min(VERSION_2.len());
        if header[..signature] != VERSION_2[..signature] {
            return Err(ProxyProtocolError::Missing);
        }
        if header.len() == FIXED_PART {
            break;
        }
        let missing = FIXED_PART - header.len();
        more(stream, &mut header, missing).await?;
    }
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    let length = FIXED_PART + rest;
    if length > MAX_LENGTH {
        return Err(ProxyProtocolError::TooLong(length));
    }
    while header.len() < length {
        let missing = length - header.len();
        more(stream, &mut header, missing).await?;
    }
    let parsed = v2::Header::try_from(&header[..]).map_err(ProxyProtocolError::Version2)?;
    if parsed.command == v2::Command::Local {
        return Ok(None);
    }
    if parsed.protocol == v2::Protocol::Datagram {
        return Err(ProxyProtocolError::Datagram);
    }
    Ok(match parsed.addresses {
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        v2::Addresses::IPv4(ends) => Some(Proxied::between(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
        v2::Addresses::IPv6(ends) => Some(Proxied::between(
            (ends.source_address, ends.source_port),
            (ends.destination_address, ends.destination_port),
        )),
    })
}

impl Proxied {
    fn between<A: Into<IpAddr>>(client: (A, u16), server: (A, u16)) -> Self {
        let end = |(ip, port): (A, u16)| SocketAddr::new(ip.into().to_canonical(), port);
        Self {
            client: end(client),
            server: end(server),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn trusted() -> TrustedProxies {
        TrustedProxies::parse(["10.0.0.0/8"]).unwrap()
    }

    async fn accepted<IO: AsyncRead + Unpin>(
        stream: &mut IO,
    ) -> Result<Option<Proxied>, ProxyProtocolError> {
        accept(stream, addr("10.0.0.7:49152"), &trusted(), LIMIT).await
    }

    /// What is made of `bytes`, and what is left of them.
    async fn read_whole(bytes: &[u8]) -> (Result<Option<Proxied>, ProxyProtocolError>, Vec<u8>) {
        let mut stream = bytes;
        let result = accepted(&mut stream).await;
        (result, stream.to_vec())
    }

    fn v2_header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        header.extend(payload);
        header
    }

    const V4_ENDS: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb];

    fn v6_ends() -> Vec<u8> {
        let mut ends = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        ends.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        ends.extend([0x12, 0x67, 0x01, 0xbb]);
        ends
    }

    /// A header, and the ends of the connection that it speaks of.
    type Sound = (Vec<u8>, Option<(&'static str, &'static str)>);

    fn sound() -> Vec<Sound> {
        let v4 = Some(("192.0.2.1:4711", "10.0.0.1:443"));
        let v6 = Some(("[2001:db8::1]:4711", "[2001:db8::2]:443"));
        let mut notes = V4_ENDS.to_vec();
        notes.extend([0xea, 0, 3, 1, 2, 3]);
        let mut longest = V4_ENDS.to_vec();
        longest.resize(MAX_LENGTH - FIXED_PART, 0);
        vec![
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), v4),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(),
                v6,
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 4711 443\r\n".to_vec(),
                v4,
            ),
            (
                b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".to_vec(),
                Some(("0.0.0.0:0", "0.0.0.0:0")),
            ),
            (
                b"PROXY TCP6 :: :: 0 0\r\n".to_vec(),
                Some(("[::]:0", "[::]:0")),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(),
                None,
            ),
            (b"PROXY UNKNOWN a b c d e f g h\r\n".to_vec(), None),
            (v2_header(1, 0x11, V4_ENDS), v4),
            (v2_header(1, 0x21, &v6_ends()), v6),
            (v2_header(1, 0x11, &notes), v4),
            (v2_header(1, 0x11, &longest), v4),
            (v2_header(1, 0x00, &[]), None),
            (v2_header(1, 0x31, &[b'x'; 216]), None),
            (v2_header(0, 0x00, &[]), None),
            // A proxy's own connection: its addresses are to be ignored.
            (v2_header(0, 0x11, V4_ENDS), None),
        ]
    }

    fn proxied(ends: Option<(&str, &str)>) -> Option<Proxied> {
        let (client, server) = ends?;
        Some(Proxied {
            client: addr(client),
            server: addr(server),
        })
    }

    #[tokio::test]
    async fn both_versions_and_not_a_byte_of_what_follows() {
        for (header, expected) in sound() {
            // All that could be taken for more of it, and nothing at all.
            for after in ["GET / HTTP/1.1\r\n\r\n", "\r\n", "\n", " 1 2", ""] {
                let mut bytes = header.clone();
                bytes.extend(after.as_bytes());
                let (result, left) = read_whole(&bytes).await;
                let shown = header.escape_ascii();
                assert_eq!(result.unwrap(), proxied(expected), "{shown}");
                assert_eq!(left, after.as_bytes(), "{shown}");
            }
        }
    }

    #[tokio::test]
    async fn however_it_is_cut_into_packets() {
        for (header, expected) in sound().into_iter().filter(|(header, _)| header.len() < 300) {
            let (mut near, mut far) = tokio::io::duplex(1);
            let writer = tokio::spawn(async move {
                far.write_all(&header).await.unwrap();
                far.write_all(b"rest").await.unwrap();
            });
            assert_eq!(accepted(&mut near).await.unwrap(), proxied(expected));
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"rest");
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn hazard_54_a_forged_header_of_an_untrusted_peer_is_refused_unread() {
        let mut stream = &b"PROXY TCP4 127.0.0.1 10.0.0.1 4711 443\r\n"[..];
        let all = stream;
        let peer = addr("192.0.2.66:49152");
        let error = accept(&mut stream, peer, &trusted(), LIMIT)
            .await
            .unwrap_err();
        assert!(matches!(error, ProxyProtocolError::Untrusted(by) if by == peer));
        assert_eq!(stream, all);
        let nobody = TrustedProxies::none();
        let error = accept(&mut stream, addr("127.0.0.1:1"), &nobody, LIMIT).await;
        assert!(matches!(error, Err(ProxyProtocolError::Untrusted(_))));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXY\tTCP4 192.0.2.1 10.0.0.1 4711 443\r\n",
            b"proxy TCP4 192.0.2.1 10.0.0.1 4711 443\r\n",
            b"\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c",
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let (result, _) = read_whole(bytes).await;
            let shown = bytes.escape_ascii();
            assert!(
                matches!(result, Err(ProxyProtocolError::Missing)),
                "{shown}: {result:?}"
            );
        }
    }

    #[tokio::test]
    async fn malformed_headers_are_refused_with_their_cause() {
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n                    ",
            "PROXY TCP4 192.0.2.256 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 04711 443\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 \r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 4711 443\r\n",
            "PROXY UNKNOWNS\r\n",
        ] {
            let mut bytes = line.as_bytes().to_vec();
            bytes.resize(200, b'x');
            let (result, _) = read_whole(&bytes).await;
            let error = result.expect_err(line);
            assert!(
                matches!(error, ProxyProtocolError::Version1(_)),
                "{line}: {error:?}"
            );
            assert!(error.source().is_some());
        }
        for bytes in [
            v2_header(2, 0x11, V4_ENDS),
            v2_header(1, 0x41, V4_ENDS),
            v2_header(1, 0x13, V4_ENDS),
            v2_header(1, 0x11, &V4_ENDS[..11]),
            v2_header(1, 0x21, V4_ENDS),
        ] {
            let (result, _) = read_whole(&bytes).await;
            let shown = bytes.escape_ascii();
            assert!(
                matches!(result, Err(ProxyProtocolError::Version2(_))),
                "{shown}: {result:?}"
            );
        }
        let (result, _) = read_whole(&v2_header(1, 0x12, V4_ENDS)).await;
        assert!(matches!(result, Err(ProxyProtocolError::Datagram)));
    }

    #[tokio::test]
    async fn nothing_is_read_without_bound() {
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 10_000]].concat();
        let (result, left) = read_whole(&endless).await;
        assert!(
            matches!(result, Err(ProxyProtocolError::Version1(_))),
            "{result:?}"
        );
        assert_eq!(left.len(), endless.len() - LONGEST_LINE);

        let long = v2_header(1, 0x11, &[0; MAX_LENGTH - FIXED_PART + 1]);
        let (result, left) = read_whole(&long).await;
        assert!(
            matches!(result, Err(ProxyProtocolError::TooLong(length)) if length == MAX_LENGTH + 1)
        );
        assert_eq!(left.len(), long.len() - FIXED_PART);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_off_says_so() {
        for (header, _) in sound().into_iter().filter(|(header, _)| header.len() < 300) {
            for cut in 0..header.len() {
                let (result, _) = read_whole(&header[..cut]).await;
                assert!(
                    matches!(result, Err(ProxyProtocolError::Io(_))),
                    "{cut}: {result:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hazard_50_who_says_nothing_or_trickles_is_left() {
        for beginning in [&b""[..], b"PROXY TC", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
            let (mut near, mut far) = tokio::io::duplex(64);
            far.write_all(beginning).await.unwrap();
            let result = accepted(&mut near).await;
            assert!(
                matches!(result, Err(ProxyProtocolError::Timeout(LIMIT))),
                "{result:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), v in 0_u8..3) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().build().unwrap();
            let mut stream = match v {
                0 => Vec::new(),
                1 => VERSION_1.to_vec(),
                _ => VERSION_2.to_vec(),
            };
            stream.extend(bytes);
            let (result, left) = runtime.block_on(read_whole(&stream));
            prop_assert!(left.len() <= stream.len());
            prop_assert!(result.is_err() || stream.starts_with(VERSION_1) || stream.starts_with(VERSION_2));
        }
    }
}
