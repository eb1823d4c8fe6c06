use super::*;
use proptest::prelude::*;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tar::{EntryType, Header};

fn pack(path: &Path, follow: bool) -> Result<(Vec<u8>, Copied), String> {
    let mut stream = Vec::new();
    let source = Source::find(path, follow)?;
    let copied = source.pack(&mut stream, true, &mut |_| ()).map_err(|error| error.to_string())?;
    Ok((stream, copied))
}

/// What was wrong, with what is there all the same.
fn take(stream: &[u8], to: &Path, naming: Naming, rights: Rights) -> Result<Copied, String> {
    let place = Place::find(to)?;
    unpack(stream, place, naming, rights, &mut |_| ())
        .map_err(|failed| format!("{}; {}", failed.why, failed.left.unwrap_or_default()))
}

/// As `berth cp` does it out of a unit.
fn copy(from: &Path, to: &Path) -> Result<Copied, String> {
    let naming = match last(from) {
        Last::Name(name) => Naming::As(name.as_bytes().to_vec()),
        _ => Naming::Contents,
    };
    take(&pack(from, false)?.0, to, naming, Rights::Operator)
}

/// All that is there: path, mode, time in seconds, content or target.
fn tree(top: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_vec()
        } else {
            fs::read(&path).unwrap()
        };
        found.push((path.strip_prefix(top).unwrap().to_owned(), meta.mode(), meta.mtime(), content));
    }
    found.sort();
    found
}

