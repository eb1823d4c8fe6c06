//! Writes each target's first inputs to `corpus/<target>/`: what our own writers make, and the samples and examples
//! of the repository. A fuzzer that starts from nothing spends its time on finding a signature.

use berth_api::spki::Spki;
use berth_net::netlink::wire;
use berth_store::build::{ImageBuilder, LayerBuilder};
use berth_units::signatures::TABLE;
use berth_updater::gpt::{Partition, Table};
use berth_updater::guid::Guid;
use berth_updater::layout::Slot;
use berth_updater::{record::Record, verity::Superblock};
use std::io::{Cursor, Error, Read, Result};
use std::path::{Path, PathBuf};

/// The least that is taken for a UKI: a command line, an initrd, a kernel, of one sector each.
fn uki() -> Vec<u8> {
    let mut file = vec![0; 2560];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &64u32.to_le_bytes());
    put(64, b"PE\0\0");
    put(70, &3u16.to_le_bytes());
    put(84, &240u16.to_le_bytes());
    put(88, &0x20bu16.to_le_bytes());
    for (index, name) in (0u32..).zip([".cmdline", ".initrd", ".linux"]) {
        let header = 328 + index as usize * 40;
        put(header, name.as_bytes());
        for (field, value) in [(8, 5), (16, 512), (20, 1024 + index * 512)] {
            put(header + field, &value.to_le_bytes());
        }
    }
    put(1024, b"quiet");
    file
}

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("..");
    let put = |target: &str, name: &str, bytes: &[u8]| -> Result<()> {
        let folder = here.join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };

    for file in files(&root.join("units/tests/mistakes"), "toml")? {
        let target = if name(&file).ends_with("berth.toml") { "machine_config" } else { "unit_file" };
        put(target, &name(&file), &std::fs::read(&file)?)?;
    }
    let page = std::fs::read_to_string(root.join("docs/units.md"))?;
    for (n, block) in page.split("```toml\n").skip(1).enumerate() {
        let text = block.split("```").next().unwrap_or_default().as_bytes();
        for target in ["unit_file", "machine_config", "user_data"] {
            put(target, &format!("example-{n}"), text)?;
        }
        put("user_data", &format!("example-{n}.gz"), &berth_store::build::gzipped(text)?)?;
    }

    let cases = std::fs::read_to_string(root.join("meta/tests/data/yaml/cases.txt"))?;
    for (n, case) in cases.split("=====\n").enumerate() {
        put("yaml", &format!("case-{n}"), case.as_bytes())?;
    }
    for file in files(&root.join("meta/tests/data/documents"), "yaml")? {
        for target in ["yaml", "cloud_config", "network_config", "user_data"] {
            put(target, &name(&file), &std::fs::read(&file)?)?;
        }
    }

    for file in files(&root.join("meta/tests/data"), "gz")? {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&file)?).read_to_end(&mut bytes)?;
        let target = if name(&file).contains(".iso") { "iso9660" } else { "vfat" };
        put(target, &name(&file), &bytes)?;
    }
    let strings = b"berth.config=format = 1\0berth.config.length=10\0\0";
    let drive = br#"{"uuid": "1", "hostname": "a", "public_keys": {"k": "ssh-ed25519 AAAA me"}}"#;
    put("metadata", "drive", &[&[0][..], drive].concat())?;
    let network = br#"{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56"}],
        "networks": [{"link": "a", "type": "ipv4", "ip_address": "192.0.2.5", "netmask": "255.255.255.0"}]}"#;
    put("metadata", "network", &[&[1][..], network].concat())?;
    let google = br#"{"instance": {"id": 1, "attributes": {"ssh-keys": "me:ssh-ed25519 AAAA google-ssh {\"expireOn\": \"2030-01-01T00:00:00Z\"}"}}}"#;
    put("metadata", "google", &[&[2][..], google].concat())?;
    put("metadata", "nocloud", b"\x03instance-id: i-1\npublic-keys: [ssh-ed25519 AAAA me]\n")?;
    put("smbios", "strings", &[&[11, 5, 0, 1, 2][..], strings, &[127, 4, 0, 2, 0, 0]].concat())?;

    let layer = LayerBuilder::new().dir("bin", 0o755).file("bin/sh", 0o755, "x").symlink("sh", "bin/sh");
    let layer = layer.hardlink("hard", "bin/sh").file(&format!("{}/long", "d".repeat(120)), 0o644, "y");
    put("tar", "layer", &layer.tar()?)?;
    let image = ImageBuilder::new("example.org/web:1").layer(&layer)?.entrypoint(["/bin/sh"]).env("A", "b");
    put("archive", "image", &image.archive()?)?;
    put("tar", "image", &image.archive()?)?;
    put("image_json", "config", &image.config_json())?;
    put("image_json", "manifest", &image.manifest_json())?;
    for (path, bytes) in image.layout().iter().filter(|(path, _)| path.ends_with(".json")) {
        put("image_json", &path.replace('/', "-"), bytes)?;
    }
    for (n, text) in [
        r#"Bearer realm="https://auth.example/token",service="example",scope="repository:a/b:pull", Basic realm=x"#,
        r#"{"token":"abc","access_token":"abc","expires_in":300}"#,
        "example.org:5000/a/b:1",
        "bWU6c2VjcmV0",
        "bytes 10-99/100",
    ]
    .iter()
    .enumerate()
    {
        put("registry", &format!("text-{n}"), text.as_bytes())?;
    }
    put("registry", "manifest", &image.manifest_json())?;
    // Two frames and one to be passed over.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x29, 0, 0, b'b', b'e', b'r', b't', b'h'];
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2];
    put("zstd", "frames", &[&frame[..], &skipped, &frame].concat())?;
    for file in files(&root.join("store/tests/data"), "gz")? {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&file)?).read_to_end(&mut bytes)?;
        put("archive", &name(&file), &bytes)?;
        put("tar", &name(&file), &bytes)?;
    }
    let hex = "0123456789abcdef".repeat(4);
    for (name, kind, rest) in [
        (
            "timestamp",
            "timestamp",
            format!(r#""meta":{{"snapshot.json":{{"version":1,"length":9,"hashes":{{"sha256":"{hex}"}}}}}}"#),
        ),
        (
            "snapshot",
            "snapshot",
            r#""meta":{"targets.json":{"version":1},"a%2Fb.json":{"version":2}}"#.to_owned(),
        ),
        (
            "root",
            "root",
            format!(
                r#""consistent_snapshot":true,"keys":{{"a":{{"keytype":"ed25519","scheme":"ed25519","keyval":{{"public":"{hex}"}}}}}},"roles":{{"root":{{"keyids":["a"],"threshold":1}},"timestamp":{{"keyids":["a"],"threshold":1}},"snapshot":{{"keyids":["a"],"threshold":1}},"targets":{{"keyids":["a"],"threshold":1}}}}"#
            ),
        ),
        (
            "targets",
            "targets",
            format!(
                r#""targets":{{"a/b":{{"length":1,"hashes":{{"sha256":"{hex}"}},"custom":{{"x":["\u00e9",null,-1]}}}}}},"delegations":{{"keys":{{}},"roles":[{{"name":"x","keyids":["a"],"threshold":1,"terminating":true,"paths":["a/*","?*b"]}},{{"name":"y","keyids":[],"threshold":2,"terminating":false,"path_hash_prefixes":["0","ab"]}}]}}"#
            ),
        ),
    ] {
        let text = format!(
            r#"{{"signatures":[{{"keyid":"a","sig":"{hex}{hex}"}}],"signed":{{"_type":"{kind}","spec_version":"1.0.34","version":1,"expires":"2026-11-29T00:00:00Z",{rest}}}}}"#
        );
        put("tuf_metadata", name, text.as_bytes())?;
    }
    let index = format!(
        r#"{{"format":1,"reference":"a:1","digest":"sha256:{hex}","layers":["{hex}"],"entrypoint":[],"cmd":["/x"],"env":["A=b"],"workdir":"","user":"","stop_signal":""}}"#
    );
    put("image_index", "index", index.as_bytes())?;

    let mut table = Table::new(Guid([1; 16]), 512, 126).map_err(Error::other)?;
    table.entries[0] = Some(Partition {
        kind: Guid([2; 16]),
        uuid: Guid([3; 16]),
        first: table.first_usable,
        last: table.last_usable,
        attributes: 0,
        label: "state".into(),
    });
    let mut disk = vec![0; 126 * 512];
    table.write(&mut Cursor::new(&mut disk), |_| Ok(())).map_err(Error::other)?;
    for how in [0, 1] {
        put("gpt", &format!("disk-{how}"), &[&[how][..], &disk].concat())?;
    }
    let record = Record::fresh(Slot::A).partition_image();
    put("boot_record", "record", &record[512..1024])?;
    put("boot_record", "both", &[&record[512..1024], &record[1536..2048]].concat())?;
    let superblock = Superblock { uuid: [1; 16], data_blocks: 300, salt: vec![7; 32] };
    put("verity", "superblock", &superblock.to_bytes())?;
    put("uki", "three-sections", &uki())?;

    let mut offer = vec![0; 236];
    offer[..4].copy_from_slice(&[2, 1, 6, 0]);
    offer.extend_from_slice(&[
        99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 0, 2, 2, 51, 4, 0, 1, 0, 0, 1, 4, 255, 255, 255, 0,
    ]);
    offer.extend_from_slice(&[3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3, 121, 5, 0, 10, 0, 2, 2, 255]);
    put("dhcp", "offer", &offer)?;
    put("dhcp", "packet", &berth_net::dhcp::packet::broadcast([0, 0, 0, 0].into(), &offer))?;

    use berth_net::dhcp6::message::{Address, Association, Kind, Message, Status};
    for (name, kind, status) in [
        ("advertise", Kind::Advertise, Status::Success),
        ("reply", Kind::Reply, Status::Success),
        ("none", Kind::Reply, Status::NoBinding),
    ] {
        let mut message = Message::new(kind, 7, vec![0, 3, 0, 1]);
        message.server = Some(vec![0, 3, 0, 1, 9]);
        let ip = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5].into();
        let addresses = vec![Address { ip, preferred: 50, valid: 100 }];
        message.associations = vec![Association { addresses, status, ..Association::default() }];
        (message.dns, message.domains) = (vec![ip], vec!["lab.example".into()]);
        put("dhcp6", name, &message.to_bytes())?;
    }

    let mut answer = berth_net::sntp::message::question(7);
    (answer[0], answer[1]) = (0x24, 2);
    answer[24..32].copy_from_slice(&7_u64.to_be_bytes());
    let now = berth_net::sntp::message::Stamp::of_unix(1_700_000_000_000_000_000).0.to_be_bytes();
    answer[32..40].copy_from_slice(&now);
    answer[40..48].copy_from_slice(&now);
    put("sntp", "answer", &answer)?;

    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03web\x05berth\x08internal\x00\x00\x01\x00\x01\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00";
    put("dns", "question", question)?;

    certificates_and_keys(&put, &root)?;
    of_the_kernel_and_of_disks(&put)?;

    for (n, packet) in [
        r#"{"request":{"request":"ps"}}"#,
        r#"{"request":{"request":"logs","unit":"web"}}"#,
        r#"{"worker":{"message":"hello"}}"#,
        r#"{"worker":{"message":"prepare-failed","reference":"a","error":"b"}}"#,
        r#"{"worker":{"message":"addresses","addresses":[["eth0","10.0.2.15/24"]]}}"#,
    ]
    .iter()
    .enumerate()
    {
        put("control", &n.to_string(), packet.as_bytes())?;
    }
    for (n, notice) in
        ["READY=1\nSTATUS=up", "RELOADING=1\nMONOTONIC_USEC=5", "STOPPING=1"].iter().enumerate()
    {
        put("notice", &n.to_string(), notice.as_bytes())?;
    }
    Ok(())
}

