//! Whose address is the client's.

use std::net::IpAddr;

use http::HeaderMap;

use super::{TrustedProxies, hops};

/// The header in which trusted proxies say whom they speak for. One alone is believed: what a
/// proxy does not write itself, it passes on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddrHeader {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `X-Real-IP`: one address, which the proxy must set and not pass on.
    XRealIp,
}

/// Finds the client's address. What [`ClientAddrLayer`](super::ClientAddrLayer) works by.
///
/// # Example
/// ```
/// use http::HeaderMap;
/// use onlyonce_pipeline::client_addr::{AddrHeader, AddrRule, TrustedProxies};
///
/// let rule = AddrRule::new(TrustedProxies::parse(["10.0.0.0/8"])?, AddrHeader::XForwardedFor);
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "198.51.100.66, 192.0.2.1, 10.0.0.9".parse()?);
///
/// // Two proxies of ours say so; what stands further left may be the client's invention.
/// assert_eq!(rule.client_addr("10.0.0.7".parse()?, &headers).to_string(), "192.0.2.1");
/// // Who is not our proxy is the client, whatever it says.
/// assert_eq!(rule.client_addr("203.0.113.5".parse()?, &headers).to_string(), "203.0.113.5");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddrRule {
    trusted: TrustedProxies,
    header: AddrHeader,
}

impl AddrRule {
    /// The rule that believes `header` of proxies in `trusted`.
    #[must_use]
    pub const fn new(trusted: TrustedProxies, header: AddrHeader) -> Self {
        Self { trusted, header }
    }

    /// The address of the client behind `peer`, who made the connection: `peer` itself, unless
    /// it is a trusted proxy; then the nearest hop that is not one.
    ///
    /// An entry that is no address (`unknown`, an obfuscated name, anything malformed) ends the
    /// walk at the hop before it. IPv4-mapped IPv6 addresses come as IPv4.
    #[must_use]
    pub fn client_addr(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match self.header {
            AddrHeader::Forwarded => self.walk(peer, hops::forwarded(headers)),
            AddrHeader::XForwardedFor => self.walk(peer, hops::x_forwarded_for(headers)),
            AddrHeader::XRealIp => self.walk(peer, hops::x_real_ip(headers)),
        }
    }

    /// The proxies that it trusts.
    #[must_use]
    pub const fn trusted(&self) -> &TrustedProxies {
        &self.trusted
    }

