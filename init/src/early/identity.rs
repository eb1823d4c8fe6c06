//! Who this machine is: its id, its first name, its seed of randomness.

use super::{files, limits};
use crate::sys::early::add_entropy;
use berth_units::paths;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the id is for others to read, in `/etc/machine-id`'s form.
pub const MACHINE_ID: &str = "/run/berth/machine-id";

fn seed_path() -> PathBuf {
    Path::new(paths::STATE).join("random-seed")
}

fn id_path() -> PathBuf {
    Path::new(paths::STATE).join("machine-id")
}

/// 32 hex digits that stay the same: from the machine (SMBIOS), else made once and kept with the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineId {
    /// The digits.
    pub id: String,
    /// Made now, so it must be kept ([`keep`]).
    pub is_new: bool,
}

/// Finds it, or makes one.
pub fn machine_id() -> MachineId {
    if let Some(id) = smbios().or_else(|| files::line(id_path()).filter(|id| is_id(id))) {
        return MachineId { id, is_new: false };
    }
    let mut random = [0; 16];
    let filled = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    if filled.is_err() {
        random = u128::from(crate::sys::early::cycles()).to_be_bytes();
    }
    // RFC 9562: version 4, variant 1.
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    MachineId { id: berth_updater::verity::to_hex(&random), is_new: true }
}

/// SMBIOS's UUID, if the machine's maker has set one: 32 hex digits.
pub fn smbios() -> Option<String> {
    files::line("/sys/class/dmi/id/product_uuid").as_deref().and_then(from_smbios)
}

/// Keeps a new id. Blocks; for a child.
pub fn keep(id: &str) -> Result<(), String> {
    files::replace(&id_path(), format!("{id}\n").as_bytes(), 0o444)
        .map_err(|error| format!("machine id: {error}"))
}

/// A UUID that a maker really set.
fn from_smbios(uuid: &str) -> Option<String> {
    let id = uuid.replace('-', "").to_ascii_lowercase();
    let one_digit = id.bytes().all(|byte| Some(byte) == id.bytes().next());
    let example = id == "03000200040005000006000700080009" || id == "00020003000400050006000700080009";
    (is_id(&id) && !one_digit && !example).then_some(id)
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name until a config gives another: short, and different from its neighbour's.
pub fn default_hostname(machine_id: &str) -> String {
    format!("berth-{}", machine_id.get(24..).unwrap_or("machine"))
}

/// Mixes the kept seed into the kernel's pool. It is not counted as entropy: a copied disk would share it.
pub fn load_seed() -> io::Result<()> {
    add_entropy(&File::open("/dev/urandom")?, &read_seed(&seed_path())?, 0)
}

fn read_seed(path: &Path) -> io::Result<Vec<u8>> {
    let mut seed = Vec::new();
    File::open(path)?.take(limits::SEED_BYTES as u64).read_to_end(&mut seed)?;
    Ok(seed)
}

/// Replaces the seed, so that none is used twice. Blocks; for a child.
pub fn save_seed() -> Result<(), String> {
    replace_seed(&seed_path())
}

fn replace_seed(path: &Path) -> Result<(), String> {
    let mut seed = [0; limits::SEED_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut seed))
        .and_then(|()| files::replace(path, &seed, 0o600))
        .map_err(|error| format!("random seed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uuids_that_somebody_set() {
        let good = from_smbios("4C4C4544-0042-3010-8051-B4C04F4E3232");
        assert_eq!(good.as_deref(), Some("4c4c4544004230108051b4c04f4e3232"));
        for bad in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "Not Settable",
            "",
        ] {
            assert_eq!(from_smbios(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_seed_is_whole_secret_and_used_once() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random-seed");
        assert_eq!(read_seed(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        replace_seed(&path).unwrap();
        let first = read_seed(&path).unwrap();
        assert_eq!(first.len(), limits::SEED_BYTES);
        assert!(first.iter().any(|&byte| byte != first[0]), "noise does not repeat one byte");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace_seed(&path).unwrap();
        assert_ne!(read_seed(&path).unwrap(), first);
        // What somebody else made of it is not read without a bound.
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert_eq!(read_seed(&path).unwrap().len(), limits::SEED_BYTES);
    }

    #[test]
    fn the_default_name_is_a_host_name() {
        assert_eq!(default_hostname("4c4c454400423010805112345678abcd"), "berth-5678abcd");
    }
}
