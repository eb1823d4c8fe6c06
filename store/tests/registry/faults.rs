//! Registries that do not behave.

use crate::lab::{Lab, settings, web};
use crate::mock::{Answer, Mock, Repository, Seen};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A registry that does what `change` makes of each good answer; what the client says of it.
fn refusal(change: impl Fn(&Seen, Answer) -> Answer + Send + Sync + 'static) -> (String, Mock) {
    let repository = web();
    let mock = Mock::plain(move |seen| change(seen, repository.answer(seen)));
    let lab = Lab::new();
    let refused = lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap_err();
    assert!(lab.names().is_empty(), "{refused}");
    (refused.replace(&mock.host, "HOST"), mock)
}

/// The same for a registry that comes round; what it was asked.
fn success(change: impl Fn(&Seen, Answer) -> Answer + Send + Sync + 'static) -> Vec<Seen> {
    let repository = web();
    let serving = repository.clone();
    let mock = Mock::plain(move |seen| change(seen, serving.answer(seen)));
    let lab = Lab::new();
    lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap();
    lab.assert_whole(&repository, "1");
    mock.seen()
}

fn large() -> (String, usize) {
    web().layers("1")[1].clone()
}

/// Whether the large layer is asked for.
fn is_large(seen: &Seen) -> bool {
    seen.path.ends_with(&large().0)
}

#[test]
fn what_is_not_there_is_named() {
    let (refused, _) =
        refusal(
            |seen, answer| {
                if seen.path.contains("manifests") { Answer::of(404, "gone") } else { answer }
            },
        );
    assert_eq!(refused, "registry says 404; it has no tag 1 in demo/web");
    let (refused, _) = refusal(|seen, answer| if is_large(seen) { Answer::of(404, "") } else { answer });
    assert_eq!(refused, format!("registry says 404; it lacks blobs/{} of demo/web", large().0));
}

#[test]
fn too_many_requests_are_waited_out() {
    let turns = AtomicUsize::new(0);
    let begun = Instant::now();
    success(move |_, answer| match turns.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::of(429, "").header("Retry-After", "1"),
        _ => answer,
    });
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let (refused, mock) = refusal(|_, _| Answer::of(429, "").header("Retry-After", "86400"));
    assert_eq!((refused.as_str(), mock.seen().len()), ("registry says 429; it asks to wait 86400 s", 1));
    let (refused, mock) = refusal(|_, _| Answer::of(429, ""));
    assert_eq!((refused.as_str(), mock.seen().len()), ("registry says 429", 5));
}

#[test]
fn a_registry_that_is_broken_for_a_moment_is_asked_again() {
    let turns = AtomicUsize::new(0);
    let asked = success(move |_, answer| match turns.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Answer::of(503, "<html>"),
        3 => Answer::of(500, ""),
        _ => answer,
    });
    assert_eq!(asked.len(), 7);
    let (refused, mock) = refusal(|_, _| Answer::of(502, ""));
    assert_eq!((refused.as_str(), mock.seen().len()), ("registry says 502", 5));
}

