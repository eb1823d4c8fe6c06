//! What both versions are read into, and the `[network]` that it becomes.

use super::idle;
use crate::toml_text::{Item, Table, Value as Toml};
use crate::translation::{Sheet, list};
use crate::yaml::Mark;
use std::net::IpAddr;

/// A text and its place.
pub type Text = (String, Mark);

/// A network.
#[derive(Default)]
pub struct Plan {
    /// Name servers, of all interfaces.
    pub dns: Vec<Text>,
    /// Search domains, of all interfaces.
    pub search: Vec<Text>,
    /// In the order of the text.
    pub links: Vec<Link>,
    /// Routes that do not say of which interface.
    pub routes: Vec<Route>,
}

/// An interface, physical or not.
pub struct Link {
    /// What others call it.
    pub id: String,
    /// Where it stands.
    pub at: Mark,
    /// The name or MAC address by which it is found; of a VLAN or bond its name.
    pub matches: Text,
    /// What it is.
    pub kind: Kind,
    /// Something was said of its addresses; else it only carries others.
    pub addressed: bool,
    /// DHCPv4.
    pub dhcp: bool,
    /// DHCPv6.
    pub dhcp6: bool,
    /// Router advertisements, if anything is said of them.
    pub ra: Option<bool>,
    /// With prefix.
    pub addresses: Vec<Text>,
    /// One of each family at most.
    pub gateways: Vec<Text>,
    /// See there.
    pub routes: Vec<Route>,
    /// Bytes.
    pub mtu: Option<(i64, Mark)>,
}

