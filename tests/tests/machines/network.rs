//! `[network]` on a machine whose other cards' cables end in this test: every frame that one sends is a datagram here.

use anyhow::{Context, Result, ensure};
use berth_net::dhcp::message::{Kind, Message, Op};
use berth_net::dhcp::{self, packet};
use berth_tests::{Firmware, Guest, SOON};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

const BROADCAST: [u8; 6] = [0xff; 6];
/// Of whoever is at the other end of the cables.
const SWITCH: [u8; 6] = [2, 0, 0, 0, 0, 1];
const VLAN: u16 = 42;
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const LEASED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 50);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// A ping that is lost is sent again after so long.
const AGAIN: Duration = Duration::from_millis(500);

/// Two cables, and what comes out of them.
struct Cables {
    sockets: Vec<UdpSocket>,
    /// Of QEMU's ends.
    ports: Vec<u16>,
    heard: Receiver<(usize, Vec<u8>)>,
}

/// One Ethernet frame, taken apart.
#[derive(Debug)]
struct Frame {
    from: [u8; 6],
    vlan: Option<u16>,
    kind: u16,
    payload: Vec<u8>,
}

impl Frame {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let from = *bytes.get(6..)?.first_chunk()?;
        let (vlan, at) = match number(12)? {
            0x8100 => (Some(number(14)? & 0xfff), 16),
            _ => (None, 12),
        };
        Some(Self { from, vlan, kind: number(at)?, payload: bytes.get(at + 2..)?.to_vec() })
    }

    fn bytes(to: [u8; 6], vlan: Option<u16>, kind: u16, payload: &[u8]) -> Vec<u8> {
        let tag = vlan.map(|id| [0x8100_u16.to_be_bytes(), id.to_be_bytes()].concat()).unwrap_or_default();
        let mut bytes = [&to[..], &SWITCH, &tag, &kind.to_be_bytes(), payload].concat();
        bytes.resize(bytes.len().max(64), 0);
        bytes
    }
}

/// What somebody in the VLAN asks of DHCP servers.
fn question(frame: &Frame) -> Option<Message> {
    let to_server = frame.kind == 0x0800 && frame.payload.get(22..24) == Some(&67_u16.to_be_bytes());
    let bytes = frame.payload.get(28..).filter(|_| to_server && frame.vlan == Some(VLAN))?;
    dhcp::parse(bytes).ok()
}

