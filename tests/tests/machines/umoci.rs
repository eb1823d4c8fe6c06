//! Images as our store unpacks them, compared file by file with what umoci makes of the same.
//!
//! Left out of the comparison, because the store leaves it out: `trusted.*` attributes and those of the host's policy
//! (`security.*` but capabilities), device nodes (told in a note), the root folder itself (a unit's own). A hard link
//! into a lower layer is a link to a copy.

use anyhow::{Context, Result, ensure};
use berth_image::tools::{self, Tools};
use berth_store::build::{self, ImageBuilder};
use berth_tests::debian;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// A capability set as `setcap cap_net_raw=ep` writes it.
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// An access list: the owner all, user 1000 reads, the group reads, mask, others nothing.
const ACL: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, //
    2, 0, 4, 0, 0xe8, 3, 0, 0, //
    4, 0, 4, 0, 255, 255, 255, 255, //
    16, 0, 4, 0, 255, 255, 255, 255, //
    32, 0, 0, 0, 255, 255, 255, 255,
];

/// Writes a layer's tar, entry by entry, with names as they are.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn put(
        mut self,
        kind: EntryType,
        path: impl AsRef<[u8]>,
        (uid, gid, mode): (u64, u64, u32),
        data: &[u8],
        pax: &[(&str, &[u8])],
    ) -> Result<Self> {
        let path = path.as_ref();
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1_600_000_000 + path.len() as u64);
        header.set_size(if kind == EntryType::Regular { data.len() as u64 } else { 0 });
        if kind == EntryType::Char {
            header.set_device_major(1)?;
            header.set_device_minor(3)?;
        }
        let link = matches!(kind, EntryType::Symlink | EntryType::Link).then_some(data);
        let mut pax = pax.to_vec();
        // Short names as they are, long ones as pax has them.
        match path.len() {
            0..=100 => header.as_old_mut().name[..path.len()].copy_from_slice(path),
            _ => pax.push(("path", path)),
        }
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        }
        header.set_cksum();
        if !pax.is_empty() {
            self.0.append_pax_extensions(pax)?;
        }
        self.0.append(&header, if link.is_some() { &[][..] } else { data })?;
        Ok(self)
    }

    fn dir(self, path: impl AsRef<[u8]>, owner: (u64, u64, u32)) -> Result<Self> {
        self.put(EntryType::Directory, path, owner, &[], &[])
    }

    fn file(self, path: impl AsRef<[u8]>, owner: (u64, u64, u32), data: &[u8]) -> Result<Self> {
        self.put(EntryType::Regular, path, owner, data, &[])
    }

    fn symlink(self, path: impl AsRef<[u8]>, target: &str) -> Result<Self> {
        self.put(EntryType::Symlink, path, (5, 6, 0o777), target.as_bytes(), &[])
    }

    fn hardlink(self, path: impl AsRef<[u8]>, target: &str) -> Result<Self> {
        self.put(EntryType::Link, path, (0, 0, 0o644), target.as_bytes(), &[])
    }

    fn bytes(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

const ROOT_DIR: (u64, u64, u32) = (0, 0, 0o755);
const ROOT_FILE: (u64, u64, u32) = (0, 0, 0o644);

/// Everything odd that one layer can hold.
fn base() -> Result<Vec<u8>> {
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(200));
    Layer::new()
        .dir("etc/", ROOT_DIR)?
        .file("etc/passwd", ROOT_FILE, b"root:x:0:0::/:/bin/sh\n")?
        .file("etc/shadow", (0, 42, 0o640), b"root:*:")?
        .dir("tmp/", (0, 0, 0o1777))?
        .dir("home/user/", (1000, 1000, 0o700))?
        .file("home/user/odd", (65_535, 65_534, 0o604), b"odd ids")?
        .file("usr/bin/su", (0, 0, 0o4755), &[7; 100_000])?
        .file("usr/bin/wall", (0, 5, 0o2755), b"#!")?
        .file(b"caf\xe9", ROOT_FILE, b"latin 1")?
        .dir(b"d\xff\xfe/", (7, 7, 0o711))?
        .file(b"d\xff\xfe/\x01", ROOT_FILE, b"control")?
        .file(&long, ROOT_FILE, b"a long way")?
        .symlink("relative", "etc/passwd")?
        .symlink("absolute", "/etc/passwd")?
        .symlink("dangling", "../../../nowhere")?
        .hardlink("etc/passwd-", "etc/passwd")?
        .hardlink("same-link", "relative")?
        .put(EntryType::Fifo, "pipe", (1, 2, 0o620), &[], &[])?
        .put(EntryType::Char, "null", (0, 0, 0o666), &[], &[])?
        .put(EntryType::Regular, "nanoseconds", ROOT_FILE, b"x", &[("mtime", b"1700000000.123456789")])?
        .put(EntryType::Regular, "before-1970", ROOT_FILE, b"x", &[("mtime", b"-86400")])?
        .put(
            EntryType::Regular,
            "usr/bin/ping",
            (0, 0, 0o755),
            b"ping",
            &[("SCHILY.xattr.security.capability", &CAP_NET_RAW)],
        )?
        .put(
            EntryType::Regular,
            "attributes",
            (0, 0, 0o740),
            b"x",
            &[
                ("SCHILY.xattr.user.note", b"kept\n\0="),
                ("SCHILY.xattr.trusted.note", b"dropped"),
                ("SCHILY.xattr.system.posix_acl_access", &ACL),
            ],
        )?
        .put(EntryType::Directory, "noted/", (3, 3, 0o750), &[], &[("SCHILY.xattr.user.note", b"folder")])?
        .file("noted/below", ROOT_FILE, b"x")?
        .file("implied/by/its/file", ROOT_FILE, b"no entry for the folders above")?
        .symlink("bin", "usr/bin")?
        .file("bin/through-a-link", ROOT_FILE, b"in usr/bin")?
        .symlink("way", "/home/user/../user")?
        .dir("gone/with/all/", ROOT_DIR)?
        .file("gone/with/all/x", ROOT_FILE, b"x")?
        .dir("emptied/", (9, 9, 0o770))?
        .file("emptied/old", ROOT_FILE, b"old")?
        .dir("emptied/old-folder/", ROOT_DIR)?
        .file("was-file", ROOT_FILE, b"x")?
        .dir("was-folder/", ROOT_DIR)?
        .file("was-folder/x", ROOT_FILE, b"x")?
        .symlink("was-link", "etc")?
        .file("last", ROOT_FILE, b"first")?
        .file("last", (8, 8, 0o600), b"second")?
        .bytes()
}

