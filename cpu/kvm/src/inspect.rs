//! What KVM says about itself, for `kezhan doctor`. What it really does is the probe's business.

use kezhan_hypervisor::CpuidTable;
use kvm_bindings::*;
use kvm_ioctls::Kvm;
use serde::{Deserialize, Serialize};

/// A capability and what KVM_CHECK_EXTENSION gave for it (KVM API §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Its name, `KVM_CAP_…`.
    pub name: String,
    /// 0 when absent; 1 when present, or a number that the capability defines.
    pub value: i32,
    /// Whether Kezhan cannot do without it.
    pub needed: bool,
}

/// What this host's KVM says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Version of the interface; 12 on every kernel of this century but the first.
    pub api_version: i32,
    /// The module that does the work: `kvm_intel`, `kvm_amd`, or another; `None` when built in.
    pub module: Option<String>,
    /// Most vCPUs of one machine.
    pub most_vcpus: u32,
    /// Most memory slots of one machine.
    pub most_slots: u32,
    /// Guests can themselves be hosts, and their state can be saved.
    pub nested_state: bool,
    /// Capabilities that Kezhan uses.
    pub capabilities: Vec<Capability>,
    /// Processor features that a guest can have, by their usual names.
    pub features: Vec<String>,
}

/// Name, number, needed.
type Row = (&'static str, u32, bool);

const CAPABILITIES: [Row; 19] = [
    ("KVM_CAP_SPLIT_IRQCHIP", KVM_CAP_SPLIT_IRQCHIP, true),
    ("KVM_CAP_X2APIC_API", KVM_CAP_X2APIC_API, true),
    ("KVM_CAP_X86_USER_SPACE_MSR", KVM_CAP_X86_USER_SPACE_MSR, true),
    ("KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, true),
    ("KVM_CAP_SIGNAL_MSI", KVM_CAP_SIGNAL_MSI, true),
    ("KVM_CAP_IRQFD", KVM_CAP_IRQFD, true),
    ("KVM_CAP_IOEVENTFD", KVM_CAP_IOEVENTFD, true),
    ("KVM_CAP_READONLY_MEM", KVM_CAP_READONLY_MEM, true),
    ("KVM_CAP_XCRS", KVM_CAP_XCRS, true),
    ("KVM_CAP_XSAVE", KVM_CAP_XSAVE, true),
    ("KVM_CAP_TSC_DEADLINE_TIMER", KVM_CAP_TSC_DEADLINE_TIMER, false),
    ("KVM_CAP_ADJUST_CLOCK", KVM_CAP_ADJUST_CLOCK, false),
    ("KVM_CAP_KVMCLOCK_CTRL", KVM_CAP_KVMCLOCK_CTRL, false),
    ("KVM_CAP_DISABLE_QUIRKS2", KVM_CAP_DISABLE_QUIRKS2, false),
    ("KVM_CAP_EXIT_ON_EMULATION_FAILURE", KVM_CAP_EXIT_ON_EMULATION_FAILURE, false),
    ("KVM_CAP_TSC_CONTROL", KVM_CAP_TSC_CONTROL, false),
    ("KVM_CAP_X86_SMM", KVM_CAP_X86_SMM, false),
    ("KVM_CAP_NESTED_STATE", KVM_CAP_NESTED_STATE, false),
    ("KVM_CAP_HYPERV", KVM_CAP_HYPERV, false),
];

/// Name, leaf, register (EAX, EBX, ECX, EDX), bit (Intel SDM vol. 2A, CPUID; AMD APM vol. 3 appendix E).
type FeatureRow = (&'static str, u32, usize, u32);

const FEATURES: [FeatureRow; 28] = [
    ("sse3", 1, 2, 0),
    ("vmx", 1, 2, 5),
    ("ssse3", 1, 2, 9),
    ("fma", 1, 2, 12),
    ("cx16", 1, 2, 13),
    ("pcid", 1, 2, 17),
    ("sse4.1", 1, 2, 19),
    ("sse4.2", 1, 2, 20),
    ("x2apic", 1, 2, 21),
    ("movbe", 1, 2, 22),
    ("popcnt", 1, 2, 23),
    ("tsc-deadline", 1, 2, 24),
    ("aes", 1, 2, 25),
    ("xsave", 1, 2, 26),
    ("avx", 1, 2, 28),
    ("f16c", 1, 2, 29),
    ("rdrand", 1, 2, 30),
    ("fsgsbase", 7, 1, 0),
    ("bmi1", 7, 1, 3),
    ("avx2", 7, 1, 5),
    ("smep", 7, 1, 7),
    ("bmi2", 7, 1, 8),
    ("invpcid", 7, 1, 10),
    ("avx512f", 7, 1, 16),
    ("smap", 7, 1, 20),
    ("svm", 0x8000_0001, 2, 2),
    ("1gib-pages", 0x8000_0001, 3, 26),
    ("rdtscp", 0x8000_0001, 3, 27),
];

/// Asks KVM.
pub(crate) fn inspect(kvm: &Kvm) -> Inspection {
    let table = crate::cpuid::supported(kvm).unwrap_or_default();
    let value = |cap: u32| kvm.check_extension_raw(cap.into());
    Inspection {
        api_version: kvm.get_api_version(),
        module: module(),
        most_vcpus: kvm.get_max_vcpus() as u32,
        most_slots: kvm.get_nr_memslots() as u32,
        nested_state: value(KVM_CAP_NESTED_STATE) > 0,
        capabilities: CAPABILITIES
            .iter()
            .map(|&(name, cap, needed)| Capability { name: name.into(), value: value(cap), needed })
            .collect(),
        features: features(&table),
    }
}

fn features(table: &CpuidTable) -> Vec<String> {
    let has = |&&(_, leaf, register, bit): &&FeatureRow| {
        table.answer(leaf, 0).get(register).is_some_and(|value| value >> bit & 1 == 1)
    };
    FEATURES.iter().filter(has).map(|(name, ..)| (*name).to_owned()).collect()
}

/// The loaded module whose name begins with `kvm_`.
fn module() -> Option<String> {
    let names = std::fs::read_dir("/sys/module").ok()?;
    names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("kvm_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kezhan_hypervisor::CpuidEntry;

    #[test]
    fn features_are_named_after_the_bits_that_are_set() {
        let mut table = CpuidTable::default();
        table.set(CpuidEntry { leaf: 1, subleaf: None, registers: [0, 0, 1 << 13 | 1 << 21, 0] });
        table.set(CpuidEntry { leaf: 7, subleaf: Some(0), registers: [0, 1 << 20, 0, 0] });
        assert_eq!(features(&table), ["cx16", "x2apic", "smap"]);
    }
}
