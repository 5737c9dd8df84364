//! What may stand in an entry's `ip`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::str::FromStr;

use super::prefix::{Family, Prefix, Span, number_of};

/// A set of addresses, as it is written in an entry of the blocklist or the allow list.
///
/// | written | means |
/// |---|---|
/// | `10.0.0.5`, `2001:db8::5` | one address |
/// | `10.0.0.0/24`, `2001:db8::/32` | a network of any size, all of it; bits behind the prefix don't matter |
/// | `10.0.0.5-10.0.3.90`, `2001:db8::5-2001:db8::90` | a range, both ends in it |
/// | `10.0.0.5-90` | the same, short for `10.0.0.5-10.0.0.90` |
/// | `*` | every address |
///
/// Several are separated by commas; spaces around them don't matter. An IPv4-mapped IPv6 address
/// (`::ffff:10.0.0.5`) is the IPv4 address, here and in what is asked for; a network that is larger
/// than `::ffff:0:0/96` is one of IPv6 addresses alone.
///
/// # Example
/// ```
/// use onlyonce_pipeline::blocklist::AddressSet;
///
/// let set: AddressSet = "10.0.0.5-90, 2001:db8::/32".parse()?;
/// assert!(set.contains("10.0.0.7".parse()?));
/// assert!(set.contains("::ffff:10.0.0.7".parse()?));
/// assert!(!set.contains("10.0.0.91".parse()?));
///
/// let error = "10.0.0.5, 10.0.0.300".parse::<AddressSet>().unwrap_err();
/// assert_eq!(error.item(), 2);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    spans: Vec<Span>,
}

/// An `ip` is at most this long, in bytes.
pub(super) const LONGEST: usize = 8 * 1024;
/// An `ip` stands for at most this many prefixes: ranges may need many each.
const MOST_PREFIXES: usize = 4096;
/// Of what is wrong, so much is shown.
const SHOWN: usize = 48;

impl AddressSet {
    /// Whether this address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.spans.iter().any(|span| span.contains(address))
    }

    /// The ranges, first and last address of each, in the order in which they were written.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let ends = |span: &Span| (span.first_address(), span.last_address());
        self.spans.iter().map(ends)
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.spans.iter().flat_map(|span| span.prefixes())
    }
}

impl FromStr for AddressSet {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > LONGEST {
            return Err(SyntaxError::new(1, text, 0..text.len(), Reason::TooLong));
        }
        let (mut spans, mut prefixes) = (Vec::new(), 0);
        let mut start = 0;
        for (index, part) in text.split(',').enumerate() {
            let item = part.trim();
            let begin = start + (part.len() - part.trim_start().len());
            let place = begin..begin + item.len();
            start += part.len() + 1;
            let fault = |reason| SyntaxError::new(index + 1, text, place.clone(), reason);
            let parsed = match item {
                "*" => vec![Span::everything(Family::V4), Span::everything(Family::V6)],
                item => vec![parse_item(item).map_err(fault)?],
            };
            prefixes += parsed
                .iter()
                .map(|span| span.prefixes().count())
                .sum::<usize>();
            if prefixes > MOST_PREFIXES {
                return Err(fault(Reason::TooMany));
            }
            spans.extend(parsed);
        }
        Ok(Self { spans })
    }
}

/// One item that is no `*`.
fn parse_item(item: &str) -> Result<Span, Reason> {
    if item.is_empty() {
        return Err(Reason::Empty);
    }
    if let Some((address, length)) = item.split_once('/') {
        let address = parse_address(address.trim())?;
        let length = length.trim();
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = length.parse().ok().filter(|_| digits);
        return parsed
            .and_then(|length| Span::of_network(address, length))
            .ok_or(Reason::Length(address.is_ipv4()));
    }
    if let Some((first, last)) = item.split_once('-') {
        let first = parse_address(first.trim())?;
        let last = parse_end(&first, last.trim())?;
        let (one, two) = (number_of(first), number_of(last));
        if one.0 != two.0 {
            return Err(Reason::Mixed);
        }
        if one.1 > two.1 {
            return Err(Reason::Backwards);
        }
        return Ok(Span {
            family: one.0,
            first: one.1,
            last: two.1,
        });
    }
    let (family, number) = number_of(parse_address(item)?);
    Ok(Span {
        family,
        first: number,
        last: number,
    })
}

