//! Bonds and VLANs of the machine config, made of the interfaces that are there.
//!
//! [`steps`] compares what is wanted with what is there (pure); [`Links::arrange`] has the kernel carry it out, in
//! rounds, since what the next step needs is only there after the last. Each interface that is made says in its alias
//! what it is; one whose alias says something else is made anew, one that nobody wants any more is removed. A step that
//! failed is told and not tried again until the config or the interfaces are others.

use crate::netlink::{self, BondOptions, Link, Socket};
use crate::uplink::matches;
use berth_units::model::{BOND_HASHES, BOND_MODES, Bond, LACP_RATES, MachineNetwork, Vlan};

/// What every alias of ours begins with; no unit's name has a colon.
const MARK: &str = "berth: ";
/// The bond that the kernel's module makes of itself when it is loaded.
const UNASKED: &str = "bond0";
/// Rounds at most: away with the old, bonds, members, VLANs, and one to see that nothing is left.
const ROUNDS: usize = 6;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remove this interface.
    Remove(String),
    /// Make this bond.
    Bond(Bond),
    /// Make the interface with this index, called so, a member of the bond with that index.
    Member(u32, String, u32),
    /// The bond with this index prefers that interface.
    Primary(u32, u32),
    /// Make this VLAN on the interface with that index.
    Vlan(Vlan, u32),
}

/// A bond's alias.
fn bond_alias(bond: &Bond) -> String {
    let members = bond.interfaces.join(" ");
    let more = [&bond.lacp_rate, &bond.xmit_hash_policy, &bond.primary];
    let more: String = more.into_iter().map(|word| format!(", {}", word.as_deref().unwrap_or("-"))).collect();
    format!("{MARK}bond {}, {} ms{more}, of {members}", bond.mode, bond.miimon)
}

/// A VLAN's alias.
fn vlan_alias(vlan: &Vlan) -> String {
    format!("{MARK}vlan {} on {}", vlan.id, vlan.link)
}

/// Whether the interface is a member of a bond, or is to be one.
pub fn is_member(network: &MachineNetwork, link: &Link) -> bool {
    network.bonds.iter().any(|bond| bond.interfaces.iter().any(|member| matches(member, link)))
}

/// Whether the interface is made by us, or carries a VLAN: it is brought up even if it has no addresses.
pub fn is_needed(network: &MachineNetwork, link: &Link) -> bool {
    network.bonds.iter().any(|bond| bond.name == link.name)
        || network.vlans.iter().any(|vlan| vlan.name == link.name || matches(&vlan.link, link))
}

/// What can be done now so that the interfaces become as they are wanted.
pub fn steps(network: &MachineNetwork, links: &[Link]) -> Vec<Step> {
    let named = |name: &str| links.iter().find(|link| link.name == name);
    let bonds = network.bonds.iter().map(|bond| (&bond.name, "bond", bond_alias(bond)));
    let vlans = network.vlans.iter().map(|vlan| (&vlan.name, "vlan", vlan_alias(vlan)));
    let wanted: Vec<_> = bonds.chain(vlans).collect();
    let as_wanted = |link: &Link| {
        wanted
            .iter()
            .any(|(name, kind, alias)| **name == link.name && *kind == link.kind && *alias == link.alias)
    };
    let stale = |link: &&Link| {
        let ours = link.alias.starts_with(MARK) && matches!(link.kind.as_str(), "bond" | "vlan");
        // Left behind half made, or by the module.
        let bare = link.alias.is_empty()
            && (wanted.iter().any(|(name, kind, _)| **name == link.name && *kind == link.kind)
                || (link.name == UNASKED && link.kind == "bond" && !network.bonds.is_empty()));
        (ours || bare) && !as_wanted(link)
    };
    let mut steps: Vec<Step> =
        links.iter().filter(stale).map(|link| Step::Remove(link.name.clone())).collect();
    if !steps.is_empty() {
        return steps;
    }
    for bond in &network.bonds {
        match named(&bond.name) {
            None => steps.push(Step::Bond(bond.clone())),
            Some(link) if !as_wanted(link) => {}
            Some(link) => {
                for member in members(bond, links).filter(|member| member.master != link.index) {
                    steps.push(Step::Member(member.index, member.name.clone(), link.index));
                    if bond.primary.as_ref().is_some_and(|primary| matches(primary, member)) {
                        steps.push(Step::Primary(link.index, member.index));
                    }
                }
            }
        }
    }
    for vlan in network.vlans.iter().filter(|vlan| named(&vlan.name).is_none()) {
        // On a bond, when it has the address of a member.
        let on = links.iter().find(|link| matches(&vlan.link, link));
        let ready = |on: &&Link| {
            let bond = network.bonds.iter().find(|bond| bond.name == on.name);
            bond.is_none_or(|bond| members(bond, links).all(|member| member.master == on.index))
        };
        steps.extend(on.filter(ready).map(|on| Step::Vlan(vlan.clone(), on.index)));
    }
    steps
}

