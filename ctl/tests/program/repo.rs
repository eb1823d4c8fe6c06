//! Repositories of updates, on the publisher's side.

use super::*;

/// What a build leaves: a root of two blocks, its tree, a UKI that names it.
fn build(folder: &Path, version: &str) {
    fs::create_dir(folder).unwrap();
    let root: Vec<u8> = version.bytes().cycle().take(2 * berth_updater::verity::BLOCK).collect();
    let mut tree = Vec::new();
    let hash = berth_updater::verity::build(&mut &root[..], 2, [7; 16], b"salt", &mut tree).unwrap();
    let hash = berth_updater::verity::to_hex(&hash);
    fs::write(folder.join("root.erofs"), root).unwrap();
    fs::write(folder.join("root.verity"), tree).unwrap();
    fs::write(folder.join("berth.efi"), format!("MZ roothash={hash}")).unwrap();
    let facts = serde_json::json!({
        "product": "berth", "version": version, "architecture": "x86-64", "built": 1, "root_hash": hash,
    });
    fs::write(folder.join("release.json"), facts.to_string()).unwrap();
}

/// A folder behind a web server, for as long as the test's process lives; its address.
fn serve(folder: &Path) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let (status, body) = match fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

#[test]
fn a_repository_is_made_fed_and_read() {
    let laptop = Laptop::new();
    let path = |name: &str| laptop.folder.path().join(name).display().to_string();
    let (repo, keys, build_1, build_2) = (path("repo"), path("keys"), path("build-1"), path("build-2"));
    build(Path::new(&build_1), "0.1.0");
    build(Path::new(&build_2), "0.2.0");
    let said = laptop.prints(&["repo", "init", &repo, "--keys", &keys]);
    let made = format!("repository {repo} made; its keys are in {keys}\n");
    assert_eq!(said, made + "published: targets 1, releases 1, snapshot 1, root 1, timestamp 1\n");
    let said = laptop.prints(&["repo", "publish", &repo, &build_1, "--keys", &keys]);
    assert_eq!(
        said,
        "berth 0.1.0 for x86-64, channel stable\npublished: releases 2, snapshot 2, timestamp 2\n"
    );
    let said = laptop.prints(&["repo", "publish", &repo, &build_2, "--keys", &keys, "--channel", "beta"]);
    assert!(said.starts_with("berth 0.2.0 for x86-64, channel beta\n"), "{said}");
    // Only what lies on a server.
    let online = format!("{keys}/online.key");
    let said = laptop.prints(&["repo", "sign", &repo, "--keys", &online]);
    assert_eq!(said, "published: snapshot 4, timestamp 4\n");
    let said = laptop.prints(&["repo", "verify", &repo]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ROLE       VERSION  VALID UNTIL"), "{said}");
    assert!(lines[1].starts_with("root             1  ") && lines[1].contains("  2 of 3     "), "{said}");
    let last = ["x86-64/beta: 0.2.0", "x86-64/stable: 0.1.0", "sound: 8 targets, every byte of them"];
    assert_eq!(lines[6..], last);
    let shown = laptop.prints(&["repo", "verify", &repo, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let old = shown["roles"][4]["keys"][0].as_str().unwrap()[..8].to_owned();
    // One holder of a root key begins, another ends it.
    let (new, root_1, root_2) = (path("new.key"), format!("{keys}/root-1.key"), format!("{keys}/root-2.key"));
    let rotate = ["repo", "rotate", &repo, "--old", &old, "--new", &new, "--keys", &root_1];
    let said = laptop.prints(&rotate);
    let begun = format!("({new}) replaces {old}\ntargets: 1 of 2 signatures\nthis is not published yet");
    assert!(said.contains(&begun), "{said}");
    let said = laptop.prints(&["repo", "sign", &repo, "--keys", &root_2, "--keys", &online]);
    assert_eq!(said, "published: targets 2, releases 4, snapshot 5, timestamp 5\n");
    laptop.prints(&["repo", "verify", &repo]);
    // Through a web server, as machines read it, and from a root that they were given.
    let server = serve(Path::new(&repo));
    let root = format!("{repo}/metadata/1.root.json");
    let said = laptop.prints(&["repo", "verify", &server, "--root", &root]);
    assert!(said.ends_with("x86-64/stable: 0.1.0\nsound: 8 targets, every byte of them\n"), "{said}");
    let bare = laptop.berth(&["repo", "verify", &server]);
    assert_eq!(
        (bare.code, bare.err.as_str()),
        (2, "berth: --root is needed: the root that machines trust\n")
    );
    let nowhere = laptop.berth(&["repo", "verify", &format!("{server}nowhere"), "--root", &root]);
    assert_eq!((nowhere.code, nowhere.err.as_str()), (1, "berth: timestamp.json: not there\n"));
    // Not twice, not with a key that others can read, and not what is no release.
    let again = laptop.berth(&["repo", "init", &repo, "--keys", &path("keys-2")]);
    let refusal = format!("berth: {repo}/metadata exists already; nothing was changed\n");
    assert_eq!((again.code, again.err), (1, refusal));
    let other = path("x.key");
    let unknown = ["repo", "rotate", &repo, "--old", "00000000", "--new", &other, "--keys", &keys];
    let unknown = laptop.berth(&unknown);
    assert!(unknown.code == 1 && unknown.err.contains("is not the beginning"), "{}", unknown.err);
    assert!(!Path::new(&other).exists());
    let none = laptop.berth(&["repo", "publish", &repo, &keys, "--keys", &root_1]);
    assert!(none.code == 1 && none.err.contains("release.json: No such file"), "{}", none.err);
    fs::set_permissions(&online, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let exposed = laptop.berth(&["repo", "sign", &repo, "--keys", &online]);
    let refusal =
        format!("berth: key {online} can be read by others (mode 644); run \"chmod 600 {online}\"\n");
    assert_eq!((exposed.code, exposed.err), (1, refusal));
}
