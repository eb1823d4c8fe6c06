//! dm-verity: superblock version 1 and the tree of SHA-256 sums, as `veritysetup` makes them.
//!
//! Format 1 (the sum is over salt, then block), 4,096-byte blocks on both sides. The superblock fills the first
//! block of the hash partition; the levels follow, the topmost (one block) first. The root hash is the sum of that
//! block.

use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// Bytes of a data block and of a hash block.
pub const BLOCK: usize = 4096;
/// Bytes of the superblock.
pub const SUPERBLOCK_BYTES: usize = 512;
/// Bytes of a salt at most, by the format.
const SALT_MAX: usize = 256;
/// Sums in one hash block.
pub const FAN: u64 = (BLOCK / 32) as u64;
/// Data blocks at most: 1 TiB. A root is some ten MiB; this keeps the arithmetic far from its ends.
const DATA_BLOCKS_MAX: u64 = 1 << 28;

/// A root hash.
pub type RootHash = [u8; 32];

/// Why a superblock is not used.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// Not a superblock.
    #[error("no verity superblock")]
    Signature,
    /// A kind that we neither make nor mount.
    #[error("verity superblock: {0} is not supported")]
    Unsupported(&'static str),
    /// A size that cannot be.
    #[error("verity superblock: {0} data blocks do not fit")]
    Size(u64),
    /// Reading data or writing the tree.
    #[error("verity tree: {0}")]
    Io(#[from] io::Error),
}

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Superblock {
    /// Of this tree.
    pub uuid: [u8; 16],
    /// Data blocks covered.
    pub data_blocks: u64,
    /// In front of every block that is summed.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// Reads the first [`SUPERBLOCK_BYTES`] of a hash partition.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, VerityError> {
        if bytes.len() < SUPERBLOCK_BYTES || &bytes[..8] != b"verity\0\0" {
            return Err(VerityError::Signature);
        }
        let word =
            |at: usize| bytes[at..at + 4].iter().rev().fold(0u32, |n, &byte| (n << 8) | u32::from(byte));
        if word(8) != 1 || word(12) != 1 {
            return Err(VerityError::Unsupported("this version"));
        }
        if bytes[32..64].strip_prefix(b"sha256").is_none_or(|rest| rest.iter().any(|&byte| byte != 0)) {
            return Err(VerityError::Unsupported("an algorithm other than sha256"));
        }
        if word(64) as usize != BLOCK || word(68) as usize != BLOCK {
            return Err(VerityError::Unsupported("a block size other than 4096"));
        }
        let data_blocks = u64::from(word(72)) | (u64::from(word(76)) << 32);
        if data_blocks == 0 || data_blocks > DATA_BLOCKS_MAX {
            return Err(VerityError::Size(data_blocks));
        }
        let salt_bytes = usize::from(bytes[80]) | (usize::from(bytes[81]) << 8);
        if salt_bytes > SALT_MAX {
            return Err(VerityError::Unsupported("a salt of more than 256 bytes"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        Ok(Superblock { uuid, data_blocks, salt: bytes[88..88 + salt_bytes].to_vec() })
    }

    /// The superblock's bytes. The salt is cut at 256 bytes.
    pub fn to_bytes(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let salt = &self.salt[..self.salt.len().min(SALT_MAX)];
        let block = 4096u32.to_le_bytes();
        put(0, b"verity\0\0");
        put(8, &1u32.to_le_bytes());
        put(12, &1u32.to_le_bytes());
        put(16, &self.uuid);
        put(32, b"sha256");
        put(64, &block);
        put(68, &block);
        put(72, &self.data_blocks.to_le_bytes());
        put(80, &(u16::try_from(salt.len()).unwrap_or_default()).to_le_bytes());
        put(88, salt);
        bytes
    }

    /// Blocks of each level, the lowest (sums of data) first; none over a single block. On the hash partition the topmost
    /// comes first, behind the superblock's block.
    pub fn levels(&self) -> Vec<u64> {
        let mut levels = Vec::new();
        let mut blocks = self.data_blocks;
        while blocks > 1 {
            blocks = blocks.div_ceil(FAN);
            levels.push(blocks);
        }
        levels
    }

    /// Bytes of the hash partition that are used: superblock and tree.
    pub fn hash_bytes(&self) -> u64 {
        (1 + self.levels().iter().sum::<u64>()) * BLOCK as u64
    }

    /// Is `top`, the second block of the hash partition, the top of the tree with this root hash? (A tree over a
    /// single block has no levels; then `top` is the data block itself.)
    pub fn matches(&self, top: &[u8], root: &RootHash) -> bool {
        top.len() == BLOCK && self.root_hash(top) == *root
    }

    /// The root hash of the tree whose top is `top`, the second block of the hash partition.
    pub fn root_hash(&self, top: &[u8]) -> RootHash {
        self.sum(top)
    }

    /// The sum of a block, of data or of the tree, as the level above records it.
    pub fn sum(&self, block: &[u8]) -> RootHash {
        sum(&self.salt, block)
    }

    /// The kernel's table line for a verity target over these two devices (`major:minor` or paths).
    pub fn table(&self, data: &str, hash: &str, root: &RootHash) -> String {
        let salt = if self.salt.is_empty() { "-".into() } else { to_hex(&self.salt) };
        format!("1 {data} {hash} {BLOCK} {BLOCK} {} 1 sha256 {} {salt}", self.data_blocks, to_hex(root))
    }
}

/// Sums `data` (whose length is `data_blocks` whole blocks) and writes superblock and tree. Holds 32 bytes for each
/// data block in memory.
pub fn build(
    data: &mut impl Read,
    data_blocks: u64,
    uuid: [u8; 16],
    salt: &[u8],
    out: &mut impl Write,
) -> Result<RootHash, VerityError> {
    if data_blocks == 0 || data_blocks > DATA_BLOCKS_MAX || salt.len() > SALT_MAX {
        return Err(VerityError::Size(data_blocks));
    }
    let superblock = Superblock { uuid, data_blocks, salt: salt.to_vec() };
    let mut block = vec![0; BLOCK];
    let mut sums = Vec::new();
    for _ in 0..data_blocks {
        data.read_exact(&mut block)?;
        sums.extend_from_slice(&sum(salt, &block));
    }
    // Each turn pads the sums to whole blocks, which are a level, and sums those.
    let mut levels = Vec::new();
    while sums.len() > 32 {
        sums.resize(sums.len().next_multiple_of(BLOCK), 0);
        let above = sums.chunks_exact(BLOCK).flat_map(|level| sum(salt, level)).collect();
        levels.push(std::mem::replace(&mut sums, above));
    }
    let mut first = vec![0; BLOCK];
    first[..SUPERBLOCK_BYTES].copy_from_slice(&superblock.to_bytes());
    out.write_all(&first)?;
    for level in levels.iter().rev() {
        out.write_all(level)?;
    }
    let mut root = [0; 32];
    root.copy_from_slice(&sums);
    Ok(root)
}

fn sum(salt: &[u8], block: &[u8]) -> RootHash {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// Lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads the 64 hex digits of a root hash.
pub fn parse_root_hash(text: &str) -> Option<RootHash> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut root = [0; 32];
    for (byte, pair) in root.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(blocks: u64) -> Vec<u8> {
        (0..blocks * BLOCK as u64).map(|i| u8::try_from((i / 7) % 251).unwrap()).collect()
    }

    fn tree(blocks: u64, salt: &[u8]) -> (Vec<u8>, RootHash) {
        let mut out = Vec::new();
        let root = build(&mut data(blocks).as_slice(), blocks, [7; 16], salt, &mut out).unwrap();
        (out, root)
    }

    #[test]
    fn a_tree_is_the_size_that_its_superblock_says_and_its_top_matches() {
        for blocks in [2, 127, 128, 129, 500] {
            let (out, root) = tree(blocks, b"salt");
            let superblock = Superblock::parse(&out).unwrap();
            assert_eq!(out.len() as u64, superblock.hash_bytes(), "{blocks}");
            assert!(superblock.matches(&out[BLOCK..2 * BLOCK], &root), "{blocks}");
            assert!(!superblock.matches(&out[BLOCK..2 * BLOCK], &[0; 32]));
        }
    }

    /// `veritysetup format --uuid=00000000-0000-0000-0000-000000000001 --salt=73616c74` of cryptsetup 2.6.1 over the
    /// same data: its root hash and the SHA-256 of the file that it wrote.
    #[test]
    fn the_same_bytes_as_veritysetup() {
        let mut uuid = [0; 16];
        uuid[15] = 1;
        for (blocks, root, file) in [
            (
                2,
                "a74f767eaa8bb74e673d6e94e8859d80f701b4cad5192f5e37717d7415753bb3",
                "d6410db3f8b18d87f61c2b76b50837ec0680f854f5c89ef9fb0f6ba42579c2a1",
            ),
            (
                300,
                "175c4d9036f96532e53612a086f2d092f9a011a2bee60229300b143ac8adedc0",
                "1f72b7e3c20afbe4166698e00a441db55b3c1eee44b709eed2a2536783d5b1fc",
            ),
        ] {
            let mut out = Vec::new();
            let found = build(&mut data(blocks).as_slice(), blocks, uuid, b"salt", &mut out).unwrap();
            assert_eq!(to_hex(&found), root);
            assert_eq!(to_hex(&Sha256::digest(&out)), file);
        }
    }

    #[test]
    fn a_level_more_for_each_power_of_128() {
        let levels = |data_blocks| Superblock { uuid: [0; 16], data_blocks, salt: Vec::new() }.levels();
        assert_eq!(levels(128 * 128), [128, 1]);
        assert_eq!(levels(128 * 128 + 1), [129, 2, 1]);
    }

    #[test]
    fn a_single_block_is_its_own_root() {
        let (out, root) = tree(1, b"");
        let superblock = Superblock::parse(&out).unwrap();
        assert_eq!(out.len(), BLOCK);
        assert!(superblock.matches(&data(1), &root));
    }

    #[test]
    fn one_flipped_bit_changes_the_root() {
        let mut other = data(300);
        other[123_456] ^= 4;
        let root = build(&mut other.as_slice(), 300, [7; 16], b"", &mut io::sink()).unwrap();
        assert_ne!(root, tree(300, b"").1);
    }

    #[test]
    fn strange_superblocks_are_refused() {
        let good = tree(2, b"s").0;
        for (at, value) in
            [(0, 0), (8, 2), (12, 0), (32, b'm'), (38, b'x'), (65, 2), (69, 8), (72, 0), (79, 1), (81, 2)]
        {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Superblock::parse(&bad).is_err(), "byte {at}");
        }
        assert!(Superblock::parse(&good[..100]).is_err());
    }

    #[test]
    fn table_and_hex() {
        let superblock = Superblock { uuid: [0; 16], data_blocks: 9, salt: vec![0xab, 1] };
        let root = [0x11; 32];
        let expected = format!("1 254:1 254:2 4096 4096 9 1 sha256 {} ab01", "11".repeat(32));
        assert_eq!(superblock.table("254:1", "254:2", &root), expected);
        assert_eq!(parse_root_hash(&to_hex(&root)), Some(root));
        assert_eq!(parse_root_hash(&"+1".repeat(32)), None);
    }
}
