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
    }"#
        .replace(", \"mtu\": 1450", "")
        .replace("\"mtu\": 1450, ", "")
        .as_str(),
    );
    assert!(made.problems.is_empty() && made.notes.is_empty(), "{made:?}");
    assert_eq!(network.dns.len(), 1);
    let one = &network.interfaces[0];
    assert_eq!(one.matches, "fa:16:3e:9c:bf:3d");
    assert_eq!(
        (one.dhcp, &one.addresses[..]),
        (false, &["192.0.2.5/24".to_owned(), "2001:db8::5/64".to_owned()][..])
    );
    assert_eq!(one.gateways.len(), 2);
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
