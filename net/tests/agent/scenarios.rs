//! The scenarios.

use crate::lab::{
    LEASED, Lab, MACHINE_ID, Netns, PATIENCE, SHORT, Unit, WORLD, dhcp_on, dhcp_server, rtnl, usual,
};
use berth_net::dhcp::message::{Kind, Message};
use berth_net::netlink::{Addr, Route};
use berth_net::{metadata, plan};
use berth_units::control::{FromWorker, ToWorker};
use berth_units::limits::ID_BASE;
use berth_units::model::{Interface, MachineNetwork, Port, Protocol, StaticRoute};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

pub const ALL: [(&str, fn()); 13] = [
    ("a_lease_is_had_and_told", a_lease_is_had_and_told),
    ("a_lease_is_renewed_until_it_is_refused", a_lease_is_renewed_until_it_is_refused),
    ("no_answer_is_said_and_not_fatal", no_answer_is_said_and_not_fatal),
    ("fixed_addresses_replace_a_lease", fixed_addresses_replace_a_lease),
    ("what_the_config_says_of_an_interface_holds", what_the_config_says_of_an_interface_holds),
    ("routers_are_not_heard_where_the_config_says_so", routers_are_not_heard_where_the_config_says_so),
    ("units_reach_out_and_are_reached_by_their_ports", units_reach_out_and_are_reached_by_their_ports),
    ("a_new_agent_disturbs_nobody", a_new_agent_disturbs_nobody),
    ("what_cannot_be_attached_says_why", what_cannot_be_attached_says_why),
    ("units_do_not_reach_metadata_servers", units_do_not_reach_metadata_servers),
    ("units_have_ipv6", units_have_ipv6),
    ("routers_advertise_name_servers", routers_advertise_name_servers),
    ("an_address_is_made_from_what_routers_advertise", an_address_is_made_from_what_routers_advertise),
];

const UNIT1: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);

fn port(host: u16, container: u16) -> Port {
    Port { host_address: Ipv4Addr::UNSPECIFIED, host, container, protocol: Protocol::Tcp }
}

fn ready(message: &FromWorker) -> Option<()> {
    matches!(message, FromWorker::Ready).then_some(())
}

fn a_lease_is_had_and_told() {
    let lab = Lab::new();
    let heard = dhcp_server(&lab.world, usual);
    let mut init = lab.agent();
    let begin = Instant::now();
    init.configure(dhcp_on("up0"));
    init.wait("ready", ready);
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
    println!("    address after {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    init.wait_status("up0: lease 192.0.2.50/24 from 192.0.2.1");
    let questions: Vec<_> = heard.try_iter().collect();
    assert_eq!(questions.first().map(|question| question.kind), Some(Kind::Discover));
    assert!(questions.iter().all(|question| question.hostname.as_deref() == Some("node1")));

    assert_eq!(
        lab.resolv(),
        "# Written by Berth's network agent.\nnameserver 192.0.2.53\nsearch lab.example"
    );
    assert_eq!(lab.machine.run(|| rtnl().link("up0")).unwrap().unwrap().mtu, 1400);
    lab.world.serve("world", 9000);
    assert_eq!(lab.machine.fetch((WORLD, 9000), PATIENCE).unwrap(), "world sees 192.0.2.50");
    let far = lab.machine.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(("198.51.100.1", 53))?;
        socket.local_addr()
    });
    assert_eq!(far.unwrap().ip(), IpAddr::from(LEASED), "the default route");

    lab.cable(false);
    init.wait_status("no carrier");
    lab.cable(true);
    let again = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((again.kind, again.requested), (Kind::Discover, Some(LEASED)));
    // The default route must have survived, or come back.
    init.wait_status("up0: lease 192.0.2.50/24 from 192.0.2.1");
    assert_eq!(lab.machine.fetch((WORLD, 9000), PATIENCE).unwrap(), "world sees 192.0.2.50");
}

/// Renewed by the first question, refused by the second.
fn grudging(question: &Message) -> Option<Message> {
    static RENEWALS: AtomicU32 = AtomicU32::new(0);
    let mut reply = usual(question)?;
    (reply.lease, reply.t1, reply.t2) = (Some(10), Some(1), Some(5));
    if !question.ciaddr.is_unspecified() && RENEWALS.fetch_add(1, Ordering::Relaxed) == 1 {
        reply.kind = Kind::Nak;
    }
    Some(reply)
}

