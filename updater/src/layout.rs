//! The disk: which partitions, in which order, with which types, labels and sizes. The one place for each.
//!
//! Order on disk = partition number: 1 `bios` (1 MiB, GRUB's i386-pc core), 2 `esp` (GRUB's UEFI core and the UKI
//! of both slots), 3 `record` (boot record and step record), 4 `root-a`, 5 `verity-a`, 6 `root-b`, 7 `verity-b`,
//! 8 `state` (last, so that it can grow).

/// One of the two places for an OS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Partitions 4 and 5.
    A,
    /// Partitions 6 and 7.
    B,
}

impl Slot {
    /// Both, in order.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// `"a"` or `"b"`, as in the record, labels and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// The one that is not this.
    pub const fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// Reads [`Slot::name`].
    pub fn parse(name: &str) -> Option<Slot> {
        match name {
            "a" => Some(Slot::A),
            "b" => Some(Slot::B),
            _ => None,
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
