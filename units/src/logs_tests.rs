use super::*;
use proptest::prelude::*;
use std::io::Read;

const NOW: Duration = Duration::new(1_764_000_000, 5);

fn read(log: &LogWriter) -> Vec<(Stream, Vec<u8>)> {
    let mut all = Vec::new();
    for mut segment in log.open_segments().unwrap() {
        assert!(segment.metadata().unwrap().len() <= LOG_SEGMENT_BYTES);
        segment.read_to_end(&mut all).unwrap();
    }
    assert!(all.is_empty() || all.ends_with(b"\n"));
    all.split_inclusive(|b| *b == b'\n')
        .map(|line| parse_line(line).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(line))))
        .map(|line| (line.stream, line.text.to_vec()))
        .collect()
}

#[test]
fn lines_of_both_streams() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(&dir.path().join("web")).unwrap();
    log.feed(Stream::Stdout, b"one\ntw", NOW);
    log.feed(Stream::Stderr, b"bad\n\n", NOW);
    log.feed(Stream::Stdout, b"o\nthr", NOW);
    log.flush(NOW);
    log.flush(NOW);
    let text = fs::read_to_string(dir.path().join("web/current")).unwrap();
    assert_eq!(
        text,
        "1764000000.000000005 o one\n1764000000.000000005 e bad\n1764000000.000000005 e \n\
         1764000000.000000005 o two\n1764000000.000000005 o thr\n"
    );
    assert_eq!(parse_line(b"1764000000.000000005 e \n").unwrap().text, b"");
    assert_eq!(parse_line(b"1764000000.000000005 e x").unwrap().time, NOW);
}

#[test]
fn the_newest_lines_are_short_and_plain() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path()).unwrap();
    assert_eq!(log.last_lines(3, 20), [""; 0]);
    for number in 0..1000 {
        log.feed(Stream::Stdout, format!("line {number}\n").as_bytes(), Duration::from_secs(7));
    }
    log.feed(Stream::Stderr, "\x1b[31mred\x07 äääääääääääääääää\n".as_bytes(), Duration::from_secs(7));
    assert_eq!(log.last_lines(3, 20), ["line 998", "line 999", "[31mred  äääää"]);
}

#[test]
fn what_is_no_line() {
    for bad in
        ["", "x", "1.5 o x", "1.000000000", "1.000000000 x y", "1.000000000 o", "-1.000000000 o x", "1 o x"]
    {
        assert_eq!(parse_line(bad.as_bytes()), None, "{bad:?}");
    }
}

#[test]
fn rotation_keeps_readers_and_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path()).unwrap();
    log.feed(Stream::Stdout, b"first\n", NOW);
    let mut early = log.open_segments().unwrap().pop().unwrap();
    let mut n = 0;
    while log.generation() < 3 {
        log.feed(Stream::Stdout, format!("line {n}\n").as_bytes(), NOW);
        n += 1;
    }
    let kept = read(&log);
    assert_eq!(kept.last().unwrap().1, format!("line {}", n - 1).as_bytes());
    let first: usize = String::from_utf8_lossy(&kept[0].1[5..]).parse().unwrap();
    assert_eq!(kept.len(), n - first, "without a gap");
    let mut text = String::new();
    early.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("1764000000.000000005 o first\n"));

    // Another writer goes on.
    drop(log);
    let mut log = LogWriter::open(dir.path()).unwrap();
    log.feed(Stream::Stdout, b"again\n", NOW);
    assert_eq!(read(&log).len(), kept.len() + 1);
}

#[test]
fn what_was_lost_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path()).unwrap();
    // A descriptor that takes no writes, as a full file system does not.
    let good = std::mem::replace(&mut log.current, File::open(dir.path().join(CURRENT)).unwrap());
    log.feed(Stream::Stdout, b"gone\n", NOW);
    log.current = good;
    log.feed(Stream::Stdout, b"here\n", NOW);
    let lines = read(&log);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].1.ends_with(b"bytes of this log could not be kept]"));
    assert_eq!(lines[1].1, b"here");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However output comes in pieces, its lines come out in order, split only where they are too long, and nothing is
    /// lost but what rotation drops from the front.
    #[test]
    fn nothing_is_lost_but_by_rotation(
        lines in prop::collection::vec((any::<u8>(), 0_usize..2 * LOG_LINE_BYTES), 0..40),
        cuts in prop::collection::vec(1_usize..40_000, 1..20),
    ) {
        let mut output = Vec::new();
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for (byte, length) in lines {
            let byte = if byte == b'\n' { 0 } else { byte };
            let line = vec![byte; length];
            if line.len() <= LOG_LINE_BYTES {
                expected.push(line.clone());
            } else {
                expected.extend(line.chunks(LOG_LINE_BYTES).map(<[u8]>::to_vec));
            }
            output.extend(line);
            output.push(b'\n');
        }
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path()).unwrap();
        let mut rest = output.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            log.feed(Stream::Stderr, piece, NOW);
            rest = later;
        }
        log.flush(NOW);
        let kept: Vec<Vec<u8>> = read(&log).into_iter().map(|(_, text)| text).collect();
        prop_assert!(expected.ends_with(&kept));
        if log.generation() == 0 {
            prop_assert_eq!(kept.len(), expected.len());
        }
    }
}
