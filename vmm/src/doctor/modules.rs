//! Kernel modules, as `lsmod` and `modinfo` would tell.

use crate::HostRoot;
use serde::Serialize;

/// How a kernel feature that may be a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Loaded: `lsmod` lists it.
    Loaded,
    /// Part of the kernel itself.
    BuiltIn,
    /// Installed, but not loaded.
    Available,
    /// Not on this host.
    Absent,
}

impl ModuleState {
    /// The state of module `name` (with underscores).
    pub fn of(host: &HostRoot, name: &str) -> ModuleState {
        let modules = host.read("/proc/modules").unwrap_or_default();
        if modules.lines().any(|line| line.split(' ').next() == Some(name)) {
            return ModuleState::Loaded;
        }
        let folder = host
            .read("/proc/sys/kernel/osrelease")
            .map(|release| format!("/lib/modules/{release}"))
            .unwrap_or_default();
        if host.has(&format!("/sys/module/{name}"))
            || lists(host, &format!("{folder}/modules.builtin"), name)
        {
            ModuleState::BuiltIn
        } else if lists(host, &format!("{folder}/modules.dep"), name) {
            ModuleState::Available
        } else {
            ModuleState::Absent
        }
    }

    /// Whether it works now.
    pub fn is_present(self) -> bool {
        matches!(self, ModuleState::Loaded | ModuleState::BuiltIn)
    }
}

impl std::fmt::Display for ModuleState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ModuleState::Loaded => "loaded",
            ModuleState::BuiltIn => "built in",
            ModuleState::Available => "not loaded",
            ModuleState::Absent => "not on this host",
        })
    }
}

/// Whether a list of module files names `name`. File names may have dashes for underscores and a suffix
/// for compression (modules.dep(5)).
fn lists(host: &HostRoot, list: &str, name: &str) -> bool {
    let text = host.read(list).unwrap_or_default();
    text.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split('.').next().is_some_and(|stem| stem.replace('-', "_") == name)
    })
}
