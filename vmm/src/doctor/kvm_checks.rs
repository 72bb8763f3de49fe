//! Hardware virtualisation and KVM.

use super::{Check, KvmReport, ModuleState};
use crate::HostRoot;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The maker of a CPU, with what differs in the way to KVM.
struct Maker {
    module: &'static str,
    setting: &'static str,
}

const INTEL: Maker =
    Maker { module: "kvm_intel", setting: "Intel Virtualization Technology (VT-x)" };
const AMD: Maker = Maker { module: "kvm_amd", setting: "SVM Mode (AMD-V)" };

/// What `/proc/cpuinfo` says of the first CPU.
struct Cpu {
    model: String,
    maker: Option<&'static Maker>,
    flags: Vec<String>,
}

impl Cpu {
    fn read(host: &HostRoot) -> Cpu {
        let text = host.read("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.trim() == name)
                .map_or("", |(_, value)| value.trim())
        };
        let maker = match field("vendor_id") {
            "GenuineIntel" => Some(&INTEL),
            "AuthenticAMD" | "HygonGenuine" => Some(&AMD),
            _ => None,
        };
        Cpu {
            model: field("model name").to_owned(),
            maker,
            flags: field("flags").split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    fn virtualises(&self) -> bool {
        self.has("vmx") || self.has("svm")
    }
}

pub(super) fn all(host: &HostRoot, kvm: &KvmReport) -> Vec<Check> {
    let cpu = Cpu::read(host);
    let mut checks = vec![cpu_check(&cpu), core_module(host), maker_module(host, &cpu)];
    checks.push(device(host, kvm));
    checks.extend(version(kvm));
    checks.extend(verdict(kvm));
    checks.extend(nested(host, &cpu));
    checks
}

fn cpu_check(cpu: &Cpu) -> Check {
    const NAME: &str = "cpu";
    if cpu.virtualises() {
        let flag = if cpu.has("vmx") { "vmx" } else { "svm" };
        return Check::good(NAME, format!("{}, flag {flag}", cpu.model));
    }
    let found = format!("{}, neither flag vmx nor svm", cpu.model);
    if cpu.has("hypervisor") {
        let outer = "on the outer host: modprobe -r kvm_intel && modprobe kvm_intel nested=1 \
                     (AMD: kvm_amd), and give this machine the host's CPU model";
        return Check::fault(NAME, format!("{found}: this host is itself a guest"), &[outer]);
    }
    let setting = cpu.maker.map_or("hardware virtualisation", |maker| maker.setting);
    let step = format!("in the BIOS/UEFI setup, enable {setting}, then switch off and on");
    Check::fault(NAME, found, &[&step])
}

fn core_module(host: &HostRoot) -> Check {
    module_check(host, "module kvm", "kvm")
}

fn maker_module(host: &HostRoot, cpu: &Cpu) -> Check {
    const NAME: &str = "module for CPU";
    let Some(maker) = cpu.maker else {
        return Check::hint(NAME, "maker of the CPU not known", &[]);
    };
    if !cpu.virtualises() && !ModuleState::of(host, maker.module).is_present() {
        return Check::hint(NAME, format!("{}: no use without the CPU flag", maker.module), &[]);
    }
    module_check(host, NAME, maker.module)
}

fn module_check(host: &HostRoot, name: &'static str, module: &str) -> Check {
    let state = ModuleState::of(host, module);
    let found = format!("{module}: {state}");
    match state {
        ModuleState::Loaded | ModuleState::BuiltIn => Check::good(name, found),
        ModuleState::Available => Check::fault(name, found, &[&format!("sudo modprobe {module}")]),
        ModuleState::Absent => Check::fault(
            name,
            found,
            &["sudo apt-get install linux-image-amd64, then start the host anew"],
        ),
    }
}

fn device(host: &HostRoot, kvm: &KvmReport) -> Check {
    const NAME: &str = "/dev/kvm";
    let Ok(metadata) = std::fs::metadata(host.path(NAME)) else {
        let in_container = "in a container: start it with --device /dev/kvm";
        return Check::fault(
            NAME,
            "missing",
            &["sudo modprobe kvm_intel (AMD: kvm_amd)", in_container],
        );
    };
    let group = group_name(host, metadata.gid());
    let node = if metadata.file_type().is_char_device() { "" } else { ", not a device" };
    let found = format!("mode {:03o}, group {group}{node}", metadata.mode() & 0o777);
    match &kvm.refused {
        None => Check::good(NAME, found),
        Some(reason) => {
            let join = format!("sudo usermod -aG {group} $USER, then log in again");
            let open = "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm";
            let by_group = metadata.mode() & 0o060 == 0o060 && metadata.gid() != 0;
            let steps: &[&str] = if by_group {
                &[&join]
            } else {
                &[open, "sudo usermod -aG kvm $USER, then log in again"]
            };
            Check::fault(NAME, format!("{found}: {reason}"), steps)
        }
    }
}

/// group(5).
fn group_name(host: &HostRoot, number: u32) -> String {
    let groups = host.read("/etc/group").unwrap_or_default();
    let wanted = number.to_string();
    groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&wanted.as_str()))
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
        .unwrap_or(wanted)
}

/// The only version there has been since 2007 (Linux Documentation/virt/kvm/api.rst §4.1).
fn version(kvm: &KvmReport) -> Option<Check> {
    const NAME: &str = "kvm api";
    let version = kvm.api_version?;
    Some(match version {
        12 => Check::good(NAME, format!("version 12, {} capabilities", kvm.capabilities.len())),
        other => Check::fault(NAME, format!("version {other}, not 12"), &["use a newer kernel"]),
    })
}

fn verdict(kvm: &KvmReport) -> Option<Check> {
    const NAME: &str = "probe guest";
    let speed = kvm.instructions_per_second.unwrap_or(0) as f64 / 1e6;
    let speed = format!("ring 0 at {speed:.1} million instructions a second");
    Some(match kvm.runs_guests? {
        true => Check::good(NAME, format!("{speed}: stock kernels run")),
        false => {
            let missing = match kvm.failing.as_slice() {
                [] => String::new(),
                some => format!(", without {}", some.join(" ")),
            };
            let step = "no command helps: take a host with VT-x or AMD-V, or --engine soft";
            Check::fault(NAME, format!("{speed}{missing}: stock kernels do not run"), &[step])
        }
    })
}

fn nested(host: &HostRoot, cpu: &Cpu) -> Option<Check> {
    const NAME: &str = "nested";
    let module = cpu.maker?.module;
    let value = host.read(&format!("/sys/module/{module}/parameters/nested"))?;
    if matches!(value.as_str(), "Y" | "1") {
        return Some(Check::good(NAME, "guests may run machines of their own"));
    }
    let keep = format!("echo options {module} nested=1 | sudo tee /etc/modprobe.d/kvm.conf");
    let load = format!("sudo modprobe -r {module} && sudo modprobe {module}");
    Some(Check::hint(NAME, "guests cannot run machines of their own", &[&keep, &load]))
}
