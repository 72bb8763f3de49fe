//! The KVM engine: the kernel runs the guest; we keep its books.
//!
//! ```text
//!   Kvm ── create ──► KvmPartition ───────────────── vcpu(i) ──► KvmVcpu (its own thread)
//!                      │  Arc<Shared>  ◄───────────────────────── │
//!                      │   VM descriptor, memory slots, mailboxes │ KVM_RUN ⇄ CpuIo
//!                      │   pauses, unknown MSRs, PIC's INTR       │ fix-up: our interpreter
//!                      └ routing table, vCPUs not yet taken       └ vCPU descriptor, its time
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `partition` | set-up and everything that any thread may do |
//! | `vcpu`, `exit`, `failure` | the run loop; what an exit says; how a failure reads |
//! | `kick` | getting a thread out of KVM_RUN |
//! | `time` | pauses |
//! | `state`, `msr`, `cpuid` | our structs from and to KVM's; policy for unknown MSRs |
//! | `memory`, `routing` | slots and dirty log; IOAPIC pins as MSI routes |
//! | `fixup` | instructions that KVM cannot run |
//! | `probe`, `inspect` | what this host's KVM is able to |
//!
//! A vCPU thread makes these host calls, for whoever confines it: ioctl, gettid, getpid, tgkill,
//! rt_sigprocmask, rt_sigpending, rt_sigtimedwait, rt_sigreturn; once, at [`Partition::vcpu`], also
//! rt_sigaction and mmap.
//!
//! Why KVM keeps only the local APIC: PIC, IOAPIC, PIT and HPET as devices of ours are the same under both
//! engines, and KVM's own cost milliseconds at start and end of a machine.

mod call;
mod cpuid;
mod exit;
mod failure;
mod fixup;
mod inspect;
mod kick;
mod memory;
mod msr;
mod partition;
mod probe;
mod routing;
mod spec;
mod state;
mod time;
mod vcpu;

pub use inspect::{Capability, Inspection};
pub use probe::Verdict;

use kezhan_hypervisor::{CpuidTable, EngineError, Hypervisor, Partition, PartitionConfig};
use std::sync::Arc;

/// The version of the interface that every kernel since 2.6.22 has (KVM API §4.1).
const API_VERSION: i32 = 12;

/// The KVM engine. `/dev/kvm` is opened anew for each partition.
#[derive(Debug)]
pub struct Kvm {
    kvm: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Opens `/dev/kvm`.
    ///
    /// # Errors
    /// [`EngineError::NoKvm`] when it cannot be opened, [`EngineError::MissingCapability`] when it is not
    /// the KVM that we know.
    pub fn open() -> Result<Kvm, EngineError> {
        let kvm = open()?;
        if kvm.get_api_version() != API_VERSION {
            return Err(EngineError::MissingCapability("API version 12"));
        }
        Ok(Kvm { kvm })
    }

    /// What this KVM says about itself.
    pub fn inspect(&self) -> Inspection {
        inspect::inspect(&self.kvm)
    }

    /// Runs the probe guest (some 10 ms): what this KVM is able to.
    ///
    /// # Errors
    /// [`EngineError`] when not even the probe guest can be made.
    pub fn probe(&self) -> Result<Verdict, EngineError> {
        probe::probe(self)
    }
}

fn open() -> Result<kvm_ioctls::Kvm, EngineError> {
    kvm_ioctls::Kvm::new().map_err(|error| EngineError::NoKvm(error.into()))
}

impl Hypervisor for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn supported_cpuid(&self) -> Result<CpuidTable, EngineError> {
        cpuid::supported(&self.kvm)
    }

    fn create(&self, config: PartitionConfig) -> Result<Arc<dyn Partition>, EngineError> {
        Ok(Arc::new(partition::KvmPartition::new(config)?))
    }
}
