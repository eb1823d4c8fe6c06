//! Counters of interfaces. Each unit on the bridge has one, at the machine's end of its cable: the network agent has
//! given it the unit's name as its alias.

use super::{Traffic, number, text};
use crate::limits;
use std::collections::BTreeMap;
use std::path::Path;

/// By unit, and by name of the machine's other interfaces; its loopback is left out.
pub fn traffic(sys: &Path) -> (BTreeMap<String, Traffic>, BTreeMap<String, Traffic>) {
    let (mut units, mut machine) = (BTreeMap::new(), BTreeMap::new());
    let entries = std::fs::read_dir(sys.join("class/net")).into_iter().flatten().flatten();
    for entry in entries.take(limits::INTERFACES) {
        let (Ok(name), Some(traffic)) = (entry.file_name().into_string(), counters(&entry.path())) else {
            continue;
        };
        let alias = text(&entry.path().join("ifalias")).unwrap_or_default();
        match alias.trim() {
            "" if name == "lo" => {}
            "" => drop(machine.insert(name, traffic)),
            // What the machine's end receives, the unit has sent.
            unit => drop(units.insert(
                unit.to_owned(),
                Traffic {
                    received_bytes: traffic.sent_bytes,
                    received_packets: traffic.sent_packets,
                    sent_bytes: traffic.received_bytes,
                    sent_packets: traffic.received_packets,
                },
            )),
        }
    }
    (units, machine)
}

fn counters(interface: &Path) -> Option<Traffic> {
    let counter = |name: &str| number(&interface.join("statistics").join(name));
    Some(Traffic {
        received_bytes: counter("rx_bytes")?,
        received_packets: counter("rx_packets")?,
        sent_bytes: counter("tx_bytes")?,
        sent_packets: counter("tx_packets")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_receives_what_the_machine_sends() {
        let sys = tempfile::tempdir().unwrap();
        for (name, alias, rx, tx) in [("eth0", "", 1, 2), ("v0a580002", "web\n", 10, 20), ("lo", "", 5, 5)] {
            let folder = sys.path().join("class/net").join(name);
            std::fs::create_dir_all(folder.join("statistics")).unwrap();
            std::fs::write(folder.join("ifalias"), alias).unwrap();
            for (file, value) in [("rx_bytes", rx), ("rx_packets", rx), ("tx_bytes", tx), ("tx_packets", tx)]
            {
                std::fs::write(folder.join("statistics").join(file), format!("{value}\n")).unwrap();
            }
        }
        let (units, machine) = traffic(sys.path());
        let web = units["web"];
        assert_eq!(
            (web.received_bytes, web.sent_bytes, web.received_packets, web.sent_packets),
            (20, 10, 20, 10)
        );
        assert_eq!(machine.keys().collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(machine["eth0"].received_bytes, 1);
    }
}
