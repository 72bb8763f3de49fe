//! The shared part of a machine under KVM: one VM descriptor and what all threads may do with it.
//!
//! # Set-up, in the order that KVM wants
//! 1. KVM_CREATE_VM; the capabilities below; MSR exits;
//! 2. the split interrupt controller: local APICs in the kernel, the rest ours (KVM API §7.5), before any
//!    vCPU;
//! 3. memory slots;
//! 4. vCPUs with their CPUID. They are made here, so that what KVM refuses is known at once; their
//!    threads take them later.
//!
//! | capability | why |
//! |---|---|
//! | KVM_CAP_SPLIT_IRQCHIP, all pins reserved | EOI exits for level-triggered pins |
//! | KVM_CAP_X2APIC_API | 32-bit APIC ids in the APIC page and in messages |
//! | KVM_CAP_DISABLE_QUIRKS2: FIX_HYPERCALL_INSN | KVM must not rewrite guest code; and where it fails to, the guest never leaves KVM_RUN |
//! | KVM_CAP_EXIT_ON_EMULATION_FAILURE | what KVM cannot run comes to us, rather than #UD to the guest |
//! | KVM_CAP_X86_APIC_BUS_CYCLES_NS (Linux 6.12) | the APIC timer counts as fast as under every other engine |
//! | KVM_CAP_X86_USER_SPACE_MSR | see `msr` |
//!
//! # Locks
//! Each is taken alone, and none while [`CpuIo`](kezhan_hypervisor::CpuIo) is called.

use crate::call::{self, Named};
use crate::kick::Mailbox;
use crate::memory::Slots;
use crate::msr::{self, UnknownMsrs};
use crate::routing::Routing;
use crate::time::Pauses;
use crate::vcpu::KvmVcpu;
use crate::{cpuid, state};
use kezhan_hypervisor::{
    DirtyLog, Doorbell, EngineError, EventDescriptors, GuestMemory, MsiMessage, MsiTarget,
    Partition, PartitionConfig, Route, Vcpu,
};
use kvm_bindings::*;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most vCPUs: APIC id 255 is broadcast (Intel SDM vol. 3A §11.6.2.1).
const MOST_VCPUS: u32 = 255;

/// What all threads of one machine share. Holds the memory for as long as the VM lives.
#[derive(Debug)]
pub(crate) struct Shared {
    pub vm: VmFd,
    pub slots: Slots,
    pub mailboxes: Vec<Mailbox>,
    /// The PIC's INTR output.
    pub external: AtomicBool,
    pub pauses: Pauses,
    pub unknown_msrs: UnknownMsrs,
    kvm: Kvm,
    state_msrs: OnceLock<Vec<u32>>,
}

impl Shared {
    /// The MSRs of a vCPU's state, found out at the first call.
    pub(crate) fn state_msrs(&self, vcpu: &VcpuFd) -> Result<&[u32], EngineError> {
        if let Some(list) = self.state_msrs.get() {
            return Ok(list);
        }
        let list = msr::state_list(&self.kvm, vcpu)?;
        Ok(self.state_msrs.get_or_init(|| list))
    }
}

/// One machine's engine.
#[derive(Debug)]
pub(crate) struct KvmPartition {
    shared: Arc<Shared>,
    vcpus: Mutex<Vec<Option<VcpuFd>>>,
    routing: Mutex<Routing>,
    tsc_khz: u32,
}

