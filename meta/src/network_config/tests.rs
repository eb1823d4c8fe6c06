use super::*;

/// The text, of which Berth's checker finds nothing wrong.
fn text(document: &str) -> String {
    let parsed = yaml::parse(document);
    assert!(parsed.mistakes.is_empty(), "{:?}", parsed.mistakes);
    let mut sheet = Sheet::new("network-config", &parsed.root);
    network_of(&mut sheet, parsed.root.get("network").unwrap_or(&parsed.root));
    let text = sheet.toml.write().text;
    let translation = sheet.finish(false);
    assert_eq!(translation.problems, [""; 0], "{document}\n{text}");
    text
}

fn of(document: &str) -> Translation {
    let translation = translate("network-config", document.as_bytes());
    sound(&translation);
    translation
}

fn problems(document: &str) -> Vec<String> {
    of(document).problems
}

#[test]
fn version_1() {
    let document = "network:\n  version: 1\n  config:\n  - type: physical\n    name: eth0\n    mac_address: 'c0:d6:9f:2c:e8:80'\n    mtu: 9000\n    subnets:\n    - {type: static, address: \
                    10.0.0.5, netmask: 255.255.255.0, gateway: 10.0.0.1, dns_nameservers: [10.0.0.53], dns_search: [a.lan]}\n    - {type: static6, address: '2001:db8::5/64'}\n    - type: \
                    ipv6_slaac\n    - {type: dhcp6, control: auto}\n  - {type: physical, name: eth1, subnets: [{type: dhcp, routes: [{destination: 10.2.0.0, netmask: 16, gateway: 10.1.0.9, \
                    metric: 5}]}]}\n  - {type: loopback, name: lo}\n  - {type: nameserver, address: 10.0.0.54, search: [a.lan, b.lan]}\n  - {type: route, destination: 10.9.0.0/16, gateway: \
                    10.0.0.9}\n  - {type: route, network: 0.0.0.0, netmask: 0.0.0.0, gateway: 10.0.0.8, metric: 700}\n";
    assert_eq!(
        text(document),
        "[network]\ndns = [\"10.0.0.53\", \"10.0.0.54\"]\nsearch = [\"a.lan\", \"b.lan\"]\n\n[[network.interface]]\nmatch = \"c0:d6:9f:2c:e8:80\"\ndhcp = false\ndhcp6 = true\nra = true\naddress = \
         [\"10.0.0.5/24\", \"2001:db8::5/64\"]\ngateway = [\"10.0.0.1\"]\nmtu = 9000\n\n[[network.interface.routes]]\nto = \"10.9.0.0/16\"\nvia = \"10.0.0.9\"\n\n[[network.interface.routes]]\nto = \
         \"0.0.0.0/0\"\nvia = \"10.0.0.8\"\nmetric = 700\n\n[[network.interface]]\nmatch = \"eth1\"\ndhcp = true\n\n[[network.interface.routes]]\nto = \"10.2.0.0/16\"\nvia = \"10.1.0.9\"\nmetric = 5\n"
    );
}

#[test]
fn bonds_and_vlans_of_version_1() {
    let document = "version: 1\nconfig:\n- {type: physical, name: gbe0, mac_address: 'cd:11:22:33:44:00'}\n- {type: physical, name: gbe1, mac_address: 'cd:11:22:33:44:02'}\n- type: bond\n  name: \
                    bond0\n  bond_interfaces: [gbe0, gbe1]\n  params: {bond-mode: 802.3ad, bond-lacp_rate: fast, bond_miimon: 200}\n- {type: vlan, name: bond0.200, vlan_link: bond0, vlan_id: 200, \
                    subnets: [{type: dhcp4}]}\n- {type: physical, name: eth0, mac_address: 'cd:11:22:33:44:04'}\n- {type: vlan, name: v5, vlan_link: eth0, vlan_id: 5, mtu: 1400}\n";
    assert_eq!(
        text(document),
        "[[network.interface]]\nmatch = \"bond0\"\ndhcp = false\n\n[[network.interface]]\nmatch = \"bond0.200\"\ndhcp = true\n\n[[network.interface]]\nmatch = \"cd:11:22:33:44:04\"\ndhcp = \
         false\n\n[[network.interface]]\nmatch = \"v5\"\ndhcp = false\nmtu = 1400\n\n[[network.vlan]]\nname = \"bond0.200\"\nlink = \"bond0\"\nid = 200\n\n[[network.vlan]]\nname = \"v5\"\nlink = \
         \"cd:11:22:33:44:04\"\nid = 5\n\n[[network.bond]]\nname = \"bond0\"\ninterfaces = [\"cd:11:22:33:44:00\", \"cd:11:22:33:44:02\"]\nmode = \"802.3ad\"\nlacp_rate = \"fast\"\nmiimon = 200\n"
    );
}

