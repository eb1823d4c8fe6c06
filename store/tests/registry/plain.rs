//! Registries that behave.

use crate::lab::{Lab, settings, web};
use crate::mock::{Answer, Mock};
use berth_store::digest::Digest;
use std::cell::RefCell;
use std::time::Instant;

#[test]
fn an_image_is_pulled_without_credentials() {
    let repository = web();
    let serving = repository.clone();
    let mock = Mock::plain(move |seen| serving.answer(seen));
    let lab = Lab::new();
    let reference = format!("{}/demo/web:1", mock.host);
    let told = RefCell::new(Vec::new());
    let begun = Instant::now();
    let fetched =
        lab.fetch_with(&reference, settings(&[&mock]), &|_| false, &|p| told.borrow_mut().push(p)).unwrap();
    assert_eq!(fetched.digest.to_string(), repository.tag("1"));
    lab.assert_whole(&repository, "1");
    assert_eq!(lab.names(), std::slice::from_ref(&reference));
    let sizes: usize = repository.layers("1").iter().map(|(_, size)| size).sum();
    let told = told.into_inner();
    let (first, last) = (told[0], told[told.len() - 1]);
    assert_eq!((first.done, first.total, first.blobs), (0, sizes as u64, 2));
    assert_eq!((last.done, last.blobs_done), (last.total, 2));
    assert!(told.len() as u128 <= 2 + begun.elapsed().as_millis() / 200, "{} reports", told.len());
    let manifest = &mock.seen()[0];
    for kind in ["oci.image.index", "oci.image.manifest", "docker.distribution.manifest.list", "manifest.v2"]
    {
        assert!(manifest.header("accept").contains(kind), "{}", manifest.header("accept"));
    }
    // The second time, only the tag is looked up.
    let before = mock.seen().len();
    assert_eq!(lab.fetch(&reference, settings(&[&mock])).unwrap().bytes, 0);
    assert_eq!(mock.seen().len(), before + 1);
}

#[test]
fn a_tag_that_moved_is_followed_and_the_old_image_goes_out_of_the_index() {
    let mut repository = web();
    let moved = super::lab::web();
    let old = repository.tag("1");
    let manifest = String::from_utf8(moved.blob(&old)).unwrap().replacen('{', "{\"x\":1,", 1);
    let new = repository.add(manifest.as_bytes());
    let (first, mut second) = (repository.clone(), repository);
    second.set_tag("1", &new);
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = std::sync::Arc::clone(&turn);
    let mock = Mock::plain(move |seen| {
        let now = if switch.load(std::sync::atomic::Ordering::SeqCst) { &second } else { &first };
        now.answer(seen)
    });
    let lab = Lab::new();
    let reference = format!("{}/demo/web:1", mock.host);
    assert_eq!(lab.fetch(&reference, settings(&[&mock])).unwrap().digest.to_string(), old);
    turn.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(lab.fetch(&reference, settings(&[&mock])).unwrap().digest.to_string(), new);
    assert_eq!(lab.names(), [reference]);
}

#[test]
fn a_pinned_image_that_is_there_needs_no_registry() {
    let repository = web();
    let pin = repository.tag("1");
    let serving = repository.clone();
    let mock = Mock::plain(move |seen| serving.answer(seen));
    let lab = Lab::new();
    for name in ["demo/web", "demo/web:other"] {
        let reference = format!("{}/{name}@{pin}", mock.host);
        assert_eq!(lab.fetch(&reference, settings(&[&mock])).unwrap().digest.to_string(), pin);
    }
    let asked = mock.seen().len();
    lab.fetch(&format!("{}/demo/web:any@{pin}", mock.host), settings(&[&mock])).unwrap();
    assert_eq!((mock.count("other"), mock.seen().len()), (0, asked));
    lab.assert_whole(&repository, "1");
}

#[test]
fn layers_that_the_store_has_are_not_fetched_and_their_blobs_go() {
    let repository = web();
    let serving = repository.clone();
    let mock = Mock::plain(move |seen| serving.answer(seen));
    let lab = Lab::new();
    let reference = format!("{}/demo/web:1", mock.host);
    let layers = repository.layers("1");
    let manifest: serde_json::Value = serde_json::from_slice(&repository.blob(&repository.tag("1"))).unwrap();
    let config = repository.blob(manifest["config"]["digest"].as_str().unwrap());
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let first = Digest::parse(config["rootfs"]["diff_ids"][0].as_str().unwrap()).unwrap();
    lab.fetch_with(&reference, settings(&[&mock]), &|d| *d == first, &|_| ()).unwrap();
    assert_eq!(mock.count(&layers[0].0), 0);
    assert!(lab.blob(&layers[0].0).is_none() && lab.blob(&layers[1].0).is_some());
    // All unpacked: nothing but descriptions is kept, and nothing is fetched again.
    lab.fetch_with(&reference, settings(&[&mock]), &|_| true, &|_| ()).unwrap();
    assert!(lab.blob(&layers[1].0).is_none());
    // Gone from the store: fetched again.
    lab.fetch(&reference, settings(&[&mock])).unwrap();
    lab.assert_whole(&repository, "1");
}

#[test]
fn of_several_platforms_ours_is_taken_at_any_depth() {
    let mut repository = web();
    let ours = repository.tag("1");
    let size = repository.blob(&ours).len();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let inner = format!(
        r#"{{"schemaVersion":2,"mediaType":"{list}","manifests":[
            {{"mediaType":"{kind}","digest":"sha256:{:064}","size":7,"platform":{{"os":"linux","architecture":"arm64"}}}},
            {{"mediaType":"{kind}","digest":"{ours}","size":{size},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        0
    );
    let inner_digest = repository.add(inner.as_bytes());
    let outer = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{list}","digest":"{inner_digest}","size":{}}}]}}"#,
        inner.len()
    );
    let top = repository.add(outer.as_bytes());
    repository.set_tag("many", &top);
    let other = inner.replace("amd64", "s390x");
    let other = repository.add(other.as_bytes());
    repository.set_tag("elsewhere", &other);
    let serving = repository.clone();
    let mock = Mock::plain(move |seen| {
        let answer = serving.answer(seen);
        Answer { headers: Vec::new(), ..answer }
    });
    let lab = Lab::new();
    let fetched = lab.fetch(&format!("{}/demo/web:many", mock.host), settings(&[&mock])).unwrap();
    assert_eq!(fetched.digest.to_string(), ours);
    assert!(lab.blob(&top).is_some() && lab.blob(&inner_digest).is_some());
    let refused = lab.fetch(&format!("{}/demo/web:elsewhere", mock.host), settings(&[&mock])).unwrap_err();
    assert_eq!(refused, "it is for linux/arm64, linux/s390x, this machine is linux/amd64");
}
