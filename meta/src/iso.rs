//! ISO 9660 with Rock Ridge and Joliet names, as far as finding one file in the root folder needs it.
//!
//! After ECMA-119, IEEE P1281 (SUSP), IEEE P1282 (Rock Ridge) and Microsoft's Joliet specification. Names are tried
//! as Linux prefers them: Rock Ridge, Joliet, plain.

use crate::disk::{Disk, DiskError, u32_at};
use crate::limits;

const SECTOR: usize = 2048;

/// An ISO 9660 volume.
pub struct Iso<'a> {
    disk: &'a Disk,
    primary: Tree,
    joliet: Option<Tree>,
}

/// One of the two ways to name the same files.
struct Tree {
    label: String,
    root: Extent,
}

/// Where a folder lies.
#[derive(Debug, Clone, Copy)]
struct Extent {
    at: u64,
    len: u64,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    at: u64,
    size: u64,
}

impl<'a> Iso<'a> {
    /// Reads the volume descriptors; `None` if this is no ISO 9660 volume.
    pub fn open(disk: &'a Disk) -> Result<Option<Self>, DiskError> {
        let mut primary = None;
        let mut joliet = None;
        for number in 16..16 + limits::ISO_DESCRIPTORS {
            let at = number * SECTOR as u64;
            if at + SECTOR as u64 > disk.size() {
                break;
            }
            let block = disk.read(at, SECTOR)?;
            if &block[1..6] != b"CD001" {
                break;
            }
            match block[0] {
                1 if primary.is_none() => primary = Some(tree(&block, plain_text)?),
                // Joliet says so by the escape sequence of UCS-2, level 1, 2 or 3.
                2 if matches!(&block[88..91], b"%/@" | b"%/C" | b"%/E") && joliet.is_none() => {
                    joliet = Some(tree(&block, ucs2)?);
                }
                255 => break,
                _ => {}
            }
        }
        Ok(primary.map(|primary| Self { disk, primary, joliet }))
    }

    /// The volume's labels: the primary one and Joliet's.
    pub fn labels(&self) -> Vec<String> {
        let both = [Some(&self.primary), self.joliet.as_ref()];
        both.into_iter().flatten().map(|tree| tree.label.clone()).filter(|label| !label.is_empty()).collect()
    }

    /// Finds a file by its path from the root folder (`openstack/latest/user_data`).
    pub fn find(&self, path: &str) -> Result<Option<File>, DiskError> {
        let root = self.records(self.primary.root)?;
        let skip = self.rock_ridge(&root);
        if let Some(skip) = skip {
            let is = |record: &Record, name: &str| {
                Ok(self.rock_ridge_name(record, skip)?.is_some_and(|found| found == name.as_bytes()))
            };
            if let Some(file) = self.walk(self.primary.root, path, is)? {
                return Ok(Some(file));
            }
        }
        if let Some(joliet) = &self.joliet {
            let is = |record: &Record, name: &str| Ok(without_version(&ucs2(record.name())) == name);
            if let Some(file) = self.walk(joliet.root, path, is)? {
                return Ok(Some(file));
            }
        }
        if skip.is_some() {
            return Ok(None);
        }
        let is = |record: &Record, name: &str| {
            Ok(without_version(&plain_text(record.name())).eq_ignore_ascii_case(name))
        };
        self.walk(self.primary.root, path, is)
    }

