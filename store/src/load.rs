//! An archive that an operator sends: read to its end into `tmp/`, by a thread of its own, so that a slow line holds up no
//! unit; then each image in it is made ready like any other, and kept.
//!
//! What is sent may be compressed as a whole (`docker save | gzip`). A cut leaves a file in `tmp/`, which the next start
//! removes, and whole images or none.

use crate::bytes::FileBytes;
use crate::error::Error;
use crate::find;
use crate::layout::Layout;
use crate::prepare::{Store, remove};
use crate::{limits, show, zstd};
use flate2::bufread::MultiGzDecoder;
use nix::sys::statvfs::fstatvfs;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Held by who decodes zstd: several archives may come at once, and the worker's memory is for one.
static ZSTD: Mutex<()> = Mutex::new(());

/// Where the archive of a job lies until it has been read.
pub fn place(root: &Path, job: u64) -> PathBuf {
    root.join("tmp").join(format!("load-{job}.tar"))
}

/// Reads an archive to its end.
pub fn receive(from: File, to: &Path) -> Result<(), Error> {
    let failed = |e: io::Error| Error::state("the archive was not taken", &e);
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let mut file = File::create(to).map_err(failed)?;
    let magic = from.fill_buf().map_err(failed)?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        copy(&mut MultiGzDecoder::new(from), &mut file).map_err(failed)
    } else if magic.starts_with(&zstd::MAGIC) {
        let _turn = ZSTD.lock().unwrap_or_else(PoisonError::into_inner);
        copy(&mut zstd::Frames::new(from, limits::LOAD_WINDOW_BYTES), &mut file).map_err(failed)
    } else {
        copy(&mut from, &mut file).map_err(failed)
    }
}

/// As much as there may be, and never the state partition's last blocks.
fn copy(from: &mut dyn Read, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut all, mut unchecked) = (0_u64, limits::RESERVE_EVERY);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        all += count as u64;
        unchecked += count as u64;
        if all > limits::LOAD_BYTES {
            let most = limits::LOAD_BYTES;
            return Err(io::Error::other(format!(
                "it has more than {most} bytes; save fewer images at once"
            )));
        }
        if unchecked >= limits::RESERVE_EVERY {
            unchecked = 0;
            let space = fstatvfs(&*file)?;
            if space.blocks_available().saturating_mul(space.fragment_size()) < limits::RESERVE_BYTES {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        file.write_all(&buffer[..count])?;
    }
}

/// Makes every image of a received archive ready; which are, and why not all.
pub fn unpack(store: &Store, archive: &Path) -> (Vec<String>, Option<String>) {
    let mut done = Vec::new();
    let result = unpack_each(store, archive, &mut done);
    // Should it stay, the next start removes it.
    let _ = remove(archive);
    (done, result.err().map(|e| show::bounded(e.to_string())))
}

fn unpack_each(store: &Store, archive: &Path, done: &mut Vec<String>) -> Result<(), Error> {
    let bytes = File::open(archive).and_then(FileBytes::new);
    let bytes = bytes.map_err(|e| Error::state("the archive was not read", &e))?;
    let layout = Layout::archive("the archive", Box::new(bytes))?;
    let names = find::names(&layout)?;
    if names.is_empty() {
        return Err(
            layout.unreadable("no image in it has a name; save it by its name, not by its id".to_owned())
        );
    }
    for name in names {
        store.prepare_kept(&layout, &name)?;
        done.push(show::name(name.as_bytes()));
    }
    Ok(())
}