fn a_lease_is_renewed_until_it_is_refused() {
    let lab = Lab::new();
    let heard = dhcp_server(&lab.world, grudging);
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
    let renewal = |question: &Message| question.kind == Kind::Request && question.ciaddr == LEASED;
    assert!(heard.iter().any(|question| renewal(&question)), "renewed from its address");
    assert!(heard.iter().any(|question| renewal(&question)), "and again");
    init.wait_addresses(&[]);
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
}

fn no_answer_is_said_and_not_fatal() {
    let lab = Lab::new();
    let heard = dhcp_server(&lab.world, |_| None);
    let mut init = lab.agent();
    init.configure(dhcp_on("02:00:00:00:00:99"));
    init.wait("ready", ready);
    init.wait_status("02:00:00:00:00:99: there is no such Ethernet interface");
    init.configure(dhcp_on("up0"));
    init.wait_status("asking for an address by DHCP");
    let first = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap().xid, first.xid, "it asks again");
}

fn fixed_addresses_replace_a_lease() {
    let lab = Lab::new();
    let _heard = dhcp_server(&lab.world, usual);
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
    init.configure(Interface {
        matches: "up0".into(),
        dhcp: false,
        addresses: vec!["192.0.2.7/24".into(), "2001:db8::7/64".into()],
        gateways: vec![WORLD.into(), "2001:db8::1".parse().unwrap()],
        ..Interface::default()
    });
    init.wait_addresses(&[("up0", "192.0.2.7/24"), ("up0", "2001:db8::7/64")]);
    init.wait_status("up0: 192.0.2.7/24, 2001:db8::7/64");
    lab.world.serve("world", 9000);
    assert_eq!(lab.machine.fetch((WORLD, 9000), PATIENCE).unwrap(), "world sees 192.0.2.7");
    assert_eq!(lab.resolv(), "# Written by Berth's network agent.");
    assert_eq!(lab.machine.run(|| rtnl().link("up0")).unwrap().unwrap().mtu, 1500);
}

/// MTU, routes, search domains; against what a lease says, too.
fn what_the_config_says_of_an_interface_holds() {
    let lab = Lab::new();
    let _heard = dhcp_server(&lab.world, usual);
    lab.world.run(|| {
        let mut rtnl = rtnl();
        let index = rtnl.link("w0").unwrap().unwrap().index;
        for (ip, prefix) in [("192.0.2.9", 24), ("198.51.100.1", 32), ("203.0.113.1", 24), ("10.9.9.1", 32)] {
            rtnl.add_address(&Addr::new(index, ip.parse().unwrap(), prefix)).unwrap();
        }
    });
    lab.world.serve("world", 9000);
    let route = |to: &str, via: Option<&str>, metric| StaticRoute {
        to: to.into(),
        via: via.map(|via| via.parse().unwrap()),
        metric,
    };
    let interface = Interface {
        matches: "up0".into(),
        mtu: Some(1300),
        // The one through a router stands first, and leads through the one behind it.
        routes: vec![
            route("10.9.9.0/24", Some("203.0.113.1"), Some(77)),
            route("203.0.113.0/24", None, None),
            route("198.51.100.0/24", Some("192.0.2.9"), None),
            route("2001:db8:7::/48", Some("fe80::1"), Some(78)),
            route("2001:db8:8::/48", Some("2001:db8:9::1"), None),
        ],
        ..Interface::default()
    };
    let mut init = lab.agent();
    let search = vec!["one.example".into(), "two.example".into()];
    let network = MachineNetwork { interfaces: vec![interface], search, ..MachineNetwork::default() };
    init.configure_network(network);
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
    init.wait_status("up0: lease 192.0.2.50/24 from 192.0.2.1");
    for far in ["10.9.9.1", "203.0.113.1", "198.51.100.1"] {
        let far: Ipv4Addr = far.parse().unwrap();
        assert_eq!(lab.machine.fetch((far, 9000), PATIENCE).unwrap(), "world sees 192.0.2.50", "{far}");
    }
    let (v4, v6) = lab.machine.run(|| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
        (read("route"), read("ipv6_route"))
    });
    // Network, router, flags, two counters, metric: as the kernel prints them.
    assert!(v4.contains("up0\t0009090A\t017100CB\t0003\t0\t0\t77\t"), "{v4}");
    let far = |prefix: &str, metric: &str| {
        v6.lines().any(|line| line.starts_with(prefix) && line.contains(metric) && line.ends_with("up0"))
    };
    assert!(far("20010db8000700000000000000000000 30", " 0000004e "), "{v6}");
    assert!(far("20010db8000800000000000000000000 30", " 20010db8000900000000000000000001 "), "{v6}");
    let mtu = || lab.machine.run(|| rtnl().link("up0")).unwrap().unwrap().mtu;
    assert_eq!(mtu(), 1300, "the lease says 1400");
    let searched =
        "# Written by Berth's network agent.\nnameserver 192.0.2.53\nsearch one.example two.example";
    assert_eq!(lab.resolv(), searched);

    // Without all that, what was there before is there again.
    init.configure(dhcp_on("up0"));
    init.wait_addresses(&[]);
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
    assert!(
        lab.machine.fetch((Ipv4Addr::new(203, 0, 113, 1), 9000), PATIENCE).is_ok(),
        "by the default route"
    );
    let v4 = lab.machine.run(|| std::fs::read_to_string("/proc/thread-self/net/route")).unwrap();
    assert!(!v4.contains("0009090A"), "{v4}");
    assert_eq!(mtu(), 1400);
}