    /// Follows a path, by one of the ways to name files.
    fn walk(
        &self,
        root: Extent,
        path: &str,
        is: impl Fn(&Record, &str) -> Result<bool, DiskError>,
    ) -> Result<Option<File>, DiskError> {
        let mut folder = root;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let mut found = None;
            for record in self.records(folder)? {
                if is(&record, name)? {
                    found = Some(record);
                    break;
                }
            }
            match found {
                Some(record) if names.peek().is_none() => return record.file(path).map(Some),
                Some(record) if record.is_folder() => folder = record.extent(),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Reads a file whole.
    pub fn read(&self, file: &File, most: u64) -> Result<Vec<u8>, DiskError> {
        if file.size > most {
            return Err(DiskError::Unusable(format!("it has {} bytes; at most {most} are read", file.size)));
        }
        self.disk.read(file.at, usize::try_from(file.size).map_err(|_| DiskError::Budget)?)
    }

    /// A folder's records. No record crosses a sector; the rest of one is filled with zeros.
    fn records(&self, folder: Extent) -> Result<Vec<Record>, DiskError> {
        if folder.len > limits::FOLDER_BYTES {
            return Err(DiskError::Unusable(format!("a folder of it has {} bytes", folder.len)));
        }
        let bytes = self.disk.read(folder.at, usize::try_from(folder.len).map_err(|_| DiskError::Budget)?)?;
        let mut records = Vec::new();
        for sector in bytes.chunks(SECTOR) {
            let mut rest = sector;
            while let Some(len) = rest.first().map(|len| usize::from(*len)).filter(|len| *len > 0) {
                let record = rest.get(..len).filter(|r| r.len() > 33 && r.len() >= 33 + usize::from(r[32]));
                let Some(record) = record else {
                    return Err(DiskError::Damaged("a folder's record is longer than its place".to_owned()));
                };
                records.push(Record(record.to_vec()));
                rest = &rest[len..];
            }
        }
        Ok(records)
    }

    /// Whether the tree has SUSP fields: `SP` is the first of them in the root's own record. The number of bytes to
    /// skip before them in each record.
    fn rock_ridge(&self, records: &[Record]) -> Option<usize> {
        let own = records.first()?;
        // CD-ROM XA puts 14 bytes of its own first.
        for skip in [0, 14] {
            let field = own.system_use().get(skip..skip + 7)?;
            if field.starts_with(b"SP\x07\x01\xbe\xef") {
                return Some(usize::from(field[6]));
            }
        }
        None
    }

    /// The name in a record's `NM` fields, of which there may be several, also in continuation areas (`CE`).
    fn rock_ridge_name(&self, record: &Record, skip: usize) -> Result<Option<Vec<u8>>, DiskError> {
        let mut area = record.system_use().get(skip..).unwrap_or(&[]).to_vec();
        let mut name: Option<Vec<u8>> = None;
        for _ in 0..limits::ISO_CONTINUATIONS {
            let mut continued = None;
            let mut rest = &area[..];
            while rest.len() >= 4 {
                let len = usize::from(rest[2]);
                let Some(field) = rest.get(..len).filter(|_| len >= 4) else { break };
                match &field[..2] {
                    // Flags: 1 = goes on, 2 and 4 = "." and "..".
                    b"NM" if len >= 5 && field[4] & 6 == 0 => {
                        name.get_or_insert_default().extend_from_slice(&field[5..]);
                    }
                    b"CE" if len >= 28 => {
                        continued = Some((u32_at(field, 4), u32_at(field, 12), u32_at(field, 20)));
                    }
                    b"ST" => break,
                    _ => {}
                }
                rest = &rest[len..];
            }
            let Some((block, offset, len)) = continued else { break };
            if len as usize > SECTOR {
                return Err(DiskError::Damaged("a continuation is longer than a sector".to_owned()));
            }
            area = self.disk.read(u64::from(block) * SECTOR as u64 + u64::from(offset), len as usize)?;
        }
        Ok(name)
    }
}

/// Label and root folder of a volume descriptor.
fn tree(block: &[u8], text: fn(&[u8]) -> String) -> Result<Tree, DiskError> {
    let block_size = crate::disk::u16_at(block, 128);
    if usize::from(block_size) != SECTOR {
        return Err(DiskError::Unusable(format!(
            "its blocks have {block_size} bytes; only 2048 can be read"
        )));
    }
    let root = Record(block[156..190].to_vec());
    Ok(Tree { label: text(&block[40..72]).trim_end_matches([' ', '\0']).to_owned(), root: root.extent() })
}

fn plain_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ucs2(bytes: &[u8]) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|u| u16::from_be_bytes(*u)).collect();
    String::from_utf16_lossy(&units)
}

/// `USER-DATA.;1` → `USER-DATA`.
fn without_version(name: &str) -> &str {
    let name = name.split_once(';').map_or(name, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// A directory record of at least 34 bytes.
struct Record(Vec<u8>);

impl Record {
    fn name(&self) -> &[u8] {
        let len = usize::from(self.0[32]);
        self.0.get(33..33 + len).unwrap_or(&[])
    }

    fn system_use(&self) -> &[u8] {
        let name = usize::from(self.0[32]);
        // A name of even length is followed by a byte of padding.
        self.0.get(33 + name + (name + 1) % 2..).unwrap_or(&[])
    }

    /// Behind the extended attribute record, whose length is in blocks.
    fn data_at(&self) -> u64 {
        (u64::from(u32_at(&self.0, 2)) + u64::from(self.0[1])) * SECTOR as u64
    }

    fn extent(&self) -> Extent {
        Extent { at: self.data_at(), len: u64::from(u32_at(&self.0, 10)) }
    }

    fn is_folder(&self) -> bool {
        self.0[25] & 0x02 != 0
    }

    fn file(&self, name: &str) -> Result<File, DiskError> {
        let flags = self.0[25];
        if self.is_folder() {
            return Err(DiskError::Unusable(format!("{name} is a folder")));
        }
        if flags & 0x80 != 0 || self.0[26] != 0 || self.0[27] != 0 {
            return Err(DiskError::Unusable(format!("{name} lies in several pieces")));
        }
        Ok(File { at: self.data_at(), size: u64::from(u32_at(&self.0, 10)) })
    }
}

/// For fuzzing: everything that is ever done with a volume.
pub fn fuzz(bytes: &[u8]) {
    let disk = Disk::from_bytes(bytes);
    if let Ok(Some(iso)) = Iso::open(&disk) {
        let _ = iso.labels();
        for path in ["user-data", "openstack/latest/user_data"] {
            if let Ok(Some(file)) = iso.find(path) {
                let _ = iso.read(&file, limits::ENCODED_BYTES);
            }
        }
    }
}

#[cfg(test)]
mod tests;
