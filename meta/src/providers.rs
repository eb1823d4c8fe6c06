//! The clouds that are asked over the network: one table of how each is recognised, where and how its metadata service is asked,
//! and what its answers mean. `berth-cloud` has the engine; nothing here does any I/O.

use crate::smbios::System;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// One cloud.
#[derive(Debug)]
pub struct Provider {
    /// As configs and messages name it.
    pub name: &'static str,
    /// As people know it.
    pub title: &'static str,
    /// By what the firmware says.
    pub is: fn(&System) -> bool,
    /// Where its service is, in the order in which they are tried.
    pub addresses: &'static [IpAddr],
    /// What each request says of itself.
    pub host: &'static str,
    /// Headers of each request.
    pub headers: &'static [(&'static str, &'static str)],
    /// A header, and its value, without which an answer is somebody else's.
    pub answers_with: Option<(&'static str, &'static str)>,
    /// How a session begins, if one is needed.
    pub token: Option<Token>,
    /// The pause after the first failure; each is twice the one before.
    pub first_pause: Duration,
    /// The longest.
    pub longest_pause: Duration,
}

/// A token that each request has to carry: put once, asked for anew when it is refused (401).
#[derive(Debug)]
pub struct Token {
    /// Where, by PUT.
    pub path: &'static str,
    /// The header that says how long it is to be valid.
    pub ttl: (&'static str, &'static str),
    /// The header that carries it.
    pub header: &'static str,
    /// What a refusal (403) of a token means.
    pub refused: &'static str,
}

/// Port of every metadata service.
pub const PORT: u16 = 80;

const LINK_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
const EC2_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));

/// Amazon EC2: IMDSv2 only ("Use the Instance Metadata Service"). Its limit of requests is answered with 503 or 429 and undone by
/// waiting, "exponential backoff"; a network that is just being attached drops packets for seconds.
pub const EC2: Provider = Provider {
    name: "ec2",
    title: "Amazon EC2",
    is: is_ec2,
    addresses: &[LINK_LOCAL, EC2_IPV6],
    host: "169.254.169.254",
    headers: &[],
    answers_with: None,
    token: Some(Token {
        path: "/latest/api/token",
        ttl: ("x-aws-ec2-metadata-token-ttl-seconds", "600"),
        header: "x-aws-ec2-metadata-token",
        refused: "the instance's metadata service is turned off (HttpEndpoint); turn it on, or give the config otherwise",
    }),
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(8),
};

/// Google Compute Engine ("VM metadata": "Retry guidance": 503 and others after a second and more, doubling).
pub const GCE: Provider = Provider {
    name: "gce",
    title: "Google Compute Engine",
    is: |system| system.product == "Google Compute Engine",
    addresses: &[LINK_LOCAL],
    host: "metadata.google.internal",
    headers: &[("metadata-flavor", "Google")],
    answers_with: Some(("metadata-flavor", "Google")),
    token: None,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(16),
};

/// All of them.
pub const ALL: [&Provider; 2] = [&EC2, &GCE];

/// The cloud that a machine is in, by its firmware's word.
pub fn of(system: &System) -> Option<&'static Provider> {
    ALL.into_iter().find(|provider| (provider.is)(system))
}

/// The cloud so called.
pub fn named(name: &str) -> Option<&'static Provider> {
    ALL.into_iter().find(|provider| provider.name == name)
}

/// Nitro says so; on Xen, UUID and serial number are one and begin with `ec2`. A UUID alone says nothing: of random ones one in
/// 2,000 begins so, in one of the two byte orders, and on such a machine anybody in its network could answer.
fn is_ec2(system: &System) -> bool {
    let serial = system.serial.to_ascii_lowercase();
    let one = |uuid: &str| uuid.starts_with("ec2") && serial.replace('-', "") == uuid;
    system.vendor == "Amazon EC2" || system.uuids.iter().any(|uuid| one(uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vendor: &str, product: &str, serial: &str, uuids: [&str; 2]) -> Option<&'static str> {
        let system = System {
            vendor: vendor.into(),
            product: product.into(),
            serial: serial.into(),
            uuids: uuids.map(str::to_owned).into(),
        };
        super::of(&system).map(|provider| provider.name)
    }

    #[test]
    fn a_cloud_is_known_by_its_firmware() {
        let (big, little) = ("ec2e1916908a47c28b2a1f37de1e7d1f", "16192eec8a90c2478b2a1f37de1e7d1f");
        assert_eq!(of("Amazon EC2", "m7i.large", "ec2…", [big, little]), Some("ec2"));
        let serial = "EC2E1916-908A-47C2-8B2A-1F37DE1E7D1F";
        assert_eq!(of("Xen", "HVM domU", serial, [big, little]), Some("ec2"));
        assert_eq!(of("Xen", "HVM domU", serial, [little, big]), Some("ec2"));
        assert_eq!(of("QEMU", "Standard PC", "", [big, little]), None, "a UUID alone");
        assert_eq!(of("Google", "Google Compute Engine", "GoogleCloud-1", [little, little]), Some("gce"));
        assert_eq!(of("Google", "Chromebook", "", [little, little]), None);
    }
}