fn routers_are_not_heard_where_the_config_says_so() {
    let lab = Lab::new();
    let mut init = lab.agent();
    let deaf = Interface {
        matches: "up0".into(),
        dhcp: false,
        ra: false,
        addresses: vec!["2001:db8::7/64".into()],
        ..Interface::default()
    };
    init.configure(deaf.clone());
    init.wait_addresses(&[("up0", "2001:db8::7/64")]);
    let prefix: Ipv6Addr = "2001:db8:5::".parse().unwrap();
    let made = || {
        let addresses = lab.machine.run(|| rtnl().addresses()).unwrap();
        addresses.iter().any(|address| match address.ip {
            IpAddr::V6(ip) => ip.segments()[..3] == prefix.segments()[..3],
            IpAddr::V4(_) => false,
        })
    };
    // The same messages make an address as soon as they count.
    let advertise = |until: &dyn Fn() -> bool, what: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !until() {
            assert!(Instant::now() < deadline, "{what}");
            lab.advertise_prefix(prefix);
            lab.advertise(600, "2001:db8::53".parse().unwrap());
            std::thread::sleep(SHORT);
        }
    };
    let times = AtomicU32::new(0);
    let a_few = || lab.link_local().is_some() && times.fetch_add(1, Ordering::Relaxed) > 8;
    advertise(&a_few, "the interface has an address on its link");
    assert!(!made(), "nobody listens");
    assert_eq!(lab.resolv(), "# Written by Berth's network agent.");
    init.configure(Interface { ra: true, ..deaf.clone() });
    advertise(&made, "now somebody does");
    init.configure(deaf);
    let deadline = Instant::now() + PATIENCE;
    while made() {
        assert!(Instant::now() < deadline, "what was learned is gone");
        std::thread::sleep(SHORT);
    }
    init.wait_addresses(&[("up0", "2001:db8::7/64")]);
}

/// Advertises a name server until `resolv.conf` is as expected: the world's own address may still be tentative, and the
/// agent hears of it later than the kernel.
fn advertise(lab: &Lab, lifetime: u32, server: &str, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    let expected = format!("# Written by Berth's network agent.\n{expected}search lab.example");
    while lab.resolv() != expected {
        assert!(Instant::now() < deadline, "{}\nis not\n{expected}", lab.resolv());
        lab.advertise(lifetime, server.parse().unwrap());
        std::thread::sleep(SHORT);
    }
}

fn routers_advertise_name_servers() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let leased = "nameserver 192.0.2.53\n";
    advertise(&lab, 600, "2001:db8::53", &format!("{leased}nameserver 2001:db8::53\n"));
    advertise(&lab, 0, "2001:db8::53", leased);
    advertise(&lab, 1, "2001:db8::54", &format!("{leased}nameserver 2001:db8::54\n"));
    let deadline = Instant::now() + PATIENCE;
    while lab.resolv().contains("2001:db8") {
        assert!(Instant::now() < deadline, "its time has passed");
        std::thread::sleep(SHORT);
    }
    advertise(&lab, u32::MAX, "2001:db8::55", &format!("{leased}nameserver 2001:db8::55\n"));
    lab.cable(false);
    init.wait_status("no carrier");
    assert!(!lab.resolv().contains("2001:db8"), "{}", lab.resolv());
}

