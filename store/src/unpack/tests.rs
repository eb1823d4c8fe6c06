use super::*;
use crate::below::Below;
use crate::build::LayerBuilder;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tar::{Builder, EntryType, Header};

struct Unpacked {
    dir: tempfile::TempDir,
    notes: Notes,
    result: Result<(), UnpackError>,
}

impl Unpacked {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn error(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }
}

/// Unpacks into `root/` of a folder whose `outside` must never change.
fn unpack_tar(tar: &[u8]) -> Unpacked {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("outside"), "untouched").unwrap();
    let mut tree = Tree::open(&dir.path().join("root"), Below::default()).unwrap();
    let mut notes = Notes::default();
    let result = unpack(tar, &mut tree, &mut notes).map(drop);
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"untouched");
    assert_eq!(fs::symlink_metadata(dir.path().join("outside")).unwrap().nlink(), 1, "linked from inside");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something was made outside");
    Unpacked { dir, notes, result }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    header
}

/// One entry whose name and link are written as they are: the tar crate's builder refuses bad ones.
fn raw(kind: EntryType, name: &[u8], link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = header(kind, 0o644);
    header.set_size(data.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])], then: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let len = (1..5).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
        data.extend_from_slice(format!("{len} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    let mut bytes = raw(EntryType::XHeader, b"pax", b"", &data);
    bytes.extend_from_slice(then);
    bytes
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_good_layer_comes_out_file_by_file() {
    let tar = LayerBuilder::new()
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, "root:x:0:0")
        .owner(1000, 65_535)
        .dir("home/user", 0o700)
        .file("home/user/script", 0o4755, vec![7; 200_000])
        .hardlink("home/user/again", "home/user/script")
        .symlink("home/user/link", "../../../../outside")
        .tar()
        .unwrap();
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(fs::read(out.path("etc/passwd")).unwrap(), b"root:x:0:0");
    assert_eq!(fs::read(out.path("home/user/script")).unwrap(), vec![7; 200_000]);
    let script = fs::metadata(out.path("home/user/script")).unwrap();
    assert_eq!((script.mode() & 0o7777, script.mtime(), script.nlink()), (0o4755, 0, 2));
    assert_eq!(script.ino(), fs::metadata(out.path("home/user/again")).unwrap().ino());
    assert_eq!(fs::read_link(out.path("home/user/link")).unwrap(), Path::new("../../../../outside"));
    let home = fs::metadata(out.path("home/user")).unwrap();
    assert_eq!((home.mode() & 0o7777, home.mtime()), (0o700, 0));
    assert_eq!(fs::metadata(out.path("home")).unwrap().mode() & 0o7777, 0o755, "made on the way");
    if root() {
        assert_eq!((script.uid(), script.gid()), (1000, 65_535));
        assert_eq!(fs::symlink_metadata(out.path("home/user/link")).unwrap().uid(), 1000);
    }
}

#[test]
fn names_need_not_be_utf8_nor_short() {
    use std::os::unix::ffi::OsStrExt;
    let long = format!("{}/file", ["d"; 60].join("/"));
    let mut tar = raw(EntryType::Regular, b"caf\xe9", b"", b"x");
    tar.extend(LayerBuilder::new().file(&long, 0o644, "deep").tar().unwrap());
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(
        fs::read(out.dir.path().join("root").join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).unwrap(),
        b"x"
    );
    assert_eq!(fs::read(out.path(&long)).unwrap(), b"deep");
}

#[test]
fn paths_that_would_leave_are_refused_by_name() {
    for name in [&b"../outside"[..], b"a/../../outside", b"..", b"/../outside", b"a/.."] {
        for kind in
            [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Fifo]
        {
            let out = unpack_tar(&raw(kind, name, b"x", b""));
            let error = out.error();
            assert!(error.contains("`..`") && error.contains(&show::name(name)), "{error}");
        }
    }
}

#[test]
fn absolute_names_mean_the_layers_root() {
    let mut tar = raw(EntryType::Regular, b"/etc/file", b"", b"x");
    tar.extend(raw(EntryType::Link, b"/etc/link", b"/etc/file", b""));
    tar.extend(raw(EntryType::Symlink, b"/etc/sym", b"/etc/file", b""));
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(
        fs::metadata(out.path("etc/link")).unwrap().ino(),
        fs::metadata(out.path("etc/file")).unwrap().ino()
    );
    assert_eq!(fs::read_link(out.path("etc/sym")).unwrap(), Path::new("/etc/file"));
}

#[test]
fn a_symbolic_link_is_a_way_inside_the_image_only() {
    // Where the link leads with the image's root as `/`; the folder above the root is the root.
    for (target, leads_to) in [
        (&b".."[..], ""),
        (b"/", ""),
        (b"../..", ""),
        (b"real", "real/"),
        (b"/real/.", "real/"),
        (b"new", "new/"),
    ] {
        let mut tar = raw(EntryType::Directory, b"real", b"", b"");
        tar.extend(raw(EntryType::Regular, b"file", b"", b"x"));
        tar.extend(raw(EntryType::Symlink, b"way", target, b""));
        for (kind, link) in [
            (EntryType::Regular, &b""[..]),
            (EntryType::Directory, b""),
            (EntryType::Symlink, b"x"),
            (EntryType::Link, b"file"),
            (EntryType::Fifo, b""),
        ] {
            let mut tar = tar.clone();
            tar.extend(raw(kind, b"way/entry", link, b""));
            let out = unpack_tar(&tar);
            out.result.as_ref().unwrap();
            assert!(fs::symlink_metadata(out.path(&format!("{leads_to}entry"))).is_ok(), "{kind:?}");
            assert!(fs::symlink_metadata(out.path("way")).unwrap().is_symlink());
        }
        tar.extend(raw(EntryType::Regular, b"way/.wh.hidden", b"", b""));
        let out = unpack_tar(&tar);
        assert_eq!(fs::symlink_metadata(out.path(&format!("{leads_to}hidden"))).unwrap().rdev(), 0);
    }
    let mut endless = raw(EntryType::Symlink, b"a", b"b", b"");
    endless.extend(raw(EntryType::Symlink, b"b", b"a", b""));
    endless.extend(raw(EntryType::Regular, b"a/x", b"", b""));
    assert!(unpack_tar(&endless).error().contains("without end"));
    let mut through = raw(EntryType::Regular, b"file", b"", b"");
    through.extend(raw(EntryType::Regular, b"file/x", b"", b""));
    assert!(unpack_tar(&through).error().contains("leads through file, which is not a folder"));
}

#[test]
fn an_entry_in_a_links_place_replaces_the_link() {
    let mut tar = raw(EntryType::Symlink, b"f", b"../outside", b"");
    tar.extend(raw(EntryType::Regular, b"f", b"", b"new"));
    tar.extend(raw(EntryType::Symlink, b"d", b"..", b""));
    tar.extend(raw(EntryType::Directory, b"d", b"", b""));
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(fs::read(out.path("f")).unwrap(), b"new");
    assert!(fs::symlink_metadata(out.path("d")).unwrap().is_dir());
}

#[test]
fn hard_links_stay_inside() {
    for (target, why) in [
        (&b"../outside"[..], "`..`"),
        (b"missing", "neither this layer has"),
        (b"way/outside", "neither this layer has"),
        (b"file/x", "not a folder"),
        (b"gone", "which this layer removes"),
        (b"real", "is a folder"),
        (b"/", "root"),
    ] {
        let mut tar = raw(EntryType::Symlink, b"way", b"..", b"");
        tar.extend(raw(EntryType::Directory, b"real", b"", b""));
        tar.extend(raw(EntryType::Regular, b"file", b"", b""));
        tar.extend(raw(EntryType::Regular, b".wh.gone", b"", b""));
        tar.extend(raw(EntryType::Link, b"hard", target, b""));
        let error = unpack_tar(&tar).error();
        assert!(error.starts_with("hard: ") && error.contains(why), "{error}");
    }
    // A link to a symbolic link is that link, not what it points to.
    let mut tar = raw(EntryType::Symlink, b"way", b"../outside", b"");
    tar.extend(raw(EntryType::Link, b"hard", b"way", b""));
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert!(fs::symlink_metadata(out.path("hard")).unwrap().is_symlink());
}

#[test]
fn device_nodes_are_left_out_and_told() {
    let mut tar = raw(EntryType::Char, b"dev/null", b"", b"");
    tar.extend(raw(EntryType::Block, b"dev/sda", b"", b""));
    tar.extend(raw(EntryType::Fifo, b"pipe", b"", b""));
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(out.notes.devices, ["dev/null", "dev/sda"]);
    assert!(!out.path("dev").exists());
    assert_eq!(fs::symlink_metadata(out.path("pipe")).unwrap().mode() & 0o170_777, 0o010_644);
}

#[test]
fn whiteouts_become_overlayfs_ones() {
    let tar = LayerBuilder::new()
        .file("etc/.wh.gone", 0o644, "")
        .file("var/.wh..wh..opq", 0o644, "")
        .file("var/new", 0o644, "x")
        .file(".wh..wh.plnk/1", 0o644, "")
        .file("both/.wh.back", 0o644, "")
        .dir("both/back", 0o755)
        .file("keep", 0o644, "kept")
        .file(".wh.keep", 0o644, "")
        .tar()
        .unwrap();
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    let gone = fs::symlink_metadata(out.path("etc/gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    let opaque = |name: &str| xattr(&out.path(name), "user.overlay.opaque");
    assert_eq!(opaque("var").as_deref(), Some(&b"y"[..]));
    assert_eq!(opaque("both/back").as_deref(), Some(&b"y"[..]), "removed and made anew");
    assert_eq!(opaque("etc"), None);
    assert_eq!(fs::read(out.path("var/new")).unwrap(), b"x");
    assert_eq!(fs::read(out.path("keep")).unwrap(), b"kept");
    for bad in [&b".wh."[..], b".wh...", b"a/.wh.."] {
        assert!(unpack_tar(&raw(EntryType::Regular, bad, b"", b"")).error().contains("whiteout of nothing"));
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let file = fs::File::open(path).unwrap();
    crate::sys::fgetxattr(file.as_fd(), name.as_bytes()).ok()
}

#[test]
fn attributes_are_kept_dropped_or_noted() {
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = pax(
        &[
            ("SCHILY.xattr.user.note", b"a\nb"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.capability", &capability),
        ],
        &raw(EntryType::Regular, b"ping", b"", b"x"),
    );
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    let get = |name: &str| xattr(&out.path("ping"), name);
    assert_eq!(get("user.note").as_deref(), Some(&b"a\nb"[..]));
    assert_eq!(get("user.overlay.redirect"), None);
    assert_eq!(get("trusted.overlay.opaque"), None);
    if out.notes.attributes.is_empty() {
        assert_eq!(get("security.capability").as_deref(), Some(&capability[..]));
    } else {
        assert!(!root() && out.notes.attributes == ["ping"]);
    }
}

#[test]
fn owners_beyond_a_containers_range_are_refused() {
    for (uid, gid) in [(65_536, 0), (0, 70_000), (1 << 40, 0)] {
        let tar = LayerBuilder::new().owner(uid, gid).file("srv/data", 0o644, "").tar().unwrap();
        let error = unpack_tar(&tar).error();
        assert!(error.contains("srv/data") && error.contains("0 to 65535"), "{error}");
    }
}

fn sparse(name: &str, real: u64) -> Vec<u8> {
    let mut header = header(EntryType::GNUSparse, 0o644);
    header.set_path(name).unwrap();
    header.set_size(4);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(real);
    gnu.sparse[0].set_offset(real - 4);
    gnu.sparse[0].set_length(4);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(b"tail");
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn sparse_files_keep_their_holes_up_to_a_size() {
    let out = unpack_tar(&sparse("disk", 1 << 30));
    out.result.as_ref().unwrap();
    let meta = fs::metadata(out.path("disk")).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() < 100, "{} blocks", meta.blocks());

    let out = unpack_tar(&sparse("var/disk", 10 << 30));
    assert!(out.error().contains("var/disk: a file of 10737418240 bytes"), "{}", out.error());
    // Many smaller ones are bounded together.
    let many: Vec<u8> = (0..5).flat_map(|n| sparse(&format!("disk{n}"), 8 << 30)).collect();
    assert!(unpack_tar(&many).error().starts_with("disk4: with this file the layer has more than"));
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let tar = LayerBuilder::new()
        .file("a", 0o644, "first")
        .file("a", 0o600, "second")
        .dir("d", 0o755)
        .symlink("d", "a")
        .dir("full", 0o755)
        .file("full/x", 0o644, "")
        .dir("full", 0o711)
        .tar()
        .unwrap();
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(fs::read(out.path("a")).unwrap(), b"second");
    assert!(fs::symlink_metadata(out.path("d")).unwrap().is_symlink());
    assert_eq!(fs::metadata(out.path("full")).unwrap().permissions().mode() & 0o777, 0o711);
    assert!(out.path("full/x").exists());

    let tar = LayerBuilder::new().file("d/x", 0o644, "").file("d", 0o644, "").tar().unwrap();
    assert!(unpack_tar(&tar).error().contains("folder with files"));
}

#[test]
fn folders_that_nobody_may_write_still_get_their_files() {
    let tar = LayerBuilder::new().dir("ro", 0o555).file("ro/x", 0o444, "x").tar().unwrap();
    let out = unpack_tar(&tar);
    out.result.as_ref().unwrap();
    assert_eq!(fs::metadata(out.path("ro")).unwrap().permissions().mode() & 0o777, 0o555);
    fs::set_permissions(out.path("ro"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_root_itself_may_have_an_entry() {
    let mut tar = Builder::new(Vec::new());
    let mut dot = header(EntryType::Directory, 0o750);
    tar.append_data(&mut dot, "./", std::io::empty()).unwrap();
    let out = unpack_tar(&tar.into_inner().unwrap());
    out.result.as_ref().unwrap();
    assert_eq!(fs::metadata(out.path("")).unwrap().permissions().mode() & 0o777, 0o750);
    assert!(unpack_tar(&raw(EntryType::Regular, b"./.", b"", b"")).error().contains("can only be a folder"));
}

#[test]
fn a_full_disk_is_said_as_such() {
    let big = LayerBuilder::new().file("big", 0o644, vec![1; 6 << 20]).tar().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut tree = Tree::open(dir.path(), Below::default()).unwrap();
    let result = unpack_leaving(&big[..], &mut tree, &mut Notes::default(), u64::MAX);
    assert_eq!(
        result.map(drop).unwrap_err().to_string(),
        "big: the state partition is full; use a larger disk or remove images that no unit uses"
    );
}
