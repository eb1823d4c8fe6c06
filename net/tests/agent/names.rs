//! Scenarios about names: what a unit that asks the bridge's address is told. The messages are put together here, byte by
//! byte, so that the agent's own codec does not judge itself.

use crate::lab::{LEASED, Lab, Netns, PATIENCE, SHORT, Unit, WORLD, dhcp_on, rtnl};
use crate::scenarios::up;
use berth_net::netlink::Addr;
use berth_net::plan;
use berth_units::control::ToWorker;
use berth_units::model::{Port, Protocol};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub const ALL: [(&str, fn()); 5] = [
    ("units_find_each_other_by_name", units_find_each_other_by_name),
    ("what_is_not_a_units_name_is_asked_of_the_name_servers", what_is_not_a_units_name_is_asked),
    ("a_units_first_packet_arrives", a_units_first_packet_arrives),
    ("nobody_else_is_answered", nobody_else_is_answered),
    ("no_unit_keeps_the_others_from_asking", no_unit_keeps_the_others_from_asking),
];

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const BRIDGE: (Ipv4Addr, u16) = (plan::GATEWAY, 53);

/// An answer, as far as a test looks at it.
#[derive(Debug, PartialEq)]
struct Answer {
    code: u8,
    cut: bool,
    addresses: Vec<IpAddr>,
    ttl: Option<u32>,
    bytes: Vec<u8>,
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// Reads an answer to `asked` whose records all have a compressed name.
fn read(asked: &[u8], bytes: &[u8]) -> Answer {
    assert_eq!(bytes[..2], asked[..2], "the number");
    assert_eq!(bytes[2] & 0x80, 0x80, "an answer");
    assert_eq!(bytes[12..asked.len()], asked[12..], "the question");
    let (mut rest, mut addresses, mut ttl) = (&bytes[asked.len()..], Vec::new(), None);
    for _ in 0..u16::from_be_bytes([bytes[6], bytes[7]]) {
        ttl = Some(u32::from_be_bytes(rest[6..10].try_into().unwrap()));
        let length = usize::from(u16::from_be_bytes([rest[10], rest[11]]));
        let data = &rest[12..12 + length];
        addresses.extend(<[u8; 4]>::try_from(data).ok().map(IpAddr::from));
        addresses.extend(<[u8; 16]>::try_from(data).ok().map(IpAddr::from));
        rest = &rest[12 + length..];
    }
    Answer { code: bytes[3] & 0xf, cut: bytes[2] & 2 != 0, addresses, ttl, bytes: bytes.to_vec() }
}

/// By UDP, asked once. None: nobody answers.
fn ask_at(netns: &Netns, to: (Ipv4Addr, u16), name: &str, kind: u16, patience: Duration) -> Option<Answer> {
    netns.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.connect(to).ok()?;
        let asked = question(0x1234, name, kind);
        socket.send(&asked).ok()?;
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).ok()?;
        Some(read(&asked, &buffer[..length]))
    })
}

/// Asked once: a unit that is attached loses no packet.
fn ask(netns: &Netns, name: &str, kind: u16) -> Answer {
    ask_at(netns, BRIDGE, name, kind, PATIENCE).unwrap_or_else(|| panic!("no answer about {name}"))
}

/// All addresses of a name, IPv4 first.
pub fn addresses(netns: &Netns, name: &str) -> Vec<IpAddr> {
    [A, AAAA].into_iter().flat_map(|kind| ask(netns, name, kind).addresses).collect()
}