fn set(path: &Path, mode: u32, hours_ago: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let time = SystemTime::now() - Duration::from_secs(3600 * hours_ago);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// One entry of a stream, which nothing made fit to be one.
fn entry(kind: EntryType, path: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(7);
    header.set_mtime(1_000_000_000);
    header.set_size(data.len() as u64);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut all = header.as_bytes().to_vec();
    all.extend_from_slice(data);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn file(path: &str) -> Vec<u8> {
    entry(EntryType::Regular, path, "", b"evil")
}

fn folder(path: &str) -> Vec<u8> {
    entry(EntryType::Directory, path, "", b"")
}

fn stream(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

#[test]
fn a_tree_arrives_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let long = "n".repeat(240);
    fs::create_dir_all(at("tree/sub/deep")).unwrap();
    fs::create_dir(at("tree/empty")).unwrap();
    fs::write(at("tree/sub/run"), "#!/bin/sh\n").unwrap();
    fs::write(at("tree/sub/deep/large"), vec![7; 3 * PART_BYTES + 17]).unwrap();
    fs::write(at("tree/sub/deep/one part"), vec![7; PART_BYTES]).unwrap();
    fs::create_dir(at("tree").join(&long)).unwrap();
    fs::write(at("tree").join(&long).join(&long), "long").unwrap();
    fs::write(at("tree").join(OsStr::from_bytes(b"\xff\n")), "odd").unwrap();
    fs::write(at("tree/none"), "").unwrap();
    symlink("../../outside", at("tree/sub/link")).unwrap();
    symlink("x".repeat(300), at("tree/sub/far")).unwrap();
    fs::hard_link(at("tree/sub/run"), at("tree/again")).unwrap();
    set(&at("tree/sub/run"), 0o750, 5);
    set(&at("tree/none"), 0o400, 6);
    set(&at("tree/empty"), 0o700, 7);
    set(&at("tree/sub"), 0o555, 8);
    let copied = copy(&at("tree"), &at("copy")).unwrap();
    assert_eq!(copied.skipped.sentence(), None);
    assert_eq!(copied.tally.entries, 14);
    // The time of links is kept too; that of the top is what it was after the last change in it.
    assert_eq!(tree(&at("copy")), tree(&at("tree")));
    let inode = |name: &str| fs::metadata(at(name)).unwrap().ino();
    assert_eq!(inode("copy/again"), inode("copy/sub/run"));
    // Once more onto itself: folders that are there stay, as they are.
    fs::write(at("copy/more"), "more").unwrap();
    set(&at("copy/empty"), 0o711, 1);
    set(&at("copy/sub"), 0o755, 1);
    copy(&at("tree/."), &at("copy")).unwrap();
    assert_eq!(fs::read(at("copy/more")).unwrap(), b"more");
    assert_eq!(fs::metadata(at("copy/empty")).unwrap().mode() & 0o777, 0o711);
    assert_eq!(fs::metadata(at("copy/none")).unwrap().mode() & 0o777, 0o400);
    set(&at("copy/sub"), 0o755, 1);
    set(&at("tree/sub"), 0o755, 1);
}

#[test]
fn names_are_those_of_docker_cp() {
    // What is copied, where to, and where it is then, or a word of the reason.
    let cases: [(&str, &str, Result<&str, &str>); 19] = [
        ("file", "new", Ok("new")),
        ("file", "folder", Ok("folder/file")),
        ("file", "folder/", Ok("folder/file")),
        ("file", "old", Ok("old")),
        ("file", "new/", Err("there is no folder")),
        ("file", "absent/new", Err("there is no folder")),
        ("file", "to-old", Ok("old")),
        ("file", "to-folder", Ok("folder/file")),
        ("file", "to-nothing", Err("leads to nothing")),
        ("file", "old/new", Err("Not a directory")),
        ("file/", "new", Err("Not a directory")),
        ("tree", "new", Ok("new/in")),
        ("tree", "new/", Ok("new/in")),
        ("tree", "folder", Ok("folder/tree/in")),
        ("tree/", "folder", Ok("folder/tree/in")),
        ("tree/.", "folder", Ok("folder/in")),
        ("tree/.", "new", Ok("new/in")),
        ("tree", "old", Err("is a folder, and")),
        ("absent", "new", Err("No such file")),
    ];
    for (from, to, expected) in cases {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "it").unwrap();
        fs::write(at("old"), "old").unwrap();
        fs::create_dir(at("tree")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("tree/in"), "it").unwrap();
        symlink("old", at("to-old")).unwrap();
        symlink("folder", at("to-folder")).unwrap();
        symlink("nothing", at("to-nothing")).unwrap();
        // The same out of a unit, and into one.
        for sent in [false, true] {
            let done = match sent {
                false => copy(&at(from), &at(to)).map(drop),
                true => pack(&at(from), false)
                    .and_then(|(stream, _)| take(&stream, &at(to), Naming::AsSent, Rights::Unit))
                    .map(drop),
            };
            match (done, expected) {
                (Ok(()), Ok(path)) => assert_eq!(fs::read(at(path)).unwrap(), b"it", "{from} to {to}"),
                (Err(why), Err(word)) => assert!(why.contains(word), "{from} to {to}: {why}"),
                (done, _) => panic!("{from} to {to}: {done:?}"),
            }
            for new in ["new", "folder/tree"] {
                let _ = fs::remove_dir_all(at(new)).or_else(|_| fs::remove_file(at(new)));
            }
        }
        assert!(fs::symlink_metadata(at("to-old")).unwrap().is_symlink());
    }
}

#[test]
fn a_link_is_copied_unless_it_is_to_be_followed() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/in"), "it").unwrap();
    symlink("tree", at("link")).unwrap();
    copy(&at("link"), &at("a")).unwrap();
    assert_eq!(fs::read_link(at("a")).unwrap(), Path::new("tree"));
    take(&pack(&at("link"), true).unwrap().0, &at("b"), Naming::As(b"link".to_vec()), Rights::Operator)
        .unwrap();
    copy(&at("link/"), &at("c")).unwrap();
    copy(&at("link/."), &at("d")).unwrap();
    for name in ["b", "c", "d"] {
        assert_eq!(fs::read(at(name).join("in")).unwrap(), b"it");
        assert!(fs::symlink_metadata(at(name)).unwrap().is_dir());
    }
    // One that is in the way is not written through.
    symlink("tree/in", at("folder")).unwrap();
    let why = copy(&at("tree"), &at("folder")).unwrap_err();
    assert!(why.contains("a file"), "{why}");
    fs::create_dir_all(at("target")).unwrap();
    symlink("../tree", at("target/tree")).unwrap();
    let why = copy(&at("tree"), &at("target")).unwrap_err();
    assert!(why.contains("tree is there already, and is no folder"), "{why}");
}