#[test]
fn version_2() {
    let document = "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    lan:\n      match: {macaddress: 'c0:d6:9f:2c:e8:80'}\n      set-name: lan0\n      addresses: [10.0.0.5/24, \
                    '2001:db8::5/64']\n      gateway6: '2001:db8::1'\n      routes:\n      - {to: default, via: 10.0.0.1}\n      - {to: 10.8.0.0/16, via: 10.0.0.9, metric: 7}\n      nameservers: \
                    {addresses: [10.0.0.53], search: [a.lan]}\n      accept-ra: no\n      optional: true\n    eth1:\n      dhcp4: true\n      dhcp6: 'false'\n      dhcp4-overrides: {use-dns: \
                    true, send-hostname: false}\n    eth2: {addresses: [192.0.2.7/32], routes: [{to: 0.0.0.0/0, via: 172.31.1.1, on-link: true}]}\n    eth3: {addresses: [192.0.2.70/26], routes: \
                    [{to: default, via: 172.31.1.1, on-link: true, metric: 9}]}\n    e4: {}\n    e5: {}\n  bonds:\n    bond0:\n      interfaces: [e4, e5]\n      dhcp4: true\n      parameters: {mode: \
                    active-backup, mii-monitor-interval: 100ms, primary: e4, transmit-hash-policy: layer3+4}\n  vlans:\n    v7: {id: 7, link: lan, addresses: [10.7.0.1/24]}\n";
    assert_eq!(
        text(document),
        "[network]\ndns = [\"10.0.0.53\"]\nsearch = [\"a.lan\"]\n\n[[network.interface]]\nmatch = \"c0:d6:9f:2c:e8:80\"\ndhcp = false\nra = false\naddress = [\"10.0.0.5/24\", \
         \"2001:db8::5/64\"]\ngateway = [\"2001:db8::1\", \"10.0.0.1\"]\n\n[[network.interface.routes]]\nto = \"10.8.0.0/16\"\nvia = \"10.0.0.9\"\nmetric = 7\n\n[[network.interface]]\nmatch = \
         \"eth1\"\ndhcp = true\n\n[[network.interface]]\nmatch = \"eth2\"\ndhcp = false\naddress = [\"192.0.2.7/32\"]\ngateway = [\"172.31.1.1\"]\n\n[[network.interface]]\nmatch = \"eth3\"\ndhcp = false\naddress \
         = [\"192.0.2.70/26\"]\n\n[[network.interface.routes]]\nto = \"172.31.1.1/32\"\n\n[[network.interface.routes]]\nto = \"0.0.0.0/0\"\nvia = \"172.31.1.1\"\nmetric = \
         9\n\n[[network.interface]]\nmatch = \"bond0\"\ndhcp = true\n\n[[network.interface]]\nmatch = \"v7\"\ndhcp = false\naddress = [\"10.7.0.1/24\"]\n\n[[network.vlan]]\nname = \"v7\"\nlink = \
         \"c0:d6:9f:2c:e8:80\"\nid = 7\n\n[[network.bond]]\nname = \"bond0\"\ninterfaces = [\"e4\", \"e5\"]\nmode = \"active-backup\"\nmiimon = 100\nprimary = \"e4\"\nxmit_hash_policy = \
         \"layer3+4\"\n"
    );
}