/// The interfaces that are meant as a bond's members.
fn members<'a>(bond: &'a Bond, links: &'a [Link]) -> impl Iterator<Item = &'a Link> {
    let meant =
        |link: &&Link| link.name != bond.name && bond.interfaces.iter().any(|member| matches(member, link));
    links.iter().filter(meant)
}

/// What keeps bonds and VLANs from being as wanted, in words; `failed` are told by themselves.
fn troubles(network: &MachineNetwork, links: &[Link]) -> Vec<String> {
    let mut troubles = Vec::new();
    let foreign = |name: &str, kind: &str| links.iter().any(|link| link.name == name && link.kind != kind);
    for bond in &network.bonds {
        let name = &bond.name;
        if foreign(name, "bond") {
            troubles.push(format!("{name}: not made, another interface is called so"));
        }
        for member in &bond.interfaces {
            match links.iter().find(|link| matches(member, link)) {
                None => troubles.push(format!("{name}: its member {member} is not there")),
                Some(link) if link.master != 0 && !link.carrier => {
                    troubles.push(format!("{name}: its member {member} has no carrier"));
                }
                Some(_) => {}
            }
        }
    }
    for vlan in &network.vlans {
        if foreign(&vlan.name, "vlan") {
            troubles.push(format!("{}: not made, another interface is called so", vlan.name));
        } else if !links.iter().any(|link| matches(&vlan.link, link)) {
            troubles.push(format!("{}: its link {} is not there", vlan.name, vlan.link));
        }
    }
    troubles
}

/// The bonds and VLANs.
#[derive(Debug, Default)]
pub struct Links {
    failed: Vec<(Step, String)>,
    troubles: Vec<String>,
}

impl Links {
    /// The config is another one: what failed may work now.
    pub fn forget_failures(&mut self) {
        self.failed.clear();
    }

    /// What is not as wanted, in words.
    pub fn troubles(&self) -> impl Iterator<Item = &String> {
        self.troubles.iter().chain(self.failed.iter().map(|(_, why)| why))
    }

    /// Makes the interfaces as they are wanted, as far as it goes, and returns all that there are.
    pub fn arrange(&mut self, network: &MachineNetwork, rtnl: &mut Socket) -> netlink::Result<Vec<Link>> {
        let mut links = rtnl.links()?;
        for _ in 0..ROUNDS {
            let mut steps = steps(network, &links);
            steps.retain(|step| !self.failed.iter().any(|(failed, _)| failed == step));
            if steps.is_empty() {
                break;
            }
            for step in steps {
                if let Err(error) = perform(&step, rtnl) {
                    self.failed.push((step.clone(), format!("{}: {error}", said(&step))));
                }
            }
            links = rtnl.links()?;
        }
        self.troubles = troubles(network, &links);
        Ok(links)
    }
}

fn said(step: &Step) -> String {
    match step {
        Step::Remove(name) => format!("{name} not removed"),
        Step::Bond(bond) => format!("{}: bond not made", bond.name),
        Step::Member(_, name, _) => format!("{name}: not made a bond's member"),
        Step::Primary(..) => "the bond's primary not set".to_owned(),
        Step::Vlan(vlan, _) => format!("{}: vlan {} on {} not made", vlan.name, vlan.id, vlan.link),
    }
}

fn perform(step: &Step, rtnl: &mut Socket) -> netlink::Result<()> {
    match step {
        Step::Remove(name) => rtnl.delete_link(name),
        Step::Bond(bond) => {
            let number = |words: &[&str], word: &str| {
                words.iter().position(|known| *known == word).and_then(|at| u8::try_from(at).ok())
            };
            let options = BondOptions {
                mode: number(&BOND_MODES, &bond.mode).unwrap_or_default(),
                miimon: bond.miimon,
                hash: bond.xmit_hash_policy.as_ref().and_then(|word| number(&BOND_HASHES, word)),
                lacp_rate: bond.lacp_rate.as_ref().and_then(|word| number(&LACP_RATES, word)),
            };
            rtnl.create_bond(&bond.name, options)?;
            mark(&bond.name, &bond_alias(bond), rtnl)
        }
        Step::Member(index, _, bond) => {
            rtnl.set_up(*index, false)?;
            rtnl.set_master(*index, *bond)
        }
        Step::Primary(bond, member) => rtnl.set_primary(*bond, *member),
        Step::Vlan(vlan, on) => {
            rtnl.create_vlan(&vlan.name, *on, vlan.id)?;
            mark(&vlan.name, &vlan_alias(vlan), rtnl)
        }
    }
}

