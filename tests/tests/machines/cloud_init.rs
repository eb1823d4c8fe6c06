//! Our reading of cloud-config and network-config, judged by cloud-init's own documents and checker (Debian's package): every
//! key of its schemas is in our tables, none of its examples does harm, and what a machine takes, cloud-init takes too.
//!
//! What becomes of each example is in `cloud_init/verdicts.txt`; with `BERTH_BLESS` set it is written anew.

use anyhow::{Context, Result, bail, ensure};
use berth_meta::cloud_config::{self, KEYS};
use berth_meta::decode::{self, Format};
use berth_meta::network_config::{self, keys};
use berth_meta::translation::{Key, Translation, Verdict};
use berth_tests::debian;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXAMPLES: &str = "usr/share/doc/cloud-init/examples";
const SCHEMAS: &str = "usr/lib/python3/dist-packages/cloudinit/config/schemas";

/// cloud-init and what it needs, unpacked.
struct Unpacked(tempfile::TempDir);

impl Unpacked {
    /// Its documents and schemas.
    fn documents() -> Result<Self> {
        Self::unpack(&["./usr/share/doc/cloud-init", "./usr/lib/python3/dist-packages/cloudinit/config"])
    }

    /// All that it takes to run it.
    fn program() -> Result<Self> {
        let unpacked = Self::unpack(&["."])?;
        // What an installed system's base-files would have: programs name their loader so.
        for name in ["lib", "lib64"] {
            if !unpacked.path(name).exists() {
                std::os::unix::fs::symlink(format!("usr/{name}"), unpacked.path(name))?;
            }
        }
        // And what ca-certificates makes when it is installed: a Python library does not load without it.
        let mut certificates = Vec::new();
        for entry in fs::read_dir(unpacked.path("usr/share/ca-certificates/mozilla"))? {
            certificates.extend(fs::read(entry?.path())?);
        }
        fs::create_dir_all(unpacked.path("etc/ssl/certs"))?;
        fs::write(unpacked.path("etc/ssl/certs/ca-certificates.crt"), certificates)?;
        Ok(unpacked)
    }

    fn unpack(members: &[&str]) -> Result<Self> {
        let tar = debian::whole_tar(&["cloud-init"])?;
        let folder = tempfile::tempdir()?;
        let out = Command::new("tar")
            .args(["--exclude=./dev/*", "--no-same-owner", "-xf"])
            .arg(tar)
            .arg("-C")
            .arg(folder.path())
            .args(members)
            .output()?;
        ensure!(out.status.success(), "tar: {}", String::from_utf8_lossy(&out.stderr));
        Ok(Self(folder))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn schema(&self, name: &str) -> Result<Value> {
        let path = self.path(SCHEMAS).join(name);
        Ok(serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?)
    }

    /// The examples by name.
    fn examples(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path(EXAMPLES))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                all.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
            }
        }
        all.sort();
        ensure!(all.len() > 40, "only {} examples", all.len());
        Ok(all)
    }

    /// Whether `cloud-init schema` finds each of these valid, and what it says: its function for one file, called in one program,
    /// as the whole command takes seconds to start.
    fn takes(&self, documents: &[(&str, Vec<u8>)]) -> Result<Vec<(bool, String)>> {
        const JUDGE: &str = "import contextlib, io, json, sys\n\
            from cloudinit.config.schema import SchemaType, get_schema, validate_cloudconfig_file\n\
            for line in sys.stdin:\n\
            \x20   path, kind = line.split()\n\
            \x20   kind, said, fine = SchemaType(kind), io.StringIO(), True\n\
            \x20   with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):\n\
            \x20       try:\n\
            \x20           validate_cloudconfig_file(path, get_schema(kind), kind)\n\
            \x20       except (RuntimeError, ValueError) as error:\n\
            \x20           fine = False\n\
            \x20           print(error, file=said)\n\
            \x20   print(json.dumps([fine, said.getvalue()]))\n";
        let mut list = String::new();
        for (n, (kind, text)) in documents.iter().enumerate() {
            fs::write(self.path(&format!("document-{n}")), text)?;
            let _ = writeln!(list, "/document-{n} {kind}");
        }
        fs::write(self.path("documents"), list)?;
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--root"]).arg(self.0.path()).args([
            "/usr/bin/python3",
            "-c",
            JUDGE,
        ]);
        command.stdin(fs::File::open(self.path("documents"))?);
        let out = command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").output()?;
        ensure!(out.status.success(), "cloud-init: {}", String::from_utf8_lossy(&out.stderr));
        let lines = String::from_utf8(out.stdout)?;
        let verdicts: Vec<(bool, String)> =
            lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(
            verdicts.len() == documents.len(),
            "cloud-init judged {} of {}",
            verdicts.len(),
            documents.len()
        );
        Ok(verdicts)
    }
}