/// SLAAC (RFC 4862), which the kernel does and the agent tells of.
fn an_address_is_made_from_what_routers_advertise() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let prefix: Ipv6Addr = "2001:db8:5::".parse().unwrap();
    let made = |link_local: Ipv6Addr| {
        let own = u128::from(link_local) & u128::from(u64::MAX);
        Ipv6Addr::from(u128::from(prefix) | own)
    };
    let has = |address: Ipv6Addr| {
        let addresses = lab.machine.run(|| rtnl().addresses()).unwrap();
        addresses.iter().any(|known| known.ip == IpAddr::from(address) && known.prefix == 64)
    };
    let deadline = Instant::now() + PATIENCE;
    while !lab.link_local().map(made).is_some_and(has) {
        assert!(Instant::now() < deadline, "no address out of {prefix}");
        lab.advertise_prefix(prefix);
        std::thread::sleep(SHORT);
    }
    let address = format!("{}/64", made(lab.link_local().unwrap()));
    init.wait_addresses(&[("up0", "192.0.2.50/24"), ("up0", &address)]);
}

/// A machine with a lease.
pub fn up(lab: &Lab) -> crate::lab::Init {
    std::mem::forget(dhcp_server(&lab.world, usual));
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    init.wait_addresses(&[("up0", "192.0.2.50/24")]);
    init
}

fn udp_answers(netns: &Netns, to: (Ipv4Addr, u16)) -> bool {
    netns.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"ping").unwrap();
        let mut buffer = [0; 16];
        socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"pong")
    })
}

fn units_reach_out_and_are_reached_by_their_ports() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let (web, other) = (Unit::new(), Unit::new());
    let dns = Port { protocol: Protocol::Udp, ..port(5353, 53) };
    let private = Port { host_address: Ipv4Addr::LOCALHOST, ..port(8081, 80) };
    let begin = Instant::now();
    let address = init.attach("web", &web, &[port(8080, 80), dns, private]).unwrap();
    println!("    first unit attached after {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    // Who reads counters of interfaces finds the unit by this.
    let links = lab.machine.run(|| rtnl().links()).unwrap();
    assert_eq!(links.iter().filter(|link| link.alias == "web").count(), 1);
    assert_eq!(address, IpAddr::from(UNIT1));
    let begin = Instant::now();
    init.attach("other", &other, &[]).unwrap();
    println!("    second unit attached after {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    web.netns.serve("web", 80);
    other.netns.serve("other", 80);
    lab.world.serve("world", 9000);
    web.netns.spawn(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(b"pong", from).unwrap();
        }
    });

    // Out, with the machine's address; in by the published port, seen as who one is.
    assert_eq!(web.netns.fetch((WORLD, 9000), PATIENCE).unwrap(), "world sees 192.0.2.50");
    assert_eq!(lab.world.fetch((LEASED, 8080), PATIENCE).unwrap(), "web sees 192.0.2.1");
    assert!(udp_answers(&lab.world, (LEASED, 5353)));

    // From the machine itself, by each of its addresses.
    for to in [Ipv4Addr::LOCALHOST, LEASED, plan::GATEWAY] {
        assert!(lab.machine.fetch((to, 8080), PATIENCE).unwrap().starts_with("web sees "), "{to}");
    }
    assert_eq!(lab.machine.fetch((Ipv4Addr::LOCALHOST, 8081), PATIENCE).unwrap(), "web sees 10.88.0.1");
    assert_eq!(lab.machine.fetch((UNIT1, 80), PATIENCE).unwrap(), "web sees 10.88.0.1");

    // From units: by the machine's addresses, their own service too.
    for to in [LEASED, plan::GATEWAY] {
        assert_eq!(other.netns.fetch((to, 8080), PATIENCE).unwrap(), "web sees 10.88.0.1");
        assert_eq!(web.netns.fetch((to, 8080), PATIENCE).unwrap(), "web sees 10.88.0.1");
    }

    // By its address.
    assert_eq!(other.netns.fetch((UNIT1, 80), PATIENCE).unwrap(), "web sees 10.88.0.3");

    // And in no other way.
    assert!(lab.world.fetch((LEASED, 80), SHORT).is_err(), "not published");
    assert!(lab.world.fetch((LEASED, 8081), SHORT).is_err(), "published for the machine itself only");
    lab.route_the_world_to_units();
    assert!(lab.world.fetch((UNIT1, 80), SHORT).is_err(), "not by a route through the machine");
    let mut inside = other.netns.run(rtnl);
    let eth0 = inside.link("eth0").unwrap().unwrap().index;
    let direct =
        Route { to: UNIT1.into(), prefix: 32, via: None, ..Route::default_via(UNIT1.into(), eth0, 0) };
    inside.add_route(&direct).unwrap();
    assert!(other.netns.fetch((UNIT1, 80), SHORT).is_err(), "not past the gateway");
    inside.delete_route(&direct).unwrap();

    // What a service on the machine listens to on 127.0.0.1 is nobody's but the machine's.
    lab.machine.serve("private", 7000);
    let loopback =
        Route { to: Ipv4Addr::new(127, 0, 0, 1).into(), via: Some(plan::GATEWAY.into()), ..direct };
    let _ = inside.add_route(&loopback);
    assert!(other.netns.fetch((Ipv4Addr::LOCALHOST, 7000), SHORT).is_err());

    init.say(&ToWorker::Detach { unit: "web".into() }, None);
    init.attach("third", &Unit::new(), &[]).unwrap();
    assert!(lab.world.fetch((LEASED, 8080), SHORT).is_err(), "detached");
    assert_eq!(other.netns.fetch((WORLD, 9000), PATIENCE).unwrap(), "world sees 192.0.2.50");
}

