use super::*;
use berth_units::config;

fn made(json: &str) -> (config_of::Network, Translation) {
    let made = translate("network_data.json", json.as_bytes());
    let text = format!("format = 1\n{}", made.toml);
    let config = config::parse("x", text.as_bytes()).unwrap_or_else(|report| panic!("{text}{report}"));
    (config.network, made)
}

mod config_of {
    pub type Network = berth_units::model::MachineNetwork;
}

#[test]
fn what_nova_writes_becomes_a_network() {
    let (network, made) = made(
        r#"{
        "links": [
            {"id": "tap1", "vif_id": "1", "type": "ovs", "mtu": 1450, "ethernet_mac_address": "FA:16:3E:9C:BF:3D"},
            {"id": "tap2", "type": "phy", "ethernet_mac_address": "fa:16:3e:9c:bf:3e"}
        ],
        "networks": [
            {"id": "network0", "link": "tap1", "type": "ipv4", "ip_address": "192.0.2.5", "netmask": "255.255.255.0",
             "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"}], "network_id": "x"},
            {"id": "network1", "link": "tap1", "type": "ipv6", "ip_address": "2001:db8::5/64", "gateway": "2001:db8::1"},
            {"id": "network2", "link": "tap2", "type": "ipv4_dhcp"}
        ],
        "services": [{"type": "dns", "address": "192.0.2.53"}, {"type": "ntp", "address": "192.0.2.123"}]
    }"#,
    );
    assert!(made.problems.is_empty() && made.notes.is_empty(), "{made:?}");
    assert_eq!(network.dns.len(), 1);
    let one = &network.interfaces[0];
    assert_eq!(one.matches, "fa:16:3e:9c:bf:3d");
    assert_eq!(
        (one.dhcp, &one.addresses[..]),
        (false, &["192.0.2.5/24".to_owned(), "2001:db8::5/64".to_owned()][..])
    );
    assert_eq!((one.gateways.len(), one.mtu), (2, Some(1450)));
    assert!(network.interfaces[1].dhcp);
}

#[test]
fn what_is_not_understood_is_told() {
    for (json, why) in [
        ("[", "no JSON table"),
        (r#"{"networks": [{"link": "x", "type": "ipv4_dhcp"}]}"#, "there is no link \"x\""),
        (r#"{"links": [{"id": "a", "type": "phy"}]}"#, "has no ethernet_mac_address"),
        (
            r#"{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56"}],
                "networks": [{"link": "a", "type": "ipv4", "ip_address": "192.0.2.5", "netmask": "255.0.255.0"}]}"#,
            "no address with its netmask",
        ),
        (
            r#"{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56"}],
                "networks": [{"link": "a", "type": "ipx"}]}"#,
            "type \"ipx\"",
        ),
    ] {
        let made = translate("network_data.json", json.as_bytes());
        assert!(made.problems[0].contains(why), "{made:?}");
    }
}

#[test]
fn vlans_and_bonds_are_of_the_links_that_they_name() {
    let (network, made) = made(
        r#"{
        "links": [
            {"id": "eth0", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01"},
            {"id": "eth1", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:02"},
            {"id": "bond0", "type": "bond", "ethernet_mac_address": "52:54:00:00:00:01", "bond_links": ["eth0", "eth1"],
             "bond_mode": "802.3ad", "bond_miimon": 50, "bond_xmit_hash_policy": "layer3+4"},
            {"id": "vlan.7", "type": "vlan", "vlan_link": "bond0", "vlan_id": 7, "vlan_mac_address": "52:54:00:00:00:01"}
        ],
        "networks": [{"id": "n", "link": "vlan.7", "type": "ipv4", "ip_address": "192.0.2.5", "netmask": "255.255.255.0",
                      "routes": [{"network": "198.51.100.0", "netmask": "255.255.255.0", "gateway": "192.0.2.9"}]}]
    }"#,
    );
    assert!(made.problems.is_empty(), "{made:?}");
    assert_eq!(network.bonds[0].interfaces, ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
    assert_eq!((network.vlans[0].link.as_str(), network.vlans[0].id), ("bond0", 7));
    let vlan = network.interfaces.iter().find(|interface| interface.matches == "vlan.7").unwrap();
    assert_eq!((vlan.addresses.len(), vlan.routes.len()), (1, 1));
}

proptest::proptest! {
    /// Whatever the texts are, what is made of them is TOML, and says nothing that they do not.
    #[test]
    fn any_text_stays_a_text(texts in proptest::collection::vec(".{0,20}", 9), kind in "phy|bond|vlan|.{0,4}", net in "ipv4|ipv6|ipv4_dhcp|ipv6_slaac|.{0,4}") {
        let t = |n: usize| texts[n].clone();
        let json = serde_json::json!({
            "links": [{"id": t(0), "type": kind, "ethernet_mac_address": format!("{}:{}", t(1), t(2)), "vlan_link": t(0), "vlan_id": 7,
                       "bond_links": [t(0), t(3)], "bond_mode": t(4), "mtu": t(5)}],
            "networks": [{"link": t(0), "type": net, "ip_address": "192.0.2.5/24", "gateway": t(6),
                          "routes": [{"network": "198.51.100.0/24", "gateway": t(7)}]}],
            "services": [{"type": "dns", "address": t(8)}],
        });
        let made = translate("x", json.to_string().as_bytes());
        proptest::prop_assert!(toml::de::DeTable::parse(&made.toml).is_ok(), "{}", made.toml);
        fuzz(json.to_string().as_bytes());
        crate::configdrive::fuzz(json.to_string().as_bytes());
        crate::nocloud::fuzz(json.to_string().as_bytes());
    }
}