/// What a machine makes of it, if it is one of the two.
fn read(name: &str, bytes: &[u8]) -> Result<(Format, Translation), String> {
    let (format, text) = decode::look(name, bytes)?;
    let translation = match format {
        Format::Berth => return Err("it is taken for a berth.toml".to_owned()),
        Format::CloudConfig => cloud_config::translate(name, &text),
        Format::NetworkConfig => network_config::translate(name, &text),
    };
    Ok((format, translation))
}

#[test]
fn every_key_of_its_schemas_is_in_the_table() -> Result<()> {
    let unpacked = Unpacked::documents()?;
    let schema = unpacked.schema("schema-cloud-config-v1.json")?;
    let known = |table: &[Key]| table.iter().map(|key| key.name.to_owned()).collect::<BTreeSet<_>>();
    let properties = |value: &Value| -> BTreeSet<String> {
        value.as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    };
    let below = |name: &str| -> &'static [Key] {
        KEYS.iter().find(|key| key.name == name).map(|key| key.below).unwrap_or_default()
    };
    let defs = |path: &str| schema.pointer(&format!("/$defs/{path}")).cloned().unwrap_or_default();
    for (what, theirs, ours) in [
        ("the document", properties(&schema["properties"]), known(KEYS)),
        ("users", properties(&defs("users_groups.user/properties")), known(below("users"))),
        (
            "write_files",
            properties(&defs("cc_write_files/properties/write_files/items/properties")),
            known(below("write_files")),
        ),
        ("ntp", properties(&defs("cc_ntp/properties/ntp/properties")), known(below("ntp"))),
        ("ca_certs", properties(&defs("ca_certs.properties/properties")), known(below("ca_certs"))),
        (
            "resolv_conf",
            properties(&defs("cc_resolv_conf/properties/resolv_conf/properties")),
            known(below("resolv_conf")),
        ),
    ] {
        ensure!(!theirs.is_empty(), "{what}: the schema has no keys there any more");
        let unknown: Vec<_> = theirs.difference(&ours).collect();
        ensure!(unknown.is_empty(), "{what}: not in the table: {unknown:?}");
    }
    for (file, parts) in [
        (
            "schema-network-config-v1.json",
            &[
                ("anyOf_type_physical", keys::PHYSICAL),
                ("anyOf_type_bond", keys::BOND_V1),
                ("anyOf_type_vlan", keys::VLAN_V1),
                ("anyOf_type_nameserver", keys::NAMESERVER),
                ("anyOf_type_route", keys::ROUTE_V1),
                ("config_type_subnet", keys::SUBNET),
                ("network_config_version1", keys::V1),
            ][..],
        ),
        (
            "schema-network-config-v2.json",
            &[
                ("mapping", keys::ETHERNET),
                ("mapping_physical", keys::ETHERNET),
                ("mapping_bond", keys::BOND_V2),
                ("mapping_vlan", keys::VLAN_V2),
                ("dhcp-overrides", keys::OVERRIDES),
                ("network_config_version2", keys::V2),
            ][..],
        ),
    ] {
        let schema = unpacked.schema(file)?;
        for (part, table) in parts {
            let theirs = properties(&schema["$defs"][part]["properties"]);
            ensure!(!theirs.is_empty(), "{file}: {part} has no keys any more");
            let ours = known(table);
            let unknown: Vec<_> = theirs.difference(&ours).collect();
            ensure!(unknown.is_empty(), "{file}: {part}: not in the table: {unknown:?}");
        }
        let params = |pointer: &str| properties(schema.pointer(pointer).unwrap_or(&Value::Null));
        let ours = known(keys::PARAMETERS);
        let theirs = params("/$defs/anyOf_type_bond/properties/params/properties")
            .into_iter()
            .map(|name| name.trim_start_matches("bond-").replace('_', "-"))
            .chain(params("/$defs/mapping_bond/properties/parameters/properties"));
        let unknown: Vec<_> = theirs.filter(|name| !ours.contains(name)).collect();
        ensure!(unknown.is_empty(), "{file}: parameters of a bond that are not in the table: {unknown:?}");
    }
    Ok(())
}