impl KvmPartition {
    /// Makes a machine's engine.
    pub(crate) fn new(config: PartitionConfig) -> Result<KvmPartition, EngineError> {
        let kvm = crate::open()?;
        let most = (kvm.get_max_vcpus() as u32).min(MOST_VCPUS);
        if config.cpus == 0 || config.cpus > most {
            return Err(EngineError::TooManyCpus { asked: config.cpus, most });
        }
        let vm = kvm.create_vm().named("KVM_CREATE_VM")?;
        enable_capabilities(&vm, config.pins)?;
        msr::enable_exits(&vm)?;
        let slots = Slots::map(&vm, config.memory)?;
        let vcpus: Vec<VcpuFd> = (0..config.cpus)
            .map(|id| new_vcpu(&vm, &config.cpuid, id))
            .collect::<Result<_, _>>()?;
        let tsc_khz = vcpus.first().and_then(|v| v.get_tsc_khz().ok()).unwrap_or(0);
        let shared = Shared {
            vm,
            slots,
            mailboxes: vcpus.iter().map(|_| Mailbox::default()).collect(),
            external: AtomicBool::new(false),
            pauses: Pauses::default(),
            unknown_msrs: UnknownMsrs::default(),
            kvm,
            state_msrs: OnceLock::new(),
        };
        Ok(KvmPartition {
            shared: Arc::new(shared),
            vcpus: Mutex::new(vcpus.into_iter().map(Some).collect()),
            routing: Mutex::new(Routing::new(config.pins)),
            tsc_khz,
        })
    }

    /// The only vCPU as KVM's descriptor, to be run by the calling thread, with what ends its KVM_RUN.
    pub(crate) fn take_bare(&self) -> Result<(VcpuFd, &Mailbox), EngineError> {
        let vcpu = self.take(0)?;
        let mailbox = self.mailbox(0).ok_or(EngineError::NoSuchVcpu(0))?;
        mailbox.open(&vcpu, self.shared.vm.run_size())?;
        Ok((vcpu, mailbox))
    }

    fn take(&self, index: u32) -> Result<VcpuFd, EngineError> {
        let mut vcpus = self.vcpus.lock().unwrap_or_else(PoisonError::into_inner);
        let vcpu = vcpus.get_mut(index as usize).and_then(Option::take);
        vcpu.ok_or(EngineError::NoSuchVcpu(index))
    }

    fn mailbox(&self, index: u32) -> Option<&Mailbox> {
        self.shared.mailboxes.get(index as usize)
    }
}

fn enable_capabilities(vm: &VmFd, pins: u32) -> Result<(), EngineError> {
    let x2apic = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    let wanted = [
        ("KVM_CAP_SPLIT_IRQCHIP", KVM_CAP_SPLIT_IRQCHIP, pins, true),
        ("KVM_CAP_X2APIC_API", KVM_CAP_X2APIC_API, x2apic, true),
        (
            "KVM_CAP_DISABLE_QUIRKS2",
            KVM_CAP_DISABLE_QUIRKS2,
            KVM_X86_QUIRK_FIX_HYPERCALL_INSN,
            false,
        ),
        ("KVM_CAP_EXIT_ON_EMULATION_FAILURE", KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1, false),
        (
            "KVM_CAP_X86_APIC_BUS_CYCLES_NS",
            KVM_CAP_X86_APIC_BUS_CYCLES_NS,
            1_000_000 / kezhan_hypervisor::APIC_TIMER_KHZ,
            false,
        ),
    ];
    for (name, cap, argument, needed) in wanted {
        if vm.check_extension_raw(cap.into()) <= 0 {
            if needed {
                return Err(EngineError::MissingCapability(name));
            }
            continue;
        }
        let mut enable = kvm_enable_cap { cap, ..Default::default() };
        enable.args[0] = argument.into();
        vm.enable_cap(&enable).named(format!("KVM_ENABLE_CAP of {name} with {argument}"))?;
    }
    Ok(())
}

/// A vCPU in its reset state; RDX holds the processor's signature (Intel SDM vol. 3A table 10-1), which
/// KVM cannot know before CPUID is set.
fn new_vcpu(
    vm: &VmFd,
    table: &kezhan_hypervisor::CpuidTable,
    id: u32,
) -> Result<VcpuFd, EngineError> {
    let vcpu = vm.create_vcpu(id.into()).named(format!("KVM_CREATE_VCPU {id}"))?;
    vcpu.set_cpuid2(&cpuid::for_vcpu(table, id)?)
        .named(format!("KVM_SET_CPUID2 of {} entries", table.entries.len()))?;
    let mut general = state::general(&vcpu)?;
    general.gpr[2] = table.answer(1, 0)[0].into();
    state::set_general(&vcpu, &general)?;
    Ok(vcpu)
}