#[test]
fn slow_registries_are_given_up() {
    let impatient = |change: fn(&Seen, Answer) -> Answer| {
        let repository = web();
        let mock = Mock::plain(move |seen| change(seen, repository.answer(seen)));
        let mut lab = Lab::new();
        (lab.pace.header, lab.pace.stall) = (Duration::from_secs(2), Duration::from_secs(1));
        let refused = lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap_err();
        (refused.replace(&mock.host, "HOST"), mock.count("/manifests/"))
    };
    let silent = impatient(|_, answer| Answer { silent: true, ..answer });
    assert_eq!(silent, ("HOST has not answered within 2 s".to_owned(), 5));
    // One byte at a time is no progress.
    let begun = Instant::now();
    let (dripping, _) = impatient(|_, answer| Answer { drip: Some(Duration::from_millis(50)), ..answer });
    assert!(
        dripping.starts_with("HOST has sent ") && dripping.ends_with(" bytes in 1 s, then was given up"),
        "{dripping}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_wrong_digest_is_refused() {
    let (refused, mock) = refusal(|seen, mut answer| {
        if is_large(seen) {
            answer.body[20] ^= 1;
        }
        answer
    });
    assert!(refused.ends_with(&format!(" where {} was asked for", large().0)), "{refused}");
    assert_eq!(mock.count(&large().0), 1);

    // A manifest that was asked for by digest.
    let pin = web().tag("1");
    let serving = web();
    let mock = Mock::plain(move |seen| {
        let mut answer = serving.answer(seen);
        answer.body.push(b' ');
        answer
    });
    let reference = format!("{}/demo/web:1@{pin}", mock.host);
    let refused = Lab::new().fetch(&reference, settings(&[&mock])).unwrap_err();
    assert!(refused.ends_with(&format!(" where {pin} was asked for")), "{refused}");
}

#[test]
fn a_wrong_length_is_refused() {
    let size = large().1;
    let (refused, _) =
        refusal(
            move |seen, answer| {
                if is_large(seen) { Answer { length: Some(size as u64 + 1), ..answer } } else { answer }
            },
        );
    let expected =
        format!("HOST sent {} bytes of blob {}, where the manifest leaves {size}", size + 1, large().0);
    assert_eq!(refused, expected);
    // Without a length there is still an end to it.
    let (refused, _) = refusal(move |seen, mut answer| {
        if is_large(seen) {
            answer.body.extend([0; 100]);
            answer.length = Some(u64::MAX);
        }
        answer
    });
    assert_eq!(refused, format!("HOST sent more than the {size} bytes of blob {}", large().0));
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_ended() {
    let size = large().1;
    // Twice: with the length known and without.
    for length in [None, Some(u64::MAX)] {
        let asked = success(move |seen, mut answer| {
            if is_large(seen) && seen.header("range").is_empty() {
                (answer.cut, answer.length) = (Some(size / 2), length);
            }
            answer
        });
        let asked: Vec<_> = asked.into_iter().filter(is_large).collect();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1].header("range"), format!("bytes={}-", size / 2));
    }
    // A server that knows no ranges sends all of it again.
    let turns = AtomicUsize::new(0);
    success(move |seen, answer| {
        if !is_large(seen) {
            return answer;
        }
        let whole = Answer::of(200, web().blob(&large().0));
        match turns.fetch_add(1, Ordering::SeqCst) {
            0 => Answer { cut: Some(1000), ..whole },
            _ => whole,
        }
    });
    // One that never gets to the end is given up.
    let (refused, mock) =
        refusal(|seen, answer| if is_large(seen) { Answer { cut: Some(10), ..answer } } else { answer });
    assert!(refused.starts_with("HOST broke off"), "{refused}");
    assert_eq!(mock.count(&large().0), 5);
    // Not even when each time it gets as far as it did.
    let (refused, mock) = refusal(move |seen, _| {
        let repository = web();
        let mut answer = repository.answer(&Seen { headers: Default::default(), ..seen.clone() });
        if is_large(seen) {
            answer.cut = Some(size - 1);
        }
        answer
    });
    assert!(refused.starts_with("HOST broke off"), "{refused}");
    assert!(mock.count(&large().0) <= 6);
}

#[test]
fn what_an_earlier_run_left_is_hashed_again() {
    let repository = web();
    let (digest, size) = large();
    let bytes = repository.blob(&digest);
    for (damage, asks) in [(false, 1), (true, 2)] {
        let serving = repository.clone();
        let mock = Mock::plain(move |seen| serving.answer(seen));
        let lab = Lab::new();
        std::fs::create_dir(lab.path("tmp")).unwrap();
        let mut part = bytes[..size / 3].to_vec();
        part[5] ^= u8::from(damage);
        std::fs::write(lab.path("tmp").join(format!("{}.part", &digest[7..])), part).unwrap();
        std::fs::write(lab.path("tmp/rubbish"), "x").unwrap();
        lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap();
        lab.assert_whole(&repository, "1");
        let asked: Vec<_> = mock.seen().into_iter().filter(is_large).collect();
        assert_eq!(asked.len(), asks);
        assert_eq!(asked[0].header("range"), format!("bytes={}-", size / 3));
    }
    // Another part than was asked for.
    let serving = repository.clone();
    let mock = Mock::plain(move |seen| {
        let answer = serving.answer(seen);
        if !is_large(seen) || answer.status != 206 {
            return answer;
        }
        Answer::of(206, answer.body).header("Content-Range", "bytes 0-9/10")
    });
    let lab = Lab::new();
    std::fs::create_dir(lab.path("tmp")).unwrap();
    std::fs::write(lab.path("tmp").join(format!("{}.part", &digest[7..])), &bytes[..10]).unwrap();
    let refused = lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap_err();
    assert!(refused.contains("another part of blob"), "{refused}");
}