fn a_new_agent_disturbs_nobody() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let (web, db) = (Unit::new(), Unit::new());
    init.attach("db", &db, &[]).unwrap();
    let address = init.attach("web", &web, &[port(8080, 80)]).unwrap();
    let listener = web.netns.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let mut client = lab.world.run(|| TcpStream::connect((LEASED, 8080)).unwrap());
    let (mut server, _) = listener.accept().unwrap();

    init.kill();
    drop(db);
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    init.wait("ready", ready);
    assert_eq!(init.attach("web", &web, &[port(8080, 80), port(8090, 80)]).unwrap(), address);
    server.write_all(b"still here").unwrap();
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    drop(listener);
    web.netns.serve("web", 80);
    for port in [8080, 8090] {
        assert_eq!(lab.world.fetch((LEASED, port), PATIENCE).unwrap(), "web sees 192.0.2.1");
    }
    // The unit starts anew, in a new namespace, under the same name.
    init.say(&ToWorker::Detach { unit: "web".into() }, None);
    let anew = Unit::new();
    assert_eq!(init.attach("web", &anew, &[port(8080, 80)]).unwrap(), address);
    anew.netns.serve("anew", 80);
    assert_eq!(lab.world.fetch((LEASED, 8080), PATIENCE).unwrap(), "anew sees 192.0.2.1");
}

fn what_cannot_be_attached_says_why() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let (web, other) = (Unit::new(), Unit::new());
    init.attach("web", &web, &[port(8080, 80)]).unwrap();
    let error = init.attach("other", &other, &[port(8080, 81)]).unwrap_err();
    assert!(error.contains("port 8080/tcp is published by unit web already"), "{error}");
    init.attach("other", &other, &[port(8081, 81)]).unwrap();

    init.say(&ToWorker::Attach { unit: "third".into(), ports: Vec::new() }, None);
    let error = init.wait("refusal", |message| match message {
        FromWorker::AttachFailed { error, .. } => Some(error.clone()),
        _ => None,
    });
    assert!(error.contains("PID 1 sent 0 descriptors"), "{error}");
}

/// Whether a user of the machine's reaches a metadata server; by a program of its own, since a user is a process's.
fn user_reaches(machine: &Netns, uid: u32, to: &str) -> bool {
    let script = format!("exec 3<>/dev/tcp/{}/80", to.trim_matches(['[', ']']));
    machine.run(|| {
        let uid = uid.to_string();
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "bash", "-c", &script]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || text.contains("/dev/tcp"), "root's rights are needed: {text}");
        output.status.success()
    })
}