/// Changes to it.
fn second() -> Result<Vec<u8>> {
    Layer::new()
        .file("etc/.wh.shadow", ROOT_FILE, b"")?
        .file(".wh.gone", ROOT_FILE, b"")?
        .dir("emptied/", (9, 9, 0o770))?
        .file("emptied/.wh..wh..opq", ROOT_FILE, b"")?
        .file("emptied/new", ROOT_FILE, b"new")?
        .file("home/user/in-a-folder-below", ROOT_FILE, b"home/user stays 1000's")?
        .file("noted/too", ROOT_FILE, b"noted/ keeps its attribute")?
        .file("bin/through-a-link-below", ROOT_FILE, b"in usr/bin")?
        .file("way/far", ROOT_FILE, b"in home/user")?
        .hardlink("etc/linked-below", "etc/passwd")?
        .hardlink("ping-too", "bin/ping")?
        .hardlink("link-below", "dangling")?
        .dir("was-file/", ROOT_DIR)?
        .file("was-file/x", ROOT_FILE, b"x")?
        .file("was-folder", ROOT_FILE, b"file")?
        .dir("was-link/", ROOT_DIR)?
        .file("was-link/x", ROOT_FILE, b"x")?
        .dir("usr/", (0, 0, 0o751))?
        .bytes()
}

/// And back again.
fn third() -> Result<Vec<u8>> {
    Layer::new()
        .dir("gone/", (1, 1, 0o700))?
        .file("gone/back", ROOT_FILE, b"back")?
        .file("etc/shadow", (0, 42, 0o600), b"again")?
        .file(".wh.dangling", ROOT_FILE, b"")?
        .file("emptied/.wh.new", ROOT_FILE, b"")?
        .hardlink("third-name", "etc/linked-below")?
        .bytes()
}

/// A layer with a sparse file, as GNU tar writes it.
fn sparse(tools: &Tools, dir: &Path) -> Result<Vec<u8>> {
    let folder = dir.join("sparse");
    fs::create_dir(&folder)?;
    let file = File::create(folder.join("holes"))?;
    for (at, data) in [(0, "begins"), (5 << 20, "middle"), ((64 << 20) - 3, "end")] {
        std::os::unix::fs::FileExt::write_all_at(&file, data.as_bytes(), at)?;
    }
    let mut command = tools.command("tar");
    command.args(["--sparse", "--format=pax", "--owner=0", "--group=0", "-C"]).arg(&folder);
    tools::output("tar", command.args(["-cf", "-", "holes"]))
}

/// One entry of a tree, as far as it is compared.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, i64),
    target: Option<PathBuf>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

type Tree = BTreeMap<Vec<u8>, (PathBuf, Node)>;

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "folder",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "pipe",
        () if kind.is_file() => "file",
        () => "device",
    }
}

