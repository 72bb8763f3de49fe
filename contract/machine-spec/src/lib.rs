//! The description of a machine: **one dialect** for the command line, REST and the machine file.
//!
//! Three stages, each its own step: *typed* (what a person wrote, parsed into these types), *validated*
//! ([`MachineSpec::validate`], pure: looks at nothing but the description), *acted on* (in `vmm/`).
//! Names and values are those of the `run` and `create` options.
//!
//! Errors start with the option's name, carry the value and end with what to do.

mod console;
mod cpu;
mod disk;
mod error;
mod net;
mod options;
mod size;

pub use console::ConsoleSpec;
pub use cpu::{CpuModel, CpuSpec, CpuVendor};
pub use disk::{DiskBus, DiskCache, DiskOnError, DiskRate, DiskSpec};
pub use error::SpecError;
pub use net::{
    BitRate, Forward, ForwardFrom, ForwardProtocol, LineDelay, Loss, MacAddress, NetCard, NetKind,
    NetRule, NetSpec, NetVerdict,
};
pub use size::Size;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

/// Which CPU engine runs the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// KVM when it can run an unmodified guest, else the software engine.
    #[default]
    Auto,
    /// The kernel's KVM.
    Kvm,
    /// The software x86-64 CPU.
    Soft,
}

/// Where the first serial port goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SerialSpec {
    /// This terminal.
    #[default]
    Stdio,
    /// A file, created or appended to.
    File(PathBuf),
    /// A Unix socket that listens at this path.
    Socket(PathBuf),
    /// Nothing.
    None,
}

/// An optional device: `NAME[,key=value]…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// The name in the list of devices, for example `isa-debug-exit`.
    pub name: String,
    /// Its settings, in the order given.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineSpec {
    /// Its name: letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
    /// The engine.
    pub engine: EngineChoice,
    /// The software engine translates what runs often; off for diagnosis.
    pub jit: Switch,
    /// Number of virtual CPUs, 1 to 255.
    pub cpus: u32,
    /// Guest memory in bytes.
    pub memory: Size,
    /// CPU model and features.
    pub cpu: CpuSpec,
    /// Kernel to start: bzImage, ELF with a PVH note, or multiboot.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub append: String,
    /// First serial port.
    pub serial: SerialSpec,
    /// Consoles on virtio, the first of them the guest's `hvc0`.
    pub consoles: Vec<ConsoleSpec>,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<DiskSpec>,
    /// Network cards.
    pub nets: Vec<NetSpec>,
    /// Optional devices.
    pub devices: Vec<DeviceSpec>,
    /// End with status 1 instead of restarting when the guest resets.
    pub no_reboot: bool,
    /// End with status 124 after so many seconds.
    pub timeout: Option<u64>,
    /// Seed of everything random that the machine shows its guest.
    pub seed: Option<u64>,
}

impl Default for MachineSpec {
    fn default() -> MachineSpec {
        MachineSpec {
            name: "guest".to_owned(),
            engine: EngineChoice::Auto,
            jit: Switch::On,
            cpus: 1,
            memory: Size::mebibytes(512),
            cpu: CpuSpec::default(),
            kernel: None,
            initrd: None,
            append: String::new(),
            serial: SerialSpec::Stdio,
            consoles: Vec::new(),
            disks: Vec::new(),
            nets: Vec::new(),
            devices: Vec::new(),
            no_reboot: false,
            timeout: None,
            seed: None,
        }
    }
}

impl MachineSpec {
    /// Checks every value on its own and against the others.
    ///
    /// # Errors
    /// The first [`SpecError`] found, in the order of the fields.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_name(&self.name)?;
        if !(1..=255).contains(&self.cpus) {
            return Err(SpecError::Cpus(self.cpus));
        }
        if self.memory.bytes() < Size::mebibytes(2).bytes()
            || !self.memory.bytes().is_multiple_of(4096)
        {
            return Err(SpecError::Memory(self.memory));
        }
        if self.memory.bytes() > Size::gibibytes(1024).bytes() {
            return Err(SpecError::Memory(self.memory));
        }
        if self.kernel.is_none() && self.initrd.is_some() {
            return Err(SpecError::InitrdWithoutKernel);
        }
        if self.kernel.is_none() && !self.append.is_empty() {
            return Err(SpecError::AppendWithoutKernel);
        }
        self.check_consoles()?;
        self.disks.iter().try_for_each(DiskSpec::validate)?;
        self.nets.iter().try_for_each(NetSpec::validate)?;
        if self.nets.len() > 1 && self.nets.iter().any(|net| !net.is_card()) {
            return Err(SpecError::NetsAndNone);
        }
        if self.timeout == Some(0) {
            return Err(SpecError::Timeout);
        }
        Ok(())
    }
}

impl MachineSpec {
    fn check_consoles(&self) -> Result<(), SpecError> {
        self.consoles.iter().try_for_each(ConsoleSpec::validate)?;
        let places = self.consoles.iter().map(|console| &console.to);
        let on_terminal = places.chain([&self.serial]).filter(|to| **to == SerialSpec::Stdio);
        match self.consoles.len() {
            count if count > 31 => Err(SpecError::Consoles(count)),
            _ if on_terminal.count() > 1 => Err(SpecError::TwoOnTerminal),
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with(['-', '.'])
    {
        return Err(SpecError::Name(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