fn units_do_not_reach_metadata_servers() {
    let lab = Lab::new();
    let mut init = up(&lab);
    let (v4, v6) = (metadata::ADDRESS, metadata::ADDRESS_IPV6);
    lab.world.run(|| {
        let mut rtnl = rtnl();
        let index = rtnl.link("w0").unwrap().unwrap().index;
        rtnl.add_address(&Addr::new(index, v4.into(), 32)).unwrap();
        rtnl.add_address(&Addr::new(index, v6.into(), 64)).unwrap();
    });
    lab.machine.run(|| {
        let mut rtnl = rtnl();
        let index = rtnl.link("up0").unwrap().unwrap().index;
        rtnl.add_address(&Addr::new(index, "fd00:ec2::1".parse().unwrap(), 64)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpListener::bind(("fd00:ec2::1", 0)).is_err() {
            assert!(Instant::now() < deadline, "an IPv6 address is tentative at first");
        }
    });
    for (to, port) in [(IpAddr::from(v4), 80), (v4.into(), 53), (v6.into(), 80)] {
        let listener = lab.world.run(|| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                // An IPv6 address is tentative at first.
                match TcpListener::bind((to, port)) {
                    Ok(listener) => break listener,
                    Err(error) => assert!(Instant::now() < deadline, "{to}: {error}"),
                }
            }
        });
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|mut s| drop(s.write_all(b"secret")))
        });
    }
    let unit = Unit::new();
    init.attach("web", &unit, &[]).unwrap();
    let begin = Instant::now();
    unit.netns.fetch((v4, 80), PATIENCE).unwrap_err();
    assert!(begin.elapsed() < PATIENCE / 4, "refused, and not lost");
    assert_eq!(
        unit.netns.fetch((v4, 53), PATIENCE).unwrap(),
        "secret",
        "another service at the same address"
    );
    for to in [IpAddr::from(v4), v6.into()] {
        assert_eq!(lab.machine.fetch((to, 80), PATIENCE).unwrap(), "secret", "the machine itself");
        assert!(user_reaches(&lab.machine, 0, &to.to_string()));
        for user in [0, 1000, 65_535] {
            assert!(!user_reaches(&lab.machine, ID_BASE + user, &to.to_string()), "{to}, {user}");
        }
    }
}

fn units_have_ipv6() {
    let lab = Lab::new();
    let net = plan::Ipv6Net::of(MACHINE_ID).unwrap();
    let (world, machine): (Ipv6Addr, Ipv6Addr) =
        ("2001:db8::1".parse().unwrap(), "2001:db8::7".parse().unwrap());
    lab.world.run(|| {
        let mut rtnl = rtnl();
        let index = rtnl.link("w0").unwrap().unwrap().index;
        rtnl.add_address(&Addr { sure: true, ..Addr::new(index, world.into(), 64) }).unwrap();
        let to = IpAddr::from(net.gateway());
        let via = Route::default_via(machine.into(), index, 0);
        rtnl.add_route(&Route { to, prefix: 64, ..via }).unwrap();
    });
    let mut init = lab.agent();
    init.configure(Interface {
        matches: "up0".into(),
        dhcp: false,
        addresses: vec!["192.0.2.7/24".into(), format!("{machine}/64")],
        gateways: vec![world.into()],
        ..Interface::default()
    });
    init.wait_addresses(&[("up0", "192.0.2.7/24"), ("up0", "2001:db8::7/64")]);
    init.names(&[("web", "web")]);
    let (web, other) = (Unit::new(), Unit::new());
    init.attach("web", &web, &[]).unwrap();
    init.attach("other", &other, &[]).unwrap();
    let address = net.address(plan::Place::FIRST);
    let second = net.address(plan::Place::FIRST.next());
    assert_eq!(crate::names::addresses(&other.netns, "web"), [IpAddr::from(UNIT1), address.into()]);
    for (netns, at) in [(&web.netns, address), (&lab.world, world), (&lab.machine, net.gateway())] {
        let listener = netns.run(|| TcpListener::bind((at, 80)).unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                let _ = write!(stream, "{}", from.ip());
            }
        });
    }
    let sees = |netns: &Netns, to: Ipv6Addr| netns.fetch((to, 80), PATIENCE).unwrap();
    assert_eq!(sees(&other.netns, address), second.to_string());
    assert_eq!(sees(&lab.machine, address), net.gateway().to_string());
    assert_eq!(sees(&other.netns, net.gateway()), second.to_string());
    // Our own address is tentative at first.
    let deadline = Instant::now() + PATIENCE;
    while lab.machine.run(|| TcpListener::bind((machine, 0))).is_err() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(sees(&other.netns, world), machine.to_string(), "with the machine's address");
    assert!(lab.world.fetch((address, 80), SHORT).is_err(), "not by a route through the machine");
    assert!(lab.world.fetch((net.gateway(), 80), SHORT).is_err(), "nor is the bridge reached so");
}
