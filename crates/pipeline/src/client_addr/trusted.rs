//! The proxies whose word is taken.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// The networks of the proxies whose word on an address is taken. Empty: nobody's.
///
/// Name the addresses that proxies connect from, and nothing wider: everybody who can connect
/// from one of them can pose as any client.
///
/// # Example
/// ```
/// use onlyonce_pipeline::client_addr::TrustedProxies;
///
/// let trusted = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::7"])?;
/// assert!(trusted.contains("10.1.2.3".parse()?));
/// assert!(trusted.contains("::ffff:10.1.2.3".parse()?));
/// assert!(!trusted.contains("192.0.2.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Nobody is trusted: the client is who connected.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Parses addresses and networks, v4 or v6.
    ///
    /// # Errors
    /// When one of them is neither, or has bits beyond its prefix.
    pub fn parse<'a>(
        networks: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TrustedProxyError> {
        networks.into_iter().map(network).collect()
    }

    /// Whether `address` is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether a whole family of addresses is trusted: then everybody can pose as anybody.
    #[must_use]
    pub fn trusts_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().map(canonical).collect())
    }
}

/// Why a text names no proxies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustedProxyError {
    /// Neither an address nor a network.
    #[error("`{0}` is neither an address nor a network, such as 10.0.0.7 or 10.0.0.0/8")]
    Malformed(String),
    /// A network with bits set beyond its prefix: it says two things at once.
    #[error("`{text}` has bits beyond its prefix; write {network}, or one address alone")]
    HostBits {
        /// What was written.
        text: String,
        /// The network that it lies in.
        network: IpNet,
    },
}

/// Parses one address or network.
pub(super) fn network(text: &str) -> Result<IpNet, TrustedProxyError> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Ok(IpNet::from(address));
    }
    let network =
        IpNet::from_str(text).map_err(|_| TrustedProxyError::Malformed(text.to_owned()))?;
    if network.trunc() != network {
        return Err(TrustedProxyError::HostBits {
            text: text.to_owned(),
            network: network.trunc(),
        });
    }
    Ok(network)
}

/// How many bits of an IPv4-mapped address stand before the IPv4 address.
const MAPPED_BITS: u8 = 96;

/// A network of IPv4-mapped addresses is the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped: Option<Ipv4Addr> = v6.network().to_ipv4_mapped();
    mapped
        .zip(v6.prefix_len().checked_sub(MAPPED_BITS))
        .and_then(|(address, bits)| Ipv4Net::new(address, bits).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_networks_of_both_families() {
        let trusted =
            TrustedProxies::parse(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "fe80::1"]).unwrap();
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8:ffff::1", "fe80::1"] {
            assert!(trusted.contains(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "fe80::2"] {
            assert!(!trusted.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn ipv4_mapped_is_ipv4_on_either_side() {
        let plain = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
        assert!(plain.contains(ip("::ffff:10.0.0.1")));
        let mapped = TrustedProxies::parse(["::ffff:10.0.0.0/104", "::ffff:192.0.2.7"]).unwrap();
        assert!(mapped.contains(ip("10.0.0.1")));
        assert!(mapped.contains(ip("::ffff:10.0.0.1")));
        assert!(mapped.contains(ip("192.0.2.7")));
        assert!(!mapped.contains(ip("11.0.0.1")));
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        assert!(TrustedProxies::default().is_empty());
        assert!(!TrustedProxies::none().contains(ip("127.0.0.1")));
    }

    #[test]
    fn trusting_a_whole_family_is_noticed() {
        let trusts = |text| TrustedProxies::parse([text]).unwrap().trusts_everybody();
        assert!(trusts("0.0.0.0/0"));
        assert!(trusts("::/0"));
        assert!(trusts("::ffff:0.0.0.0/96"));
        assert!(!trusts("10.0.0.0/8"));
    }

    #[test]
    fn bad_input_says_what_to_write() {
        let error = |text| TrustedProxies::parse([text]).unwrap_err().to_string();
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "proxy.example",
            "10.0.0.0-10.0.0.9",
        ] {
            let told = error(text);
            assert!(told.contains("neither an address nor a network"), "{told}");
            assert!(told.contains(&format!("`{text}`")), "{told}");
        }
        assert_eq!(
            error("10.0.0.1/8"),
            "`10.0.0.1/8` has bits beyond its prefix; write 10.0.0.0/8, or one address alone"
        );
    }
}
