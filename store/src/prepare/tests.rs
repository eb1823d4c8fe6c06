use super::*;
use crate::build::{ImageBuilder, LayerBuilder, archive};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;

fn layout(bytes: Vec<u8>) -> Layout {
    Layout::archive("disk vdb", Box::new(Rc::<[u8]>::from(bytes))).unwrap()
}

fn demo() -> ImageBuilder {
    let base = LayerBuilder::new().dir("etc", 0o755).file("etc/name", 0o644, "base");
    let top = LayerBuilder::new().plain().file("httpd", 0o755, vec![9; 100_000]);
    ImageBuilder::new("demo/web:1")
        .layer(&base)
        .unwrap()
        .layer(&top)
        .unwrap()
        .entrypoint(["/httpd"])
        .cmd(["-p", "80"])
        .env("A", "b")
        .user("1000")
        .workdir("/srv")
        .stop_signal("SIGINT")
}

struct Machine {
    dir: tempfile::TempDir,
    store: Store,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store }
    }

    fn prepare(&self, image: &ImageBuilder, reference: &str) -> Result<Outcome, String> {
        self.prepare_files(&image.layout(), reference)
    }

    fn prepare_files(&self, files: &[(String, Vec<u8>)], reference: &str) -> Result<Outcome, String> {
        let layout = layout(archive(files).unwrap());
        self.store.prepare(&[layout], &[], reference).map_err(|e| e.to_string())
    }

    fn entries(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path().join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Nothing but what was there before `refuse` was called.
    fn is_empty(&self) -> bool {
        ["tmp", "layers", "index"].iter().all(|f| self.entries(f).is_empty())
    }
}

/// The error of an image that must be refused, and that must leave nothing behind.
fn refused(image: &ImageBuilder) -> String {
    let machine = Machine::new();
    let error = machine.prepare(image, "demo/web:1").unwrap_err();
    assert!(machine.is_empty(), "{error}");
    error
}

#[test]
fn an_image_becomes_layers_and_a_description() {
    let machine = Machine::new();
    let outcome = machine.prepare(&demo(), "web").unwrap_err();
    assert!(outcome.contains("there are: demo/web:1 (disk vdb)"), "{outcome}");
    let outcome = machine.prepare(&demo(), "docker.io/demo/web:1").unwrap();
    assert_eq!((outcome.unpacked, outcome.notes.len()), (2, 0));
    let file = machine.dir.path().join("index").join(file_name("docker.io/demo/web:1"));
    let image = PreparedImage::parse(&fs::read(file).unwrap()).unwrap();
    assert_eq!(image, outcome.image);
    assert_eq!(image.digest, demo().digest().to_string());
    assert_eq!(
        (image.entrypoint, image.cmd),
        (vec!["/httpd".to_owned()], vec!["-p".to_owned(), "80".to_owned()])
    );
    assert_eq!((image.env, image.user.as_str()), (vec!["A=b".to_owned()], "1000"));
    assert_eq!((image.workdir.as_str(), image.stop_signal.as_str()), ("/srv", "SIGINT"));
    let content = |layer: usize, path: &str| {
        fs::read(machine.dir.path().join("layers").join(&image.layers[layer]).join(path)).unwrap()
    };
    assert_eq!(content(0, "etc/name"), b"base");
    assert_eq!(content(1, "httpd"), vec![9; 100_000]);
    assert!(machine.entries("tmp").is_empty());
    // Again, and under another name: nothing is unpacked twice.
    assert_eq!(machine.prepare(&demo(), "demo/web:1").unwrap().unpacked, 0);
    let pinned = format!("demo/web:1@{}", demo().digest());
    assert_eq!(machine.prepare(&demo(), &pinned).unwrap().unpacked, 0);
    assert_eq!(machine.entries("index").len(), 3);
}

#[test]
fn layers_are_shared_between_images() {
    let machine = Machine::new();
    machine.prepare(&demo(), "demo/web:1").unwrap();
    let other = demo().layer(&LayerBuilder::new().file("more", 0o644, "x")).unwrap();
    let outcome = machine.prepare(&other, "demo/web:1").unwrap();
    assert_eq!((outcome.unpacked, outcome.image.layers.len()), (1, 3));
    assert_eq!(machine.entries("layers").len(), 3);
}

