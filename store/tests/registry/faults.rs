//! Registries that do not behave.

use crate::lab::{Lab, settings, web};
use crate::mock::{Answer, Mock};

#[test]
fn what_is_not_there_is_named() {
    let serving = web();
    let mock = Mock::plain(move |seen| serving.answer(seen));
    let lab = Lab::new();
    let refused = lab.fetch(&format!("{}/demo/web:2", mock.host), settings(&[&mock])).unwrap_err();
    assert_eq!(refused, "registry says 404 (not known here); it has no tag 2 in demo/web");
    assert!(lab.names().is_empty());
}

#[test]
fn a_wrong_digest_is_refused() {
    let repository = web();
    let (bad, _) = repository.layers("1")[0].clone();
    let (serving, wrong) = (repository.clone(), bad.clone());
    let mock = Mock::plain(move |seen| {
        let mut answer = serving.answer(seen);
        if seen.path.ends_with(&wrong) {
            answer.body[20] ^= 1;
        }
        answer
    });
    let lab = Lab::new();
    let refused = lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap_err();
    assert!(refused.ends_with(&format!(" where {bad} was asked for")), "{refused}");
    assert!(lab.names().is_empty() && lab.blob(&bad).is_none());
}

#[test]
fn a_cut_download_goes_on_where_it_ended() {
    let repository = web();
    let (large, size) = repository.layers("1")[1].clone();
    let (serving, path) = (repository.clone(), large.clone());
    let mock = Mock::plain(move |seen| {
        let mut answer = serving.answer(seen);
        if seen.path.ends_with(&path) && seen.header("range").is_empty() {
            answer.cut = Some(size / 2);
        }
        answer
    });
    let lab = Lab::new();
    lab.fetch(&format!("{}/demo/web:1", mock.host), settings(&[&mock])).unwrap();
    lab.assert_whole(&repository, "1");
    let asked: Vec<_> = mock.seen().into_iter().filter(|s| s.path.ends_with(&large)).collect();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].header("range").starts_with("bytes="), "{:?}", asked[1]);
    let _ = Answer::default();
}
