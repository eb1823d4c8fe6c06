use super::*;
use crate::build::{ImageBuilder, LayerBuilder};
use crate::layout::Layout;
use std::path::PathBuf;

/// An image of two layers: a base that all of them share, and one of its own with as many files.
fn image(name: &str) -> ImageBuilder {
    let layer = |text: &str| {
        let files = (0..3).map(|n| format!("{text}{n}"));
        files.fold(LayerBuilder::new(), |layer, file| layer.file(&file.replace('/', "_"), 0o644, text))
    };
    ImageBuilder::new(name).layer(&layer("base")).unwrap().layer(&layer(name)).unwrap()
}

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// With these images unpacked, out of what was fetched, as after a pull.
    fn with(names: &[&str]) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        let store = Store::open(&machine.images()).unwrap();
        for name in names {
            image(name).write_layout(&machine.dir.path().join(name)).unwrap();
            let layouts = [Layout::path(&machine.dir.path().join(name)).unwrap()];
            store.prepare(&layouts, &[], name).unwrap();
        }
        let fetched = machine.fetched();
        let mut manifests = Vec::new();
        for name in names {
            image(name).write_layout(&fetched).unwrap();
            let index: serde_json::Value =
                serde_json::from_slice(&fs::read(fetched.join("index.json")).unwrap()).unwrap();
            manifests.extend(index["manifests"].as_array().unwrap().clone());
        }
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(fetched.join("index.json"), index.to_string()).unwrap();
        machine
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn fetched(&self) -> PathBuf {
        self.images().join("fetched")
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.images().join(folder)).unwrap().count()
    }

    fn collect(&self, names: &[&str]) -> Collected {
        Store::open(&self.images()).unwrap().collect(&self.fetched(), &needed(names), &Sweep::Unneeded)
    }

    /// Whatever the store says that it has, it has: every file of every layer of every image.
    fn agrees(&self) -> Vec<String> {
        let mut there = Vec::new();
        for file in names(&self.images().join("index")).unwrap() {
            let image = read(&self.images().join("index").join(file)).unwrap();
            for (layer, text) in image.layers.iter().zip(["base", image.reference.as_str()]) {
                for n in 0..3 {
                    let file = self.images().join("layers").join(layer).join(format!("{text}{n}"));
                    assert_eq!(fs::read_to_string(&file).unwrap(), text, "{}", file.display());
                }
            }
            there.push(image.reference);
        }
        there.sort();
        there
    }
}

fn needed(names: &[&str]) -> Needed {
    let mut needed = Needed::default();
    names.iter().for_each(|name| needed.add((*name).to_owned(), Vec::new()));
    needed
}

#[test]
fn what_nothing_needs_goes_and_the_rest_stays() {
    let machine = Machine::with(&["a:1", "b:1", "c:1"]);
    assert_eq!((machine.count("layers"), machine.count("fetched/blobs/sha256")), (4, 3 * 3 + 1));
    let collected = machine.collect(&["a:1", "c:1", "never:1"]);
    assert_eq!((collected.images, collected.layers, collected.trouble), (1, 1, None));
    assert_eq!(machine.agrees(), ["a:1", "c:1"]);
    assert_eq!((machine.count("layers"), machine.count("tmp")), (3, 0));
    // Of what was fetched, manifest and config of each are left; the layers are unpacked.
    assert_eq!(machine.count("fetched/blobs/sha256"), 2 * 2);
    let again = machine.collect(&["a:1", "c:1"]);
    assert_eq!((again.images, again.layers, again.trouble), (0, 0, None));
    machine.collect(&[]);
    assert_eq!(["layers", "index", "fetched/blobs/sha256"].map(|folder| machine.count(folder)), [0; 3]);
}

#[test]
fn what_a_container_runs_on_stays_whatever_its_image_is_by_now() {
    let machine = Machine::with(&["a:1"]);
    let store = Store::open(&machine.images()).unwrap();
    let old = read(&machine.images().join("index/a_3a1.json")).unwrap().layers;
    // The same name leads to another image by now.
    image("b:1").write_layout(&machine.dir.path().join("b:1")).unwrap();
    let layouts = [Layout::path(&machine.dir.path().join("b:1")).unwrap()];
    store.prepare(&layouts, &[], "b:1").unwrap();
    let new = machine.images().join("index/b_3a1.json");
    let text = fs::read_to_string(&new).unwrap().replace("\"b:1\"", "\"a:1\"");
    fs::write(machine.images().join("index/a_3a1.json"), text).unwrap();
    fs::remove_file(new).unwrap();
    let mut running = Needed::default();
    running.add("a:1".to_owned(), old.clone());
    assert_eq!(store.collect(&machine.fetched(), &running, &Sweep::All).layers, 0);
    assert!(old.iter().all(|layer| machine.images().join("layers").join(layer).is_dir()));
    assert_eq!(store.collect(&machine.fetched(), &needed(&["a:1"]), &Sweep::All).layers, 1);
}

