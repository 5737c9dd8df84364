use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use proptest::prelude::*;

use super::*;

fn set(text: &str) -> AddressSet {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn refusal(text: &str) -> String {
    text.parse::<AddressSet>().unwrap_err().to_string()
}

#[test]
fn every_form_of_the_syntax_is_read() {
    let cases = [
        ("10.0.0.5", "10.0.0.5", "10.0.0.6"),
        ("2001:db8::5", "2001:db8::5", "2001:db8::6"),
        // All of it, the first and the last address, too.
        ("10.0.0.0/24", "10.0.0.0", "10.0.1.0"),
        ("10.0.0.0/24", "10.0.0.255", "9.255.255.255"),
        ("10.0.0.77/24", "10.0.0.1", "10.0.1.77"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
        ("10.0.0.5/32", "10.0.0.5", "10.0.0.4"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("10.0.0.5-10.0.0.90", "10.0.0.90", "10.0.0.91"),
        ("10.0.0.5-90", "10.0.0.5", "10.0.0.4"),
        ("10.0.0.250-10.0.2.3", "10.0.1.200", "10.0.2.4"),
        (
            "2001:db8::1-2001:db8::ffff",
            "2001:db8::fffe",
            "2001:db8::1:0",
        ),
        (" 10.0.0.1 ,\t10.0.0.3 ", "10.0.0.3", "10.0.0.2"),
        ("10.0.0.5 - 90", "10.0.0.60", "10.0.0.91"),
    ];
    for (text, inside, outside) in cases {
        assert!(set(text).contains(ip(inside)), "{inside} in {text}");
        assert!(!set(text).contains(ip(outside)), "{outside} not in {text}");
    }
    for any in ["1.2.3.4", "::", "2001:db8::1"] {
        assert!(set("*").contains(ip(any)));
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    for text in ["10.0.0.5", "::ffff:10.0.0.5", "::ffff:10.0.0.0/124"] {
        assert!(set(text).contains(ip("10.0.0.5")), "{text}");
        assert!(set(text).contains(ip("::ffff:10.0.0.5")), "{text}");
    }
    assert_eq!(set("::ffff:10.0.0.0/120"), set("10.0.0.0/24"));
    assert_eq!(set("::ffff:10.0.0.5-90"), set("10.0.0.5-90"));
    assert_eq!(set("::ffff:10.0.0.5-10.0.0.90"), set("10.0.0.5-90"));
    assert_eq!(set("::ffff:0:0/96"), set("0.0.0.0/0"));
    assert!(!set("::/0").contains(ip("10.0.0.5")));
    assert!(!set("::ffff:10.0.0.5/80").contains(ip("10.0.0.5")));
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_the_remedy() {
    insta::assert_snapshot!(
        [
            "",
            "10.0.0.1,",
            "10.0.0.300",
            "10.0.0.1,  10.0.0.01",
            "localhost",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/255.0.0.0",
            "::/129",
            "10.0.0.9-5",
            "10.0.0.5-10.0.0.1",
            "10.0.0.1-::1",
            "10.0.0.5-256",
            "10.0.0.5-",
            "-10.0.0.5",
            "::1-5",
            "1.1.1.1-2-3",
            "fe80::1%eth0",
            "10.0.0.1，10.0.0.2",
            "**",
            "*/8",
            "10.0.0.1\u{1b}[2J",
            "10.0.0.*",
            "1::1-f::e,",
        ]
        .map(|text| format!("{:?}: {}", text, refusal(text)))
        .join("\n")
    );
}

#[test]
fn an_item_is_pointed_at() {
    let error = "10.0.0.1, 十.0".parse::<AddressSet>().unwrap_err();
    assert_eq!(error.item(), 2);
    assert_eq!(&"10.0.0.1, 十.0"[error.place()], "十.0");
}

#[test]
fn sizes_are_bounded() {
    let long = "10.0.0.1,".repeat(LONGEST / 9) + "10.0.0.1";
    assert!(long.len() > LONGEST);
    assert!(refusal(&long).contains("write several entries"));
    let many = vec!["::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"; 20].join(",");
    assert!(refusal(&many).contains("more than 4096 prefixes"));
    let noise = format!("{}x", "1".repeat(100));
    assert!(refusal(&noise).len() < 300);
}

/// What the standard library and `ipnet` make of the same item.
#[derive(Clone, Debug)]
enum Model {
    Net(IpNet),
    Range(IpAddr, IpAddr),
}

impl Model {
    fn text(&self) -> String {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
            Self::Net(net) => net.to_string(),
            Self::Range(first, last) => format!("{first}-{last}"),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Net(net) => net.contains(&address),
            Self::Range(first, last) => {
                first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
            }
        }
    }

    fn subnets(&self) -> Vec<IpNet> {
        match self {
            Self::Net(net) => vec![net.trunc()],
            Self::Range(IpAddr::V4(first), IpAddr::V4(last)) => {
                IpSubnets::from(Ipv4Subnets::new(*first, *last, 0)).collect()
            }
            Self::Range(IpAddr::V6(first), IpAddr::V6(last)) => {
                IpSubnets::from(Ipv6Subnets::new(*first, *last, 0)).collect()
            }
            Self::Range(..) => unreachable!("both ends are of one family"),
        }
    }

    /// Addresses at which anything could go wrong.
    fn edges(&self) -> Vec<IpAddr> {
        let (first, last) = match self {
            Self::Net(net) => (net.network(), net.broadcast()),
            Self::Range(first, last) => (*first, *last),
        };
        let near = |address: IpAddr, by: i8| match address {
            IpAddr::V4(address) => {
                let near = u32::from(address).wrapping_add_signed(by.into());
                IpAddr::V4(Ipv4Addr::from(near))
            }
            IpAddr::V6(address) => {
                let near = u128::from(address).wrapping_add_signed(by.into());
                IpAddr::V6(Ipv6Addr::from(near))
            }
        };
        vec![
            near(first, -1),
            first,
            near(first, 1),
            near(last, -1),
            last,
            near(last, 1),
        ]
    }
}

fn v4() -> impl Strategy<Value = IpAddr> {
    // Few numbers, so that items meet each other.
    prop_oneof![
        any::<u32>(),
        0x0a00_0000..0x0a00_0400_u32,
        Just(0),
        Just(u32::MAX)
    ]
    .prop_map(|number| IpAddr::V4(Ipv4Addr::from(number)))
}

fn v6() -> impl Strategy<Value = IpAddr> {
    let near = (0..0x400_u128).prop_map(|low| (0x2001_0db8 << 96) | low);
    prop_oneof![any::<u128>(), near, Just(0), Just(u128::MAX)]
        .prop_map(|number| IpAddr::V6(Ipv6Addr::from(number)))
        .prop_filter("the standard library has no mapped ones apart", |address| {
            address.to_canonical().is_ipv6()
        })
}

fn range(address: impl Strategy<Value = IpAddr> + Clone) -> impl Strategy<Value = Model> {
    (address.clone(), address)
        .prop_map(|(one, two)| Model::Range(one.min(two), one.max(two)))
        .prop_filter(
            "a range of mapped ones alone is one of IPv4",
            |model| match model {
                Model::Range(first, last) => {
                    let mapped = 0xffff_0000_0000_u128..=0xffff_ffff_ffff;
                    match (first, last) {
                        (IpAddr::V6(a), IpAddr::V6(b)) => {
                            u128::from(*a) > *mapped.end() || u128::from(*b) < *mapped.start()
                        }
                        _ => true,
                    }
                }
                Model::Net(_) => true,
            },
        )
}

fn model() -> impl Strategy<Value = Model> {
    let v4_net = (v4(), 0..=32_u8).prop_map(|(address, length)| match address {
        IpAddr::V4(address) => Model::Net(Ipv4Net::new(address, length).unwrap().into()),
        IpAddr::V6(_) => unreachable!("it makes IPv4 addresses"),
    });
    let v6_net = (v6(), 0..=128_u8).prop_map(|(address, length)| match address {
        IpAddr::V6(address) => Model::Net(Ipv6Net::new(address, length).unwrap().into()),
        IpAddr::V4(_) => unreachable!("it makes IPv6 addresses"),
    });
    let v4 = (0..1_u8).prop_flat_map(|_| v4()).boxed();
    let v6 = (0..1_u8).prop_flat_map(|_| v6()).boxed();
    prop_oneof![v4_net, v6_net, range(v4), range(v6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn membership_is_that_of_the_model(
        models in prop::collection::vec(model(), 1..6),
        strangers in prop::collection::vec(prop_oneof![v4(), v6()], 8),
    ) {
        let text = models.iter().map(Model::text).collect::<Vec<_>>().join(", ");
        let set = set(&text);
        let edges = models.iter().flat_map(Model::edges);
        for address in edges.chain(strangers) {
            if address.to_canonical() != address {
                continue;
            }
            let expected = models.iter().any(|model| model.contains(address));
            prop_assert_eq!(set.contains(address), expected, "{} in {}", address, &text);
        }
    }

    /// Neither more nor fewer prefixes than `ipnet` makes of a range, and the same.
    #[test]
    fn ranges_become_the_prefixes_of_the_model(model in model()) {
        let ours: Vec<IpNet> = set(&model.text())
            .prefixes()
            .map(|prefix| {
                let number = prefix.key >> (128 - prefix.family.width());
                let address = match prefix.family {
                    Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap())),
                    Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
                };
                IpNet::new(address, prefix.length).unwrap()
            })
            .collect();
        prop_assert_eq!(ours, model.subnets());
    }

    #[test]
    fn what_is_written_out_reads_back(models in prop::collection::vec(model(), 1..6)) {
        let text = models.iter().map(Model::text).collect::<Vec<_>>().join(",");
        let set = set(&text);
        prop_assert_eq!(&set.to_string().parse::<AddressSet>().unwrap(), &set);
    }

    /// Anything else is refused, with a place within the text.
    #[test]
    fn no_text_makes_it_panic(text in "[0-9a-f.:/,*% -]{0,40}|.{0,40}") {
        if let Err(error) = text.parse::<AddressSet>() {
            prop_assert!(text.get(error.place()).is_some());
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}
