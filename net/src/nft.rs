//! An encoder for the little of nf_tables that the agent needs: one transaction of tables, chains, sets and rules,
//! sent as one batch, so that the kernel takes all of it or nothing.
//!
//! Numbers are those of the kernel's `nf_tables.h`; [`rules`] holds what Berth asks for.

pub mod rules;

use crate::limits;
use crate::netlink::wire::Writer;
use crate::netlink::{ACK, CREATE, REQUEST, Result, Socket};
use nix::sys::socket::{SockProtocol, setsockopt, sockopt};
use std::fmt;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
/// `NLM_F_APPEND`.
const APPEND: u16 = 0x800;

const SET_MAP: u32 = 8;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// Where a chain is called from, and when relative to others there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_*`.
    pub number: u32,
    /// Lower is earlier.
    pub priority: i32,
}

/// A set or map. Types only tell `nft` how to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Name.
    pub name: &'static str,
    /// Type and bytes of a key.
    pub key: (u32, u32),
    /// Type and bytes of what a map gives.
    pub data: Option<(u32, u32)>,
}

/// A 32-bit register; values of more bytes go on in the ones that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// The kernel's number: it still calls the first four 32-bit registers `NFT_REG_1` where it shows them.
    fn number(self) -> u32 {
        if self.0 == 0 { 1 } else { 8 + u32::from(self.0) }
    }
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Load something about the packet: its mark (3), input interface's name (6), output
    /// interface's name (7), protocol (16).
    Meta(u32, Reg),
    /// Load bytes: of the network (1) or transport (2) header, offset, length.
    Payload(u32, u32, u32, Reg),
    /// Go on only if the register holds these bytes.
    Equal(Vec<u8>, Reg),
    /// Go on only if it does not.
    Differs(Vec<u8>, Reg),
    /// Go on only if the register's value is in the set; a map's value is loaded to the second register.
    Lookup(&'static str, Reg, Option<Reg>),
    /// 0 = drop, 1 = accept.
    Verdict(u32),
    /// Destination becomes the address in the first and the port in the second register.
    Dnat(Reg, Reg),
    /// Source becomes the outgoing interface's address.
    Masquerade,
    /// The packet is marked with this, inside the machine; the register is used.
    Mark(u32, Reg),
}

/// The notation of `nft --debug=netlink`.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta(key, to) => {
                let name = match key {
                    3 => "mark",
                    6 => "iifname",
                    7 => "oifname",
                    _ => "l4proto",
                };
                write!(f, "[ meta load {name} => reg {} ]", to.number())
            }
            Self::Payload(base, offset, length, to) => {
                let base = if *base == 1 { "network" } else { "transport" };
                write!(f, "[ payload load {length}b @ {base} header + {offset} => reg {} ]", to.number())
            }
            Self::Equal(bytes, reg) => write!(f, "[ cmp eq reg {}{} ]", reg.number(), Words(bytes)),
            Self::Differs(bytes, reg) => write!(f, "[ cmp neq reg {}{} ]", reg.number(), Words(bytes)),
            Self::Lookup(set, from, None) => write!(f, "[ lookup reg {} set {set} ]", from.number()),
            Self::Lookup(set, from, Some(to)) => {
                write!(f, "[ lookup reg {} set {set} dreg {} ]", from.number(), to.number())
            }
            Self::Verdict(0) => write!(f, "[ immediate reg 0 drop ]"),
            Self::Verdict(_) => write!(f, "[ immediate reg 0 accept ]"),
            Self::Dnat(ip, port) => {
                write!(f, "[ nat dnat ip addr_min reg {} proto_min reg {} ]", ip.number(), port.number())
            }
            Self::Masquerade => write!(f, "[ masq ]"),
            Self::Mark(mark, reg) => {
                let reg = reg.number();
                write!(f, "[ immediate reg {reg} {mark:#010x} ]\n  [ meta set mark with reg {reg} ]")
            }
        }
    }
}

struct Words<'a>(&'a [u8]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.chunks(4) {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(piece) {
                *to = *from;
            }
            write!(f, " {:#010x}", u32::from_le_bytes(word))?;
        }
        Ok(())
    }
}

impl Expr {
    fn write(&self, m: &mut Writer) {
        let expr = |m: &mut Writer, name: &str, body: &dyn Fn(&mut Writer)| {
            m.nest(LIST_ELEM, |m| {
                m.text(1, name).nest(2, body);
            });
        };
        let value = |m: &mut Writer, kind: u16, bytes: &[u8]| {
            m.nest(kind, |m| {
                m.attr(DATA_VALUE, bytes);
            });
        };
        let compare = |m: &mut Writer, reg: Reg, operator: u32, bytes: &[u8]| {
            expr(m, "cmp", &|m| {
                m.be32(1, reg.number()).be32(2, operator);
                value(m, 3, bytes);
            });
        };
        match self {
            Self::Meta(key, to) => expr(m, "meta", &|m| _ = m.be32(2, *key).be32(1, to.number())),
            Self::Payload(base, offset, length, to) => expr(m, "payload", &|m| {
                m.be32(1, to.number()).be32(2, *base).be32(3, *offset).be32(4, *length);
            }),
            Self::Equal(bytes, reg) => compare(m, *reg, 0, bytes),
            Self::Differs(bytes, reg) => compare(m, *reg, 1, bytes),
            Self::Lookup(set, from, to) => expr(m, "lookup", &|m| {
                m.text(1, set).be32(2, from.number());
                if let Some(to) = to {
                    m.be32(3, to.number());
                }
            }),
            Self::Verdict(code) => expr(m, "immediate", &|m| {
                m.be32(1, 0).nest(2, |m| {
                    m.nest(DATA_VERDICT, |m| _ = m.be32(1, *code));
                });
            }),
            Self::Dnat(ip, port) => expr(m, "nat", &|m| {
                m.be32(1, 1).be32(2, Family::Ip as u32).be32(3, ip.number()).be32(5, port.number());
            }),
            Self::Masquerade => expr(m, "masq", &|_| {}),
            Self::Mark(mark, reg) => {
                expr(m, "immediate", &|m| {
                    m.be32(1, reg.number());
                    value(m, 2, &mark.to_ne_bytes());
                });
                expr(m, "meta", &|m| _ = m.be32(2, 3).be32(3, reg.number()));
            }
        }
    }
}

