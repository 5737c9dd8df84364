//! Addresses as numbers, and ranges of them as prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which kind of address. An IPv4-mapped IPv6 address is an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    const fn greatest(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }
}

/// The family of an address and its number.
pub(super) fn number_of(address: IpAddr) -> (Family, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (Family::V4, u128::from(u32::from(address))),
        IpAddr::V6(address) => (Family::V6, u128::from(address)),
    }
}

/// The address with this number, of which a family has no more than its width allows.
fn address_of(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let number = u32::try_from(number & Family::V4.greatest());
            IpAddr::V4(Ipv4Addr::from(number.unwrap_or(u32::MAX)))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// An address as the trie reads it: from its first bit, which is the number's topmost.
pub(super) fn key_of(address: IpAddr) -> (Family, u128) {
    let (family, number) = number_of(address);
    (family, number << (128 - family.width()))
}

/// All addresses of a family whose first `length` bits are those of `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    pub(super) family: Family,
    /// From the topmost bit on; zero behind `length`.
    pub(super) key: u128,
    pub(super) length: u8,
}

/// Addresses of one family, from the first to the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    pub(super) family: Family,
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Span {
    /// The addresses that share the first `length` bits with `address`; `None` where it has no so
    /// many.
    pub(super) fn of_network(address: IpAddr, length: u8) -> Option<Self> {
        // The length counts the bits as they were written: of a mapped address, all 128.
        let written = if address.is_ipv6() { 128 } else { 32 };
        if length > written {
            return None;
        }
        let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
        if mapped && length >= 96 {
            return Self::of_network(address.to_canonical(), length - 96);
        }
        // A network larger than that of the mapped addresses is one of IPv6.
        let (family, number) = match address {
            IpAddr::V4(_) => number_of(address),
            IpAddr::V6(address) => (Family::V6, u128::from(address)),
        };
        let hosts = match written - length {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        };
        Some(Self {
            family,
            first: number & !hosts,
            last: number | hosts,
        })
    }

    pub(super) fn everything(family: Family) -> Self {
        Self {
            family,
            first: 0,
            last: family.greatest(),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (family, number) = number_of(address);
        family == self.family && (self.first..=self.last).contains(&number)
    }

    pub(super) fn first_address(&self) -> IpAddr {
        address_of(self.family, self.first)
    }

    pub(super) fn last_address(&self) -> IpAddr {
        address_of(self.family, self.last)
    }

    /// The fewest prefixes that hold these addresses and no others, in their order: at most twice
    /// as many as an address has bits.
    pub(super) fn prefixes(self) -> impl Iterator<Item = Prefix> {
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let first = next?;
            // The largest network that begins here and does not reach beyond the end.
            let aligned = first.trailing_zeros().min(u32::from(self.family.width()));
            let left = self.last - first;
            let fitting = match left.checked_add(1) {
                Some(count) => count.ilog2(),
                None => 128,
            };
            let bits = aligned.min(fitting);
            let hosts = match bits {
                128 => u128::MAX,
                bits => (1 << bits) - 1,
            };
            next = match first + hosts {
                end if end >= self.last => None,
                end => Some(end + 1),
            };
            let bits = u8::try_from(bits).unwrap_or(128);
            Some(Prefix {
                family: self.family,
                key: first << (128 - self.family.width()),
                length: self.family.width() - bits,
            })
        })
    }
}