#[test]
fn a_layer_that_comes_twice_is_stacked_once() {
    let layer = LayerBuilder::new().file("a", 0o644, "x");
    let image = demo().layer(&layer).unwrap().layer(&LayerBuilder::new().file(".wh.a", 0o644, "")).unwrap();
    let image = image.layer(&layer).unwrap();
    let machine = Machine::new();
    let layers = machine.prepare(&image, "demo/web:1").unwrap().image.layers;
    let twice = Digest::of(&layer.tar().unwrap()).hex();
    assert_eq!(layers.iter().position(|l| *l == twice), Some(3));
    assert_eq!(layers.len(), 4);
}

#[test]
fn folders_are_layouts_too() {
    let dir = tempfile::tempdir().unwrap();
    demo().write_layout(dir.path()).unwrap();
    let machine = Machine::new();
    let layouts = [Layout::path(dir.path()).unwrap()];
    assert_eq!(machine.store.prepare(&layouts, &[], "demo/web:1").unwrap().unpacked, 2);
}

/// A layout's folder as `tar` packs it: with `./` before every name, and entries for the folders.
#[test]
fn a_layout_packed_by_tar_is_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    demo().write_layout(&dir.path().join("web")).unwrap();
    let packed = |folder: &Path, format: &str, what: &str| {
        let mut tar = std::process::Command::new("tar");
        tar.arg("-C").arg(folder).arg(format!("--format={format}")).args(["-cf", "-", what]);
        let output = tar.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(crate::layout::is_tar(&Rc::<[u8]>::from(output.stdout.as_slice())));
        layout(output.stdout)
    };
    for format in ["gnu", "ustar", "pax"] {
        let layouts = [packed(&dir.path().join("web"), format, ".")];
        assert_eq!(Machine::new().store.prepare(&layouts, &[], "demo/web:1").unwrap().unpacked, 2);
    }
    // With the folder itself around it, it is none, and the message says what is missing where.
    let layouts = [packed(dir.path(), "gnu", "web")];
    let error = Machine::new().store.prepare(&layouts, &[], "demo/web:1").unwrap_err().to_string();
    assert!(error.contains("at the top"), "{error}");
}

#[test]
fn a_wrong_pin_is_named() {
    let machine = Machine::new();
    let pin = Digest::of(b"other");
    let error = machine.prepare(&demo(), &format!("demo/web:1@{pin}")).unwrap_err();
    assert!(error.contains(&demo().digest().to_string()) && error.contains(&pin.to_string()), "{error}");
    assert!(machine.prepare(&demo(), "demo/web:1@sha256:12").unwrap_err().contains("not a digest"));
    assert!(machine.is_empty());
}

/// The layout's files with one of them replaced.
fn with(files: Vec<(String, Vec<u8>)>, path: &str, bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    files.into_iter().map(|(p, b)| if p == path { (p, bytes.clone()) } else { (p, b) }).collect()
}

#[test]
fn one_flipped_bit_anywhere_is_found_and_nothing_is_kept() {
    let files = demo().layout();
    for (path, bytes) in files.iter().filter(|(p, _)| p.starts_with("blobs/")) {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let machine = Machine::new();
            let error = machine.prepare_files(&with(files.clone(), path, bad), "demo/web:1").unwrap_err();
            assert!(error.contains("disk vdb") && error.contains("is damaged"), "{path} {at}: {error}");
            assert!(machine.is_empty());
        }
    }
}

#[test]
fn missing_and_short_blobs_are_named() {
    let files = demo().layout();
    for (path, bytes) in files.iter().filter(|(p, _)| p.starts_with("blobs/")) {
        let without: Vec<_> = files.iter().filter(|(p, _)| p != path).cloned().collect();
        let error = Machine::new().prepare_files(&without, "demo/web:1").unwrap_err();
        assert!(error.contains("is missing") && error.contains(&path[13..]), "{error}");
        let short = with(files.clone(), path, bytes[..bytes.len() - 5].to_vec());
        let error = Machine::new().prepare_files(&short, "demo/web:1").unwrap_err();
        assert!(error.contains("damaged"), "{error}");
    }
}

