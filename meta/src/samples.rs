//! The sample volumes of `tests/data`, for tests.

use std::io::Read;

/// The config in the short samples.
pub const CONFIG: &str = "format = 1\nhostname = \"sample\"\n";

/// A sample, uncompressed; the FAT16 and FAT32 ones get their zeros back.
pub fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    match name {
        "fat16.img" => bytes.resize(2300 * 1024, 0),
        "fat32.img" => bytes.resize(34_000 * 1024, 0),
        _ => {}
    }
    bytes
}

/// The config in the FAT samples that lie in pieces.
pub fn long_config() -> String {
    format!("{CONFIG}{}", "# A comment that makes this file longer.\n".repeat(200))
}