#[test]
fn media_types_that_lie_are_told() {
    let index = "application/vnd.oci.image.index.v1+json";
    let (refused, _) = refusal(move |_, mut answer| {
        answer.headers = vec![("Content-Type".into(), index.into())];
        answer
    });
    assert_eq!(refused, format!("HOST sent a document that is sent as {index:?} and is an image's manifest"));
    // What is no type of ours says nothing: the content decides.
    success(|_, mut answer| {
        answer.headers.retain(|(name, _)| name != "Content-Type");
        answer.headers.push(("Content-Type".into(), "text/plain; charset=utf-8".into()));
        answer
    });
    for (body, expected) in [
        ("<html>login</html>", "HOST sent something that is no manifest (as \"text/html\")"),
        ("{}", "HOST sent something that is no manifest (as \"text/html\")"),
        (r#"{"manifests":[],"layers":[]}"#, "HOST sent a document that is an index and a manifest at once"),
        (
            r#"{"mediaType":"application/vnd.oci.image.index.v1+json","layers":[],"config":{}}"#,
            "HOST sent a document that calls itself \"application/vnd.oci.image.index.v1+json\" and is an image's manifest",
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            "HOST sent a manifest in Docker's first format, which holds no digests",
        ),
        (r#"{"manifests":[]}"#, "it is for , this machine is linux/amd64"),
        (r#"{"layers":[],"config":{}}"#, "HOST sent a manifest that cannot be read: missing field `digest`"),
    ] {
        let (refused, _) = refusal(move |_, _| Answer::of(200, body).header("Content-Type", "text/html"));
        assert!(refused.starts_with(expected), "{body}: {refused}");
    }
}

#[test]
fn bombs_are_not_read_to_their_end() {
    let (refused, _) = refusal(|_, _| Answer::of(200, vec![b' '; (4 << 20) + 1]));
    assert_eq!(refused, "HOST sent a manifest of more than 4194304 bytes, which is the most that is read");
    // Unannounced, too.
    let (refused, _) =
        refusal(|_, _| Answer { length: Some(u64::MAX), ..Answer::of(200, vec![b' '; (4 << 20) + 1]) });
    assert_eq!(refused, "HOST sent a manifest of more than 4194304 bytes, which is the most that is read");

    let zero = "0".repeat(64);
    let descriptor = |size: u64| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{zero}","size":{size}}}"#
        )
    };
    let layers = vec![descriptor(1); 200].join(",");
    let many = format!(r#"{{"config":{},"layers":[{layers}]}}"#, descriptor(1));
    let large = format!(r#"{{"config":{},"layers":[]}}"#, descriptor(1 << 40));
    for (body, expected) in
        [(many, "it has 200 layers"), (large, "HOST sent a config of 1099511627776 bytes")]
    {
        let (refused, mock) = refusal(move |_, _| Answer::of(200, body.clone()));
        assert!(refused.starts_with(expected), "{refused}");
        assert_eq!(mock.seen().len(), 1);
    }
    // An index in an index in an index …
    let nested = |depth: usize| {
        let mut repository: Repository = web();
        let mut digest = repository.tag("1");
        let mut kind = "application/vnd.oci.image.manifest.v1+json";
        for _ in 0..depth {
            let size = repository.blob(&digest).len();
            let body =
                format!(r#"{{"manifests":[{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}]}}"#);
            digest = repository.add(body.as_bytes());
            kind = "application/vnd.oci.image.index.v1+json";
        }
        repository.set_tag("1", &digest);
        let mock = Mock::plain(move |seen| {
            let answer = repository.answer(seen);
            Answer {
                headers: answer.headers.into_iter().filter(|(n, _)| n != "Content-Type").collect(),
                ..answer
            }
        });
        Lab::new().fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock]))
    };
    nested(3).unwrap();
    assert!(nested(4).unwrap_err().ends_with("sent more than 3 indexes inside each other"));
}
