use super::*;
use proptest::prelude::*;

/// The head of a reply: fixed part (xid 0x3903f326, yiaddr 10.0.2.15, chaddr 52:54:00:12:34:56) and cookie.
fn reply_head() -> Vec<u8> {
    let mut bytes =
        vec![2, 1, 6, 0, 0x39, 0x03, 0xf3, 0x26, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2];
    bytes.resize(28, 0);
    bytes.extend_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    bytes.resize(236, 0);
    bytes.extend_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    bytes
}

fn with_options(options: &[u8]) -> Result<Message, ParseError> {
    parse(&[&reply_head()[..], options, &[255]].concat())
}

/// What QEMU's user network answers to a DISCOVER, option by option (slirp's bootp.c).
#[test]
fn an_offer_of_qemus_user_network_is_read() {
    let offer = with_options(&[
        53, 1, 2, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3, 51, 4, 0,
        1, 0x51, 0x80,
    ])
    .unwrap();
    assert_eq!((offer.op, offer.kind, offer.xid), (Op::Reply, Kind::Offer, 0x3903_f326));
    assert_eq!(offer.yiaddr, Ipv4Addr::new(10, 0, 2, 15));
    assert_eq!(offer.mac, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    assert_eq!(offer.server, Some(Ipv4Addr::new(10, 0, 2, 2)));
    assert_eq!((offer.prefix, offer.lease), (Some(24), Some(86_400)));
    assert_eq!(offer.routers, [Ipv4Addr::new(10, 0, 2, 2)]);
    assert_eq!(offer.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
}

/// RFC 3442's own table of examples.
#[test]
fn classless_routes_are_as_compact_as_the_rfc_says() {
    let via = [10, 0, 0, 1];
    let rows: [(&[u8], [u8; 4], u8); 6] = [
        (&[0], [0, 0, 0, 0], 0),
        (&[8, 10], [10, 0, 0, 0], 8),
        (&[24, 10, 0, 0], [10, 0, 0, 0], 24),
        (&[16, 10, 17], [10, 17, 0, 0], 16),
        (&[25, 10, 229, 0, 128], [10, 229, 0, 128], 25),
        (&[32, 10, 198, 122, 47], [10, 198, 122, 47], 32),
    ];
    let value: Vec<u8> = rows.iter().flat_map(|(head, ..)| [*head, &via[..]].concat()).collect();
    let length = u8::try_from(value.len()).unwrap();
    let ack = with_options(&[&[53, 1, 5, 121, length][..], &value].concat()).unwrap();
    for (route, (_, to, prefix)) in ack.routes.iter().zip(rows) {
        assert_eq!((route.to, route.prefix, route.via), (to.into(), prefix, via.into()));
    }
    assert_eq!(ack.routes.len(), rows.len());
}

#[test]
fn host_bits_of_a_route_are_dropped_and_a_bad_list_is_absent() {
    let ack = with_options(&[53, 1, 5, 121, 7, 12, 172, 31, 10, 0, 0, 1]).unwrap();
    assert_eq!(ack.routes[0].to, Ipv4Addr::new(172, 16, 0, 0));
    for bad in [&[33, 10, 0, 0, 0, 0, 1, 1, 1, 1][..], &[24, 10, 0], &[0, 1, 2, 3]] {
        let length = u8::try_from(bad.len()).unwrap();
        assert!(with_options(&[&[53, 1, 5, 121, length][..], bad].concat()).unwrap().routes.is_empty());
    }
}

#[test]
fn options_may_be_split_and_lie_in_the_other_fields() {
    let split = with_options(&[53, 1, 5, 6, 3, 10, 0, 2, 6, 5, 3, 10, 0, 2, 4]).unwrap();
    assert_eq!(split.dns, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(10, 0, 2, 4)]);

    let mut bytes = reply_head();
    bytes[44..48].copy_from_slice(&[26, 2, 5, 180]);
    bytes[48] = 255;
    bytes[108..113].copy_from_slice(&[15, 2, b'l', b'n', 255]);
    bytes.extend_from_slice(&[53, 1, 5, 52, 1, 3, 255]);
    let both = parse(&bytes).unwrap();
    assert_eq!((both.mtu, both.domain.as_deref()), (Some(1460), Some("ln")));
}

#[test]
fn what_a_lease_needs_must_be_well_formed() {
    assert_eq!(with_options(&[]), Err(ParseError::Missing(53)));
    assert_eq!(with_options(&[53, 1, 9]), Err(ParseError::Malformed(53)));
    assert_eq!(with_options(&[53, 2, 5, 5]), Err(ParseError::Malformed(53)));
    assert_eq!(with_options(&[53, 1, 5, 51, 3, 0, 0, 1]), Err(ParseError::Malformed(51)));
    assert_eq!(with_options(&[53, 1, 5, 54, 8, 1, 2, 3, 4, 5, 6, 7, 8]), Err(ParseError::Malformed(54)));
    assert_eq!(with_options(&[53, 1, 5, 1, 4, 255, 0, 255, 0]), Err(ParseError::Malformed(1)));
    assert_eq!(with_options(&[53, 1, 5, 6, 200, 1]), Err(ParseError::Cut(6)));
    assert_eq!(parse(&[2; 100]), Err(ParseError::Short(100)));
    assert_eq!(parse(&[2; 300]), Err(ParseError::Foreign("cookie")));
    let mut infiniband = reply_head();
    infiniband[1] = 32;
    assert_eq!(parse(&infiniband), Err(ParseError::Foreign("hardware type")));
}

#[test]
fn what_it_does_not_need_may_be_odd() {
    let odd = with_options(&[
        53, 1, 5, 15, 7, b'a', b'\n', b'n', b'a', b'm', b'e', b's', 26, 1, 5, 58, 1, 1, 6, 5, 10, 0, 2, 3, 9,
    ])
    .unwrap();
    assert_eq!((odd.domain, odd.mtu, odd.t1), (None, None, None));
    assert_eq!(odd.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
    let odd = with_options(&[53, 1, 5, 6, 12, 0, 0, 0, 0, 127, 0, 0, 1, 255, 255, 255, 255]).unwrap();
    assert!(odd.dns.is_empty(), "addresses that no host has");
}

#[test]
fn a_request_says_who_and_what() {
    let mut discover = Message::new(Op::Request, Kind::Discover, 0x0102_0304, [2, 0, 0, 0, 0, 1]);
    discover.hostname = Some("node1".into());
    let bytes = discover.to_bytes();
    assert_eq!(bytes.len(), 300);
    assert_eq!(&bytes[..8], &[1, 1, 6, 0, 1, 2, 3, 4]);
    assert_eq!(&bytes[236..243], &[99, 130, 83, 99, 53, 1, 1]);
    assert_eq!(&bytes[243..252], &[61, 7, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(parse(&bytes), Ok(discover));
}

fn host() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits).prop_filter("host", |ip| is_host(*ip))
}

prop_compose! {
    fn message()(
        kind in 1u8..=8, xid: u32, secs: u16, yiaddr: u32, mac: [u8; 6],
        numbers in proptest::array::uniform6(proptest::option::of(any::<u32>())),
        prefix in proptest::option::of(0u8..=32),
        routers in proptest::collection::vec(host(), 0..100),
        dns in proptest::collection::vec(host(), 0..4),
        routes in proptest::collection::vec((any::<u32>(), 0u8..=32, any::<u32>()), 0..limits::DHCP_ROUTES),
        domain in proptest::option::of("[a-z0-9.-]{1,253}"),
        mtu in proptest::option::of(any::<u16>()),
        text in proptest::option::of("[ -~]{1,300}"),
    ) -> Message {
        let mut m = Message::new(Op::Reply, Kind::of(kind).unwrap(), xid, mac);
        (m.secs, m.yiaddr, m.prefix, m.routers, m.dns) = (secs, Ipv4Addr::from_bits(yiaddr), prefix, routers, dns);
        [m.lease, m.t1, m.t2] = [numbers[0], numbers[1], numbers[2]];
        (m.server, m.requested) = (numbers[3].map(Ipv4Addr::from_bits), numbers[4].map(Ipv4Addr::from_bits));
        m.routes = routes.into_iter().map(|(to, prefix, via)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            ClasslessRoute { to: Ipv4Addr::from_bits(to & mask), prefix, via: Ipv4Addr::from_bits(via) }
        }).collect();
        (m.domain, m.mtu, m.text) = (domain, mtu, text);
        m
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(options in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..900) {
        let bytes = [reply_head(), options].concat();
        let _ = parse(&bytes[..cut.min(bytes.len())]);
    }

    #[test]
    fn what_is_written_is_read(message in message()) {
        prop_assert_eq!(parse(&message.to_bytes()), Ok(message));
    }
}
