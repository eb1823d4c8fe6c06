//! The agent and a DHCP server that others wrote: Debian's dnsmasq, for both versions and as the router.
//!
//! By default it is late by three seconds, and lost until that is told. The whole story, late by 40 s, and a lost lease that
//! is renewed when the server is back: `BERTH_DHCP_LATE=40 cargo test -p berth-net --test agent real_server`.

use crate::lab::{Lab, Netns, PATIENCE, SHORT, dhcp_on, rtnl};
use berth_net::netlink::Addr;
use berth_qemu::packages;
use berth_units::control::FromWorker;
use berth_units::model::Interface;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const ALL: [(&str, fn()); 5] = [
    (
        "a_real_server_gives_addresses_routes_names_and_mtu",
        a_real_server_gives_addresses_routes_names_and_mtu,
    ),
    ("a_real_server_gives_a_host_address", a_real_server_gives_a_host_address),
    ("a_real_server_gives_what_is_no_address", a_real_server_gives_what_is_no_address),
    ("a_real_server_is_late", a_real_server_is_late),
    ("a_real_server_is_lost", a_real_server_is_lost),
];

/// How late the server is.
fn late() -> Duration {
    let seconds =
        std::env::var("BERTH_DHCP_LATE").map(|seconds| seconds.parse().expect("BERTH_DHCP_LATE: seconds"));
    Duration::from_secs(seconds.unwrap_or(3))
}

/// dnsmasq, and what it needs of Debian.
struct Program(tempfile::TempDir);

impl Program {
    fn new() -> Self {
        let tar = packages::unpacked_tar(&["dnsmasq-base"]).expect("Debian's package");
        let folder = tempfile::tempdir().expect("folder");
        let libraries = ["./usr/sbin/dnsmasq", "./usr/lib/x86_64-linux-gnu", "./usr/lib64"];
        let mut command = Command::new("tar");
        command.arg("-xf").arg(tar).arg("-C").arg(folder.path()).arg("--no-same-owner").args(libraries);
        assert!(command.status().expect("tar").success(), "dnsmasq is not in its package");
        Self(folder)
    }

    /// Serves the world's end of the cable.
    fn serve(&self, lab: &Lab, options: &[&str]) -> Server {
        let root = self.0.path();
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(root.join("usr/sbin/dnsmasq"));
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--group=",
        ]);
        command.args(["--interface=w0", "--except-interface=lo", "--pid-file=", "--log-dhcp", "--no-ping"]);
        let file =
            |option: &str, name: &str| format!("--{option}={}", lab.folder.path().join(name).display());
        command.arg(file("dhcp-leasefile", "leases")).arg(file("log-facility", "dnsmasq.log"));
        command.args(options).stdin(Stdio::null());
        Server {
            process: lab.world.run(|| command.spawn().expect("dnsmasq")),
            log: lab.folder.path().join("dnsmasq.log"),
        }
    }
}

/// Ends when it is dropped, as if its power was cut.
struct Server {
    process: Child,
    log: std::path::PathBuf,
}

impl Server {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("dnsmasq says: {}", self.log());
        }
    }
}

/// Gives the world these addresses.
fn world(lab: &Lab, addresses: &[(&str, u8)]) {
    lab.world.run(|| {
        let mut rtnl = rtnl();
        let index = rtnl.link("w0").unwrap().unwrap().index;
        for (ip, prefix) in addresses {
            rtnl.add_address(&Addr { sure: true, ..Addr::new(index, ip.parse().unwrap(), *prefix) }).unwrap();
        }
    });
}

fn wait_until(what: &str, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !yes() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(SHORT);
    }
}

/// The address that the machine would use for a destination.
fn source(machine: &Netns, to: &str) -> Option<IpAddr> {
    let to: IpAddr = to.parse().unwrap();
    machine.run(|| {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().unwrap() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((to, 53)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    })
}

const V4: [&str; 6] = [
    "--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,1h",
    "--dhcp-option=option:router,192.0.2.1",
    "--dhcp-option=option:dns-server,192.0.2.53",
    "--dhcp-option=option:domain-name,four.example",
    "--dhcp-option=option:mtu,1300",
    "--dhcp-option=option:classless-static-route,0.0.0.0/0,192.0.2.1,198.51.100.0/24,192.0.2.9",
];
const V6: [&str; 4] = [
    "--enable-ra",
    "--dhcp-range=2001:db8::1:0,2001:db8::1:ff,64,1h",
    "--dhcp-option=option6:dns-server,[2001:db8::53]",
    "--dhcp-option=option6:domain-search,six.example",
];

fn a_real_server_gives_addresses_routes_names_and_mtu() {
    let (lab, program) = (Lab::new(), Program::new());
    world(&lab, &[("192.0.2.9", 24), ("198.51.100.1", 32), ("2001:db8::1", 64), ("2001:db8:f::1", 128)]);
    let server = program.serve(&lab, &[&V4[..], &V6].concat());
    lab.world.serve("world", 9000);
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    let four = init.wait_address("an IPv4 lease", |ip, prefix| ip.is_ipv4() && prefix == 24);
    init.wait_status(&format!("lease {four}/24 from 192.0.2.1"));
    // The router says that there is DHCPv6; nobody told the machine.
    let pool =
        |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.segments()[..7] == [0x2001, 0xdb8, 0, 0, 0, 0, 1]);
    let six = init.wait_address("an IPv6 lease", |ip, prefix| pool(ip) && prefix == 128);
    init.wait_status(&format!("lease {six} by DHCPv6"));
    for far in ["198.51.100.1", "192.0.2.9"] {
        let far: Ipv4Addr = far.parse().unwrap();
        assert_eq!(lab.machine.fetch((far, 9000), PATIENCE).unwrap(), format!("world sees {four}"));
    }
    assert_eq!(source(&lab.machine, "203.0.113.1"), Some(four), "the default route");
    wait_until("the default route that the router advertises", || {
        source(&lab.machine, "2001:db8:f::1") == Some(six)
    });
    assert_eq!(lab.machine.run(|| rtnl().link("up0")).unwrap().unwrap().mtu, 1300);
    let expected = "# Written by Berth's network agent.\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n\
                    search four.example six.example";
    wait_until("resolv.conf has both", || lab.resolv() == expected);
    let log = server.log();
    assert!(log.contains("node1"), "the server knows the machine's name: {log}");
    // The machine is called the same after the next start.
    assert!(log.contains("00:04:01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab:cd:ef"), "{log}");
    // With `false` nobody asks, and what was had goes.
    init.configure(Interface { dhcp6: Some(false), ..dhcp_on("up0") });
    init.wait("addresses without the lease", |message| match message {
        FromWorker::Addresses { addresses } => {
            let has = addresses.iter().any(|(_, address)| address.starts_with(&six.to_string()));
            (!has && addresses.iter().any(|(_, address)| address.starts_with("192.0.2."))).then_some(())
        }
        _ => None,
    });
}