/// Several questions over one connection, all sent at once.
fn ask_by_stream(netns: &Netns, names: &[&str]) -> Vec<Answer> {
    netns.run(|| {
        let mut stream = TcpStream::connect(BRIDGE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked: Vec<_> = (0..).zip(names).map(|(id, name)| question(id, name, A)).collect();
        let framed: Vec<u8> = asked.iter().flat_map(|asked| framed(asked)).collect();
        stream.write_all(&framed).unwrap();
        asked.iter().map(|asked| read(asked, &unframed(&mut stream).unwrap())).collect()
    })
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn unframed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn place(n: u8) -> IpAddr {
    IpAddr::from([10, 88, 0, n])
}

fn set(answer: &Answer) -> BTreeSet<IpAddr> {
    answer.addresses.iter().copied().filter(IpAddr::is_ipv4).collect()
}

fn units_find_each_other_by_name() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let asker = Unit::new();
    init.attach("asker", &asker, &[]).unwrap();
    assert_eq!(
        std::fs::read_to_string(lab.folder.path().join("resolv-bridge.conf")).unwrap().trim_end(),
        "# Written by Berth's network agent.\nnameserver 10.88.0.1\nsearch berth.internal lab.example"
    );
    let webs = [Unit::new(), Unit::new(), Unit::new()];
    for (name, unit) in ["web.1", "web.2", "web.3"].into_iter().zip(&webs) {
        init.attach(name, unit, &[]).unwrap();
    }

    // Nothing is answered before it is known whose name is what; what was asked meanwhile is answered then.
    let early = asker.netns.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect(BRIDGE).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        socket.send(&question(7, "web", A)).unwrap();
        let mut buffer = [0; 600];
        assert!(socket.recv(&mut buffer).is_err());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    init.names(&[("web", "web.1 web.2 web.3"), ("web.2", "web.2"), ("db", ""), ("asker", "asker")]);
    let mut buffer = [0; 600];
    let length = early.recv(&mut buffer).unwrap();
    assert_eq!(read(&question(7, "web", A), &buffer[..length]).addresses.len(), 3);

    let all: BTreeSet<IpAddr> = [place(3), place(4), place(5)].into();
    let mut orders = BTreeSet::new();
    for name in ["web", "WeB.", "web.berth.internal"].into_iter().cycle().take(60) {
        let answer = ask(&asker.netns, name, A);
        assert_eq!((answer.code, answer.ttl, set(&answer)), (0, Some(1), all.clone()), "{name}");
        orders.insert(answer.addresses);
    }
    assert_eq!(orders.len(), 6, "each order comes up");
    assert_eq!(ask(&asker.netns, "web.2", A).addresses, [place(4)]);
    webs[1].netns.serve("web.2", 80);
    assert_eq!(
        asker.netns.fetch((Ipv4Addr::new(10, 88, 0, 4), 80), PATIENCE).unwrap(),
        "web.2 sees 10.88.0.2"
    );
    let by_stream = ask_by_stream(&asker.netns, &["web", "db", "web.2", "nope.berth.internal"]);
    let counts: Vec<_> = by_stream.iter().map(|answer| (answer.code, answer.addresses.len())).collect();
    assert_eq!(counts, [(0, 3), (0, 0), (0, 1), (3, 0)]);

    // In the directory of names, and nobody there; ours, and not there at all; what has no address.
    assert_eq!((ask(&asker.netns, "db", A).code, ask(&asker.netns, "db", A).addresses.len()), (0, 0));
    assert_eq!(ask(&asker.netns, "nope.berth.internal", A).code, 3);
    assert!(ask(&asker.netns, "db", AAAA).addresses.is_empty());
    let named = ask(&asker.netns, "4.0.88.10.in-addr.arpa", PTR);
    assert!(named.bytes.ends_with(b"\x03web\x012\x05berth\x08internal\x00"), "{named:?}");
    assert_eq!(ask(&asker.netns, "77.0.88.10.in-addr.arpa", PTR).code, 3);

    // One leaves service, one goes away, a new agent comes.
    init.names(&[("web", "web.2 web.3"), ("db", "")]);
    init.say(&ToWorker::Detach { unit: "web.3".into() }, None);
    let deadline = Instant::now() + PATIENCE;
    while ask(&asker.netns, "web", A).addresses != [place(4)] {
        assert!(Instant::now() < deadline);
    }
    init.kill();
    let init = lab.agent();
    init.configure(dhcp_on("up0"));
    init.names(&[("web", "web.1 web.2 web.3"), ("db", "")]);
    // Between two agents there is nobody, which is told at once.
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        if let Some(answer) = ask_at(&asker.netns, BRIDGE, "web", A, PATIENCE) {
            break answer;
        }
        assert!(Instant::now() < deadline);
    };
    assert_eq!(set(&answer), [place(3), place(4)].into());
}