impl MsiTarget for KvmPartition {
    fn signal(&self, message: MsiMessage) -> bool {
        let msi = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        self.shared.vm.signal_msi(msi).is_ok_and(|delivered| delivered > 0)
    }
}

impl Partition for KvmPartition {
    fn vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, EngineError> {
        Ok(Box::new(KvmVcpu::new(self.take(index)?, index, self.shared.clone())?))
    }

    fn kick(&self, index: u32) {
        if let Some(mailbox) = self.mailbox(index) {
            mailbox.kick();
        }
    }

    fn set_route(&self, pin: u32, route: Option<Route>) {
        let mut routing = self.routing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = routing.set(&self.shared.vm, pin, route) {
            log::warn!("IOAPIC pin {pin}: {error}: its level-triggered interrupts may stop");
        }
    }

    fn set_external_interrupt(&self, high: bool) {
        self.shared.external.store(high, Ordering::SeqCst);
        if high && let Some(mailbox) = self.mailbox(0) {
            mailbox.wake();
        }
    }

    fn signal_nmi(&self, index: u32) {
        if let Some(mailbox) = self.mailbox(index) {
            mailbox.request_nmi();
        }
    }

    fn pause(&self) {
        self.shared.pauses.pause(&self.shared.vm);
    }

    fn resume(&self) {
        self.shared.pauses.resume(&self.shared.vm);
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    fn paravirtual_clock(&self) -> Option<u64> {
        self.shared.pauses.clock(&self.shared.vm)
    }

    fn set_paravirtual_clock(&self, nanoseconds: u64) {
        self.shared.pauses.set_clock(nanoseconds);
    }

    fn map_rom(&self, address: u64, memory: Arc<GuestMemory>) -> Result<(), EngineError> {
        if !self.shared.vm.check_extension(Cap::ReadonlyMem) {
            return Err(EngineError::MissingCapability("KVM_CAP_READONLY_MEM"));
        }
        self.shared.slots.map_rom(&self.shared.vm, address, memory)
    }

    fn release_memory(&self, address: u64, length: u64) -> bool {
        self.shared.slots.release(address, length)
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        Some(self)
    }

    fn event_descriptors(&self) -> Option<&dyn EventDescriptors> {
        Some(self)
    }
}

impl DirtyLog for KvmPartition {
    fn set_logging(&self, on: bool) -> Result<(), EngineError> {
        self.shared.slots.set_logging(&self.shared.vm, on)
    }

    fn take(&self) -> Result<Vec<Vec<u64>>, EngineError> {
        self.shared.slots.take_dirty(&self.shared.vm)
    }
}

impl EventDescriptors for KvmPartition {
    fn attach_interrupt(&self, pin: u32, event: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.shared
            .vm
            .register_irqfd(&call::event(event)?, pin)
            .named(format!("KVM_IRQFD (add pin {pin})"))
    }

    fn detach_interrupt(&self, pin: u32, event: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.shared
            .vm
            .unregister_irqfd(&call::event(event)?, pin)
            .named(format!("KVM_IRQFD (remove pin {pin})"))
    }

    fn attach_doorbell(&self, bell: Doorbell, event: BorrowedFd<'_>) -> Result<(), EngineError> {
        call::ioeventfd(&self.shared.vm, bell, event, true)
    }

    fn detach_doorbell(&self, bell: Doorbell, event: BorrowedFd<'_>) -> Result<(), EngineError> {
        call::ioeventfd(&self.shared.vm, bell, event, false)
    }
}