#[test]
fn what_a_stream_says_leads_nowhere_else() {
    let link = |path: &str, to: &str| entry(EntryType::Symlink, path, to, b"");
    let hard = |path: &str, to: &str| entry(EntryType::Link, path, to, b"");
    let cases: [(&[Vec<u8>], &str); 13] = [
        (&[file("../secret")], "would lead out"),
        (&[folder("tree"), file("tree/../../secret")], "would lead out"),
        (&[file("/secret")], "an absolute name"),
        (&[folder("tree"), file("/tree/secret")], "an absolute name"),
        (&[folder("tree"), link("tree/out", ".."), file("tree/out/secret")], "is no folder"),
        (&[folder("tree"), link("tree/out", "/"), folder("tree/out")], "is no folder"),
        (&[link("tree", "../outside"), file("tree/secret")], "is no folder"),
        (&[folder("tree"), hard("tree/x", "../secret")], "would lead out"),
        (&[folder("tree"), hard("tree/x", "/etc/passwd")], "an absolute name"),
        (&[folder("tree"), link("tree/out", "../.."), hard("tree/x", "tree/out/secret")], "is no folder"),
        (&[folder("tree"), file("other")], "is not in tree"),
        (&[file("tree/deep")], "not what was asked for"),
        (&[folder("tree"), folder("tree/x"), file("tree/x")], "is a folder"),
    ];
    for (entries, word) in cases {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("here")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("secret"), "secret").unwrap();
        for (target, rights) in [("here", Rights::Operator), ("here/new", Rights::Unit)] {
            let why = take(&stream(entries), &at(target), Naming::As(b"mine".to_vec()), rights).unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
        }
        // Nothing but what was asked for, and no file that is half there.
        assert_eq!(fs::read(at("secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
        for found in fs::read_dir(at("here")).unwrap() {
            let name = found.unwrap().file_name();
            assert!(["mine", "new"].map(OsStr::new).contains(&name.as_os_str()), "{word}: {name:?}");
        }
    }
}

#[test]
fn a_unit_does_not_choose_the_name_nor_give_rights() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("home")).unwrap();
    take(&stream(&[file(".bashrc")]), &at("home"), Naming::As(b"asked".to_vec()), Rights::Operator).unwrap();
    let names: Vec<_> = fs::read_dir(at("home")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["asked"]);
    let found = fs::metadata(at("home/asked")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, 1_000_000_000), "it is not setuid");
    take(&stream(&[file("own")]), &at("home"), Naming::AsSent, Rights::Unit).unwrap();
    assert_eq!(fs::metadata(at("home/own")).unwrap().mode() & 0o7777, 0o4755);
    // A file that has several names here keeps its others.
    fs::write(at("kept"), "kept").unwrap();
    fs::hard_link(at("kept"), at("home/x")).unwrap();
    let again = [file("x"), entry(EntryType::Link, "x", "x", b"")];
    take(&stream(&again), &at("home"), Naming::Contents, Rights::Operator).unwrap();
    assert_eq!(
        (fs::read(at("kept")).unwrap(), fs::read(at("home/x")).unwrap()),
        (b"kept".into(), b"evil".into())
    );
    assert_eq!(fs::read_dir(at("home")).unwrap().count(), 3);
}