#[test]
fn a_truncated_archive_is_said_to_be_one() {
    let bytes = demo().archive().unwrap();
    for len in [530, 1100, bytes.len() / 2, bytes.len() - 3000] {
        let Err(error) = Layout::archive("disk vdb", Box::new(Rc::<[u8]>::from(&bytes[..len]))) else {
            panic!("{len} of {} bytes taken", bytes.len())
        };
        assert!(error.to_string().contains("cut short"), "{error}");
    }
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    for plain in [true, false] {
        let tar = LayerBuilder::new().file("a", 0o644, "x").tar().unwrap();
        let (blob, kind) =
            if plain { (tar, "tar") } else { (crate::build::gzipped(&tar).unwrap(), "tar+gzip") };
        let kind = format!("application/vnd.oci.image.layer.v1.{kind}");
        let error = refused(&ImageBuilder::new("demo/web:1").layer_blob(blob, &kind, Digest::of(b"other")));
        assert!(error.contains("its content is"), "{error}");
    }
}

#[test]
fn bytes_after_the_archive_belong_to_the_digest() {
    let mut tar = LayerBuilder::new().file("a", 0o644, "x").tar().unwrap();
    tar.extend([0; 20_000]);
    tar.extend(b"and rubbish");
    for gzip in [true, false] {
        let image = ImageBuilder::new("demo/web:1").layer_tar(&tar, gzip).unwrap();
        assert_eq!(Machine::new().prepare(&image, "demo/web:1").unwrap().unpacked, 1);
    }
}

#[test]
fn a_description_whose_layers_are_lost_goes_at_the_next_start() {
    let machine = Machine::new();
    let outcome = machine.prepare(&demo(), "demo/web:1").unwrap();
    let index = machine.dir.path().join("index");
    Store::open(machine.dir.path()).unwrap();
    assert_eq!(fs::read_dir(&index).unwrap().count(), 1);
    fs::remove_dir_all(machine.dir.path().join("layers").join(&outcome.image.layers[0])).unwrap();
    Store::open(machine.dir.path()).unwrap();
    assert_eq!(fs::read_dir(&index).unwrap().count(), 0);
}

#[test]
fn a_zstd_layer_is_hashed_to_its_end_and_bounded() {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    let tar = LayerBuilder::new().file("a", 0o644, "x").tar().unwrap();
    let (first, rest) = tar.split_at(700);
    let frames = [first, rest].map(|part| compress_to_vec(part, CompressionLevel::Fastest)).concat();
    let image = |blob: Vec<u8>| ImageBuilder::new("demo/web:1").layer_blob(blob, kind, Digest::of(&tar));
    assert_eq!(Machine::new().prepare(&image(frames.clone()), "demo/web:1").unwrap().unpacked, 1);
    let other = compress_to_vec(&b"more"[..], CompressionLevel::Fastest);
    assert!(refused(&image([frames.clone(), other].concat())).contains("its content is"));
    assert!(refused(&image(frames[..frames.len() - 2].to_vec())).starts_with("layer "));
    // 128 KiB of zeros in four bytes, again and again: inflated piece by piece, and no archive at its end.
    let mut bomb = [&crate::zstd::MAGIC[..], &[0x00, 0x38]].concat();
    for _ in 0..200 {
        bomb.extend([0x02, 0x00, 0x10, 0x00]);
    }
    assert!(refused(&image(bomb)).starts_with("layer "));
}

#[test]
fn layers_that_are_no_archives_are_refused() {
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    for (bytes, why) in [
        (b"\x28\xb5\x2f\xfd rest".to_vec(), ""),
        (vec![b'x'; 2000], "not a tar header"),
        (crate::build::gzipped(&[b'x'; 2000]).unwrap(), "not a tar header"),
        (b"\x1f\x8b\x08".to_vec(), ""),
    ] {
        let image = ImageBuilder::new("demo/web:1").layer_blob(bytes.clone(), kind, Digest::of(&bytes));
        let error = refused(&image);
        assert!(error.contains(why), "{error}");
    }
    let odd =
        ImageBuilder::new("demo/web:1").layer_blob(vec![], "application/vnd.in-toto+json", Digest::of(b""));
    assert!(refused(&odd).contains("not a file system layer"));
}

