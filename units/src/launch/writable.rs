//! A unit's writable layer on the state partition: kept while the image stays the same, begun anew when it changes.
//!
//! `<unit>/image` names the manifest that `upper` belongs to. To change it: 1. `upper` and `work` are renamed into
//! `trash`; 2. empty ones are made; 3. `image` is replaced by a rename. A power cut in between leaves the old name, so
//! the next start does it again. `trash` is then emptied; what remains is tried again at the next start.

use super::fault::{At, Step};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes `upper` and `work` below `folder` ready for an image.
pub(super) fn ready(folder: &Path, digest: &str) -> Step<()> {
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(folder).at(|| format!("make {}", folder.display()))?;
    // The container's root reads it through its mapped mount, other units must not.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .at(|| format!("protect {}", folder.display()))?;
    let same = fs::read_to_string(at("image")).is_ok_and(|known| known == digest);
    if !same {
        fs::create_dir_all(at("trash")).at(|| "make the writable layer's trash")?;
        for name in ["upper", "work"] {
            if fs::symlink_metadata(at(name)).is_ok() {
                let away = free_name(&at("trash"), name);
                fs::rename(at(name), &away).at(|| format!("put the old {name} aside"))?;
            }
        }
    }
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        if let Err(error) = fs::create_dir(at(name)) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error).at(|| format!("make {}", at(name).display()));
            }
        } else {
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).at(|| format!("make {name}"))?;
        }
    }
    if !same {
        fs::write(at("image.new"), digest).at(|| "note the writable layer's image")?;
        fs::rename(at("image.new"), at("image")).at(|| "note the writable layer's image")?;
    }
    // Not being able to is no reason not to start.
    let _ = empty(&at("trash"));
    Ok(())
}

/// Removes all that a unit has written there. Cut off, the unit's next start does the rest.
pub(super) fn discard(folder: &Path) -> io::Result<()> {
    let trash = folder.join("trash");
    for name in ["image", "upper", "work"] {
        let at = folder.join(name);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {
                fs::create_dir_all(&trash)?;
                fs::rename(&at, free_name(&trash, name))?;
            }
            Ok(_) => fs::remove_file(&at)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let gone = match empty(&trash) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir(folder),
    };
    gone.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn free_name(folder: &Path, name: &str) -> std::path::PathBuf {
    let mut n = 0_u32;
    loop {
        let path = folder.join(format!("{name}.{n}"));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
        n += 1;
    }
}

/// Removes `trash` with everything in it. Containers wrote what is in there: folders may be nested deeper than any
/// recursion goes, so each is first moved up to the top.
pub(super) fn empty(trash: &Path) -> io::Result<()> {
    let mut n = 0_u64;
    loop {
        let Some(entry) = fs::read_dir(trash)?.next() else { break };
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
            continue;
        }
        for inner in fs::read_dir(entry.path())? {
            let inner = inner?;
            if inner.file_type()?.is_dir() {
                let away = loop {
                    let path = trash.join(format!("d{n}"));
                    n += 1;
                    if fs::symlink_metadata(&path).is_err() {
                        break path;
                    }
                };
                fs::rename(inner.path(), away)?;
            } else {
                fs::remove_file(inner.path())?;
            }
        }
        fs::remove_dir(entry.path())?;
    }
    fs::remove_dir(trash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_for_one_image_and_new_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("web");
        ready(&unit, "sha256:a").unwrap();
        fs::write(unit.join("upper/file"), "x").unwrap();
        ready(&unit, "sha256:a").unwrap();
        assert!(unit.join("upper/file").exists());
        ready(&unit, "sha256:b").unwrap();
        assert!(!unit.join("upper/file").exists());
        assert!(!unit.join("trash").exists());
        assert_eq!(fs::read_to_string(unit.join("image")).unwrap(), "sha256:b");
        assert_eq!(fs::metadata(unit.join("upper")).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_cut_in_between_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        ready(dir.path(), "sha256:a").unwrap();
        fs::write(dir.path().join("upper/old"), "x").unwrap();
        // As left by a cut after step 1.
        fs::create_dir(dir.path().join("trash")).unwrap();
        fs::rename(dir.path().join("upper"), dir.path().join("trash/upper.0")).unwrap();
        ready(dir.path(), "sha256:b").unwrap();
        assert!(!dir.path().join("upper/old").exists());
        assert!(!dir.path().join("trash").exists());
    }

    #[test]
    fn nothing_is_left_of_what_is_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("run-1");
        discard(&unit).unwrap();
        ready(&unit, "sha256:a 1").unwrap();
        fs::create_dir(unit.join("upper/folder")).unwrap();
        fs::write(unit.join("upper/folder/file"), "x").unwrap();
        discard(&unit).unwrap();
        assert!(!unit.exists());
    }

    #[test]
    fn deep_nesting_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        fs::create_dir(&trash).unwrap();
        // Deeper than PATH_MAX, made from the inside out.
        for n in 0..1500 {
            let next = dir.path().join(format!("x{}", n % 2));
            fs::create_dir(&next).unwrap();
            if n > 0 {
                fs::rename(dir.path().join(format!("x{}", (n + 1) % 2)), next.join("d0")).unwrap();
            }
        }
        fs::rename(dir.path().join("x1"), trash.join("top")).unwrap();
        empty(&trash).unwrap();
        assert!(!trash.exists());
    }
}
