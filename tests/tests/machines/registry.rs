//! Images pulled from a registry that others wrote (Debian's docker-registry), pushed and judged by skopeo.

use anyhow::{Context, Result, ensure};
use berth_image::tools;
use berth_qemu::demo;
use berth_store::build::{ImageBuilder, LayerBuilder};
use berth_store::digest::Digest;
use berth_store::registry::{Fetcher, Pace};
use berth_tests::registry::{serve, skopeo};
use berth_tests::{Firmware, Guest, Plan, WEB, state_after_a_cut};
use berth_units::control::{ImageOrder, JobStatus};
use berth_units::image::PreparedImage;
use berth_units::model::{Registry, RegistrySettings};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Contents of a folder's files, by name.
fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        all.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(all)
}

fn fetch(folder: &Path, host: &str, reference: &str) -> Result<String> {
    let fetcher = Fetcher::open(folder, Pace::default())?;
    let registry = Registry { plain_http: true, ..Registry::default() };
    fetcher.set(RegistrySettings {
        registries: [(host.to_owned(), registry)].into(),
        ..RegistrySettings::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(fetcher.fetch(reference, &|_| false, &|_| ()))?;
    Ok(fetched.digest.to_string())
}

#[test]
fn what_skopeo_pushes_is_what_we_pull() -> Result<()> {
    let tools = tools::ensure(&|_| ())?;
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let served = serve(&tools, dir)?;
    let host = &served.host;

    let big: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let lower = LayerBuilder::new().dir("srv", 0o755).file("srv/big", 0o644, big);
    let upper = LayerBuilder::new().file("srv/index.html", 0o644, "hello").symlink("www", "srv");
    let image = ImageBuilder::new("demo/web:1").layer(&lower)?.layer(&upper)?.entrypoint(["/httpd"]);
    let archive = dir.join("image.tar");
    image.write_archive(&archive)?;
    let gzip = format!("oci-archive:{}", archive.display());
    // skopeo compresses anew only on the way into an archive.
    let zstd = format!("oci-archive:{}", dir.join("zstd.tar").display());
    skopeo(&tools, dir, &gzip, &format!("{zstd}:demo/web:1"), &["--dest-compress-format", "zstd"])?;

    for (tag, from, docker) in [("gzip", &gzip, false), ("zstd", &zstd, false), ("v2s2", &gzip, true)] {
        let reference = format!("{host}/demo/web:{tag}");
        let mut options = vec!["--dest-tls-verify=false"];
        if docker {
            options.extend(["--format", "v2s2"]);
        }
        skopeo(&tools, dir, from, &format!("docker://{reference}"), &options)?;
        let (ours, theirs) = (dir.join(format!("ours-{tag}")), dir.join(format!("theirs-{tag}")));
        let digest = fetch(&ours, host, &reference).with_context(|| reference.clone())?;
        let to = format!("dir:{}", theirs.display());
        skopeo(&tools, dir, &format!("docker://{reference}"), &to, &["--src-tls-verify=false"])?;
        // Its folder has each blob by its digest, and the manifest by name.
        let mut expected = contents(&theirs)?;
        expected.remove("version");
        let manifest = expected.remove("manifest.json").context("skopeo left no manifest")?;
        let kind = if docker { "vnd.docker.image.rootfs.diff.tar.gzip" } else { &format!("tar+{tag}") };
        ensure!(String::from_utf8_lossy(&manifest).contains(kind), "{tag}: skopeo pushed something else");
        expected.insert(digest.trim_start_matches("sha256:").to_owned(), manifest);
        assert!(contents(&ours.join("blobs/sha256"))? == expected, "{tag}: other blobs than skopeo's");
        if !docker {
            // And the other way round: skopeo reads the folder that we filled. (Docker's manifests it takes from none.)
            let back = format!("dir:{}", dir.join(format!("back-{tag}")).display());
            skopeo(&tools, dir, &format!("oci:{}:{reference}", ours.display()), &back, &[])?;
        }
        let again = fetch(&dir.join("pinned"), host, &format!("{host}/demo/web@{digest}"))?;
        assert_eq!(again, digest);
    }
    Ok(())
}

/// On that machine.
fn an_operator_pulls_and_removes(guest: &mut Guest, host: &str) -> Result<()> {
    let [web, later] = ["web", "later"].map(|name| format!("{host}/demo/{name}:1"));
    let pinned = {
        let images = guest.client()?.images()?;
        let web = images.iter().find(|image| image.name == web).context("web is not listed")?;
        ensure!(web.used_by == ["web"] && web.bytes > 100_000 && !web.kept, "{web:?}");
        format!("{host}/demo/web@{}", web.digest)
    };
    let job = run(guest, &ImageOrder::Pull(pinned.clone()))?;
    ensure!(job.state == "done", "{job:?}");
    let listed = |guest: &mut Guest| -> Result<Vec<String>> {
        Ok(guest.client()?.images()?.into_iter().map(|image| image.name).collect())
    };
    ensure!(listed(guest)? == [later.clone(), web.clone(), pinned.clone()], "{:?}", listed(guest)?);
    let job = run(guest, &ImageOrder::Pull(format!("{host}/demo/none:1")))?;
    ensure!(job.state == "failed" && job.message.contains("it has no tag 1"), "{job:?}");
    // What a unit has, stays; what was pulled for nobody goes when it is said.
    let job = run(guest, &ImageOrder::Remove(later.clone()))?;
    ensure!(job.state == "failed" && job.message.contains("is a unit's"), "{job:?}");
    let job = run(guest, &ImageOrder::Remove(pinned))?;
    ensure!(job.state == "done" && job.message.starts_with("1 image and 0 layers"), "{job:?}");
    ensure!(listed(guest)? == [later, web]);
    ensure!(guest.page("/")?.contains("Berth"));
    Ok(())
}

/// A machine runs what it pulls, says why it cannot, tries again, and needs no registry for what it has.
#[test]
fn a_machine_runs_what_a_registry_has() -> Result<()> {
    let tools = tools::ensure(&|_| ())?;
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let served = serve(&tools, dir)?;
    let port = served.host.rsplit(':').next().context("no port")?.to_owned();
    let archive = dir.join("image.tar");
    demo::write_web_image(&tools, &archive)?;
    served.push(&tools, &archive, "demo/web:1")?;

    // The computer's loopback, as the machine sees it.
    let host = served.host_of_guest();
    let config = format!(
        "[registries.\"{host}\"]\nplain_http = true\n\
         [units.web]\ncontainer.image = \"{host}/demo/web:1\"\nnetwork.ports = [\"8080:8080\"]\n\
         [units.later]\ncontainer.image = \"{host}/demo/later:1\"\nrestart.max_delay = \"2s\"\n\
         [units.tls]\ncontainer.image = \"10.0.2.2:{}/demo/web:1\"\n",
        port.parse::<u16>()?.wrapping_sub(1).max(1)
    );
    let plan = Guest::new(Firmware::Direct)?.with_config(&config)?.without_web_image().reaches_the_host();
    let mut guest = plan.boot()?;
    guest.healthy("web")?;
    assert!(guest.page("/")?.contains("Berth"));
    assert!(guest.unit("web")?.image.ends_with("/demo/web:1"));
    // A slot is good although a registry does not answer: that is no fault of the system.
    guest.ready()?;
    guest.wait_for("later    backoff: image not available, next try")?;
    let why = format!("image {host}/demo/later:1 not pulled");
    guest.until("later", |_, reason| reason.contains(&why))?;
    guest.until("tls", |_, reason| reason.contains("not pulled"))?;
    // It comes, and runs without anybody's doing.
    served.push(&tools, &archive, "demo/later:1")?;
    guest.healthy("later")?;

    an_operator_pulls_and_removes(&mut guest, &host)?;

    // The registry is gone, and the power: what was pulled starts all the same.
    let plan = guest.cut_power()?;
    drop(served);
    let mut guest = plan.boot()?;
    guest.healthy("web")?;
    guest.healthy("later")?;
    assert!(guest.page("/")?.contains("Berth"));
    Ok(())
}

/// Cuts by default; `BERTH_CUTS=200` makes more, `BERTH_SEED` others.
const CUTS: u64 = 20;
/// Seed in CI.
const SEED: u64 = 8;
/// Images that are pulled: a layer that all share, and one of each.
const PULLED: [&str; 4] = ["a", "b", "c", "d"];
/// Files of a layer.
const FILES: u64 = 60;
/// The orders of one start take about so long in emulation; cuts come until then, milliseconds.
const ORDERS_TAKE: u64 = 8000;

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

/// splitmix64: one number after another from a seed.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (mixed >> 31)
}

/// A layer's files, which no compression makes small.
fn files(layer: &str) -> BTreeMap<String, Vec<u8>> {
    let file = |n: u64| {
        let mut seed = u64::from(layer.as_bytes()[0]) << 32 | n;
        let content = (0..5000).flat_map(|_| next(&mut seed).to_be_bytes()).collect();
        (format!("{layer}{n}"), content)
    };
    (0..FILES).map(file).collect()
}

fn layer(name: &str) -> LayerBuilder {
    files(name).into_iter().fold(LayerBuilder::new(), |layer, (file, bytes)| layer.file(&file, 0o644, bytes))
}

/// What the store has on the disk of a machine whose power was cut: every image and layer that has its name is whole, and
/// every blob is what its name says.
fn agrees(plan: &Plan) -> Result<()> {
    let (built, disk) = (plan.built()?, plan.disk());
    let copy = tempfile::tempdir()?;
    let copy = copy.path();
    state_after_a_cut(built, disk, "/images", copy)?;
    let root = copy.join("images");
    let known: BTreeMap<String, &str> = PULLED
        .into_iter()
        .chain(["shared"])
        .map(|name| Ok((Digest::of(&layer(name).tar()?).hex(), name)))
        .collect::<Result<_>>()?;
    let there: BTreeSet<String> = names(&root.join("layers"))?;
    for hex in &there {
        if let Some(name) = known.get(hex) {
            ensure!(contents(&root.join("layers").join(hex))? == files(name), "layer {name} is not whole");
        }
    }
    for file in names(&root.join("index"))? {
        let image = PreparedImage::parse(&fs::read(root.join("index").join(&file))?);
        let image = image.map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
        ensure!(image.layers.iter().all(|hex| there.contains(hex)), "{file} has lost a layer");
    }
    for (name, bytes) in contents(&root.join("fetched/blobs/sha256"))? {
        ensure!(Digest::of(&bytes).hex() == name, "blob {name} is something else");
    }
    Ok(())
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The power is cut while images are pulled, unpacked and removed, again and again: what has a name is whole, the machine
/// boots, its unit runs, and at the end everything that was begun can be done.
#[test]
fn after_a_power_cut_at_any_moment_store_and_state_agree() -> Result<()> {
    let (cuts, first) = (number("BERTH_CUTS", CUTS)?, number("BERTH_SEED", SEED)?);
    let tools = tools::ensure(&|_| ())?;
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let served = serve(&tools, dir)?;
    let port = served.host.rsplit(':').next().context("no port")?;
    let host = format!("10.0.2.2:{port}");
    for name in PULLED {
        let image = ImageBuilder::new(name).layer(&layer("shared"))?.layer(&layer(name))?;
        let archive = dir.join(name);
        image.write_archive(&archive)?;
        let from = format!("oci-archive:{}", archive.display());
        let to = format!("docker://{}/cut/{name}:1", served.host);
        skopeo(&tools, dir, &from, &to, &["--dest-tls-verify=false"])?;
    }
    let config = format!("{WEB}[registries.\"{host}\"]\nplain_http = true\n");
    let mut plan = Guest::new(Firmware::Direct)?.with_config(&config)?.reaches_the_host();
    let pulls = PULLED.map(|name| ImageOrder::Pull(format!("{host}/cut/{name}:1")));
    let mut seed = first;
    for cut in 1..=cuts {
        let mut guest = plan.boot()?;
        guest.healthy("web")?;
        guest.api_listens()?;
        for order in pulls.iter().chain([&ImageOrder::Prune]) {
            guest.client()?.order_image(order)?;
        }
        // The moment of the cut is the point of this test; nothing waits for anything here.
        let after = next(&mut seed) % ORDERS_TAKE;
        std::thread::sleep(Duration::from_millis(after));
        plan = guest.cut_power()?;
        agrees(&plan).with_context(|| format!("cut {cut} of seed {first}, after {after} ms"))?;
    }
    let mut guest = plan.boot()?;
    guest.ready()?;
    ensure!(guest.page("/")?.contains("Berth"));
    for order in &pulls {
        let job = run(&mut guest, order)?;
        ensure!(job.state == "done", "{job:?}");
    }
    let job = run(&mut guest, &ImageOrder::Prune)?;
    ensure!(job.state == "done" && job.message.starts_with("4 images and 5 layers"), "{job:?}");
    agrees(&guest.power_off()?)
}

/// Has it done, and waits for its end.
fn run(guest: &mut Guest, order: &ImageOrder) -> Result<JobStatus> {
    let id = guest.client()?.order_image(order)?;
    guest.job_over(id)
}
