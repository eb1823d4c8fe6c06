//! What the main loop reads from and writes to the state partition. Everything that writes runs in a child.

use super::supervisor::Refused;
use super::{generations, limits};
use berth_units::image::{PreparedImage, file_name};
use berth_units::model::Unit;
use berth_units::{at_hand, config, paths, schema};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn ids_path() -> PathBuf {
    Path::new(paths::STATE_UNITS).join("ids")
}

/// Makes the folders that units and workers are given. For a child.
pub fn make_folders() -> Result<String, String> {
    let folders: [(PathBuf, u32); 9] = [
        (Path::new(paths::STATE_CONFIG).join("generations"), 0o700),
        (Path::new(paths::STATE_IMAGES).join("layers"), 0o755),
        (Path::new(paths::STATE_IMAGES).join("index"), 0o755),
        (paths::STATE_FETCHED.into(), 0o755),
        (paths::STATE_UPDATE.into(), 0o755),
        (paths::STATE_UNITS.into(), 0o755),
        (paths::STATE_VOLUMES.into(), 0o700),
        (paths::LOGS.into(), 0o700),
        (Path::new(paths::RESOLV_CONF).parent().unwrap_or(Path::new(paths::RUN)).into(), 0o755),
    ];
    for (folder, mode) in folders {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(mode)))
            .map_err(|error| format!("{} not made: {error}", folder.display()))?;
    }
    generations::adopt(Path::new(paths::STATE_CONFIG))?;
    Ok(String::new())
}

