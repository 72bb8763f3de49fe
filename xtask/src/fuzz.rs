//! `cargo xtask fuzz`: hostile images, servers, drivers and networks, found by libFuzzer.
//!
//! Every program in the `fuzz_targets` of `fuzz/*` and of [`BESIDE`], or those named, for some seconds each; the first crash
//! ends the run and its input stays in `.cache/fuzz`, beside the inputs that reached something new, which are kept for the
//! next run. A program begins with what lies in its folder of [`KEPT`], and an image format with small images too.
//!
//! It needs `cargo install cargo-fuzz`. The compiler is the workspace's: libFuzzer asks for what only a nightly
//! compiler promises, and `RUSTC_BOOTSTRAP` lets this one do it.

use crate::{Outcome, place, program};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of programs that lie beside the crate that they are about.
const BESIDE: [&str; 2] = ["host/net/fuzz", "host/socks/fuzz"];
/// Where inputs to begin with lie: those of `corpus` are replayed by ordinary tests.
const KEPT: [&str; 2] = ["seeds", "corpus"];

/// Images to begin with: the program that reads them, and the options of `kezhan image create`.
const IMAGES: [(&str, &[&str]); 10] = [
    ("qcow2", &["-f", "qcow2", "-o", "cluster_size=512,refcount_bits=1"]),
    ("qcow2", &["-f", "qcow2", "-o", "cluster_size=512,preallocation=metadata"]),
    ("qcow2", &["-f", "qcow2", "-o", "cluster_size=16384,extended_l2=on,compression_type=zstd"]),
    ("qcow2", &["-f", "qcow2", "-o", "compat=0.10,cluster_size=1024"]),
    ("vdi", &["-f", "vdi"]),
    ("vhd", &["-f", "vpc"]),
    ("vhdx", &["-f", "vhdx"]),
    ("vmdk", &["-f", "vmdk"]),
    ("vmdk", &["-f", "vmdk", "-o", "subformat=streamOptimized"]),
    ("luks", &["-f", "luks", "--object", "secret,id=key,data=secret", "-o", "key-secret=key"]),
];

/// `cargo xtask fuzz`
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Programs; all when none is named
    targets: Vec<String>,
    /// Seconds for each
    #[arg(long, default_value_t = 300)]
    seconds: u32,
}

/// A program and the folder of its crate.
#[derive(Debug)]
struct Target {
    folder: PathBuf,
    name: String,
}

impl Fuzz {
    pub(crate) fn execute(self) -> Outcome {
        for target in all()? {
            if self.targets.is_empty() || self.targets.contains(&target.name) {
                target.run(self.seconds)?;
            }
        }
        Ok(())
    }
}

/// Every program, in the order of folders and names.
fn all() -> Outcome<Vec<Target>> {
    let mut all = Vec::new();
    let mut folders = BESIDE.map(|folder| place::root().join(folder)).to_vec();
    for folder in fs::read_dir(place::root().join("fuzz"))? {
        folders.push(folder?.path());
    }
    for folder in folders {
        for file in fs::read_dir(folder.join("fuzz_targets"))? {
            let file = file?.path();
            if let Some(name) = file.file_stem() {
                let (folder, name) = (folder.clone(), name.to_string_lossy().into_owned());
                all.push(Target { folder, name });
            }
        }
    }
    all.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    Ok(all)
}

impl Target {
    /// Its crate's folder in the repository.
    fn place(&self) -> &Path {
        self.folder.strip_prefix(place::root()).unwrap_or(&self.folder)
    }

    fn run(&self, seconds: u32) -> Outcome {
        let corpus = place::cache().join("fuzz").join(&self.name);
        fs::create_dir_all(&corpus)?;
        self.seed(&corpus)?;
        let mut command = Command::new("cargo");
        command.env("RUSTC_BOOTSTRAP", "1").current_dir(&self.folder);
        command.env("CARGO_TARGET_DIR", place::root().join("target/fuzz").join(self.place()));
        command.args(["fuzz", "run", "--fuzz-dir", ".", &self.name]).arg(&corpus);
        let kept = KEPT.map(|kept| self.folder.join(kept).join(&self.name));
        command.args(kept.iter().filter(|kept| kept.exists()));
        command.args(["--", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.arg(format!("-max_total_time={seconds}"));
        let found = corpus.with_extension("found-");
        command.arg(format!("-artifact_prefix={}", found.display()));
        if program::succeeds(&mut command)? {
            return Ok(());
        }
        Err(format!(
            "{}: failed; an input that it found is in .cache/fuzz, and `cargo install cargo-fuzz` brings what runs it",
            self.name
        )
        .into())
    }

    fn seed(&self, corpus: &Path) -> Outcome {
        let mine = IMAGES.iter().filter(|(name, _)| *name == self.name);
        for (index, (_, options)) in mine.enumerate() {
            let mut command = Command::new(place::kezhan());
            command.args(["image", "create", "-q"]).args(*options);
            command.arg(corpus.join(format!("made-{index}"))).arg("64k");
            program::output(&mut command)?;
        }
        Ok(())
    }
}
