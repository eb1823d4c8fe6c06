//! The image's kernel with a program of ours as its only one, for what is tried or measured below Berth.

use crate::machine::Kernel;
use anyhow::{Context, Result};
use berth_image::tree::{Content, Origin, Tree};
use berth_image::{Options, Outputs, bundle};
use std::path::{Path, PathBuf};

/// Kernel and an initrd below `folder`: the program as `/init`, and these modules with what they need, in `/modules`, named in
/// the order of loading.
pub fn kernel(outputs: &Outputs, folder: &Path, program: &Path, modules: &[&str]) -> Result<Kernel> {
    let known = bundle::inputs(&Options::default(), &|_| {})?.modules;
    let origin = Origin::berth("bare");
    let mut tree = Tree::new();
    tree.file("init", 0o755, Content::Path(program.to_owned()), origin.clone());
    let mut files = Vec::new();
    for file in modules.iter().map(|name| known.closure(name)).collect::<Result<Vec<_>>>()?.concat() {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    for (n, file) in files.into_iter().enumerate() {
        let name = file.file_name().and_then(|n| n.to_str()).context("a module's name is not text")?;
        tree.file(&format!("modules/{n:02}-{name}"), 0o644, Content::Path(file.clone()), origin.clone());
    }
    with(outputs, &tree, folder.join("bare.cpio"))
}

/// The image's kernel with this tree as its initrd, which is written there; what it says goes to the serial line.
pub(crate) fn with(outputs: &Outputs, tree: &Tree, initrd: PathBuf) -> Result<Kernel> {
    let mut archive = Vec::new();
    tree.cpio(0, &mut archive)?;
    std::fs::write(&initrd, archive)?;
    let cmdline = "console=ttyS0 quiet loglevel=4 panic=3".into();
    Ok(Kernel { kernel: outputs.kernel.clone(), initrd, cmdline })
}
