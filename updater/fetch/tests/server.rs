//! A repository made by the publisher behind a web server that does what a test tells it to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

#[allow(unused, reason = "registries' part of it")]
#[path = "../../../store/tests/registry/mock.rs"]
mod mock;
#[path = "../../repo/tests/support/mod.rs"]
mod support;

use berth_fetch::{Pace, Server};
use berth_store::registry::Pace as Connection;
use berth_tuf::fetch::{Fetch, FetchError};
use berth_units::model::Proxy;
use mock::{Answer, Mock, Seen};
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};
use support::*;

/// Limits that no busy test machine reaches.
fn pace() -> Pace {
    let minute = Duration::from_secs(60);
    let pause = Duration::from_millis(5);
    let connection = Connection { connect: minute, header: minute, stall: minute, pause };
    Pace { connection, metadata: minute, bytes_per_second: 1, grace: minute, pause }
}

/// What the repository's folder has under a path.
fn files(publisher: &Publisher) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    let folder = publisher.repo();
    move |seen| match fs::read(folder.join(seen.path.trim_start_matches("/updates/"))) {
        Ok(content) => Answer::of(200, content),
        Err(_) => Answer::of(404, "no such file"),
    }
}

fn server_of(mock: &Mock, pace: Pace) -> Server {
    let ca = Some(mock.ca.clone()).filter(|ca| !ca.is_empty());
    let scheme = if ca.is_some() { "https" } else { "http" };
    Server::new(&format!("{scheme}://{}/updates/", mock.host), ca, Proxy::default(), pace).unwrap()
}

/// What a machine says that finds this server.
fn refusal(publisher: &Publisher, mock: &Mock, pace: Pace) -> String {
    publisher.machine().check_at(&mut server_of(mock, pace), 0).expect_err("it was taken").to_string()
}

#[test]
fn a_machine_finds_its_release_with_tls_and_without() {
    let publisher = Publisher::new();
    for mock in [Mock::plain(files(&publisher)), Mock::tls(files(&publisher))] {
        let mut server = server_of(&mock, pace());
        let offer = publisher.machine().check_at(&mut server, 0).unwrap().unwrap();
        assert_eq!(offer.release.version, "1.0");
        let mut content = Vec::new();
        let path = offer.root.path().unwrap();
        server.target(&path, 0, offer.root.length).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, fs::read(publisher.path("build-1.0/root.erofs")).unwrap());
        let asked: Vec<String> = mock.seen().into_iter().map(|seen| seen.path).collect();
        assert_eq!(asked[..2], ["/updates/metadata/2.root.json", "/updates/metadata/timestamp.json"]);
    }
}

#[test]
fn what_broke_off_is_gone_on_with() {
    let publisher = Publisher::new();
    let content = fs::read(publisher.path("build-1.0/root.erofs")).unwrap();
    let all = content.clone();
    let ranges = Mock::plain(move |seen| {
        let from: usize = seen.header("range")[6..].trim_end_matches('-').parse().unwrap();
        let range = format!("bytes {from}-{}/{}", all.len() - 1, all.len());
        Answer::of(206, &all[from..]).header("content-range", range)
    });
    let all = content.clone();
    let none = Mock::plain(move |_| Answer::of(200, all.clone()));
    let all = content.clone();
    let other =
        Mock::plain(move |_| Answer::of(206, &all[9..]).header("content-range", "bytes 9-20479/20480"));
    for mock in [ranges, none] {
        let mut rest = Vec::new();
        let wanted = content.len() as u64 - 5000;
        server_of(&mock, pace()).target("x", 5000, wanted).unwrap().read_to_end(&mut rest).unwrap();
        assert!(rest == content[5000..]);
    }
    let error = server_of(&other, pace()).target("x", 5000, 15_480).err().unwrap().to_string();
    assert!(error.ends_with("another part came than was asked for"), "{error}");
}