#[test]
fn what_there_is_no_copy_of_is_left_out_and_said() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let odd = [
        folder("tree"),
        entry(EntryType::Char, "tree/null", "", b""),
        entry(EntryType::Block, "tree/disk", "", b""),
        entry(EntryType::Fifo, "tree/pipe", "", b""),
        entry(EntryType::new(b'Z'), "tree/odd", "", b"data"),
        file("tree/a"),
        entry(EntryType::Char, "tree/1", "", b""),
        entry(EntryType::Char, "tree/2", "", b""),
        entry(EntryType::Char, "tree/3", "", b""),
    ];
    let copied = take(&stream(&odd), &at("x"), Naming::As(b"tree".to_vec()), Rights::Operator).unwrap();
    assert_eq!(
        copied.skipped.sentence().unwrap(),
        "not copied: x/null (a device), x/disk (a device), x/pipe (a pipe), x/odd (of an unknown kind), x/1 (a device) \
         and 2 more"
    );
    assert_eq!(fs::read_dir(at("x")).unwrap().count(), 1);
    assert_eq!(copied.tally, Tally { entries: 2, bytes: 4 });

    // The same on the other side. Nothing waits for a pipe's other end.
    nix::unistd::mkfifo(&at("x/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("x/socket")).unwrap();
    let (_, copied) = pack(&at("x"), false).unwrap();
    let said = copied.skipped.sentence().unwrap();
    assert!(said.contains("x/pipe (a pipe)") && said.contains("x/socket (a socket)"), "{said}");
    assert_eq!(copied.tally.entries, 2);
    for (path, word) in [(at("x/pipe"), "a pipe"), (PathBuf::from("/dev/null"), "a device")] {
        let why = pack(&path, false).unwrap_err();
        assert!(why.contains(word) && why.contains(path.to_str().unwrap()), "{why}");
        assert!(Place::find(&path).unwrap_err().contains(word));
    }
    // What the kernel makes up has a size that means nothing.
    copy(Path::new("/proc/self/status"), &at("status")).unwrap();
    assert!(fs::read_to_string(at("status")).unwrap().contains("VmRSS"));
    let (mut deep, mut path) = (at("deep"), PathBuf::new());
    for _ in 0..130 {
        path.push("d");
    }
    deep.push(path);
    fs::create_dir_all(&deep).unwrap();
    let why = pack(&at("deep"), false).unwrap_err();
    assert!(why.contains("folders deep"), "{why}");
}

#[test]
fn half_of_it_is_no_copy() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("old"), "old").unwrap();
    let whole = stream(&[entry(EntryType::Regular, "file", "", &[7; 1000])]);
    let take = |stream: &[u8], to: &str| take(stream, &at(to), Naming::AsSent, Rights::Unit);
    // Nothing at all, in the header, in the data, in the padding, before the mark of the end.
    for end in [0, 100, 700, 1512, 1536] {
        let why = take(&whole[..end], "old").unwrap_err();
        assert!(why.contains("it did not arrive whole"), "{end}: {why}");
        let said = end >= 1512;
        assert_eq!(why.contains("1 file or folder was copied to"), said, "{end}: {why}");
        let content = fs::read(at("old")).unwrap();
        assert_eq!(content == b"old", !said, "{end}: what was there stays until all of the other is");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let tree = stream(&[folder("t"), file("t/a"), entry(EntryType::Regular, "t/b", "", &[7; 1000])]);
    let why = take(&tree[..2048], "t").unwrap_err();
    assert!(why.contains("whole; 2 files and folders were copied to"), "{why}");
    assert!(take(&stream(&[]), "u").unwrap_err().contains("nothing has come"));
    let endless =
        stream(&[file("x")]).into_iter().chain(std::iter::repeat_n(0, 2 << 20)).collect::<Vec<u8>>();
    assert!(take(&endless, "u").unwrap_err().contains("goes on after its end"));
    let noise: Vec<u8> = (0..4096_u32).map(|n| n.to_le_bytes()[0] | 1).collect();
    assert!(take(&noise, "v").unwrap_err().contains("damaged"));
}