/// A name server in the world: by UDP and TCP at this address, it answers each A question with `answer`, and tells what
/// it was asked. None: it is silent. The code of its answers is `code`.
fn name_server(
    lab: &Lab,
    at: Ipv4Addr,
    code: u8,
    answer: Option<Ipv4Addr>,
) -> mpsc::Receiver<(char, String)> {
    let (datagrams, listener) = lab.world.run(|| {
        let mut rtnl = rtnl();
        let index = rtnl.link("w0").unwrap().unwrap().index;
        rtnl.add_address(&Addr::new(index, at.into(), 24)).unwrap();
        (UdpSocket::bind((at, 53)).unwrap(), TcpListener::bind((at, 53)).unwrap())
    });
    let (tell, heard) = mpsc::channel();
    let reply = move |asked: &[u8], room: usize| {
        let answer = answer?;
        let mut bytes = asked.to_vec();
        bytes[2] |= 0x80;
        bytes[3] = 0x80 | code;
        // "big…" has more records than fit by UDP.
        let count: u16 = if asked[13..].starts_with(b"big") { 60 } else { 1 };
        let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..], &answer.octets()].concat();
        if asked.len() + record.len() * usize::from(count) > room {
            bytes[2] |= 2;
            return Some(bytes);
        }
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        bytes.extend(record.repeat(count.into()));
        Some(bytes)
    };
    let name = |asked: &[u8]| {
        let (mut name, mut rest) = (String::new(), &asked[12..]);
        while rest[0] > 0 {
            let (label, more) = rest[1..].split_at(rest[0].into());
            name += &format!("{}.", String::from_utf8_lossy(label));
            rest = more;
        }
        name
    };
    let tell_too = tell.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            let asked = &buffer[..length];
            let _ = tell.send(('u', name(asked)));
            if let Some(reply) = reply(asked, 512) {
                // What somebody who guesses might send comes first.
                let mut guess = reply.clone();
                guess[0] ^= 1;
                datagrams.send_to(&guess, from).unwrap();
                guess[0] ^= 1;
                guess[13] ^= 1;
                datagrams.send_to(&guess, from).unwrap();
                datagrams.send_to(&reply, from).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            while let Ok(asked) = unframed(&mut stream) {
                let _ = tell_too.send(('t', name(&asked)));
                let Some(reply) = reply(&asked, usize::MAX) else { break };
                stream.write_all(&framed(&reply)).unwrap();
            }
        }
    });
    heard
}

const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 54);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn what_is_not_a_units_name_is_asked() {
    let lab = Lab::new();
    let first = name_server(&lab, FIRST, 0, Some(FAR));
    let mut init = up(&lab);
    let asker = Unit::new();
    init.names(&[("web", ""), ("asker", "asker")]);
    init.attach("asker", &asker, &[]).unwrap();
    let answer = ask(&asker.netns, "www.example.org", A);
    assert_eq!((answer.code, answer.ttl, answer.addresses), (0, Some(60), vec![FAR.into()]));
    assert!(ask(&asker.netns, "big.example.org", A).cut, "does not fit");
    let answers = ask_by_stream(&asker.netns, &["big.example.org", "web", "small.example.org"]);
    let counts: Vec<_> = answers.iter().map(|answer| (answer.cut, answer.addresses.len())).collect();
    assert_eq!(counts, [(false, 60), (false, 0), (false, 1)]);
    for name in ["web", "web.berth.internal", "nope.berth.internal", "9.0.88.10.in-addr.arpa"] {
        ask(&asker.netns, name, A);
    }
    let heard: Vec<_> = first.try_iter().collect();
    let heard: Vec<_> = heard.iter().map(|(how, name)| (*how, name.as_str())).collect();
    assert_eq!(
        heard,
        [
            ('u', "www.example.org."),
            ('u', "big.example.org."),
            ('t', "big.example.org."),
            ('t', "small.example.org.")
        ],
        "what is ours leaks to nobody"
    );

    // A server that is silent, one that knows nothing, one that answers; the latter is asked first from then on.
    let silent = name_server(&lab, Ipv4Addr::new(192, 0, 2, 60), 0, None);
    let useless = name_server(&lab, SECOND, 5, Some(FAR));
    let servers = [Ipv4Addr::new(192, 0, 2, 60), SECOND, FIRST].map(IpAddr::from);
    init.configure_with(dhcp_on("up0"), &servers);
    let deadline = Instant::now() + PATIENCE;
    while !lab.resolv().contains("192.0.2.60") {
        assert!(Instant::now() < deadline, "{}", lab.resolv());
    }
    let begin = Instant::now();
    assert_eq!(ask(&asker.netns, "one.example.org", A).addresses, [FAR]);
    assert!(begin.elapsed() > Duration::from_millis(900), "the silent one had its time");
    assert_eq!(ask(&asker.netns, "two.example.org", A).addresses, [FAR]);
    let names =
        |heard: mpsc::Receiver<(char, String)>| heard.try_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names(silent), ["one.example.org."]);
    assert_eq!(names(useless), ["one.example.org."]);

    // Nobody who can answer: the asker is told before it gives up, or at once.
    init.configure_with(dhcp_on("up0"), &[SECOND.into()]);
    let deadline = Instant::now() + PATIENCE;
    while ask(&asker.netns, "three.example.org", A).code != 5 {
        assert!(Instant::now() < deadline);
    }
    init.configure_with(dhcp_on("up0"), &[IpAddr::from([192, 0, 2, 60])]);
    let deadline = Instant::now() + PATIENCE;
    while ask(&asker.netns, "four.example.org", A).code != 2 {
        assert!(Instant::now() < deadline);
    }
    init.configure_with(dhcp_on("up0"), &[WORLD.into(), plan::GATEWAY.into()]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let begin = Instant::now();
        let code = ask(&asker.netns, "five.example.org", A).code;
        if code == 2 && begin.elapsed() < Duration::from_millis(900) {
            break;
        }
        assert!(Instant::now() < deadline, "nobody listens there, which is told at once");
    }
}