#[test]
fn a_refused_entry_is_named_and_nothing_is_kept() {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..9].copy_from_slice(b"../passwd");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend([0; 1024]);
    // A good layer below must not stay either.
    let error = refused(&demo().layer_tar(&tar, true).unwrap());
    assert!(error.contains("../passwd") && error.starts_with("layer "), "{error}");
}

#[test]
fn too_many_layers_are_counted() {
    let mut image = ImageBuilder::new("demo/web:1");
    for n in 0..500 {
        image = image.layer(&LayerBuilder::new().plain().file(&format!("f{n}"), 0o644, "")).unwrap();
    }
    assert!(refused(&image).contains("500 layers; 128 is the most"));
    assert!(refused(&ImageBuilder::new("demo/web:1")).contains("no layers"));
}

#[test]
fn other_platforms_are_refused_and_ours_is_picked() {
    let arm = demo().architecture("arm64");
    assert!(refused(&arm).contains("linux/arm64"));
    // An image index with both, arm first, and an attestation.
    let mut files: BTreeMap<String, Vec<u8>> = arm.layout().into_iter().chain(demo().layout()).collect();
    let entry = |image: &ImageBuilder, architecture: &str| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest().to_string(),
            "size": image.manifest_json().len(), "platform": { "os": "linux", "architecture": architecture } })
    };
    let mut attestation = entry(&arm, "unknown");
    attestation["platform"]["os"] = json!("unknown");
    let inner = json!({ "manifests": [entry(&arm, "arm64"), attestation, entry(&demo(), "amd64")] });
    let inner = inner.to_string().into_bytes();
    let outer = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&inner).to_string(),
        "size": inner.len(), "annotations": { "io.containerd.image.name": "docker.io/demo/web:1",
        "org.opencontainers.image.ref.name": "1" } }] });
    let whole = Digest::of(&inner);
    files.insert(format!("blobs/sha256/{}", whole.hex()), inner);
    files.insert("index.json".to_owned(), outer.to_string().into_bytes());
    let files: Vec<_> = files.into_iter().collect();
    let machine = Machine::new();
    for reference in
        ["demo/web:1".to_owned(), format!("demo/web@{}", demo().digest()), format!("demo/web:1@{whole}")]
    {
        let outcome = machine.prepare_files(&files, &reference).unwrap();
        assert_eq!(outcome.image.digest, demo().digest().to_string());
    }
    let error = machine.prepare_files(&files, &format!("demo/web@{}", arm.digest())).unwrap_err();
    assert!(error.contains("linux/arm64"), "{error}");
}

#[test]
fn two_disks_must_agree() {
    let machine = Machine::new();
    let other = demo().env("C", "d");
    let layouts = [layout(demo().archive().unwrap()), layout(other.archive().unwrap())];
    let error = machine.store.prepare(&layouts, &[], "demo/web:1").unwrap_err().to_string();
    assert!(error.contains("pin the one you mean"), "{error}");
    let pinned = format!("demo/web:1@{}", other.digest());
    assert_eq!(machine.store.prepare(&layouts, &[], &pinned).unwrap().image.env.len(), 2);
    let same = [layout(demo().archive().unwrap()), layout(demo().archive().unwrap())];
    machine.store.prepare(&same, &[], "demo/web:1").unwrap();
}

