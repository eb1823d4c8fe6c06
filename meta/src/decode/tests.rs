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
    for (text, name) in [
        ("#cloud-config\nhostname: a\n", "#cloud-config"),
        ("#!/bin/sh\n", "script"),
        ("Content-Type: multipart/mixed; boundary=x", "MIME"),
        ("#include\nhttp://x", "#include"),
        ("\u{feff}#cloud-config\n", "#cloud-config"),
        ("{\"ignition\": {}}", "Ignition"),
    ] {
        for bytes in [text.as_bytes().to_vec(), gzipped(text.as_bytes()), b64(text.as_bytes()).into_bytes()] {
            let error = decode(&bytes).unwrap_err();
            assert!(error.contains(name) && error.contains("berth.toml"), "{error}");
        }
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