/// Of the first unit, with which the bridge comes, and of others.
fn a_units_first_packet_arrives() {
    for _ in 0..5 {
        let lab = Lab::new();
        let mut init = up(&lab);
        init.names(&[("web", "")]);
        for name in ["a", "b", "c", "d"] {
            let unit = Unit::new();
            init.attach(name, &unit, &[]).unwrap();
            ask(&unit.netns, "web", A);
        }
    }
}

fn nobody_else_is_answered() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let (asker, server) = (Unit::new(), Unit::new());
    init.names(&[("asker", "asker")]);
    init.attach("asker", &asker, &[]).unwrap();
    assert_eq!(ask(&asker.netns, "asker", A).addresses, [place(2)]);
    lab.route_the_world_to_units();
    for to in [plan::GATEWAY, LEASED] {
        assert_eq!(ask_at(&lab.world, (to, 53), "asker", A, SHORT), None, "{to}");
        assert!(lab.world.run(|| TcpStream::connect_timeout(&SocketAddr::from((to, 53)), SHORT)).is_err());
    }

    // A unit that is a name server for the world does not get the questions of units.
    let ports = [Protocol::Udp, Protocol::Tcp].map(|protocol| Port {
        host_address: Ipv4Addr::UNSPECIFIED,
        host: 53,
        container: 53,
        protocol,
    });
    init.attach("server", &server, &ports).unwrap();
    server.netns.spawn(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        let mut buffer = [0; 600];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            buffer[2] |= 0x80;
            buffer[3] = 4;
            socket.send_to(&buffer[..length], from).unwrap();
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while ask_at(&lab.world, (LEASED, 53), "asker", A, SHORT).is_none_or(|answer| answer.code != 4) {
        assert!(Instant::now() < deadline, "published");
    }
    assert_eq!(ask(&asker.netns, "asker", A).addresses, [place(2)]);
}

fn no_unit_keeps_the_others_from_asking() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let (greedy, other) = (Unit::new(), Unit::new());
    init.names(&[("other", "other")]);
    init.attach("greedy", &greedy, &[]).unwrap();
    init.attach("other", &other, &[]).unwrap();
    let _silent = name_server(&lab, FIRST, 0, None);
    assert_eq!(ask(&greedy.netns, "other", A).addresses, [place(3)]);
    let sockets: Vec<_> = greedy.netns.run(|| {
        let ask = |n: u16| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect(BRIDGE).unwrap();
            socket.send(&question(n, &format!("n{n}.example.org"), A)).unwrap();
            socket
        };
        (0..100).map(ask).collect()
    });
    let streams: Vec<_> = greedy.netns.run(|| (0..40).map(|_| TcpStream::connect(BRIDGE).unwrap()).collect());
    assert_eq!(ask(&other.netns, "other", A).addresses, [place(3)]);
    assert_eq!(ask_by_stream(&other.netns, &["other"])[0].addresses, [place(3)]);
    // What is too much is refused at once, what is under way is given up in time.
    let codes = sockets.iter().enumerate().map(|(n, socket)| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 600];
        let length = socket.recv(&mut buffer).unwrap();
        let n = u16::try_from(n).unwrap();
        read(&question(n, &format!("n{n}.example.org"), A), &buffer[..length]).code
    });
    assert!(codes.into_iter().all(|code| code == 2));
    let open = streams.iter().filter(|stream| {
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let mut stream: &TcpStream = stream;
        stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert_eq!(open.count(), 4, "and no more connections than its share");
}