fn mark(name: &str, alias: &str, rtnl: &mut Socket) -> netlink::Result<()> {
    match rtnl.link(name)? {
        Some(link) => rtnl.set_alias(link.index, alias),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: u32, name: &str) -> Link {
        let mac = [2, 0, 0, 0, 0, u8::try_from(index).unwrap()];
        Link { index, name: name.into(), mac, permanent: Some(mac), ethernet: true, ..Link::default() }
    }

    fn bond(name: &str, members: &[&str]) -> Bond {
        let interfaces = members.iter().map(|member| (*member).to_owned()).collect();
        Bond { name: name.into(), interfaces, mode: "active-backup".into(), ..Bond::default() }
    }

    fn vlan(name: &str, link: &str, id: u16) -> Vlan {
        Vlan { name: name.into(), link: link.into(), id, mtu: None }
    }

    /// What the kernel would make of it.
    fn pretend(step: &Step, links: &mut Vec<Link>) {
        let next = links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
        match step {
            Step::Remove(name) => {
                // A VLAN goes with what carries it.
                let Some(index) = links.iter().find(|link| link.name == *name).map(|link| link.index) else {
                    return;
                };
                links.retain(|link| link.index != index && link.link != index);
                links.iter_mut().filter(|link| link.master == index).for_each(|link| link.master = 0);
            }
            Step::Bond(bond) => links.push(Link {
                kind: "bond".into(),
                alias: bond_alias(bond),
                permanent: None,
                ..card(next, &bond.name)
            }),
            Step::Member(index, _, bond) => {
                let mac = links.iter().find(|link| link.index == *bond).unwrap().mac;
                let member = links.iter_mut().find(|link| link.index == *index).unwrap();
                (member.master, member.mac) = (*bond, mac);
            }
            Step::Primary(..) => {}
            Step::Vlan(vlan, on) => {
                let mac = links.iter().find(|link| link.index == *on).unwrap().mac;
                links.push(Link {
                    kind: "vlan".into(),
                    alias: vlan_alias(vlan),
                    link: *on,
                    mac,
                    permanent: None,
                    ..card(next, &vlan.name)
                });
            }
        }
    }

    fn settle(network: &MachineNetwork, links: &mut Vec<Link>) -> Vec<Step> {
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            let steps = steps(network, links);
            steps.iter().for_each(|step| pretend(step, links));
            all.extend(steps);
        }
        assert_eq!(steps(network, links), [], "nothing is left to do");
        all
    }

    #[test]
    fn interfaces_are_made_in_an_order_that_works_and_removed_when_nobody_wants_them() {
        let mut links = vec![card(2, "eth0"), card(3, "eth1"), card(4, "eth2")];
        links.push(Link { kind: "bond".into(), permanent: None, ..card(9, "bond0") });
        let members = ["eth0", "02:00:00:00:00:03"];
        let network = MachineNetwork {
            bonds: vec![Bond { primary: Some("eth0".into()), ..bond("bond0", &members) }],
            vlans: vec![vlan("office", "bond0", 42), vlan("lab", "eth2", 7), vlan("far", "eth9", 7)],
            ..MachineNetwork::default()
        };
        let done = settle(&network, &mut links);
        assert_eq!(done[0], Step::Remove("bond0".into()), "the module's own has other options");
        let names = |kind: &str| {
            let of = links.iter().filter(|link| link.kind == kind);
            of.map(|link| link.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names("bond"), ["bond0"]);
        assert_eq!(names("vlan"), ["lab", "office"]);
        let index = links.iter().find(|link| link.name == "bond0").unwrap().index;
        assert!(links[..2].iter().all(|member| member.master == index && is_member(&network, member)));
        assert!(done.contains(&Step::Primary(index, 2)));
        assert!(["bond0", "office", "lab", "eth2"].iter().all(|name| {
            let link = links.iter().find(|link| link.name == *name).unwrap();
            is_needed(&network, link) && !is_member(&network, link)
        }));
        assert_eq!(troubles(&network, &links)[2..], ["far: its link eth9 is not there"]);

        // Another id, and one VLAN less.
        let network = MachineNetwork { vlans: vec![vlan("office", "bond0", 43)], ..network };
        let done = settle(&network, &mut links);
        assert_eq!(done[..2], [Step::Remove("lab".into()), Step::Remove("office".into())]);
        assert!(matches!(&done[2..], [Step::Vlan(vlan, _)] if vlan.id == 43));
        settle(&MachineNetwork::default(), &mut links);
        assert_eq!(links.len(), 3);
        assert!(links.iter().all(|link| link.master == 0));
    }

    #[test]
    fn what_others_made_is_left_alone() {
        let others = [
            Link { kind: "bond".into(), alias: "mine".into(), ..card(5, "bond0") },
            Link { kind: "vlan".into(), ..card(6, "lan") },
            Link { kind: "bridge".into(), ..card(7, "office") },
            Link { alias: "berth: vlan".into(), kind: "veth".into(), ..card(8, "v") },
        ];
        let network = MachineNetwork {
            bonds: vec![bond("bond0", &["eth0"])],
            vlans: vec![vlan("office", "bond0", 42)],
            ..MachineNetwork::default()
        };
        assert_eq!(steps(&MachineNetwork::default(), &others), []);
        let told = troubles(&network, &others);
        assert!(told.contains(&"office: not made, another interface is called so".into()), "{told:?}");
        assert!(told.contains(&"bond0: its member eth0 is not there".into()), "{told:?}");
    }
}