fn parse_address(text: &str) -> Result<IpAddr, Reason> {
    if text.contains('%') {
        return Err(Reason::Zone);
    }
    text.parse().map_err(|_| Reason::Address)
}

/// The end of a range: an address, or the last part of an IPv4 address.
fn parse_end(first: &IpAddr, text: &str) -> Result<IpAddr, Reason> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_address(text);
    }
    let IpAddr::V4(first) = first.to_canonical() else {
        return Err(Reason::ShortEnd);
    };
    let last: u8 = text.parse().map_err(|_| Reason::ShortEnd)?;
    let [a, b, c, _] = first.octets();
    Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, last)))
}

/// Writes the set so that it reads back as the same set.
impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, span) in self.spans.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let mut prefixes = span.prefixes();
            match (prefixes.next(), prefixes.next()) {
                (Some(prefix), None) if prefix.length == span.family.width() => {
                    write!(f, "{}", span.first_address())?;
                }
                (Some(prefix), None) => {
                    write!(f, "{}/{}", span.first_address(), prefix.length)?;
                }
                _ => write!(f, "{}-{}", span.first_address(), span.last_address())?,
            }
        }
        Ok(())
    }
}

/// Why an `ip` can't be read: which item, where it stands, what is wrong with it, and what would
/// be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    item: usize,
    shown: String,
    place: Range<usize>,
    character: usize,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    TooLong,
    TooMany,
    Empty,
    Address,
    Zone,
    /// Of an IPv4 address, or of an IPv6 address.
    Length(bool),
    Mixed,
    Backwards,
    ShortEnd,
}

impl SyntaxError {
    fn new(item: usize, text: &str, place: Range<usize>, reason: Reason) -> Self {
        let wrong = &text[place.clone()];
        let mut shown: String = wrong.chars().take(SHOWN).collect();
        if shown.len() < wrong.len() {
            shown.push('…');
        }
        Self {
            item,
            character: text[..place.start].chars().count() + 1,
            shown: shown.escape_debug().to_string(),
            place,
            reason,
        }
    }

    /// Which of the items between the commas, counted from 1.
    #[must_use]
    pub const fn item(&self) -> usize {
        self.item
    }

    /// Where the item stands in the text, in bytes.
    #[must_use]
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason == Reason::TooLong {
            return write!(
                f,
                "it has {} bytes, and {LONGEST} at most are read: write several entries",
                self.place.len()
            );
        }
        write!(f, "item {} (from character {})", self.item, self.character)?;
        if self.reason != Reason::Empty {
            write!(f, ", `{}`,", self.shown)?;
        }
        f.write_str(match self.reason {
            Reason::TooLong => "",
            Reason::TooMany => {
                " is one too many: together they need more than 4096 prefixes; write several \
                 entries, or networks in place of ranges"
            }
            Reason::Empty => " is empty: write an address there, or leave the comma out",
            Reason::Address => {
                " is no IP address: write an address (10.0.0.5), a network (10.0.0.0/24), a range \
                 (10.0.0.5-10.0.0.90 or 10.0.0.5-90) or `*`, separated by commas"
            }
            Reason::Zone => " has a zone: write the address without `%` and what follows it",
            Reason::Length(true) => " has no such prefix length: write one from 0 to 32 after `/`",
            Reason::Length(false) => {
                " has no such prefix length: write one from 0 to 128 after `/`"
            }
            Reason::Mixed => {
                " begins with one kind of address and ends with the other: write both ends as IPv4 \
                 or both as IPv6"
            }
            Reason::Backwards => " ends before it begins: write the lower address first",
            Reason::ShortEnd => {
                " has no such end: write a whole address after `-`, or for IPv4 the last part, \
                 from 0 to 255"
            }
        })
    }
}

impl std::error::Error for SyntaxError {}

#[cfg(test)]
mod tests;
