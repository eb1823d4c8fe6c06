//! A release out of what `image` built.

use crate::documents::{RELEASES, set, set_at};
use crate::error::RepoError;
use crate::keys::Keys;
use crate::layout;
use crate::limits;
use crate::repository::{Done, Repository};
use berth_tuf::json::{self, Value};
use berth_tuf::release::{self, FACTS, Release};
use berth_tuf::time::Time;
use berth_tuf::{hex, names, unhex};
use berth_updater::verity;
use ring::digest::{Context, SHA256};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

/// What a build left: a folder with `berth.efi`, `root.erofs`, `root.verity` and `release.json`.
#[derive(Debug)]
pub struct Built {
    folder: PathBuf,
    release: Release,
}

/// What was published.
#[derive(Debug)]
pub struct Published {
    /// The release.
    pub release: Release,
    /// What became of it.
    pub done: Done,
}

impl Built {
    /// Reads a build's folder, and checks that its parts belong together: the root hash is that of the verity tree over
    /// the root, and the UKI's command line names it.
    pub fn open(folder: &Path) -> Result<Self, RepoError> {
        let path = folder.join(FACTS);
        let wrong = |why: &str| RepoError::Release { path: path.clone(), why: why.to_owned() };
        let mut text = Vec::new();
        let file = fs::File::open(&path).map_err(RepoError::file(&path))?;
        file.take(limits::FACTS_BYTES).read_to_end(&mut text).map_err(RepoError::file(&path))?;
        let facts = json::parse(&text).map_err(|error| wrong(&error.to_string()))?;
        let word = |name: &str| {
            let word = facts.get(name).and_then(Value::as_str).filter(|word| release::is_word(word));
            word.map(str::to_owned).ok_or_else(|| wrong(&format!("{name:?} is missing, or cannot be one")))
        };
        let hash = facts.get("root_hash").and_then(Value::as_str).and_then(unhex);
        let release = Release {
            product: word("product")?,
            version: word("version")?,
            architecture: word("architecture")?,
            built: facts.get("built").and_then(Value::as_u64).ok_or_else(|| wrong("\"built\" is missing"))?,
            root_hash: hash
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| wrong("\"root_hash\" is missing"))?,
        };
        if release.product != release::PRODUCT {
            return Err(wrong(&format!(
                "it is a release of {:?}, not of {:?}",
                release.product,
                release::PRODUCT
            )));
        }
        let built = Self { folder: folder.to_owned(), release };
        built.check()?;
        Ok(built)
    }

    /// What it says.
    pub fn release(&self) -> &Release {
        &self.release
    }

    fn check(&self) -> Result<(), RepoError> {
        let root = self.folder.join(release::ROOT);
        let tree = self.folder.join(release::VERITY);
        let wrong =
            |path: &Path, why: &str| RepoError::Release { path: path.to_owned(), why: why.to_owned() };
        let content = fs::read(&tree).map_err(RepoError::file(&tree))?;
        let superblock =
            verity::Superblock::parse(&content).map_err(|error| wrong(&tree, &error.to_string()))?;
        let data = fs::File::open(&root).map_err(RepoError::file(&root))?;
        let length = data.metadata().map_err(RepoError::file(&root))?.len();
        if length != superblock.data_blocks * verity::BLOCK as u64 {
            return Err(wrong(&root, "the verity tree is of a root of another size"));
        }
        let mut again = Vec::new();
        let (uuid, salt) = (superblock.uuid, &superblock.salt);
        let mut data = std::io::BufReader::new(data);
        let hash = verity::build(&mut data, superblock.data_blocks, uuid, salt, &mut again)
            .map_err(|error| wrong(&root, &error.to_string()))?;
        if again != content {
            return Err(wrong(&tree, "it is not the verity tree of the root beside it"));
        }
        if hash != self.release.root_hash {
            return Err(wrong(&self.folder.join(FACTS), "\"root_hash\" is not that of the verity tree"));
        }
        let uki = self.folder.join(release::UKI);
        let content = fs::read(&uki).map_err(RepoError::file(&uki))?;
        let named = format!("roothash={}", hex(&hash));
        if !content.starts_with(b"MZ") || !content.windows(named.len()).any(|part| part == named.as_bytes()) {
            return Err(wrong(&uki, "it is not the UKI that starts this root: the root hash is not in it"));
        }
        Ok(())
    }
}