/// As clouds have it: no network but the router.
fn a_real_server_gives_a_host_address() {
    let (lab, program) = (Lab::new(), Program::new());
    world(&lab, &[("198.51.100.1", 32)]);
    let options = [
        "--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,1h",
        "--dhcp-option=option:netmask,255.255.255.255",
        "--dhcp-option=option:classless-static-route,192.0.2.1/32,0.0.0.0,0.0.0.0/0,192.0.2.1",
    ];
    let _server = program.serve(&lab, &options);
    lab.world.serve("world", 9000);
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    let address = init.wait_address("a lease", |ip, prefix| ip.is_ipv4() && prefix == 32);
    init.wait_status(&format!("lease {address}/32 from 192.0.2.1"));
    let far: Ipv4Addr = "198.51.100.1".parse().unwrap();
    assert_eq!(lab.machine.fetch((far, 9000), PATIENCE).unwrap(), format!("world sees {address}"));
}

/// Addresses by SLAAC, name servers by DHCPv6: the router's flag O.
fn a_real_server_gives_what_is_no_address() {
    let (lab, program) = (Lab::new(), Program::new());
    world(&lab, &[("2001:db8::1", 64)]);
    let options = ["--enable-ra", "--dhcp-range=2001:db8::,ra-stateless,64,1h", V6[2], V6[3]];
    let _server = program.serve(&lab, &options);
    let mut init = lab.agent();
    init.configure(Interface { dhcp: false, ..dhcp_on("up0") });
    init.wait_address("an address by SLAAC", |ip, prefix| ip.is_ipv6() && prefix == 64);
    wait_until("resolv.conf", || lab.resolv().contains("nameserver 2001:db8::53\nsearch six.example"));
}

fn a_real_server_is_late() {
    let (lab, program) = (Lab::new(), Program::new());
    world(&lab, &[("2001:db8::1", 64)]);
    let mut init = lab.agent();
    let begin = Instant::now();
    init.configure(Interface { dhcp6: Some(true), ..dhcp_on("up0") });
    init.wait("ready", |message| matches!(message, FromWorker::Ready).then_some(()));
    // It is said while nobody answers.
    init.wait_status("no DHCP server has answered yet");
    init.wait_status("no DHCPv6 server has answered yet");
    std::thread::sleep(late().saturating_sub(begin.elapsed()));
    let _server = program.serve(&lab, &[&V4[..], &V6].concat());
    init.be_patient(late() * 2 + PATIENCE);
    let four = init.wait_address("an IPv4 lease", |ip, prefix| ip.is_ipv4() && prefix == 24);
    init.wait_address("an IPv6 lease", |ip, prefix| ip.is_ipv6() && prefix == 128);
    init.wait_status(&format!("lease {four}/24 from 192.0.2.1"));
    println!("    both leases {:.1} s after the first question", begin.elapsed().as_secs_f64());
}

fn a_real_server_is_lost() {
    let (lab, program) = (Lab::new(), Program::new());
    // The shortest lease that it gives is two minutes; it may be asked to have it extended sooner.
    let options = [
        "--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,2m",
        "--dhcp-option-force=option:T1,2",
        "--dhcp-option-force=option:T2,4",
    ];
    let server = program.serve(&lab, &options);
    let mut init = lab.agent();
    init.configure(dhcp_on("up0"));
    let address = init.wait_address("a lease", |ip, _| ip.is_ipv4());
    let renewals = |server: &Server| server.log().matches("DHCPACK").count();
    wait_until("it is renewed", || renewals(&server) > 1);
    drop(server);
    init.wait_status("its DHCP server does not answer, the lease ends in 1 min");
    if late() < Duration::from_secs(40) {
        return;
    }
    let server = program.serve(&lab, &options);
    let before = renewals(&server);
    init.be_patient(Duration::from_secs(120));
    init.wait_status_without("does not answer");
    assert!(renewals(&server) > before);
    drop(server);
    init.wait_addresses(&[]);
    init.wait_status("no DHCP server has answered");
    let _server = program.serve(&lab, &options);
    assert_eq!(init.wait_address("the lease again", |ip, _| ip.is_ipv4()), address);
}