fn node(path: &Path, meta: &Metadata) -> Result<Node> {
    let kind = kind(meta);
    let root = is_root();
    let mut xattrs = match kind {
        "file" | "folder" if root => build::xattrs(&File::open(path)?)?,
        _ => BTreeMap::new(),
    };
    xattrs.retain(|name, _| {
        let ours = name.starts_with(b"user.overlay.");
        !ours
            && (name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system."))
    });
    Ok(Node {
        kind,
        mode: if kind == "link" { 0 } else { meta.mode() & 0o7777 },
        owner: if root { (meta.uid(), meta.gid()) } else { (0, 0) },
        size: if kind == "file" { meta.size() } else { 0 },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        target: (kind == "link").then(|| fs::read_link(path)).transpose()?,
        xattrs,
    })
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// What overlayfs shows of these folders, topmost first.
fn merge(folders: &[PathBuf], at: &[u8], tree: &mut Tree) -> Result<()> {
    let mut names = BTreeSet::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            names.insert(entry?.file_name());
        }
    }
    for name in names {
        let mut first = None;
        let mut below = Vec::new();
        for folder in folders {
            let path = folder.join(&name);
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
            if whiteout || (first.is_some() && !meta.is_dir()) {
                break;
            }
            let folder = meta.is_dir();
            let opaque =
                folder && build::xattrs(&File::open(&path)?)?.contains_key(&b"user.overlay.opaque"[..]);
            first = first.or(Some((path.clone(), meta)));
            below.push(path);
            if !folder || opaque {
                break;
            }
        }
        let Some((path, meta)) = first else { continue };
        let mut at = at.to_vec();
        at.push(b'/');
        at.extend(name.as_bytes());
        if meta.is_dir() {
            merge(&below, &at, tree)?;
        }
        let node = node(&path, &meta)?;
        tree.insert(at, (path, node));
    }
    Ok(())
}

/// Names of one file, by the first of them.
fn links(tree: &Tree) -> Result<BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>> {
    let mut files: BTreeMap<(u64, u64), BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (at, (path, node)) in tree {
        if node.kind != "folder" {
            let meta = fs::symlink_metadata(path)?;
            files.entry((meta.dev(), meta.ino())).or_default().insert(at.clone());
        }
    }
    let several = files.into_values().filter(|names| names.len() > 1);
    Ok(several.filter_map(|names| Some((names.first()?.clone(), names))).collect())
}

/// Unpacks `name` of a layout with both, and compares. Implied folders have no time of their own.
fn compare(tools: &Tools, dir: &Path, layout: &Path, name: &str, implied: &[&str]) -> Result<(Tree, Tree)> {
    let bundle = dir.join(format!("umoci-{name}"));
    let mut command = tools.command("umoci");
    command.arg("unpack").arg("--image").arg(format!("{}:{name}", layout.display()));
    if !is_root() {
        command.arg("--rootless");
    }
    tools::output("umoci", command.arg(&bundle))?;
    let store = dir.join(format!("ours-{name}"));
    let (image, notes) = build::unpack(layout, &store, name).map_err(anyhow::Error::msg)?;

    let (mut ours, mut theirs) = (Tree::new(), Tree::new());
    let layers: Vec<PathBuf> = image.layers.iter().rev().map(|hex| store.join("layers").join(hex)).collect();
    merge(&layers, b"", &mut ours)?;
    merge(&[bundle.join("rootfs")], b"", &mut theirs)?;
    let show = |at: &[u8]| String::from_utf8_lossy(at).into_owned();
    let mut devices = 0;
    for (at, (path, node)) in &theirs {
        if node.kind == "device" {
            devices += 1;
            ensure!(!ours.contains_key(at), "{name}{}: a device node was made", show(at));
            continue;
        }
        let Some((own_path, own)) = ours.get(at) else {
            anyhow::bail!("{name}{}: umoci has it, we do not ({node:?})", show(at));
        };
        let mut own_mtime = own.mtime;
        if implied.iter().any(|path| path.as_bytes() == at) {
            own_mtime = node.mtime;
        }
        ensure!(
            Node { mtime: own_mtime, ..clone(own) } == *node,
            "{name}{}: ours {own:?}, umoci's {node:?}",
            show(at)
        );
        if node.kind == "file" {
            ensure!(fs::read(own_path)? == fs::read(path)?, "{name}{}: another content", show(at));
        }
    }
    for at in ours.keys() {
        ensure!(theirs.contains_key(at), "{name}{}: we have it, umoci does not", show(at));
    }
    let told = notes.iter().any(|note| note.starts_with("device nodes left out"));
    ensure!(told == (devices > 0), "{name}: {devices} device nodes, told: {notes:?}");
    Ok((ours, theirs))
}

fn clone(node: &Node) -> Node {
    Node { target: node.target.clone(), xattrs: node.xattrs.clone(), ..*node }
}