impl Repository {
    /// Adds a release, and lets a channel name it. A version that is there already must be the same content.
    pub fn publish_release(
        mut self,
        built: &Built,
        channel: &str,
        keys: &Keys,
        now: Time,
    ) -> Result<Published, RepoError> {
        self.no_releases_staged()?;
        if !release::is_word(channel) {
            return Err(RepoError::Argument(format!("{channel:?} cannot be a channel's name")));
        }
        let release = built.release.clone();
        for file in [release::UKI, release::ROOT, release::VERITY] {
            let name = release.part(file);
            let entry = self.add(&name, &built.folder.join(file))?;
            let known = self.releases.signed.get("targets").and_then(|known| known.get(&name));
            if known.is_some_and(|known| *known != entry) {
                let why = format!(
                    "version {} was published with another {file}; give it a new version",
                    release.version
                );
                return Err(RepoError::Release { path: built.folder.join(file), why });
            }
            set_at(&mut self.releases.signed, &["targets", &name], entry);
        }
        let value = release.to_value();
        let name = release::channel_target(&release.architecture, channel);
        let mut entry = self.add_bytes(&name, &value.to_json())?;
        set(&mut entry, "custom", value);
        set_at(&mut self.releases.signed, &["targets", &name], entry);
        self.renew(RELEASES, now);
        let done = self.commit(keys, now)?;
        Ok(Published { release, done })
    }

    /// Copies content to where it is found by its hash.
    fn add(&self, name: &str, from: &Path) -> Result<Value, RepoError> {
        let mut source = fs::File::open(from).map_err(RepoError::file(from))?;
        let (hash, length) = copy(&mut source, &mut std::io::sink()).map_err(RepoError::file(from))?;
        let path = self.place_of(name, &hash)?;
        // Content-addressed: what is there in full length is checked by "verify" and by every reader.
        if fs::metadata(&path).is_ok_and(|facts| facts.len() == length) {
            return Ok(entry(&hash, length));
        }
        let mut source = fs::File::open(from).map_err(RepoError::file(from))?;
        let mut again = None;
        layout::place(&path, |file| {
            again = Some(copy(&mut source, file)?);
            Ok(())
        })?;
        if again != Some((hash, length)) {
            let why = "it changed while it was copied".to_owned();
            return Err(RepoError::Release { path: from.to_owned(), why });
        }
        Ok(entry(&hash, length))
    }

    fn add_bytes(&self, name: &str, content: &[u8]) -> Result<Value, RepoError> {
        let (hash, length) = copy(&mut &content[..], &mut std::io::sink()).map_err(RepoError::file(name))?;
        layout::write(&self.place_of(name, &hash)?, content)?;
        Ok(entry(&hash, length))
    }

    fn place_of(&self, name: &str, hash: &[u8; 32]) -> Result<PathBuf, RepoError> {
        let hashes = berth_tuf::metadata::Hashes { sha256: Some(*hash), sha512: None };
        Ok(self.layout().targets().join(names::target_path(name, true, &hashes)?))
    }
}

fn entry(hash: &[u8; 32], length: u64) -> Value {
    Value::from([("length", length.into()), ("hashes", Value::from([("sha256", hex(hash).into())]))])
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<([u8; 32], u64)> {
    let (mut context, mut length) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; PIECE];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            let mut hash = [0; 32];
            hash.copy_from_slice(context.finish().as_ref());
            return Ok((hash, length));
        }
        context.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        length += count as u64;
    }
}
