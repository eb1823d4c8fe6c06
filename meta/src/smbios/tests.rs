use super::*;
use base64::Engine;
use proptest::prelude::*;

/// Tables with a BIOS structure, these OEM strings, and an end mark.
pub fn tables(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0, 24, 0, 0];
    bytes.extend([1; 20]);
    bytes.extend(b"a vendor\0a version\0\0");
    bytes.extend([11, 5, 0, 0x0e, u8::try_from(strings.len()).unwrap()]);
    for string in strings {
        bytes.extend(*string);
        bytes.push(0);
    }
    bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
    bytes.extend([127, 4, 0, 0x7f, 0, 0]);
    bytes
}

fn decode(strings: &[String]) -> Result<Vec<u8>, String> {
    let strings: Vec<&[u8]> = strings.iter().map(String::as_bytes).collect();
    match find(&tables(&strings)).unwrap() {
        Found::Config(given) => given.decode(),
        Found::Nothing(_) => panic!("nothing found"),
    }
}

fn b64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

const CONFIG: &str = "format = 1\n";

#[test]
fn a_config_comes_in_each_form() {
    let text = format!("berth.config={CONFIG}");
    let base64 = format!("berth.config.b64={}", b64(CONFIG.as_bytes()));
    let zipped = format!("berth.config.b64={}", b64(&crate::decode::tests::gzipped(CONFIG.as_bytes())));
    for given in [text, base64, zipped] {
        assert_eq!(decode(std::slice::from_ref(&given)).unwrap(), CONFIG.as_bytes());
        let sums = [
            given,
            format!("berth.config.sha256={}", sum(CONFIG.as_bytes())),
            "berth.config.length=11".to_owned(),
        ];
        assert_eq!(decode(&sums).unwrap(), CONFIG.as_bytes());
    }
}

#[test]
fn other_strings_are_not_ours() {
    assert_eq!(find(&tables(&[])), Ok(Found::Nothing(0)));
    assert_eq!(find(&tables(&[b"io.systemd.credential:x=y", b"berth.configure=1"])), Ok(Found::Nothing(2)));
    assert_eq!(find(&[]), Ok(Found::Nothing(0)));
    // The last structure needs no end mark.
    let mut open = tables(&[b"x"]);
    open.truncate(open.len() - 6);
    assert_eq!(find(&open), Ok(Found::Nothing(1)));
}

#[test]
fn what_was_cut_is_found() {
    let long = format!("{CONFIG}{}", "# comment\n".repeat(500));
    let cut = format!("berth.config={}", &long[..3550]);
    let error = decode(std::slice::from_ref(&cut)).unwrap_err();
    assert!(error.contains("without berth.config.sha256="), "{error}");
    let with_sum =
        decode(&[cut.clone(), format!("berth.config.sha256={}", sum(long.as_bytes()))]).unwrap_err();
    assert!(with_sum.contains("was cut or changed"), "{with_sum}");
    let with_length = decode(&[cut, format!("berth.config.length={}", long.len())]).unwrap_err();
    assert!(with_length.contains("has 3550 bytes"), "{with_length}");
    // gzip needs no sum of ours, whole or cut.
    let zipped = b64(&crate::decode::tests::gzipped(long.as_bytes()));
    assert_eq!(decode(&[format!("berth.config.b64={zipped}")]).unwrap(), long.as_bytes());
    let error = decode(&[format!("berth.config.b64={}", &zipped[..zipped.len() / 8 * 4])]).unwrap_err();
    assert!(error.contains("gzip"), "{error}");
    let plain = b64(long.as_bytes());
    assert!(
        decode(&[format!("berth.config.b64={}", &plain[..plain.len() / 8 * 4])])
            .unwrap_err()
            .contains("sha256")
    );
}

#[test]
fn contradictions_are_refused() {
    for (strings, why) in [
        (vec!["berth.config=a = 1", "berth.config.b64=YQ=="], "give one"),
        (vec!["berth.config.sha256=00"], "neither"),
        (vec!["berth.config=a = 1", "berth.config.length=x"], "not a number"),
        (vec!["berth.config=a = 1", "berth.config.sha256=00"], "says 00"),
        (vec!["berth.config.b64=%%%"], "not base64"),
        (vec!["berth.config="], "empty"),
    ] {
        let strings: Vec<String> = strings.into_iter().map(str::to_owned).collect();
        let error = decode(&strings).unwrap_err();
        assert!(error.contains(why), "{strings:?}: {error}");
    }
    let twice = find(&tables(&[b"berth.config=a", b"berth.config=b"])).unwrap_err();
    assert!(twice.contains("two strings"), "{twice}");
}

#[test]
fn damaged_tables_are_told() {
    for bad in
        [&[11, 3, 0, 0, 0, 0][..], &[11, 200, 0, 0, 0], &[11, 5, 0, 0, 1, b'x', b'y'], b"\x0b\x05\0\0\x01x\0"]
    {
        assert!(find(bad).unwrap_err().contains("damaged or were cut short"));
    }
}

proptest! {
    #[test]
    fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz(&bytes);
    }

    #[test]
    fn flipped_bits_never_panic(at in 0..80_usize, with in any::<u8>()) {
        let mut bytes = tables(&[b"berth.config=format = 1", b"berth.config.length=10"]);
        let at = at % bytes.len();
        bytes[at] ^= with;
        fuzz(&bytes);
    }
}

/// Tables of a machine with these strings of type 1: manufacturer, product, version, serial number.
pub fn machine(strings: [&str; 4], uuid: [u8; 16]) -> Vec<u8> {
    let mut bytes = vec![1, 27, 1, 0];
    let mut count = 0;
    for string in strings {
        count += u8::from(!string.is_empty());
        bytes.push(if string.is_empty() { 0 } else { count });
    }
    bytes.extend(uuid);
    bytes.extend([6, 0, 0]);
    for string in strings.iter().filter(|string| !string.is_empty()) {
        bytes.extend(string.as_bytes());
        bytes.push(0);
    }
    bytes.push(0);
    bytes.extend(tables(&[]));
    bytes
}

#[test]
fn the_machine_itself_is_read() {
    let uuid =
        [0xec, 0x2e, 0x19, 0x16, 0x90, 0x8a, 0x47, 0xc2, 0x8b, 0x2a, 0x1f, 0x37, 0xde, 0x1e, 0x7d, 0x1f];
    let found = system(&machine(["Xen", "HVM domU", "4.11", "ec2e1916"], uuid));
    assert_eq!(
        (found.vendor.as_str(), found.product.as_str(), found.serial.as_str()),
        ("Xen", "HVM domU", "ec2e1916")
    );
    assert_eq!(found.uuids, ["ec2e1916908a47c28b2a1f37de1e7d1f", "16192eec8a90c2478b2a1f37de1e7d1f"]);
    for len in 0..40 {
        let mut cut = machine(["a", "b", "c", "d"], uuid);
        cut.truncate(len);
        let _ = system(&cut);
    }
    assert_eq!(system(&tables(&[b"x"])), System::default());
}
