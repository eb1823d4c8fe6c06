//! Writes each target's first inputs to `corpus/<target>/`: what our own writers make, and the samples and examples
//! of the repository. A fuzzer that starts from nothing spends its time on finding a signature.

use berth_store::build::{ImageBuilder, LayerBuilder};
use berth_updater::gpt::{Partition, Table};
use berth_updater::guid::Guid;
use berth_updater::layout::Slot;
use berth_updater::{record::Record, verity::Superblock};
use std::io::{Cursor, Error, Read, Result};
use std::path::{Path, PathBuf};

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

    for file in files(&root.join("meta/tests/data"), "gz")? {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&file)?).read_to_end(&mut bytes)?;
        let target = if name(&file).contains(".iso") { "iso9660" } else { "vfat" };
        put(target, &name(&file), &bytes)?;
    }
    let strings = b"berth.config=format = 1\0berth.config.length=10\0\0";
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
    for file in files(&root.join("store/tests/data"), "gz")? {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&file)?).read_to_end(&mut bytes)?;
        put("archive", &name(&file), &bytes)?;
        put("tar", &name(&file), &bytes)?;
    }
    let hex = "0123456789abcdef".repeat(4);
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

    let mut offer = vec![0; 236];
    offer[..4].copy_from_slice(&[2, 1, 6, 0]);
    offer.extend_from_slice(&[
        99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 0, 2, 2, 51, 4, 0, 1, 0, 0, 1, 4, 255, 255, 255, 0,
    ]);
    offer.extend_from_slice(&[3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3, 121, 5, 0, 10, 0, 2, 2, 255]);
    put("dhcp", "offer", &offer)?;
    put("dhcp", "packet", &berth_net::dhcp::packet::broadcast([0, 0, 0, 0].into(), &offer))?;

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
    Ok(())
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