/// A transaction being written.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    /// Number of the next message, relative to the first.
    seq: u32,
    /// Where the last message begins.
    last: usize,
    sets: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Batch {
    /// Empty; `first` is the number of its first message.
    pub fn new(first: u32) -> Self {
        let mut batch = Self { writer: Writer::new(), seq: first, last: 0, sets: 0 };
        batch.raw(BATCH_BEGIN, 0, 0, SUBSYSTEM, |_| {});
        batch
    }

    /// The table, empty whether or not it was there before.
    pub fn fresh_table(&mut self, family: Family, table: &str) {
        let name = |m: &mut Writer| _ = m.text(1, table);
        self.add(NEWTABLE, CREATE, family, name);
        self.add(DELTABLE, 0, family, name);
        self.add(NEWTABLE, CREATE, family, name);
    }

    /// A chain that packets go through, accepted where no rule says otherwise.
    pub fn chain(&mut self, family: Family, table: &str, name: &str, hook: Hook) {
        self.add(NEWCHAIN, CREATE, family, |m| {
            m.text(1, table).text(3, name).text(7, hook.kind).be32(5, 1);
            m.nest(4, |m| _ = m.be32(1, hook.number).attr(2, &hook.priority.to_be_bytes()));
        });
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, family: Family, table: &str, chain: &str, rule: &[Expr]) {
        self.add(NEWRULE, CREATE | APPEND, family, |m| {
            m.text(1, table).text(2, chain).nest(4, |m| rule.iter().for_each(|expr| expr.write(m)));
        });
    }

    /// A set or map with its elements (key, value), which must differ in their keys.
    pub fn set(&mut self, family: Family, table: &str, set: Set, elements: &[(Vec<u8>, Vec<u8>)]) {
        self.sets += 1;
        let id = self.sets;
        self.add(NEWSET, CREATE, family, |m| {
            let flags = if set.data.is_some() { SET_MAP } else { 0 };
            m.text(1, table).text(2, set.name).be32(3, flags).be32(10, id);
            m.be32(4, set.key.0).be32(5, set.key.1);
            if let Some((kind, length)) = set.data {
                m.be32(6, kind).be32(7, length);
            }
        });
        for piece in elements.chunks(limits::NFT_ELEMENTS) {
            self.add(NEWSETELEM, CREATE, family, |m| {
                m.text(1, table).text(2, set.name).be32(4, id).nest(3, |m| {
                    for (key, data) in piece {
                        m.nest(LIST_ELEM, |m| {
                            m.nest(1, |m| _ = m.attr(DATA_VALUE, key));
                            if set.data.is_some() {
                                m.nest(2, |m| _ = m.attr(DATA_VALUE, data));
                            }
                        });
                    }
                });
            });
        }
    }

    fn add(&mut self, kind: u16, flags: u16, family: Family, body: impl FnOnce(&mut Writer)) {
        self.raw((SUBSYSTEM << 8) | kind, flags, family as u8, 0, body);
    }

    fn raw(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: impl FnOnce(&mut Writer)) {
        self.last = self.writer.bytes().len();
        self.writer.message(kind, REQUEST | flags, self.seq, |m| {
            m.put(&[family, 0]).put(&resource.to_be_bytes());
            body(m);
        });
        self.seq = self.seq.wrapping_add(1);
    }

    /// Its bytes and the number of the message that will be answered once all is done.
    fn finish(mut self) -> (Writer, u32) {
        let answered = self.seq.wrapping_sub(1);
        self.writer.add_flags(self.last, ACK);
        self.raw(BATCH_END, 0, 0, SUBSYSTEM, |_| {});
        (self.writer, answered)
    }
}

/// A socket to nf_tables.
#[derive(Debug)]
pub struct Nft(Socket);

impl Nft {
    /// Opens it.
    pub fn open() -> Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter, 0)?;
        // More than the system's maximum, as CAP_NET_ADMIN may. Refused, what fits in the default still works.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &limits::NFT_SEND_BUFFER);
        Ok(Self(socket))
    }

    /// Carries out the transaction that `write` writes.
    pub fn commit(&mut self, write: impl FnOnce(&mut Batch)) -> Result<()> {
        let first = self.0.reserve(0);
        let mut batch = Batch::new(first);
        write(&mut batch);
        let (writer, answered) = batch.finish();
        self.0.reserve(answered.wrapping_sub(first).wrapping_add(2));
        self.0.transact(writer.bytes(), first, answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte what `nft --debug=mnl` shows for `ip daddr 10.88.0.1 drop`, expression list only.
    #[test]
    fn a_rule_is_encoded_as_nft_does() {
        let mut writer = Writer::new();
        for expr in
            [Expr::Payload(1, 16, 4, Reg(0)), Expr::Equal(vec![10, 88, 0, 1], Reg(0)), Expr::Verdict(0)]
        {
            expr.write(&mut writer);
        }
        assert_eq!(writer.bytes(), include_bytes!("nft/rule.bin"));
    }
}