#[test]
fn the_power_goes_after_any_write() {
    for writes in 1.. {
        let machine = Machine::with(&["a:1", "b:1", "c:1"]);
        let store = Store::open(&machine.images()).unwrap();
        store.writes_left.set(writes);
        let collected = store.collect(&machine.fetched(), &needed(&["b:1"]), &Sweep::Unneeded);
        drop(store);
        // The next start.
        Store::open(&machine.images()).unwrap();
        let there = machine.agrees();
        assert!(there.contains(&"b:1".to_owned()), "cut after write {writes}: {there:?}");
        assert_eq!(machine.count("tmp"), 0);
        let again = machine.collect(&["b:1"]);
        assert_eq!((again.trouble, machine.agrees()), (None, vec!["b:1".to_owned()]));
        assert_eq!((machine.count("layers"), machine.count("fetched/blobs/sha256")), (2, 2));
        if collected.trouble.is_none() {
            // Two descriptions, a sync, two layers away, two syncs, two layers removed.
            assert_eq!(writes, 10);
            return;
        }
    }
}

#[test]
fn the_power_goes_while_what_was_fetched_is_forgotten() {
    let steps = [(4, 1), (5, 1)].into_iter().chain((1..=3).map(|blob| (6, blob)));
    for cut in steps {
        let machine = Machine::with(&["a:1", "b:1"]);
        let folder = Folder::open(&machine.fetched()).unwrap();
        folder.cut_after.set(cut);
        let is_a = |name: &Reference| name.is(&Reference::parse("a:1").unwrap());
        folder.forget(&is_a).unwrap_err();
        // Whatever has a name there is whole.
        let layouts = [Layout::path(&machine.fetched()).unwrap()];
        for (name, there) in [("a:1", true), ("b:1", cut.0 < 5)] {
            let other = tempfile::tempdir().unwrap();
            let outcome = Store::open(other.path()).unwrap().prepare(&layouts, &[], name);
            assert_eq!(outcome.is_ok(), there, "{name} after {cut:?}");
        }
    }
}

#[test]
fn a_description_of_another_version_keeps_every_layer() {
    let machine = Machine::with(&["a:1", "b:1"]);
    let file = machine.images().join("index/a_3a1.json");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("\"format\":1", "\"format\":2")).unwrap();
    let collected = machine.collect(&["a:1"]);
    assert_eq!((collected.images, collected.layers), (1, 0));
    assert!(collected.trouble.unwrap().contains("cannot be read by this version"));
    assert_eq!(machine.count("layers"), 3);
}

#[test]
fn what_an_operator_asked_for_stays_until_an_operator_says_otherwise() {
    let machine = Machine::with(&["a:1"]);
    let store = Store::open(&machine.images()).unwrap();
    for name in ["b:1", "docker.io/library/c:1"] {
        let own = machine.dir.path().join(name.replace('/', "_"));
        image(name).write_layout(&own).unwrap();
        store.prepare_kept(&Layout::path(&own).unwrap(), name).unwrap();
    }
    let sweep = |sweep: Sweep| {
        let done = store.collect(&machine.fetched(), &needed(&["a:1"]), &sweep);
        (done.images, done.trouble.unwrap_or_default())
    };
    assert_eq!(sweep(Sweep::Unneeded), (0, String::new()));
    assert!(sweep(Sweep::One("a:1".into())).1.contains("is a unit's"));
    assert!(sweep(Sweep::One("docker.io/library/a:1".into())).1.contains("is a unit's"));
    assert!(sweep(Sweep::One("d:1".into())).1.contains("there is no image d:1 here"));
    // As its short name, too.
    assert_eq!(sweep(Sweep::One("c:1".into())), (1, String::new()));
    assert_eq!(sweep(Sweep::All), (1, String::new()));
    assert_eq!(machine.agrees(), ["a:1"]);
}

#[test]
fn a_kept_image_is_found_by_any_form_of_its_name_and_its_size_is_known() {
    let machine = Machine { dir: tempfile::tempdir().unwrap() };
    let store = Store::open(&machine.images()).unwrap();
    let own = machine.dir.path().join("own");
    image("docker.io/demo/web:1").write_layout(&own).unwrap();
    store.prepare_kept(&Layout::path(&own).unwrap(), "docker.io/demo/web:1").unwrap();
    let outcome = store.prepare(&[], &[], "demo/web:1").unwrap();
    assert_eq!((outcome.unpacked, outcome.image.kept), (0, false));
    assert_eq!(outcome.image.layer_bytes, [3 * 4, 3 * "docker.io/demo/web:1".len() as u64]);
    assert!(store.prepare(&[], &[], "demo/web:2").is_err());
    assert!(store.prepare(&[], &[], &format!("demo/web@{}", Digest::of(b""))).is_err());
    // Prepared again for a unit, it is still kept.
    let layouts = [Layout::path(&own).unwrap()];
    assert!(store.prepare(&layouts, &[], "docker.io/demo/web:1").unwrap().image.kept);
}