type Put<'a> = &'a dyn Fn(&str, &str, &[u8]) -> Result<()>;

fn certificates_and_keys(put: Put<'_>, root: &Path) -> Result<()> {
    let point = [4; 65];
    for (name, key) in [("ed25519", Spki::ed25519(&[7; 32])), ("p256", Spki::p256(&point))] {
        // tbsCertificate: version, serial number, algorithm, issuer, validity, subject, key.
        let before: &[u8] = &[0xa0, 3, 2, 1, 2, 2, 1, 1, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0];
        let tbs = der(0x30, &[before, key.as_der()].concat());
        put("certificate", name, &der(0x30, &[&tbs[..], &[0x30, 0, 3, 1, 0]].concat()))?;
    }
    let text = std::fs::read_to_string(root.join("api/src/keys.rs"))?;
    let lines = text.split('"').filter(|text| text.starts_with("ssh-") || text.starts_with("ecdsa-"));
    for (n, line) in lines.enumerate() {
        put("key_line", &n.to_string(), line.as_bytes())?;
    }
    Ok(())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 128 => [&[tag, short], content].concat(),
        _ => [&[tag, 0x82, (length >> 8) as u8, length as u8], content].concat(),
    }
}

fn of_the_kernel_and_of_disks(put: Put<'_>) -> Result<()> {
    let mut block = vec![0; 1024];
    (block[0x38], block[0x39], block[0x3a], block[0x18], block[5]) = (0x53, 0xef, 1, 2, 0x80);
    put("ext4", "clean", &block)?;
    let mut block = vec![0; 128];
    block[..4].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
    block[64..69].copy_from_slice(b"1.2.3");
    put("erofs", "labelled", &block)?;
    for (n, row) in TABLE.iter().enumerate().filter(|(_, row)| row.at <= 1 << 15) {
        let mut disk = vec![0; 64 << 10];
        let at = row.at as usize;
        disk[at..at + row.magic.len()].copy_from_slice(row.magic);
        put("signatures", &n.to_string(), &disk)?;
    }
    let record = "Panic#1 Part2\n<4>[ 1.0] before\n<0>[ 1.1] Kernel panic - not syncing: x\n\0Panic#1 Part1\nlast words\n";
    put("panic_record", "two-parts", record.as_bytes())?;
    for (n, event) in [
        "add@/devices/x\0ACTION=add\0SUBSYSTEM=pci\0MODALIAS=pci:v1AF4\0SEQNUM=7\0",
        "change@/devices/virtual/block/dm-0\0DEVNAME=dm-0\0DM_VERITY_ERR_BLOCK_NR=0,5120\0",
        "add@/x\0SUBSYSTEM=block\0DEVNAME=vda1\0DEVTYPE=partition\0",
        "move@/x\0SUBSYSTEM=net\0INTERFACE=eth0\0",
    ]
    .iter()
    .enumerate()
    {
        put("uevent", &n.to_string(), event.as_bytes())?;
    }

    let mut heard = wire::Writer::new();
    heard.message(16, 0, 1, |m| {
        m.put(&[0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0]).text(3, "eth0").attr(1, &[2; 6]);
        m.u32(4, 1500).nest(18, |m| {
            m.text(1, "veth");
        });
    });
    heard.message(20, 0, 2, |m| {
        m.put(&[2, 24, 0, 0, 2, 0, 0, 0]).attr(1, &[10, 0, 2, 15]);
    });
    heard.message(68, 0, 3, |m| {
        m.put(&[10, 0, 24, 0, 2, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0]);
        m.put(&[25, 3, 0, 0, 0, 0, 2, 88]).put(&[0x20; 16]);
    });
    put("netlink", "heard", heard.bytes())?;

    // A file header, the names of two sections behind it, and their headers.
    let mut module = vec![0; 64];
    module[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (module[0x28], module[0x3c], module[0x3e]) = (88, 2, 1);
    module.extend_from_slice(b"\0.text\0.shstrtab\0\0\0\0\0\0\0");
    for (name, at, size) in [(1, 64, 8), (7, 64, 24)] {
        let mut header = [0; 64];
        (header[0], header[4], header[0x18], header[0x20]) = (name, 1, at, size);
        module.extend_from_slice(&header);
    }
    put("module_file", "two-sections", &module)
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
