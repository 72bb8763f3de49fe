//! Folders are layers: a crate names crates of its own folder or of those that the table allows it.

use super::Finding;
use super::source::Tree;
use crate::{Outcome, place, program};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// Folder, and the folders or crates that it may import beside its own (ARCHITECTURE.md, "Layers").
const TABLE: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("core", &[]),
    ("cpu", &["core"]),
    ("devices", &["core", "contract/machine-spec"]),
    ("host", &["core/ports", "contract/machine-spec"]),
    ("machine", &["core", "contract", "devices", "cpu/hypervisor"]),
    ("vmm", &["core", "contract", "cpu", "devices", "host", "machine"]),
    ("manager", &["contract", "host/block", "host/image"]),
    ("bdd", &["contract", "host/block"]),
    (
        "cli",
        &["contract", "host/block", "host/image", "host/networks", "host/socks", "manager", "bdd"],
    ),
    ("web", &[]),
    ("examples", &["host/socks"]),
    ("xtask", &[]),
    ("tests", &[]),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// An edge of the graph of crates, by their folders.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
}

pub(super) fn check(_: &Tree) -> Outcome<Vec<Finding>> {
    let root = place::root();
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(&root);
    let metadata: Metadata = serde_json::from_slice(&program::output(&mut cargo)?)?;
    let folder = |package: &Package| -> String {
        let path = package.manifest_path.trim_end_matches("/Cargo.toml");
        path.trim_start_matches(&*root.to_string_lossy()).trim_start_matches('/').to_owned()
    };
    let folders: BTreeMap<&str, String> =
        metadata.packages.iter().map(|p| (p.name.as_str(), folder(p))).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let from = &folders[package.name.as_str()];
        for dependency in &package.dependencies {
            let Some(to) = folders.get(dependency.name.as_str()) else { continue };
            let breach = breach(&Edge { from, to });
            // Conformance suites and the like: a contract's tests may name what is tested beside it.
            let beside = dependency.kind.as_deref() == Some("dev") && top(from) == top(to);
            if let Some(message) = breach.filter(|_| !beside) {
                findings.push((format!("{from}/Cargo.toml"), 1, message));
            }
        }
    }
    Ok(findings)
}

fn top(folder: &str) -> &str {
    folder.split('/').next().unwrap_or(folder)
}

fn breach(edge: &Edge<'_>) -> Option<String> {
    let Edge { from, to } = edge;
    let Some((_, allowed)) = TABLE.iter().find(|(folder, _)| *folder == top(from)) else {
        return Some(format!("{from} is in no layer; put it into a folder of ARCHITECTURE.md"));
    };
    if top(from) == top(to) || allowed.iter().any(|a| a == to || *a == top(to)) {
        return None;
    }
    let list = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
    Some(format!(
        "may not import {to}; {}/ may import {list}: move the code or the type",
        top(from)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(from: &str, to: &str) -> bool {
        breach(&Edge { from, to }).is_none()
    }

    #[test]
    fn edges_go_to_the_left_and_within_a_folder() {
        assert!(allows("devices/pci", "core/device"));
        assert!(allows("devices/chipset", "devices/pci"));
        assert!(allows("machine/board", "cpu/hypervisor"));
        assert!(allows("vmm", "cpu/kvm"));
    }

    #[test]
    fn devices_and_host_and_engines_do_not_see_each_other() {
        assert!(!allows("devices/serial", "host/chardev"));
        assert!(!allows("host/block", "core/device"));
        assert!(!allows("cpu/soft", "devices/pci"));
        assert!(!allows("machine/board", "cpu/soft"));
        assert!(!allows("core/device", "contract/machine-spec"));
        assert!(!allows("tests/boot", "vmm"));
    }

    #[test]
    fn a_folder_without_a_layer_is_named() {
        let found = breach(&Edge { from: "misc/a", to: "core/device" });
        assert!(found.unwrap().starts_with("misc/a is in no layer"));
    }
}