#[test]
fn its_examples_do_no_harm() -> Result<()> {
    let unpacked = Unpacked::documents()?;
    let mut verdicts = String::new();
    for (name, bytes) in unpacked.examples()? {
        let _ = writeln!(verdicts, "{name}");
        match read(&name, &bytes) {
            Err(why) => {
                let _ = writeln!(verdicts, "  {why}");
            }
            Ok((_, translation)) => {
                for verdict in [Verdict::Applied, Verdict::NoOp] {
                    let of_this = translation.rows.iter().filter(|row| row.verdict == verdict);
                    let keys: Vec<&str> = of_this.map(|row| row.key.as_str()).collect();
                    if !keys.is_empty() {
                        let _ = writeln!(verdicts, "  {verdict}: {}", keys.join("; "));
                    }
                }
                for line in &translation.problems {
                    let _ = writeln!(verdicts, "  {}", line.strip_prefix(&name).unwrap_or(line));
                }
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/cloud_init/verdicts.txt");
    if std::env::var_os("BERTH_BLESS").is_some() {
        fs::write(&path, &verdicts)?;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept != verdicts {
        let differs = verdicts.lines().zip(kept.lines()).find(|(one, other)| one != other);
        bail!("the examples are told of otherwise than in {}: {differs:?}", path.display());
    }
    Ok(())
}

/// Examples that a machine takes and cloud-init does not, each for its reason.
const OURS_ALONE: [(&str, &str); 1] = [(
    "cloud-config-datasources.txt",
    "cloud-init reads it from its own folder only; here it does nothing, with a note",
)];

#[test]
fn what_a_machine_takes_cloud_init_takes() -> Result<()> {
    let unpacked = Unpacked::program()?;
    let mut examples = unpacked.examples()?;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../meta/tests/data/documents");
    for name in ["network-v1.yaml", "network-v2.yaml"] {
        examples.push((name.to_owned(), fs::read(own.join(name))?));
    }
    let (mut documents, mut ours) = (Vec::new(), Vec::new());
    for (name, bytes) in examples {
        let Ok((format, translation)) = read(&name, &bytes) else { continue };
        let kind = if format == Format::CloudConfig { "cloud-config" } else { "network-config" };
        documents.push((kind, bytes));
        ours.push((name, translation.problems.is_empty()));
    }
    ensure!(documents.len() > 25, "only {} documents to compare", documents.len());
    for ((name, taken), (theirs, said)) in ours.iter().zip(unpacked.takes(&documents)?) {
        let known = OURS_ALONE.iter().any(|(other, _)| other == name);
        if *taken && !theirs && !known {
            bail!("{name}: a machine takes it, cloud-init says\n{said}");
        }
    }
    // Each mistake that its checker finds is one here too.
    let mistakes = [
        "#cloud-config\nhostnam: a\n",
        "#cloud-config\nhostname: [a]\n",
        "#cloud-config\nhostname: 5\n",
        "#cloud-config\nssh_authorized_keys: {a: b}\n",
        "#cloud-config\nwrite_files: [{content: x}]\n",
        "#cloud-config\nwrite_files: [{path: /x, encoding: rot13}]\n",
        "#cloud-config\nwrite_files: [{path: /x, sourc: y}]\n",
        "#cloud-config\nntp: {server: [a]}\n",
        "#cloud-config\nusers: [{name: a, shel: /bin/sh}]\n",
        "#cloud-config\nca_certs: {trusted: {a: b}}\n",
        "#cloud-config\n- a\n",
        "#cloud-config\na: [\n",
        "#cloud-config\ntimezone: [a]\n",
    ];
    let documents: Vec<_> = mistakes.iter().map(|text| ("cloud-config", text.as_bytes().to_vec())).collect();
    for (text, (theirs, said)) in mistakes.iter().zip(unpacked.takes(&documents)?) {
        ensure!(!theirs, "{text}: cloud-init takes it: {said}");
        ensure!(
            !cloud_config::translate("x", text.as_bytes()).problems.is_empty(),
            "{text}: a machine takes it"
        );
    }
    Ok(())
}