#[test]
fn other_programs_read_it_and_are_read() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let tar = |words: &[&str], input: &[u8]| {
        let mut tar = std::process::Command::new("tar");
        tar.args(words).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut tar = tar.spawn().unwrap();
        std::io::Write::write_all(&mut tar.stdin.take().unwrap(), input).unwrap();
        let mut out = Vec::new();
        tar.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        assert!(tar.wait().unwrap().success());
        out
    };
    fs::create_dir_all(at("tree/sub")).unwrap();
    fs::write(at("tree/sub/file"), "it").unwrap();
    fs::write(at("tree").join("n".repeat(200)), "long").unwrap();
    symlink("l".repeat(200), at("tree/link")).unwrap();
    fs::hard_link(at("tree/sub/file"), at("tree/again")).unwrap();
    fs::create_dir(at("theirs")).unwrap();
    let (stream, _) = pack(&at("tree"), false).unwrap();
    tar(&["-x", "-C", at("theirs").to_str().unwrap()], &stream);
    assert_eq!(tree(&at("theirs/tree")), tree(&at("tree")));
    fs::create_dir(at("ours")).unwrap();
    for format in ["gnu", "pax"] {
        let stream = tar(&["-c", "--format", format, "-C", place.path().to_str().unwrap(), "tree"], b"");
        take(&stream, &at("ours"), Naming::Contents, Rights::Unit).unwrap();
        assert_eq!(tree(&at("ours/tree")), tree(&at("tree")));
        fs::remove_dir_all(at("ours/tree")).unwrap();
    }
    // Folders that an archive leaves out are made.
    let stream = tar(&["-c", "-C", place.path().to_str().unwrap(), "tree/sub/file"], b"");
    take(&stream, &at("ours"), Naming::Contents, Rights::Unit).unwrap();
    assert_eq!(fs::read(at("ours/tree/sub/file")).unwrap(), b"it");
}

/// Names that a stream may have for what is in it, and for what its links lead to.
fn any_path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "b", ".", "..", "", "secret", "outside"]);
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn any_entry() -> impl Strategy<Value = (u8, String, String)> {
    (prop::sample::select(b"001255536".to_vec()), any_path(), any_path())
}

proptest! {
    /// Whatever it is made of, nothing outside is made, changed or removed, and no file stays that is not complete.
    #[test]
    fn no_stream_leads_out(
        entries in prop::collection::vec(any_entry(), 1..12),
        naming in prop::sample::select(vec![Naming::AsSent, Naming::As(b"a".to_vec()), Naming::Contents]),
        rights in prop::sample::select(vec![Rights::Operator, Rights::Unit]),
        to in prop::sample::select(vec!["here", "here/new"]),
    ) {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("here/b")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("secret"), "secret").unwrap();
        fs::write(at("outside/secret"), "secret").unwrap();
        symlink("../outside", at("here/outside")).unwrap();
        symlink("../../secret", at("here/b/secret")).unwrap();
        let (outside, secret) = (tree(&at("outside")), fs::metadata(at("secret")).unwrap().mode());
        let entries: Vec<_> = entries
            .iter()
            .map(|(kind, path, link)| {
                let data: &[u8] = if *kind == b'0' { b"evil" } else { b"" };
                entry(EntryType::new(*kind), path, link, data)
            })
            .collect();
        let _ = take(&stream(&entries), &at(to), naming, rights);
        prop_assert_eq!(tree(&at("outside")), outside);
        prop_assert_eq!(fs::read(at("secret")).unwrap(), b"secret");
        prop_assert_eq!(fs::metadata(at("secret")).unwrap().mode(), secret);
        prop_assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
        let beside = tree(&at("here")).iter().any(|(path, ..)| path.to_string_lossy().contains("berth-cp"));
        prop_assert!(!beside);
    }
}