    fn walk(&self, peer: IpAddr, mut hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = peer.to_canonical();
        while self.trusted.contains(client)
            && let Some(Some(hop)) = hops.next()
        {
            client = hop;
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const HEADERS: [(AddrHeader, &str); 3] = [
        (AddrHeader::Forwarded, "forwarded"),
        (AddrHeader::XForwardedFor, "x-forwarded-for"),
        (AddrHeader::XRealIp, "x-real-ip"),
    ];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rule(header: AddrHeader) -> AddrRule {
        let trusted = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::/32"]).unwrap();
        AddrRule::new(trusted, header)
    }

    fn client(header: AddrHeader, peer: &str, fields: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        rule(header).client_addr(ip(peer), &headers).to_string()
    }

    fn by_x_forwarded_for(peer: &str, value: &str) -> String {
        client(
            AddrHeader::XForwardedFor,
            peer,
            &[("x-forwarded-for", value)],
        )
    }

    #[test]
    fn hazard_54_headers_of_an_untrusted_peer_say_nothing() {
        let forged = [
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
        ];
        for (header, _) in HEADERS {
            assert_eq!(
                client(header, "192.0.2.1", &forged),
                "192.0.2.1",
                "{header:?}"
            );
        }
    }

    #[test]
    fn hazard_54_one_header_alone_is_believed() {
        let all = [
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("x-real-ip", "192.0.2.3"),
        ];
        for ((header, _), expected) in
            HEADERS
                .into_iter()
                .zip(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
        {
            assert_eq!(client(header, "10.0.0.1", &all), expected);
        }
        // The believed one is missing: no other stands in for it.
        assert_eq!(
            client(AddrHeader::Forwarded, "10.0.0.1", &all[1..]),
            "10.0.0.1"
        );
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_of_ours() {
        assert_eq!(by_x_forwarded_for("10.0.0.1", "192.0.2.1"), "192.0.2.1");
        assert_eq!(
            by_x_forwarded_for(
                "10.0.0.1",
                "198.51.100.66, 192.0.2.1, 10.0.0.2, 2001:db8::3"
            ),
            "192.0.2.1"
        );
        // Ours all the way: it began at the outermost of them.
        assert_eq!(
            by_x_forwarded_for("10.0.0.1", "10.0.0.3, 10.0.0.2"),
            "10.0.0.3"
        );
        assert_eq!(by_x_forwarded_for("10.0.0.1", ""), "10.0.0.1");
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_walk_before_it() {
        for broken in ["unknown", "_hidden", "999.1.1.1", "a b", "<script>"] {
            assert_eq!(
                by_x_forwarded_for("10.0.0.1", &format!("192.0.2.1, {broken}, 10.0.0.2")),
                "10.0.0.2",
                "{broken}"
            );
            assert_eq!(
                by_x_forwarded_for("10.0.0.1", &format!("192.0.2.1, {broken}")),
                "10.0.0.1",
                "{broken}"
            );
        }
    }

    #[test]
    fn ipv4_mapped_is_ipv4() {
        assert_eq!(by_x_forwarded_for("::ffff:192.0.2.9", ""), "192.0.2.9");
        assert_eq!(
            by_x_forwarded_for("::ffff:10.0.0.1", "192.0.2.1"),
            "192.0.2.1"
        );
        assert_eq!(
            by_x_forwarded_for("10.0.0.1", "192.0.2.1, ::ffff:10.0.0.2"),
            "192.0.2.1"
        );
    }

    #[test]
    fn two_lines_of_x_real_ip_are_not_believed() {
        let lines = [("x-real-ip", "192.0.2.1"), ("x-real-ip", "192.0.2.2")];
        assert_eq!(client(AddrHeader::XRealIp, "10.0.0.1", &lines), "10.0.0.1");
    }

    fn any_value() -> impl Strategy<Value = HeaderValue> {
        let hostile = "[\\x09\\x20-\\x7e]{0,40}";
        let likely = r#"(for=|For=|"|\\|,|;|=|\[|\]|:|unknown|_x|10\.0\.0\.1|192\.0\.2\.7|2001:db8::1| ){0,12}"#;
        prop_oneof![
            hostile.prop_map(|text| HeaderValue::from_str(&text).unwrap()),
            likely.prop_map(|text| HeaderValue::from_str(&text).unwrap()),
            proptest::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..], 0..30)
                .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn no_input_panics(
            values in proptest::collection::vec(any_value(), 0..4),
            peer in any::<IpAddr>(),
        ) {
            for (header, name) in HEADERS {
                let mut headers = HeaderMap::new();
                for value in &values {
                    headers.append(name, value.clone());
                }
                let client = rule(header).client_addr(peer, &headers);
                prop_assert_eq!(client, client.to_canonical());
            }
        }

        /// Whatever a client sent, the address is the one that our own proxy saw.
        #[test]
        fn hazard_54_nothing_left_of_the_first_untrusted_hop_counts(
            forged in proptest::collection::vec(any_value(), 0..3),
            real in any::<IpAddr>(),
            ours in proptest::collection::vec(any::<[u8; 3]>(), 0..3),
            one_line in any::<bool>(),
        ) {
            let real = real.to_canonical();
            let trusted = rule(AddrHeader::Forwarded).trusted.clone();
            prop_assume!(!trusted.contains(real));
            let ours = ours.into_iter().map(|[a, b, c]| IpAddr::from([10, a, b, c]));
            let seen: Vec<IpAddr> = std::iter::once(real).chain(ours).collect();
            for (header, name) in &HEADERS[..2] {
                let added: Vec<String> = seen.iter().map(|hop| match (header, hop) {
                    (AddrHeader::Forwarded, IpAddr::V6(hop)) => {
                        format!("for=\"[{hop}]:443\";proto=https")
                    }
                    (AddrHeader::Forwarded, hop) => format!("for={hop};by=\"a, b\""),
                    (_, hop) => hop.to_string(),
                }).collect();
                let added = HeaderValue::from_str(&added.join(", ")).unwrap();
                let mut headers = HeaderMap::new();
                for value in &forged {
                    headers.append(*name, value.clone());
                }
                if one_line {
                    // A proxy that joins all lines and appends its own.
                    let mut line = Vec::new();
                    for value in headers.get_all(*name) {
                        line.extend_from_slice(value.as_bytes());
                        line.extend_from_slice(b", ");
                    }
                    line.extend_from_slice(added.as_bytes());
                    headers.insert(*name, HeaderValue::from_bytes(&line).unwrap());
                } else {
                    headers.append(*name, added);
                }
                let client = rule(*header).client_addr(ip("10.9.9.9"), &headers);
                prop_assert_eq!(client, real, "{:?}", headers);
            }
        }
    }
}