/// The image as a layout that umoci reads.
fn layout(dir: &Path, name: &str, layers: &[Vec<u8>]) -> Result<PathBuf> {
    let mut image = ImageBuilder::new(name);
    for tar in layers {
        // Large ones as they are: compression is not what is tested here.
        image = image.layer_tar(tar, tar.len() < 16 << 20)?;
    }
    let folder = dir.join(format!("image-{name}"));
    fs::create_dir(&folder)?;
    image.entrypoint(["/bin/true"]).write_layout(&folder)?;
    Ok(folder)
}

#[test]
fn awkward_layers_are_what_umoci_makes_of_them() -> Result<()> {
    let tools = tools::ensure(&|_| ())?;
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let layers = [base()?, second()?, third()?, sparse(&tools, dir)?];
    let image = layout(dir, "awkward", &layers)?;
    let implied = ["/home", "/implied", "/implied/by", "/implied/by/its", "/long", "/usr/bin"];
    let long = format!("/long/{}", "d".repeat(120));
    let implied: Vec<&str> = implied.into_iter().chain([long.as_str()]).collect();
    let (ours, theirs) = compare(&tools, dir, &image, "awkward", &implied)?;

    // Links inside a layer are links; into a lower one, to a copy.
    let (own, their) = (links(&ours)?, links(&theirs)?);
    for names in own.values() {
        let whole = their.values().any(|theirs| names.is_subset(theirs));
        ensure!(whole, "linked, but not by umoci: {names:?}");
    }
    let both = |a: &str, b: &str| {
        own.values().any(|names| names.contains(a.as_bytes()) && names.contains(b.as_bytes()))
    };
    assert!(both("/ping-too", "/usr/bin/ping") && both("/third-name", "/etc/linked-below"));
    assert!(both("/relative", "/same-link"));
    let holes = fs::metadata(&ours[&b"/holes"[..]].0)?;
    assert!(holes.blocks() * 512 < holes.size() / 8, "{} blocks", holes.blocks());
    let odd = &ours[&b"/home/user/odd"[..]].1;
    assert!(!is_root() || odd.owner == (65_535, 65_534));
    assert!(!is_root() || ours[&b"/usr/bin/ping"[..]].1.xattrs.contains_key(&b"security.capability"[..]));
    Ok(())
}

#[test]
fn an_owner_outside_the_range_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let tar = Layer::new().put(EntryType::Regular, "srv/far", (0, 0, 0o644), b"x", &[("uid", b"70000")])?;
    let image = layout(dir.path(), "far", &[tar.bytes()?])?;
    let refused = build::unpack(&image, &dir.path().join("ours"), "far").err().context("unpacked")?;
    assert!(refused.contains("srv/far: its owner is 70000; a container has 0 to 65535"), "{refused}");
    Ok(())
}

/// Debian's packages, then a layer in umoci's own words: what it writes when somebody removes, replaces and adds.
#[test]
fn debian_is_what_umoci_makes_of_it() -> Result<()> {
    let tools = tools::ensure(&|_| ())?;
    let tar = fs::read(debian::root_tar(&["iputils-ping", "libcap2-bin", "passwd"])?)?;
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let image = layout(dir, "debian", &[tar])?;
    let (ours, _) = compare(&tools, dir, &image, "debian", &[])?;
    assert!(ours.len() > 3000, "{} files", ours.len());
    let setuid = ours.values().filter(|(_, node)| node.kind == "file" && node.mode & 0o4000 > 0).count();
    assert!(setuid > 3, "{setuid} setuid files");

    let bundle = dir.join("umoci-debian");
    let root = bundle.join("rootfs");
    fs::remove_file(root.join("etc/debian_version"))?;
    fs::remove_dir_all(root.join("usr/share/doc"))?;
    fs::remove_dir_all(root.join("var/lib/dpkg/info"))?;
    fs::write(root.join("var/lib/dpkg/info"), "a file where a folder was")?;
    fs::create_dir(root.join("srv/www"))?;
    fs::write(root.join("srv/www/index.html"), "new")?;
    fs::write(root.join("srv").join(OsString::from_vec(b"\xe9t\xe9".to_vec())), "summer")?;
    fs::hard_link(root.join("usr/bin/perl"), root.join("usr/bin/perl-too"))?;
    std::os::unix::fs::symlink("www", root.join("srv/link"))?;
    let mut command = tools.command("umoci");
    command.arg("repack").arg("--image").arg(format!("{}:changed", image.display()));
    tools::output("umoci repack", command.arg(&bundle))?;
    let (ours, _) = compare(&tools, dir, &image, "changed", &[])?;
    assert!(
        !ours.contains_key(&b"/etc/debian_version"[..]) && ours.contains_key(&b"/srv/www/index.html"[..])
    );
    Ok(())
}