#[test]
fn a_slow_server_ends() {
    let publisher = Publisher::new();
    let slow = Pace { metadata: Duration::from_millis(300), grace: Duration::from_millis(300), ..pace() };
    let slow = Pace { bytes_per_second: 1 << 30, ..slow };
    // Drips: a byte each 20 ms, so that the connection never stands still.
    let whole = files(&publisher);
    let drip = Mock::plain(move |seen| Answer { drip: Some(Duration::from_millis(20)), ..whole(seen) });
    let begin = Instant::now();
    let error = refusal(&publisher, &drip, slow);
    assert_eq!(error, "timestamp.json: the server is too slow: not done within 0 s");
    let path = "x86-64/1.0/x";
    let long =
        Mock::plain(|_| Answer { drip: Some(Duration::from_millis(20)), ..Answer::of(200, vec![0; 20_480]) });
    let mut server = server_of(&long, slow);
    let mut content = Vec::new();
    let error = server.target(path, 0, 20_480).unwrap().read_to_end(&mut content).unwrap_err();
    assert!(error.to_string().contains("the server is too slow"), "{error}");
    assert!(content.len() < 2000);
    // Says nothing at all, or stops in the middle.
    let short = Duration::from_millis(300);
    let silent = Mock::plain(|_| Answer { silent: true, ..Answer::default() });
    let connection = Connection { header: short, stall: short, ..pace().connection };
    let error = refusal(&publisher, &silent, Pace { connection, ..pace() });
    assert!(error.contains("has not answered within"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_server_that_misbehaves() {
    let publisher = Publisher::new();
    let always = |answer: Answer| Mock::plain(move |_| answer.clone());
    for (answer, why) in [
        (Answer::of(404, ""), "timestamp.json: not there"),
        (Answer::of(500, "oops"), "2.root.json: 127.0.0.1:PORT says 500"),
        (Answer::of(401, ""), "2.root.json: 127.0.0.1:PORT says 401"),
        (Answer::of(200, "<html>hello</html>"), "2.root.json: byte 0: no value begins like this"),
        (
            Answer { length: Some(1 << 40), ..Answer::of(200, "{}") },
            "2.root.json: the server has 1099511627776 bytes, where 524288 are wanted",
        ),
        (
            Answer { cut: Some(10), ..Answer::of(200, vec![b' '; 100]) },
            "2.root.json: 127.0.0.1:PORT broke off",
        ),
        (
            Answer::of(302, "").header("location", "http://elsewhere.invalid/x"),
            "2.root.json: http://elsewhere.invalid is not asked",
        ),
        (
            Answer::of(302, "").header("location", "/updates/again"),
            "2.root.json: 127.0.0.1:PORT sent more than 5 redirects",
        ),
    ] {
        let mock = always(answer);
        let error = refusal(&publisher, &mock, pace()).replace(&mock.host, "127.0.0.1:PORT");
        assert!(error.starts_with(why), "{error}");
    }
    // From TLS to none is refused, whoever says so.
    let plain = Mock::plain(files(&publisher));
    let to = format!("http://{}/updates/metadata/timestamp.json", plain.host);
    let tls = Mock::tls(move |_| Answer::of(302, "").header("location", to.clone()));
    let error = refusal(&publisher, &tls, pace());
    assert!(error.contains("a redirect from https to http://127.0.0.1"), "{error}");
    assert!(plain.seen().is_empty());
    // A certificate of nobody we know.
    let error = Server::new(&format!("https://{}/updates", tls.host), None, Proxy::default(), pace())
        .map(|mut server| publisher.machine().check_at(&mut server, 0).unwrap_err().to_string())
        .unwrap();
    assert!(error.contains("has a certificate of an authority that is not trusted"), "{error}");
}

#[test]
fn one_bad_answer_is_asked_again() {
    let publisher = Publisher::new();
    let (whole, count) = (files(&publisher), std::sync::atomic::AtomicU32::new(0));
    let mock = Mock::plain(move |seen| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Answer::of(503, "later"),
        _ => whole(seen),
    });
    assert!(publisher.machine().check_at(&mut server_of(&mock, pace()), 0).unwrap().is_some());
    assert_eq!(mock.count("2.root.json"), 2);
}

#[test]
fn addresses() {
    let of = |address: &str| Server::new(address, None, Proxy::default(), pace()).err();
    assert_eq!(of("https://updates.example.org/berth"), None);
    assert_eq!(of("http://[::1]:8080"), None);
    for address in
        ["", "updates", "ftp://x/", "file:///x", "https://", "https://u:p@x/", "https://x/?a", "https://x/#a"]
    {
        let Some(FetchError::Failed(why)) = of(address) else { panic!("{address}") };
        assert!(!why.contains("u:p"), "{why}");
    }
}