/// At most `limit` bytes of a file; one that is longer is an error, one that is absent is nothing. Workers write where
/// some of them lie: a link is not followed, and nothing is opened that could be waited for.
pub(super) fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(io::Error::other(
                "a symbolic link, which is not followed; put the file itself there",
            ));
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("longer than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// The id table that was kept.
pub fn kept_ids() -> String {
    let path = ids_path();
    let bytes = read(&path, limits::IDS_BYTES).unwrap_or_else(|error| {
        log::error!("{}: {error}; id ranges are given anew", path.display());
        None
    });
    String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

/// What is remembered of trials.
pub fn kept_trials() -> String {
    let bytes = read(Path::new(paths::STATE_TRIALS), limits::TRIALS_BYTES).unwrap_or_else(|error| {
        log::error!("{}: {error}; trials are forgotten", paths::STATE_TRIALS);
        None
    });
    String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

/// Keeps it. For a child.
pub fn keep_trials(text: &str) -> Result<String, String> {
    replace(Path::new(paths::STATE_TRIALS), text.as_bytes(), 0o600).map(|()| String::new())
}

/// Keeps the id table. For a child.
pub fn keep_ids(text: &str) -> Result<String, String> {
    replace(&ids_path(), text.as_bytes(), 0o600).map(|()| String::new())
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    crate::early::files::replace(path, bytes, mode).map_err(|error| format!("{}: {error}", path.display()))
}

/// An image's description, if the store has made one and every layer that it names is there.
pub fn image(images: &Path, reference: &str) -> Result<Option<PreparedImage>, String> {
    let path = index_path(images, reference);
    let bytes = match read(&path, berth_units::limits::IMAGE_INDEX_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        // A name too long for a file system has never been written.
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    described(&path, &bytes, reference, |layer| layer_path(images, layer).is_dir()).map(Some)
}

/// The same without waiting for a disk; `None` if it cannot be told so.
pub fn image_at_hand(images: &Path, reference: &str) -> Option<PreparedImage> {
    let path = index_path(images, reference);
    let bytes = at_hand::read(&path, berth_units::limits::IMAGE_INDEX_BYTES)?;
    described(&path, &bytes, reference, |layer| at_hand::is_folder(&layer_path(images, layer))).ok()
}

fn described(
    path: &Path,
    bytes: &[u8],
    reference: &str,
    is_there: impl Fn(&str) -> bool,
) -> Result<PreparedImage, String> {
    let image = PreparedImage::parse(bytes)?;
    if image.reference != reference {
        return Err(format!("{} describes {:?}", path.display(), image.reference));
    }
    match image.layers.iter().find(|layer| !is_there(layer)) {
        Some(layer) => Err(format!("layer {layer} is missing")),
        None => Ok(image),
    }
}

fn index_path(images: &Path, reference: &str) -> PathBuf {
    images.join("index").join(file_name(reference))
}

fn layer_path(images: &Path, layer: &str) -> PathBuf {
    images.join("layers").join(layer)
}

/// The units of the OS image. Those that do not pass the check are left out; a slot whose own units are broken will
/// not become healthy without them.
pub fn system_units(folder: &Path) -> Vec<Unit> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    let mut units = Vec::new();
    for name in names.iter().take(limits::SYSTEM_UNITS) {
        let base = name.trim_end_matches(".toml");
        let text = match read(&folder.join(name), berth_units::limits::CONFIG_BYTES) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                log::error!("{name}: {error}");
                continue;
            }
        };
        match schema::parse_unit(name, base, &text, berth_units::model::Origin::System) {
            Ok(unit) => units.push(unit),
            Err(report) => log::error!("system unit left out: {report}"),
        }
    }
    units
}

/// The checker, as the supervisor wants it.
pub fn check(text: &[u8], system: &[Unit]) -> Result<berth_units::model::MachineConfig, Refused> {
    config::check("berth.toml", text, system)
        .map_err(|report| Refused { report: report.to_string(), salvage: config::salvage(text).into_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(reference: &str) -> String {
        let hex = "a".repeat(64);
        serde_json::json!({
            "format": 1, "reference": reference, "digest": format!("sha256:{hex}"), "layers": [hex],
            "entrypoint": [], "cmd": [], "env": [], "workdir": "", "user": "", "stop_signal": ""
        })
        .to_string()
    }

    #[test]
    fn an_image_counts_only_when_its_layers_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path();
        assert_eq!(image(images, "web:1"), Ok(None));
        fs::create_dir_all(images.join("index")).unwrap();
        let path = images.join("index").join(file_name("web:1"));
        fs::write(&path, description("web:1")).unwrap();
        assert!(image(images, "web:1").unwrap_err().contains("missing"));
        fs::create_dir_all(images.join("layers").join("a".repeat(64))).unwrap();
        assert_eq!(image(images, "web:1").unwrap().unwrap().reference, "web:1");
        assert_eq!(image_at_hand(images, "web:1"), image(images, "web:1").unwrap());
        assert_eq!(image_at_hand(images, "web:2"), None);
        fs::write(&path, description("other:1")).unwrap();
        assert!(image(images, "web:1").unwrap_err().contains("describes"));
        fs::write(&path, "{").unwrap();
        assert!(image(images, "web:1").is_err());
        fs::write(&path, vec![b' '; berth_units::limits::IMAGE_INDEX_BYTES + 1]).unwrap();
        assert!(image(images, "web:1").unwrap_err().contains("longer"));
        assert_eq!(image(images, &"x".repeat(300)), Ok(None));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path, 100).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(read(&path, 2).is_err());
        assert_eq!(read(&folder.path().join("none"), 2).unwrap(), None);
    }

    #[test]
    fn a_link_is_not_followed_and_a_pipe_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "[container]\nimage = \"berth:system\"\ncommand = [\"/x\"]\n";
        fs::write(at("plain.toml"), text).unwrap();
        std::os::unix::fs::symlink(at("plain.toml"), at("link.toml")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling.toml")).unwrap();
        nix::unistd::mkfifo(&at("pipe.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(at("folder.toml")).unwrap();
        for (name, reason) in [
            ("link.toml", "symbolic link"),
            ("dangling.toml", "symbolic link"),
            ("pipe.toml", "not a regular"),
            ("folder.toml", "not a regular"),
        ] {
            let error = read(&at(name), 100).unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
        let units = system_units(folder.path());
        assert_eq!(units.iter().map(|unit| unit.name.as_str()).collect::<Vec<_>>(), ["plain"]);
    }

    #[test]
    fn the_units_of_this_system_pass_the_check() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
        let units = system_units(&folder);
        let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        assert_eq!(names, ["api", "cloud", "fetch", "install", "meta", "net", "store", "time", "update"]);
        berth_units::graph::Graph::new(&units).unwrap();
        for unit in &units {
            let grants = unit.system.as_ref().unwrap();
            assert!(grants.control, "{}", unit.name);
            assert!(unit.resources.memory.is_some() && unit.resources.pids <= 64, "{}", unit.name);
            assert!(!grants.capabilities.iter().any(|name| name == "SYS_ADMIN"), "{}", unit.name);
        }
        let config = check(b"format = 1\nunits.net.container.image = \"x\"\n", &units).unwrap_err();
        assert!(config.report.contains("system unit"), "{}", config.report);
    }
}