#[test]
fn what_holds_anyway_needs_no_word() {
    for document in [
        "version: 2\nethernets:\n  all:\n    match: {name: 'e*'}\n    dhcp4: true\n    dhcp6: true\n",
        "network: {version: 2, ethernets: {}}\n",
        "version: 1\nconfig: []\n",
    ] {
        let translation = of(document);
        assert_eq!((translation.toml.as_str(), translation.problems.len()), ("", 0), "{document}");
        assert!(translation.notes[0].contains("DHCP and SLAAC"), "{:?}", translation.notes);
    }
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let v2 = |fields: &str| format!("version: 2\nethernets:\n  eth0: {{{fields}}}\n");
    for (document, says) in [
        (v2("dhcp4: maybe"), "network-config:3:17: ethernets: eth0: dhcp4: is a text, expected true or false"),
        (v2("dhcp: true"), "3:10: unknown key \"dhcp\" in ethernets: eth0; did you mean \"dhcp4\"?"),
        (v2("match: {driver: virtio}"), "ethernets: eth0: match: driver: a driver matches whatever it drives"),
        (v2("match: {name: 'en*'}, addresses: [10.0.0.1/8]"), "en* matches whatever is called so"),
        (v2("addresses: [10.0.0.300/24]"), "3:22: \"10.0.0.300/24\" in address has \"10.0.0.300\" for an address"),
        (v2("addresses: [{10.0.0.1/24: {label: x}}]"), "no label"),
        (v2("macaddress: '00:11:22:33:44:55'"), "keeps its own hardware address"),
        (v2("dhcp4: true, dhcp4-overrides: {use-dns: false}"), "name servers that DHCP names are used"),
        (v2("dhcp4: true, dhcp4-overrides: {use-routes: false}"), "give the address itself"),
        (v2("match: {macaddress: 52:54:00:12:34:56}"), "is a number to base 60 (\"52:54:00:12:34:56\" without quotes)"),
        ("version: 2\nethernets: {a: {dhcp4: yes, dhcp4-overrides: {route-metric: 5}}, b: {}}".into(), "route-metric: what DHCP names has metric 1000"),
        ("version: 2\nbridges: {br0: {interfaces: [a]}}".into(), "2:1: bridges: there are no bridges"),
        ("version: 2\nvlans: {v: {id: 5}}".into(), "vlans: v: needs id and link"),
        ("version: 3\n".into(), "1:10: version: there are versions 1 and 2"),
        ("ethernets: {}\n".into(), "version: is missing"),
        ("[]".into(), "network: is a list"),
        ("network: {config: disabled}".into(), "could not be asked anything"),
        ("network: {version: 2}\nhostname: x\n".into(), "2:1: hostname: beside network there is nothing"),
        ("version: 1\nconfig: [{type: bridge, name: b}]".into(), "bridge: there are no bridges"),
        ("version: 1\nconfig: [{type: phsical, name: b}]".into(), "did you mean \"physical\"?"),
        ("version: 1\nconfig: [{type: physical}]".into(), "name is missing"),
        ("version: 1\nconfig: [{type: physical, name: a, subnets: [{type: dchp}]}]".into(), "did you mean \"dhcp\"?"),
        ("version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 1.2.3.4, netmask: 255.0.255.0}]}]".into(), "is not a netmask"),
        ("version: 1\nconfig: [{type: physical, name: a, subnets: [{type: dhcp, control: manual}]}]".into(), "take this subnet out"),
        ("version: 1\nconfig: [{type: route, destination: 10.0.0.0/8, gateway: 1.2.3.4}]".into(), "no interface has an address in the network of the router 1.2.3.4"),
        ("version: 1\nconfig: [{type: bond, name: a, bond_interfaces: [b], params: {bond-min_links: 2}}]".into(), "min-links: this parameter of a bond cannot be set"),
        ("version: 2\nversion: 2\n".into(), "2:1: \"version\" is there twice"),
        ("version: 2\nethernets: {a: [\n".into(), "not valid YAML"),
    ] {
        let told = problems(&document);
        assert!(told.iter().any(|line| line.contains(says)), "{document}\n{told:#?}");
    }
}

#[test]
fn what_is_beyond_doubt_of_a_refused_one_is_used() {
    let translation = of(
        "version: 2\nethernets:\n  eth0: {addresses: [192.0.2.5/24], gatway4: 192.0.2.1}\n  eth1: {dhcp4: true}\n  eth2: {addresses: [x]}\nbridges: {br0: {interfaces: [eth3]}}\n",
    );
    assert_eq!(translation.problems.len(), 2, "{:?}", translation.problems);
    let config =
        berth_units::config::parse("x", format!("format = 1\n{}", translation.toml).as_bytes()).unwrap();
    let found: Vec<_> =
        config.network.interfaces.iter().map(|one| (one.matches.as_str(), one.dhcp)).collect();
    assert_eq!(found, [("eth0", false), ("eth1", true)]);
    // Where the text breaks off, the network may have gone on.
    assert_eq!(of("version: 2\nethernets:\n  eth0: {dhcp4: true}\n  eth1: {\n").toml, "");
}

#[test]
fn it_is_recognised() {
    for yes in ["network: {version: 2}", "version: 2\nethernets: {}\n", "version: 1\nconfig: []\n"] {
        assert!(looks_like(yes.as_bytes()), "{yes}");
    }
    for no in ["", "version: 2", "hostname: a", "format = 1", "[network]\ndns = []", "\u{0}"] {
        assert!(!looks_like(no.as_bytes()), "{no}");
    }
}

#[test]
fn the_samples_are_taken() {
    let one = of(include_str!("../../tests/data/documents/network-v1.yaml"));
    let two = of(include_str!("../../tests/data/documents/network-v2.yaml"));
    for translation in [&one, &two] {
        assert_eq!(translation.problems, [""; 0]);
        let text = format!("format = 1\n{}", translation.toml);
        let config = berth_units::config::parse("x", text.as_bytes()).unwrap();
        assert_eq!(config.network.interfaces.len(), 2);
    }
    assert_eq!(one.toml, two.toml, "they say the same");
}
