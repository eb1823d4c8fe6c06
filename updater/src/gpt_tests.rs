use super::*;
use std::io::Cursor;

const SECTORS: u64 = 20_480;
const KIND: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

fn partition(first: u64, last: u64, label: &str) -> Partition {
    let uuid = Guid::from_u128(u128::from(first) | 0xb << 120);
    Partition { kind: KIND, uuid, first, last, attributes: 0, label: label.into() }
}

fn sample() -> Table {
    let mut table = Table::new(Guid::from_u128(7), 512, SECTORS).unwrap();
    table.entries[0] = Some(partition(2048, 4095, "one"));
    table.entries[7] = Some(partition(8192, 12_287, "state"));
    table
}

fn written(table: &Table, sectors: u64) -> Cursor<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; usize::try_from(sectors * 512).unwrap()]);
    table.write(&mut disk, |_| Ok(())).unwrap();
    disk
}

fn read(disk: &mut Cursor<Vec<u8>>) -> Result<Found, GptError> {
    let sectors = disk.get_ref().len() as u64 / 512;
    Table::read(disk, 512, sectors)
}

#[test]
fn crc_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn what_is_written_is_read() {
    let found = read(&mut written(&sample(), SECTORS)).unwrap();
    assert_eq!(found.table, sample());
    assert!(found.primary.is_none() && found.backup.is_none());
    assert_eq!(found.table.by_label(KIND, "state").unwrap().0, 8);
}

#[test]
fn boot_code_stays_and_the_protective_entry_covers_the_disk() {
    let mut disk = Cursor::new(vec![0xab; usize::try_from(SECTORS * 512).unwrap()]);
    sample().write(&mut disk, |_| Ok(())).unwrap();
    let sector = &disk.get_ref()[..512];
    assert!(sector[..446].iter().all(|&byte| byte == 0xab));
    assert_eq!(sector[450], 0xee);
    assert_eq!(u32_at(sector, 458), u32::try_from(SECTORS - 1).unwrap());
}

#[test]
fn a_damaged_primary_is_told_and_mended_from_the_backup() {
    for at in [512, 512 + 16, 512 + 60, 1024 + 3, 1024 + 7 * 128 + 40] {
        let mut disk = written(&sample(), SECTORS);
        disk.get_mut()[at] ^= 0x10;
        let found = read(&mut disk).unwrap();
        assert!(found.primary.is_some(), "byte {at}");
        assert_eq!(found.table, sample());
        found.table.write(&mut disk, |_| Ok(())).unwrap();
        let mended = read(&mut disk).unwrap();
        assert!(mended.primary.is_none() && mended.backup.is_none());
    }
}

#[test]
fn a_damaged_backup_is_told() {
    let mut disk = written(&sample(), SECTORS);
    let end = disk.get_ref().len();
    disk.get_mut()[end - 512 + 20] ^= 1;
    let found = read(&mut disk).unwrap();
    assert!(found.primary.is_none() && found.backup.is_some());
    disk.get_mut()[512 + 20] ^= 1;
    assert!(matches!(read(&mut disk), Err(GptError::Neither { .. })));
}

#[test]
fn growing_moves_the_backup_and_extends_the_last_partition() {
    let mut disk = written(&sample(), SECTORS);
    let larger = SECTORS * 4 + 5;
    disk.get_mut().resize(usize::try_from(larger * 512).unwrap(), 0);
    let mut table = read(&mut disk).unwrap().table;
    assert_eq!(table.grow(larger).unwrap(), Some(8));
    table.write(&mut disk, |_| Ok(())).unwrap();
    let found = read(&mut disk).unwrap();
    assert!(found.backup.is_none());
    assert_eq!(found.table.disk_sectors, larger);
    let state = found.table.entries[7].clone().unwrap();
    assert_eq!((state.first, (state.last + 1) % 2048), (8192, 0));
    assert!(state.last > SECTORS && state.last <= found.table.last_usable);
    let mut again = found.table;
    assert_eq!(again.grow(larger).unwrap(), None);
}

#[test]
fn growing_is_safe_against_a_cut_after_any_write() {
    let mut before = written(&sample(), SECTORS);
    let larger = SECTORS * 2;
    before.get_mut().resize(usize::try_from(larger * 512).unwrap(), 0);
    let mut table = read(&mut before).unwrap().table;
    table.grow(larger).unwrap();
    for cut in 0..8 {
        let mut disk = Cut { inner: before.clone(), writes_left: cut };
        let _ = table.write(&mut disk, |_| Ok(()));
        let found = read(&mut disk.inner).unwrap();
        assert!(found.table == sample() || found.table == table, "after {cut} writes");
    }
}

struct Cut {
    inner: Cursor<Vec<u8>>,
    writes_left: u32,
}

impl Read for Cut {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into)
    }
}

impl Seek for Cut {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.writes_left.checked_sub(1) else { return Err(io::ErrorKind::Other.into()) };
        self.writes_left = left;
        self.inner.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    type Spoil = fn(&mut Table);
    let cases: [(&str, Spoil); 3] = [
        ("overlap", |table| table.entries[1] = Some(partition(4000, 5000, "x"))),
        ("outside", |table| table.entries[1] = Some(partition(5000, SECTORS + 1, "x"))),
        ("reversed", |table| table.entries[1] = Some(partition(5000, 4999, "x"))),
    ];
    for (name, spoil) in cases {
        let mut table = sample();
        spoil(&mut table);
        assert!(read(&mut written(&table, SECTORS)).is_err(), "{name}");
    }
}

proptest::proptest! {
    #[test]
    fn no_byte_salad_panics(at in 0usize..150 * 512, bytes in proptest::collection::vec(0u8.., 1..64)) {
        let mut table = Table::new(Guid::from_u128(7), 512, 200).unwrap();
        table.entries[2] = Some(partition(50, 90, "x"));
        let mut disk = written(&table, 200);
        let length = disk.get_ref().len();
        let at = at % (length - bytes.len());
        disk.get_mut()[at..at + bytes.len()].copy_from_slice(&bytes);
        let _ = read(&mut disk);
    }
}
