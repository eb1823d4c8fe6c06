//! One 512-byte header block, its fields read by the `tar` crate.

use super::{Entry, Kind, Piece, pax::Sparse};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// What special entries said about the next ordinary one.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub long_path: Option<Vec<u8>>,
    pub long_link: Option<Vec<u8>>,
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
    pub seen: bool,
}

impl Fields {
    pub fn is_empty(&self) -> bool {
        !self.seen && self.long_path.is_none() && self.long_link.is_none()
    }
}

/// The block.
pub(super) struct Block(Header);

impl Block {
    pub fn new(bytes: [u8; 512]) -> Self {
        Self(Header::from_byte_slice(&bytes).clone())
    }

    pub fn bytes(&self) -> &[u8; 512] {
        self.0.as_bytes()
    }

    pub fn is_zero(&self) -> bool {
        self.bytes().iter().all(|b| *b == 0)
    }

    /// The checksum: the sum of all bytes with its own field as spaces. Old programs summed signed bytes.
    pub fn check(&self) -> Result<(), String> {
        let stated = self.0.cksum().map_err(|_| "this is not a tar header".to_owned())?;
        let bytes =
            self.bytes().iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
        let unsigned: u32 = bytes.clone().map(u32::from).sum();
        let signed: i32 = bytes.map(|b| i32::from(b.cast_signed())).sum();
        if stated == unsigned || i32::try_from(stated) == Ok(signed) {
            return Ok(());
        }
        Err("a header's checksum is wrong".to_owned())
    }

    pub fn kind(&self) -> u8 {
        self.0.entry_type().as_byte()
    }

    pub fn size(&self) -> Result<u64, String> {
        // Base-256 numbers may be negative or beyond 64 bits; the crate reads their last eight bytes.
        let field = &self.0.as_old().size;
        if field[0] & 0x80 != 0 && (field[0] != 0x80 || field[1..4].iter().any(|b| *b != 0)) {
            return Err("a size is not a number".to_owned());
        }
        let size = self.0.entry_size().map_err(|_| "a size is not a number".to_owned())?;
        if size > i64::MAX.cast_unsigned() {
            return Err(format!("a size of {size} bytes cannot be"));
        }
        Ok(size)
    }

    pub fn real_size(&self) -> Result<u64, String> {
        let gnu = self.0.as_gnu().ok_or("a sparse file's header is not GNU's")?;
        gnu.real_size().map_err(|_| "a sparse file's size is not a number".to_owned())
    }

    /// The first pieces of a GNU sparse file, and whether more follow.
    pub fn sparse(&self) -> Result<(Vec<Piece>, bool), String> {
        let gnu = self.0.as_gnu().ok_or("a sparse file's header is not GNU's")?;
        Ok((pieces(&gnu.sparse)?, gnu.is_extended()))
    }

    /// The same, of a block that continues a map.
    pub fn sparse_extension(&self) -> Result<(Vec<Piece>, bool), String> {
        let mut extension = GnuExtSparseHeader::new();
        extension.as_mut_bytes().copy_from_slice(self.bytes());
        Ok((pieces(extension.sparse())?, extension.is_extended()))
    }

    pub fn entry(&self, fields: &Fields) -> Result<Entry, String> {
        let number =
            |what: &str, value: std::io::Result<u64>| value.map_err(|_| format!("{what} is not a number"));
        let first = |a: &Option<Vec<u8>>, b: &Option<Vec<u8>>| a.clone().or_else(|| b.clone());
        let path = match first(&fields.path, &fields.long_path) {
            Some(path) => path,
            None => self.0.path_bytes().into_owned(),
        };
        let link = match first(&fields.link, &fields.long_link) {
            Some(link) => link,
            None => self.0.link_name_bytes().unwrap_or_default().into_owned(),
        };
        // Before POSIX, a folder was a file whose name ends in a slash.
        let kind = match self.0.entry_type() {
            EntryType::Regular if path.ends_with(b"/") && self.kind() == 0 => Kind::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::Hardlink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Dir,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            other => Kind::Other(other.as_byte()),
        };
        Ok(Entry {
            kind,
            path,
            link,
            mode: self.0.mode().map_err(|_| "a mode is not a number".to_owned())?,
            uid: fields.uid.map_or_else(|| number("an owner", self.0.uid()), Ok)?,
            gid: fields.gid.map_or_else(|| number("a group", self.0.gid()), Ok)?,
            // A time that is not a number or lies beyond 2^63 harms nobody.
            mtime: fields
                .mtime
                .unwrap_or((self.0.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0), 0)),
            size: 0,
            xattrs: fields.xattrs.clone(),
            data_at: 0,
            data_len: 0,
        })
    }
}

fn pieces(raw: &[GnuSparseHeader]) -> Result<Vec<Piece>, String> {
    raw.iter()
        .filter(|p| !p.is_empty())
        .map(|p| match (p.offset(), p.length()) {
            (Ok(offset), Ok(len)) => Ok(Piece { offset, len }),
            _ => Err("a sparse file's map is not made of numbers".to_owned()),
        })
        .collect()
}