/// What an interface is.
pub enum Kind {
    /// Of the hardware.
    Physical,
    /// Link's id, number.
    Vlan(Text, (i64, Mark)),
    /// Ids of its interfaces; fields of `[[network.bond]]` with their values.
    Bond(Vec<Text>, Vec<(&'static str, Mark, Toml)>),
}

/// A route.
pub struct Route {
    /// Where it stands.
    pub at: Mark,
    /// A network.
    pub to: Text,
    /// A router; none: on the link.
    pub via: Option<Text>,
    /// See there.
    pub metric: Option<(i64, Mark)>,
    /// The router is on the link, whatever the addresses say.
    pub on_link: bool,
}

impl Link {
    /// One of which nothing is said yet.
    pub fn new(id: String, at: Mark, matches: Text, kind: Kind) -> Self {
        Self {
            id,
            at,
            matches,
            kind,
            addressed: false,
            dhcp: false,
            dhcp6: false,
            ra: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            mtu: None,
        }
    }

    /// A default route without a metric is a gateway, if there is none yet.
    pub fn tidy(&mut self) {
        let v6 = |text: &str| text.contains(':');
        for mut route in std::mem::take(&mut self.routes) {
            let everything = route.to.0.ends_with("/0");
            let free = |gateways: &[Text], via: &str| !gateways.iter().any(|(text, _)| v6(text) == v6(via));
            match route.via.take() {
                Some(via)
                    if everything
                        && route.metric.is_none()
                        && free(&self.gateways, &via.0)
                        && self.holds(&via.0) =>
                {
                    self.gateways.push(via);
                }
                Some(via) => {
                    if route.on_link && !self.holds(&via.0) {
                        let host = format!("{}/{}", via.0, if v6(&via.0) { 128 } else { 32 });
                        let to = (host, via.1);
                        let known = |other: &Route| other.via.is_none() && other.to.0 == to.0;
                        if !self.routes.iter().any(known) {
                            self.routes.push(Route {
                                at: route.at,
                                to,
                                via: None,
                                metric: None,
                                on_link: false,
                            });
                        }
                    }
                    route.via = Some(via);
                    self.routes.push(route);
                }
                None => self.routes.push(route),
            }
        }
    }

    /// The address lies in one of its networks, or nothing is known of them; a host's own address reaches any.
    pub fn holds(&self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        self.addresses.iter().any(|(text, _)| contains(text, address))
    }
}

/// Whether a network, or the network of an address with prefix, has this address in it.
pub fn contains(network: &str, address: IpAddr) -> bool {
    let Some((of, prefix)) = network.split_once('/') else { return false };
    let (Ok(of), Ok(prefix)) = (of.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    match (of, address) {
        (IpAddr::V4(of), IpAddr::V4(address)) if prefix <= 32 => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            prefix == 32 || of.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(of), IpAddr::V6(address)) if prefix <= 128 => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            prefix == 128 || of.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

impl Plan {
    /// Gives routes without an interface to the one that reaches their router.
    fn place_routes(&mut self, sheet: &mut Sheet<'_>) {
        for route in std::mem::take(&mut self.routes) {
            let via = route.via.as_ref().map(|(via, _)| via.clone()).unwrap_or_default();
            match self.links.iter_mut().find(|link| link.holds(&via)) {
                Some(link) => link.routes.push(route),
                None => {
                    let words = format!(
                        "no interface has an address in the network of the router {via}, so nothing would get there"
                    );
                    sheet.refuse(route.at, "route", words);
                }
            }
        }
    }

    /// Writes `[network]`.
    pub fn write(mut self, sheet: &mut Sheet<'_>) {
        self.place_routes(sheet);
        let members: Vec<Text> = self
            .links
            .iter()
            .flat_map(|link| match &link.kind {
                Kind::Bond(members, _) => members.clone(),
                _ => Vec::new(),
            })
            .collect();
        let matches: Vec<(String, String)> =
            self.links.iter().map(|link| (link.id.clone(), link.matches.0.clone())).collect();
        let found = |id: &str| {
            let known = matches.iter().find(|(other, _)| other == id);
            known.map_or_else(|| id.to_owned(), |(_, matches)| matches.clone())
        };
        let first = Mark { line: 1, column: 1 };
        let at = self.links.first().map_or(first, |link| link.at);
        let mut network = Table::default();
        for (field, texts) in [("dns", self.dns), ("search", self.search)] {
            let mut once: Vec<Text> = Vec::new();
            for text in texts {
                if !once.iter().any(|(other, _)| *other == text.0) {
                    once.push(text);
                }
            }
            if let Some((_, at)) = once.first().cloned() {
                let _ = network.set(field, at, list(once));
            }
        }
        let (mut interfaces, mut vlans, mut bonds) = (Vec::new(), Vec::new(), Vec::new());
        for mut link in self.links {
            link.tidy();
            let item = |at: Mark, table: Table| Item { at, value: Toml::Table(table) };
            let text = |(text, at): &Text| Item { at: *at, value: Toml::Text(text.clone()) };
            let mut own = Table::default();
            own.0.push(("name".into(), link.at, text(&link.matches)));
            match &link.kind {
                Kind::Physical => {}
                Kind::Vlan(to, (id, id_at)) => {
                    own.0.push(("link".into(), to.1, text(&(found(&to.0), to.1))));
                    own.0.push(("id".into(), *id_at, Item { at: *id_at, value: Toml::Int(*id) }));
                    vlans.push(item(link.at, own));
                }
                Kind::Bond(of, parameters) => {
                    let of = of.iter().map(|(id, at)| (found(id), *at)).collect();
                    own.0.push(("interfaces".into(), link.at, Item { at: link.at, value: list(of) }));
                    for (field, at, value) in parameters {
                        own.0.push(((*field).into(), *at, Item { at: *at, value: value.clone() }));
                    }
                    bonds.push(item(link.at, own));
                }
            }
            let member = members.iter().any(|(id, _)| *id == link.id);
            let plain = !link.addressed && link.mtu.is_none() && link.ra.is_none();
            if member && plain {
                continue;
            }
            interfaces.push(item(link.at, interface(&link)));
        }
        for (field, tables) in [("interface", interfaces), ("vlan", vlans), ("bond", bonds)] {
            if let Some(first) = tables.first() {
                let _ = network.set(field, first.at, Toml::List(tables));
            }
        }
        if network.0.is_empty() {
            return idle(
                sheet,
                at,
                "network",
                "nothing is said that does not hold without it: DHCP and SLAAC on every Ethernet interface",
            );
        }
        let _ = sheet.toml.set("network", at, Toml::Table(network));
    }
}

/// `[[network.interface]]`.
fn interface(link: &Link) -> Table {
    let mut table = Table::default();
    let mut put =
        |field: &str, at: Mark, value: Toml| table.0.push((field.to_owned(), at, Item { at, value }));
    put("match", link.matches.1, Toml::Text(link.matches.0.clone()));
    put("dhcp", link.at, Toml::Bool(link.dhcp));
    if link.dhcp6 {
        put("dhcp6", link.at, Toml::Bool(true));
    }
    if let Some(ra) = link.ra {
        put("ra", link.at, Toml::Bool(ra));
    }
    for (field, texts) in [("address", &link.addresses), ("gateway", &link.gateways)] {
        if let Some((_, at)) = texts.first() {
            put(field, *at, list(texts.clone()));
        }
    }
    if let Some((mtu, at)) = link.mtu {
        put("mtu", at, Toml::Int(mtu));
    }
    if let Some(first) = link.routes.first() {
        let routes = link.routes.iter().map(|route| {
            let mut table = Table::default();
            let mut put =
                |field: &str, at: Mark, value: Toml| table.0.push((field.to_owned(), at, Item { at, value }));
            put("to", route.to.1, Toml::Text(route.to.0.clone()));
            if let Some((via, at)) = &route.via {
                put("via", *at, Toml::Text(via.clone()));
            }
            if let Some((metric, at)) = route.metric {
                put("metric", at, Toml::Int(metric));
            }
            Item { at: route.at, value: Toml::Table(table) }
        });
        let routes = routes.collect();
        table.0.push(("routes".to_owned(), first.at, Item { at: first.at, value: Toml::List(routes) }));
    }
    table
}