#[test]
fn docker_save_archives_are_read() {
    let image = demo();
    let layer = |n: usize| LayerBuilder::new().file(&format!("f{n}"), 0o644, "x");
    let config = image.clone().layer(&layer(1)).unwrap().config_json();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let mut config = config;
    config["rootfs"]["diff_ids"] = json!([Digest::of(&layer(1).tar().unwrap()).to_string()]);
    let config = config.to_string().into_bytes();
    let files = vec![
        (format!("{}.json", Digest::of(&config).hex()), config.clone()),
        ("abc/layer.tar".to_owned(), layer(1).tar().unwrap()),
        (
            "manifest.json".to_owned(),
            json!([{ "Config": format!("{}.json", Digest::of(&config).hex()), "RepoTags": ["old:2"],
                "Layers": ["abc/layer.tar"] }])
            .to_string()
            .into_bytes(),
        ),
    ];
    let machine = Machine::new();
    let outcome = machine.prepare_files(&files, "docker.io/library/old:2").unwrap();
    assert_eq!((outcome.unpacked, outcome.image.digest), (1, Digest::of(&config).to_string()));
    let error = machine.prepare_files(&files, &format!("old:2@{}", Digest::of(b""))).unwrap_err();
    assert!(error.contains("docker save"), "{error}");
    let bad = with(files, "abc/layer.tar", layer(2).tar().unwrap());
    assert!(Machine::new().prepare_files(&bad, "old:2").unwrap_err().contains("its content is"));
}

#[test]
fn nonsense_in_the_json_is_told() {
    let files = demo().layout();
    for (text, why) in [
        ("{", "index.json"),
        (r#"{"manifests":[{"digest":"md5:1","size":1}]}"#, "not a sha256 digest"),
        (r#"{"manifests":null}"#, "names any image"),
        ("[[[[", "index.json"),
    ] {
        let files = with(files.clone(), "index.json", text.as_bytes().to_vec());
        let error = Machine::new().prepare_files(&files, "demo/web:1").unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    let error = Machine::new().prepare_files(&files[..1], "demo/web:1").unwrap_err();
    assert!(error.contains("neither index.json"), "{error}");
    let huge = with(files, "index.json", vec![b' '; 5 << 20]);
    assert!(Machine::new().prepare_files(&huge, "demo/web:1").unwrap_err().contains("5242880 bytes"));
}

#[test]
fn an_image_stays_usable_without_its_disk() {
    let machine = Machine::new();
    machine.prepare(&demo(), "demo/web:1").unwrap();
    let outcome = machine.store.prepare(&[], &[], "demo/web:1").unwrap();
    assert_eq!((outcome.unpacked, outcome.notes.len()), (0, 1));
    let gone = machine.dir.path().join("layers").join(&outcome.image.layers[0]);
    fs::remove_dir_all(gone).unwrap();
    let error = machine.store.prepare(&[], &["disk vdc: broken".to_owned()], "demo/web:1").unwrap_err();
    assert!(error.to_string().contains("disk vdc: broken"), "{error}");
}

#[test]
fn a_power_cut_after_any_step_leaves_old_or_new() {
    for step in 2..=5 {
        let machine = Machine::new();
        machine.store.cut_after.set(step);
        machine.prepare(&demo(), "demo/web:1").unwrap_err();
        // Whatever has its final name is complete.
        assert!(machine.entries("index").is_empty());
        let complete = if step >= 4 { 2 } else { 0 };
        assert_eq!(machine.entries("layers").len(), complete, "step {step}");
        let Machine { dir, store } = machine;
        drop(store);
        let machine = Machine { store: Store::open(dir.path()).unwrap(), dir };
        assert!(machine.entries("tmp").is_empty());
        assert_eq!(machine.prepare(&demo(), "demo/web:1").unwrap().unpacked, 2 - complete);
    }
}

#[test]
fn a_description_too_large_for_pid_1_is_not_written() {
    let mut image = demo();
    for n in 0..100 {
        image = image.env(&format!("K{n}"), &"v".repeat(1000));
    }
    assert!(refused(&image).contains("larger than"));
    assert!(refused(&demo().env("K", "a\0b")).contains("NUL"));
}

#[test]
fn a_read_only_or_odd_state_folder_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = Store::open(&dir.path().join("file")).map(drop).unwrap_err().to_string();
    assert!(error.contains("not made ready"), "{error}");
}

/// A sample of `tests/data`.
fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}.tar.gz", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn archives_of_other_programs_are_read_file_by_file() {
    use std::os::unix::fs::MetadataExt;
    for (name, reference) in
        [("oci", "demo/sample:1"), ("docker", "docker.io/demo/sample:1"), ("zstd", "demo/sample:zstd")]
    {
        let machine = Machine::new();
        let outcome = machine.store.prepare(&[layout(sample(name))], &[], reference).unwrap();
        assert_eq!((outcome.unpacked, outcome.notes.len()), (2, 0));
        let image = outcome.image;
        assert_eq!(
            (&image.entrypoint[0][..], image.cmd),
            ("/bin/tool", vec!["a".to_owned(), "b".to_owned()])
        );
        assert!(image.env.contains(&"X=y".to_owned()));
        assert_eq!(
            (&image.user[..], &image.workdir[..], &image.stop_signal[..]),
            ("1000:1000", "/etc", "SIGINT")
        );
        let path = |layer: usize, path: &str| {
            machine.dir.path().join("layers").join(&image.layers[layer]).join(path)
        };
        let stat = |layer: usize, name: &str| fs::symlink_metadata(path(layer, name)).unwrap();
        assert_eq!(fs::read(path(0, "etc/motd")).unwrap(), b"hi\n");
        assert_eq!(stat(0, "etc/motd").ino(), stat(0, "etc/hard").ino());
        assert_eq!(fs::read_link(path(0, "etc/link")).unwrap(), Path::new("motd"));
        assert_eq!(stat(0, "bin/tool").mode() & 0o7777, 0o4755);
        assert_eq!(stat(0, "tmp").mode() & 0o7777, 0o1777);
        assert_eq!(stat(0, "sparse").len(), 1_048_581);
        assert_eq!(fs::read(path(1, "bin/other")).unwrap(), b"new\n");
        assert_eq!(stat(1, "etc/link").mode() & 0o170_000, 0o020_000);
        assert_eq!(stat(1, "bin/tool").rdev(), 0);
    }
}

