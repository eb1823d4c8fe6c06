use super::*;
use crate::decode;

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICoSPr3kwfnEQbZvbmqLt/K2VlzByCVC8hrAXDEraZHE two";

fn place() -> Place {
    Place { name: "ec2".into(), source: Some("ec2") }
}

fn links() -> Option<Network> {
    let data = br#"{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56"}],
        "networks": [{"id": "n", "type": "ipv4", "link": "a", "ip_address": "192.0.2.5", "netmask": "255.255.255.0"}]}"#;
    Some(Network::Data(data.to_vec()))
}

fn salvaged(composed: Composed) -> (String, berth_units::model::MachineConfig) {
    match composed {
        Composed::Refused { report, salvage } => (report, config::parse("x", &salvage).unwrap()),
        Composed::Config(text) => panic!("{}", String::from_utf8_lossy(&text)),
    }
}

#[test]
fn a_place_without_instances_gives_the_text_as_it_is() {
    let place = Place { name: "fw_cfg".into(), source: None };
    for stored in [&b"format = 1\n# mine"[..], &decode::tests::gzipped(b"format = 1\n# mine")] {
        let said = Said { user_data: Some(stored.to_vec()), ..Said::default() };
        let (composed, notes) = compose(&place, said, Some("x"));
        assert_eq!((composed, notes), (Composed::Config(b"format = 1\n# mine".to_vec()), vec![]));
    }
}

#[test]
fn user_data_network_and_instance_are_one_text() {
    let user = format!("format = 1\nhostname = \"own\"\naccess.keys = [\"{ONE}\"]");
    let said = Said {
        id: Some("i-1".into()),
        hostname: Some("given".into()),
        keys: vec![TWO.into()],
        user_data: Some(user.clone().into_bytes()),
        network: links(),
        ..Said::default()
    };
    let (composed, _) = compose(&place(), said, Some(&"a".repeat(32)));
    let Composed::Config(text) = composed else { panic!("{composed:?}") };
    let config = config::parse("x", &text).unwrap();
    assert_eq!(config.hostname.as_deref(), Some("own"));
    assert_eq!(config.access_keys, [ONE, TWO]);
    assert_eq!(config.network.interfaces[0].addresses, ["192.0.2.5/24"]);
    assert_eq!(config.instance.unwrap().uuid, Some("a".repeat(32)));
    assert!(String::from_utf8(text).unwrap().starts_with(&user));
}

#[test]
fn what_is_refused_costs_neither_network_nor_keys() {
    let said = |user: &str| Said {
        keys: vec![TWO.into()],
        user_data: Some(user.as_bytes().to_vec()),
        network: links(),
        ..Said::default()
    };
    let (report, left) = salvaged(compose(&place(), said("format = 1\nfoo = 1\n"), None).0);
    assert!(report.contains("ec2:2:1"), "{report}");
    assert_eq!((left.access_keys.len(), left.network.interfaces.len()), (1, 1));
    // A network of its own counts, even if it is the mistake.
    let own = format!("format = 1\naccess.keys = [\"{ONE}\"]\n[network]\ndns = \"192.0.2.53\"\nfoo = 1\n");
    let (_, left) = salvaged(compose(&place(), said(&own), None).0);
    assert_eq!((left.access_keys.len(), left.network.interfaces.len(), left.network.dns.len()), (2, 0, 1));
    // Metadata's own mistakes.
    let mut bad = said("format = 1\nhostname = \"own\"\n");
    bad.network = Some(Network::Data(b"{".to_vec()));
    let (report, left) = salvaged(compose(&place(), bad, None).0);
    assert!(report.contains("ec2 network_data.json: is no JSON"), "{report}");
    assert_eq!((left.access_keys.len(), left.hostname.as_deref()), (1, Some("own")));
}

#[test]
fn a_cloud_config_is_translated_and_its_mistakes_cost_neither_keys_nor_name() {
    let said = |text: &str| Said { keys: vec![TWO.into()], user_data: Some(text.into()), ..Said::default() };
    let (composed, notes) =
        compose(&place(), said("#cloud-config\nhostname: own\ngrowpart: {mode: auto}\n"), None);
    let Composed::Config(text) = composed else { panic!("{composed:?}") };
    assert_eq!(config::parse("x", &text).unwrap().hostname.as_deref(), Some("own"));
    assert!(notes[0].starts_with("ec2:3: growpart"), "{notes:?}");
    let text = format!("#cloud-config\nhostname: own\nssh_authorized_keys: [\"{ONE}\"]\npackages: [x]\n");
    let (report, left) = salvaged(compose(&place(), said(&text), None).0);
    assert!(report.contains("ec2:4:1: packages"), "{report}");
    assert_eq!((left.access_keys, left.hostname.as_deref()), (vec![ONE.into(), TWO.into()], Some("own")));
    let bomb = format!(
        "#cloud-config\na: &a [x,x,x,x,x,x,x,x]\n{}",
        (0..20).fold(String::new(), |text, n| {
            let (of, name) = (if n == 0 { "a".into() } else { format!("b{}", n - 1) }, format!("b{n}"));
            format!("{text}{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n")
        })
    );
    let (report, left) = salvaged(compose(&place(), said(&bomb), None).0);
    assert!(report.len() < 64 * 1024 && left.access_keys == [TWO], "{report}");
}
