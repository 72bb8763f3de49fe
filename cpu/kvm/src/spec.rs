//! Numbers of the KVM interface that the bindings lack, and of the processor where KVM exposes it.
//!
//! "KVM API" is the kernel's `Documentation/virt/kvm/api.rst`.

/// IA32_TIME_STAMP_COUNTER (Intel SDM vol. 4 table 2-2).
pub const MSR_TSC: u32 = 0x10;
/// IA32_TSC_DEADLINE (Intel SDM vol. 4 table 2-2; vol. 3A §11.5.4.1).
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// The registers of x2APIC (Intel SDM vol. 3A §11.12.1.2): part of the APIC page, not of the MSR list.
pub const MSR_X2APIC: std::ops::RangeInclusive<u32> = 0x800..=0x8ff;
/// Hyper-V's synthetic MSRs (Hyper-V TLFS 6.0, appendix F): we offer no Hyper-V.
pub const MSR_HYPERV: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_01ff;

/// Where a real processor has MSRs: Intel's and AMD's architectural ranges (Intel SDM vol. 4 chapter 2,
/// AMD APM vol. 2 appendix A).
pub const MSR_REAL: [std::ops::RangeInclusive<u32>; 3] =
    [0..=0x1fff, 0xc000_0000..=0xc000_1fff, 0xc001_0000..=0xc001_1fff];

/// Initial count, current count, offsets in the APIC page (Intel SDM vol. 3A table 11-1).
pub const APIC_INITIAL_COUNT: usize = 0x380;
/// See [`APIC_INITIAL_COUNT`].
pub const APIC_CURRENT_COUNT: usize = 0x390;

/// Level-triggered, in a message's data (Intel SDM vol. 3A §11.11.2).
pub const MSI_DATA_LEVEL: u32 = 1 << 15;

/// CPUID leaf 1 ECX: TSC-deadline (Intel SDM vol. 2A, CPUID).
pub const CPUID_1_ECX_TSC_DEADLINE: u32 = 1 << 24;
/// First leaf of KVM's paravirtual features (kernel `Documentation/virt/kvm/x86/cpuid.rst`).
pub const CPUID_KVM_SIGNATURE: u32 = 0x4000_0000;
/// Leaf of KVM's feature bits.
pub const CPUID_KVM_FEATURES: u32 = 0x4000_0001;
/// The bits that we pass on: CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, STEAL_TIME, CLOCKSOURCE_STABLE
/// (same document). The others tie a guest to this host's threads, or are refused by some hosts.
pub const CPUID_KVM_FEATURES_PASSED: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 24;

/// `flags` of `kvm_ioeventfd` (KVM API §4.59).
pub const IOEVENTFD_DATAMATCH: u32 = 1;
/// See [`IOEVENTFD_DATAMATCH`].
pub const IOEVENTFD_PIO: u32 = 2;
/// See [`IOEVENTFD_DATAMATCH`].
pub const IOEVENTFD_DEASSIGN: u32 = 4;
