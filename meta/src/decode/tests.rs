use super::*;
use proptest::prelude::*;
use std::io::Write;

pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn b64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

const CONFIG: &[u8] = b"format = 1\nhostname = \"a\"\n";

#[test]
fn each_wrapping_is_undone() {
    let wrapped = b64(&gzipped(CONFIG));
    let lines: String =
        wrapped.as_bytes().chunks(20).map(|l| format!("{}\r\n", String::from_utf8_lossy(l))).collect();
    for bytes in [
        CONFIG.to_vec(),
        gzipped(CONFIG),
        b64(CONFIG).into_bytes(),
        b64(CONFIG).trim_end_matches('=').as_bytes().to_vec(),
        wrapped.into_bytes(),
        lines.into_bytes(),
        gzipped(b64(CONFIG).as_bytes()),
    ] {
        assert_eq!(decode(&bytes).unwrap(), CONFIG);
    }
}

#[test]
fn what_is_meant_for_others_is_refused_by_name() {
    for (text, name, way_out) in [
        ("# cloud-config\nhostname: a\n", "\"# cloud-config\", which is a comment", "write #cloud-config"),
        ("cloud-config\n", "its first line", "write #cloud-config"),
        ("#cloud-configuration\n", "its first line", "begins with the line #cloud-config"),
        ("#cloud-config-archive\n", "archive", "give one"),
        ("#cloud-config-jsonp\n", "patch", "give the whole"),
        ("#!/bin/sh\n", "script", "units of a berth.toml"),
        ("#cloud-boothook\n", "boothook", "units"),
        ("Content-Type: multipart/mixed; boundary=x", "MIME", "the one part"),
        ("MIME-Version: 1.0\n", "MIME", "the one part"),
        ("#include\nhttp://x", "#include", "nothing is fetched"),
        ("#include-once\nhttp://x", "#include", "nothing is fetched"),
        ("## template: jinja\n#cloud-config\n", "jinja", "what it comes to"),
        ("#part-handler\n", "#part-handler", "units"),
        ("{\"ignition\": {}}", "Ignition", "berth.toml"),
        ("{\n  \"ignition\": {}}", "Ignition", "berth.toml"),
        ("{\"hostname\": \"a\"}", "JSON", "behind a first line #cloud-config"),
        ("variant: fcos\nversion: 1.5.0\n", "Butane", "berth.toml"),
        ("network:\n  version: 2\n", "network-config", "beside user data"),
        ("instance-id: a\n", "meta-data", "beside user data"),
        ("---\nhostname: a\n", "YAML", "its first line"),
        ("# c\npackages:\n- a\n", "YAML", "make #cloud-config its first line"),
        ("#ps1_sysnative\n", "Windows", "units"),
        ("ssh-ed25519 AAAA me\n", "a key", "ssh_authorized_keys"),
        ("<html>\n", "XML", "berth.toml"),
    ] {
        for bytes in [text.as_bytes().to_vec(), gzipped(text.as_bytes()), b64(text.as_bytes()).into_bytes()] {
            let error = decode(&bytes).unwrap_err();
            assert!(error.contains(name) && error.contains(way_out), "{text:?}: {error}");
        }
    }
    for (bytes, why) in [
        (&b"\xff\xfe#\0c\0"[..], "UTF-16; save it as UTF-8"),
        (b"#\0c\0l\0", "UTF-16"),
        (b"\0#\0c\0l", "UTF-16"),
        (b"\xff\xfe\0\0#\0\0\0", "UTF-32"),
        (
            b"#cloud-config\nhostname: M\xfcller\n",
            "line 2, column 12: byte 0xfc is not UTF-8, as in Latin-1 text",
        ),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn ours_are_recognised() {
    for text in [
        "#cloud-config\n",
        "\u{feff}#cloud-config\r\na: 1\r\n",
        "\n #Cloud-Config  \n",
        "#cloud-config # x\n",
        "#cloud-config",
    ] {
        assert_eq!(recognise(text.as_bytes()), Ok(Format::CloudConfig), "{text:?}");
    }
    for text in [
        "format = 1",
        "\u{feff}# c\nformat = 1\r\n",
        "# a: b\nhostname = \"x\"",
        "x",
        "[a]\n",
        "a = \"b: c\"",
    ] {
        assert_eq!(recognise(text.as_bytes()), Ok(Format::Berth), "{text:?}");
    }
}

#[test]
fn empty_cut_and_huge_are_refused() {
    for (bytes, why) in [
        (vec![], "empty"),
        (b" \n\t\r\n".to_vec(), "empty"),
        (gzipped(b""), "empty"),
        (gzipped(CONFIG)[..20].to_vec(), "gzip"),
        (vec![b'#'; CONFIG_BYTES + 1], "1048577 bytes"),
        (vec![b'#'; 10 << 20], "10485760 bytes"),
        (gzipped(&vec![b'#'; CONFIG_BYTES + 1]), "1048577 bytes"),
        (gzipped(&vec![b'#'; 4 << 20]), "more than"),
    ] {
        let error = decode(&bytes).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(decode(&vec![b'#'; CONFIG_BYTES]).is_ok());
}

proptest! {
    #[test]
    fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), zipped in any::<bool>()) {
        fuzz(&if zipped { [b"\x1f\x8b\x08", &bytes[..]].concat() } else { bytes });
    }

    #[test]
    fn any_text_comes_back(text in "[a-z =\"\n#]{1,200}") {
        prop_assume!(!text.trim().is_empty() && text.contains(" = "));
        prop_assert_eq!(decode(&gzipped(text.as_bytes())).unwrap(), text.as_bytes());
        prop_assert_eq!(decode(b64(text.as_bytes()).as_bytes()).unwrap(), text.as_bytes());
    }
}
