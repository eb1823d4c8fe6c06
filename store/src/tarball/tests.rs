use super::*;
use crate::build::LayerBuilder;
use proptest::prelude::*;
use tar::{EntryType, Header};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = reader.entry()? {
        let mut content = vec![0; usize::try_from(entry.size.min(1 << 20)).unwrap()];
        let mut buffer = [0; 100];
        while let Some((offset, n)) = reader.data(&mut buffer)? {
            let offset = usize::try_from(offset).unwrap();
            content[offset..offset + n].copy_from_slice(&buffer[..n]);
        }
        all.push((entry, content));
    }
    Ok(all)
}

/// A tar made by GNU tar of `files`, with `options`.
fn gnu_tar(options: &[&str], make: impl Fn(&std::path::Path)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let out = std::process::Command::new("tar")
        .args(["--sort=name", "-c"])
        .args(options)
        .arg("-C")
        .arg(dir.path())
        .arg(".")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn what_gnu_tar_writes_in_each_format() {
    let long = "n".repeat(120);
    for format in ["gnu", "pax", "ustar"] {
        let bytes = gnu_tar(&["--format", format], |dir| {
            std::fs::create_dir(dir.join("d")).unwrap();
            std::fs::write(dir.join("d/a"), "hello").unwrap();
            std::fs::hard_link(dir.join("d/a"), dir.join("d/b")).unwrap();
            std::os::unix::fs::symlink("../x", dir.join("d/c")).unwrap();
            let name = if format == "ustar" { "short" } else { &long };
            std::fs::write(dir.join(name), vec![7; 1000]).unwrap();
        });
        let entries = read(&bytes).unwrap();
        let find = |path: &str| {
            entries
                .iter()
                .find(|(e, _)| e.path == path.as_bytes())
                .unwrap_or_else(|| panic!("{format}: no {path}"))
        };
        assert_eq!(find("./d/").0.kind, Kind::Dir);
        assert_eq!(find("./d/a").1, b"hello");
        assert_eq!((find("./d/b").0.kind, &find("./d/b").0.link[..]), (Kind::Hardlink, &b"./d/a"[..]));
        assert_eq!((find("./d/c").0.kind, &find("./d/c").0.link[..]), (Kind::Symlink, &b"../x"[..]));
        let name = if format == "ustar" { "./short".to_owned() } else { format!("./{long}") };
        assert_eq!(find(&name).1, vec![7; 1000]);
    }
}

#[test]
fn sparse_files_in_all_dialects_keep_their_holes() {
    use std::os::unix::fs::FileExt;
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let bytes = gnu_tar(&[options, &["--sparse"]].concat(), |dir| {
            let file = std::fs::File::create(dir.join("s")).unwrap();
            // More than the four pieces of a GNU header, more than the 21 of its first extension.
            for n in 0..40_u64 {
                file.write_at(&[u8::try_from(n).unwrap() + 1; 10], n * 16_384).unwrap();
            }
            file.set_len(800_000).unwrap();
        });
        assert!(bytes.len() < 400_000, "not sparse: {options:?}");
        let entries = read(&bytes).unwrap();
        let (entry, content) = entries.iter().find(|(e, _)| e.kind == Kind::File).unwrap();
        assert_eq!((entry.path.as_slice(), entry.size), (&b"./s"[..], 800_000), "{options:?}");
        for n in 0..40_usize {
            assert_eq!(
                content[n * 16_384..n * 16_384 + 10],
                [u8::try_from(n).unwrap() + 1; 10],
                "{options:?}"
            );
            assert_eq!(content[n * 16_384 + 4096], 0);
        }
    }
}

fn one(header: &mut Header, data: &[u8]) -> Vec<u8> {
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

fn file(name: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[test]
fn a_short_archive_says_where_it_ends() {
    let whole = LayerBuilder::new().file("etc/config", 0o644, vec![1; 2000]).tar().unwrap();
    let error = read(&whole[..1500]).unwrap_err().to_string();
    assert!(error.contains("etc/config") && error.contains("cut short"), "{error}");
    let error = read(&whole[..100]).unwrap_err().to_string();
    assert!(error.contains("header"), "{error}");
    // Without its end mark an archive is complete, as every reader has it.
    assert_eq!(read(&whole[..512 + 2048]).unwrap().len(), 1);
}

#[test]
fn a_flipped_bit_in_a_header_is_found() {
    let mut bytes = LayerBuilder::new().file("a", 0o644, "x").tar().unwrap();
    bytes[0] ^= 1;
    assert!(read(&bytes).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn long_names_and_pax_headers_are_bounded() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        let mut header = file("x", 10 << 30);
        header.set_entry_type(kind);
        assert!(matches!(read(&one(&mut header, b"")), Err(TarError::Limit(_))));
    }
}

#[test]
fn impossible_sizes_and_maps_are_refused() {
    let mut header = file("x", 0);
    header.as_old_mut().size = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(read(&one(&mut header, b"")).unwrap_err().to_string().contains("size"));

    for (offset, len, real) in [(0, 10, 5), (u64::MAX >> 1, 10, 5), (0, 3, 10)] {
        let mut header = file("x", 10);
        header.set_entry_type(EntryType::GNUSparse);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(real);
        gnu.sparse[0].set_offset(offset);
        gnu.sparse[0].set_length(len);
        assert!(read(&one(&mut header, &[1; 10])).is_err(), "{offset} {len} {real}");
    }
}

proptest! {
    #[test]
    fn rubbish_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), fix in any::<bool>()) {
        if fix && bytes.len() >= 512 {
            let mut header = Header::from_byte_slice(&bytes[..512]).clone();
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        fuzz(&bytes);
    }

    #[test]
    fn flipped_bits_never_panic(at in 0..6000_usize, with in any::<u8>()) {
        let mut bytes = gnu_sample();
        let at = at % bytes.len();
        bytes[at] ^= with;
        let block = at / 512 * 512;
        let mut header = Header::from_byte_slice(&bytes[block..block + 512]).clone();
        header.set_cksum();
        bytes[block..block + 512].copy_from_slice(header.as_bytes());
        fuzz(&bytes);
    }
}

fn gnu_sample() -> Vec<u8> {
    LayerBuilder::new()
        .dir("d", 0o755)
        .file(&"long/".repeat(40), 0o600, vec![1; 700])
        .symlink("d/link", &"t".repeat(150))
        .hardlink("d/hard", "d/x")
        .tar()
        .unwrap()
}