impl Cables {
    fn new() -> Result<Self> {
        let (tell, heard) = mpsc::channel();
        let (mut sockets, mut ports) = (Vec::new(), Vec::new());
        for cable in 0..2 {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            // QEMU wants to be told its own port; this one was free a moment ago.
            ports.push(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
            let (from, tell) = (socket.try_clone()?, tell.clone());
            thread::spawn(move || {
                let mut buffer = [0; 65_536];
                // QEMU's end may not be open yet, or not any more.
                loop {
                    let Ok(length) = from.recv(&mut buffer) else { continue };
                    if tell.send((cable, buffer[..length].to_vec())).is_err() {
                        return;
                    }
                }
            });
            sockets.push(socket);
        }
        Ok(Self { sockets, ports, heard })
    }

    /// QEMU's arguments.
    fn arguments(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for (n, (socket, port)) in self.sockets.iter().zip(&self.ports).enumerate() {
            let here = socket.local_addr()?.port();
            let host = "type=inet,X.host=127.0.0.1,X.port=";
            let end = |whose: &str, port: u16| format!("{whose}.{}{port}", host.replace('X', whose));
            all.extend([
                "-netdev".to_owned(),
                format!("dgram,id=cable{n},{},{}", end("local", *port), end("remote", here)),
            ]);
            let card = format!("virtio-net-pci,id=card{n},netdev=cable{n},mac=52:54:00:be:01:0{n},romfile=");
            all.extend(["-device".to_owned(), card]);
        }
        Ok(all)
    }

    fn send(&self, cable: usize, frame: &[u8]) {
        // Nobody there yet is a frame lost, as on any cable.
        let _ =
            self.sockets[cable].send_to(frame, SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[cable])));
    }

    /// Answers as router and neighbour do until a frame comes that `wanted` makes something of.
    fn until<T>(&self, end: Instant, wanted: impl Fn(usize, &Frame) -> Option<T>) -> Option<T> {
        loop {
            let (cable, bytes) =
                self.heard.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
            let Some(frame) = Frame::parse(&bytes) else { continue };
            self.answer(cable, &frame);
            if let Some(found) = wanted(cable, &frame) {
                return Some(found);
            }
        }
    }

    fn answer(&self, cable: usize, frame: &Frame) {
        if frame.kind == 0x0806 && frame.payload.get(6..8) == Some(&[0, 1]) {
            let who = if frame.vlan == Some(VLAN) { ROUTER } else { NEIGHBOUR };
            let (Some(asker), Some(asked)) = (frame.payload.get(8..18), frame.payload.get(24..28)) else {
                return;
            };
            if asked == who.octets() {
                let reply = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &SWITCH, &who.octets(), asker].concat();
                self.send(cable, &Frame::bytes(frame.from, frame.vlan, 0x0806, &reply));
            }
        }
        if let Some(question) = question(frame) {
            let kind = if question.kind == Kind::Discover { Kind::Offer } else { Kind::Ack };
            let mut reply = Message::new(Op::Reply, kind, question.xid, question.mac);
            (reply.server, reply.yiaddr, reply.prefix, reply.lease) =
                (Some(ROUTER), LEASED, Some(24), Some(3600));
            let packet = packet::wrap((ROUTER, 67), (Ipv4Addr::BROADCAST, 68), &reply.to_bytes());
            self.send(cable, &Frame::bytes(BROADCAST, frame.vlan, 0x0800, &packet));
        }
    }

    /// Pings the machine by one cable until its answer comes back by the same one.
    fn ping(&self, cable: usize, vlan: Option<u16>, to: Ipv4Addr, mac: [u8; 6]) -> Result<()> {
        let from = if vlan.is_some() { ROUTER } else { NEIGHBOUR };
        let end = Instant::now() + SOON;
        for number in 0_u16.. {
            ensure!(Instant::now() < end, "{to} does not answer by cable {cable}");
            let mut echo = [&[8, 0, 0, 0, 0xbe, 0x27][..], &number.to_be_bytes()].concat();
            let sum = packet::checksum(&[&echo]);
            echo[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut ip = [
                &[0x45, 0][..],
                &28_u16.to_be_bytes(),
                &[0, 0, 0, 0, 64, 1, 0, 0],
                &from.octets(),
                &to.octets(),
            ]
            .concat();
            let sum = packet::checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            self.send(cable, &Frame::bytes(mac, vlan, 0x0800, &[ip, echo].concat()));
            let again = end.min(Instant::now() + AGAIN);
            let reply = |by: usize, frame: &Frame| {
                let ours = frame.payload.get(20..22) == Some(&[0, 0])
                    && frame.payload.get(24..26) == Some(&[0xbe, 0x27]);
                let whole = frame.kind == 0x0800 && frame.payload.get(12..16) == Some(&to.octets());
                (by == cable && frame.vlan == vlan && whole && ours).then_some(())
            };
            if self.until(again, reply).is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[test]
fn a_bond_of_two_cards_carries_a_vlan_and_outlives_the_loss_of_one() -> Result<()> {
    let config = r#"
[[network.interface]]
match = "eth0"

[[network.bond]]
name = "bond0"
interfaces = ["52:54:00:BE:01:00", "52:54:00:be:01:01"]
mode = "active-backup"
primary = "52:54:00:BE:01:00"
miimon = 50

[[network.vlan]]
name = "office"
link = "bond0"
id = 42
mtu = 1400

[[network.interface]]
match = "office"

[[network.interface]]
match = "bond0"
address = "203.0.113.5/24"
ra = false
"#;
    let cables = Cables::new()?;
    let arguments = cables.arguments()?;
    let plan = Guest::new(Firmware::Direct)?.with_config(config)?.without_web_image();
    let cards = move |machine: berth_qemu::machine::Machine| {
        machine.raw(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut guest = plan.machine(cards).boot()?;
    let end = Instant::now() + berth_tests::BOOT;
    let asks = |cable: usize, frame: &Frame| question(frame).map(|_| (cable, frame.from));
    let (first, mac) = cables.until(end, asks).context("nobody asked for an address in the VLAN")?;
    assert_eq!((first, mac), (0, [0x52, 0x54, 0, 0xbe, 1, 0]), "by the first card, with its address");
    let takes = |_: usize, frame: &Frame| {
        let question = question(frame).filter(|question| question.kind == Kind::Request);
        question.and_then(|question| question.hostname)
    };
    assert_eq!(cables.until(end, takes).as_deref(), Some("test"), "the offer is taken");
    guest.ready()?;
    cables.ping(0, Some(VLAN), LEASED, mac)?;
    cables.ping(0, None, ADDRESS, mac)?;
    let addresses = guest.client()?.machine()?.addresses;
    for (name, address) in [("office", "198.51.100.50/24"), ("bond0", "203.0.113.5/24")] {
        assert!(addresses.contains(&(name.to_owned(), address.to_owned())), "{addresses:?}");
    }
    let status = guest.unit("net")?.reason;
    assert!(!status.contains("not ") && !status.contains("no carrier"), "{status}");

    guest.running().qmp("set_link", json!({ "name": "card0", "up": false }))?;
    cables.ping(1, Some(VLAN), LEASED, mac)?;
    cables.ping(1, None, ADDRESS, mac)?;
    guest.until_status("net", SOON, |net| {
        net.reason.contains("bond0: its member 52:54:00:BE:01:00 has no carrier")
    })?;
    guest.running().qmp("set_link", json!({ "name": "card0", "up": true }))?;
    cables.ping(0, Some(VLAN), LEASED, mac)?;
    guest.until_status("net", SOON, |net| !net.reason.contains("no carrier"))?;
    guest.power_off()?;
    Ok(())
}