proptest::proptest! {
    #[test]
    fn damaged_archives_never_panic(changes in proptest::collection::vec((0..20_000_usize, 0..=255_u8), 1..10)) {
        let mut bytes = sample("oci");
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        crate::find::fuzz(&bytes);
    }
}

#[test]
fn a_layer_that_rests_on_others_is_shared_only_above_the_same() {
    let machine = Machine::new();
    let top = LayerBuilder::new().file("srv/new", 0o644, "new").hardlink("srv/link", "srv/data");
    let image = |name: &str, mode: u32, data: &str| {
        let base = LayerBuilder::new().dir("srv", mode).file("srv/data", 0o600, data);
        ImageBuilder::new(name).layer(&base).unwrap().layer(&top).unwrap()
    };
    let one = machine.prepare(&image("one:1", 0o700, "1"), "one:1").unwrap();
    let two = machine.prepare(&image("two:1", 0o750, "2"), "two:1").unwrap();
    assert_eq!((one.unpacked, two.unpacked), (2, 2));
    assert_ne!(one.image.layers[1], two.image.layers[1]);
    for (outcome, mode, data) in [(&one, 0o700, "1"), (&two, 0o750, "2")] {
        let layer = machine.dir.path().join("layers").join(&outcome.image.layers[1]);
        let folder = fs::metadata(layer.join("srv")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o777, mode);
        assert_eq!(fs::read_to_string(layer.join("srv/link")).unwrap(), data);
    }
    // The same image under another name has it all.
    let again = machine.prepare(&image("three:1", 0o700, "1"), "three:1").unwrap();
    assert_eq!((again.unpacked, again.image.layers), (0, one.image.layers));
}

#[test]
fn a_layer_that_hides_all_others_is_the_lowest() {
    let machine = Machine::new();
    let base = LayerBuilder::new().file("old", 0o644, "old");
    let top = LayerBuilder::new().file(".wh..wh..opq", 0o644, "").file("new", 0o644, "new");
    let image = ImageBuilder::new("a:1").layer(&base).unwrap().layer(&top).unwrap();
    let layers = machine.prepare(&image, "a:1").unwrap().image.layers;
    assert_eq!(layers.len(), 1);
    assert!(machine.dir.path().join("layers").join(&layers[0]).join("new").exists());
}
