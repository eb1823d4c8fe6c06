//! A registry of others: Debian's docker-registry on this computer's loopback, and skopeo, which pushes to it.

use anyhow::{Result, ensure};
use berth_image::tools::{self, Tools};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long the registry may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// The registry; ends when it is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    folder: PathBuf,
    /// `127.0.0.1:PORT`.
    pub host: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Served {
    /// How a machine that reaches the host names it.
    pub fn host_of_guest(&self) -> String {
        self.host.replace("127.0.0.1", "10.0.2.2")
    }

    /// Puts the image of an OCI archive into it, under `name` such as `demo/web:1`.
    pub fn push(&self, tools: &Tools, archive: &Path, name: &str) -> Result<()> {
        let to = format!("docker://{}/{name}", self.host);
        let from = format!("oci-archive:{}", archive.display());
        skopeo(tools, &self.folder, &from, &to, &["--dest-tls-verify=false"])
    }
}

/// Starts one that keeps what it has below `dir`.
pub fn serve(tools: &Tools, dir: &Path) -> Result<Served> {
    let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = dir.join("registry.yml");
    let root = dir.join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
        root.display()
    );
    fs::write(&config, text)?;
    let mut command = tools.command("docker-registry");
    let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut served = Served { child, folder: dir.to_owned(), host };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&served.host).is_err() {
        ensure!(served.child.try_wait()?.is_none(), "docker-registry has ended");
        ensure!(Instant::now() < deadline, "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(served)
}

/// `skopeo copy`; what it keeps meanwhile goes below `dir`.
pub fn skopeo(tools: &Tools, dir: &Path, from: &str, to: &str, options: &[&str]) -> Result<()> {
    let mut command = tools.command("skopeo");
    command.args(["--insecure-policy", "--tmpdir"]).arg(dir).args(["copy", "--quiet"]);
    tools::output("skopeo", command.args(options).args([from, to])).map(drop)
}
