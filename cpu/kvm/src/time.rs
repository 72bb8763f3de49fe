//! Guest time at rest while the machine is paused.
//!
//! KVM has no "stop": the TSC counts on, and so do the APIC timers and the paravirtual clock. A pause is
//! therefore put right afterwards:
//!
//! ```text
//!                pause()                         resume()           first run() of each vCPU
//!   guest TSC  ────┤ host TSC p, kvmclock k        │ kvmclock := k    │ TSC offset -= total - applied
//!   APIC timer ──┤ run() returned Kicked:          │ total += r - p   │ current count, deadline := c, d
//!                  count c, deadline d             ▼                  ▼
//! ```
//!
//! `p` and `r` are taken once for the partition, so every vCPU's TSC moves by exactly the same amount and
//! they stay synchronous. A state that is read or written during the pause is as of `p`.
//!
//! The TSC offset is set by KVM_VCPU_TSC_OFFSET (KVM API §5, devices/vcpu.rst §4; Linux 5.16). Older
//! kernels get a write to IA32_TIME_STAMP_COUNTER, which KVM takes for an attempt to synchronise when the
//! pause was shorter than a second: then the guest sees the pause, on all vCPUs alike.

#![expect(unsafe_code, reason = "the device attribute carries a host address")]

use crate::call;
use crate::spec::{APIC_CURRENT_COUNT, APIC_INITIAL_COUNT, MSR_TSC, MSR_TSC_DEADLINE};
use crate::{msr, state};
use kezhan_hypervisor::{EngineError, VcpuState};
use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_clock_data, kvm_device_attr};
use kvm_ioctls::{VcpuFd, VmFd};
use std::sync::{Mutex, PoisonError};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, kvm_bindings::KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, kvm_bindings::KVMIO, 0xe2, kvm_device_attr);

/// The pauses of one partition.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<Record>);

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Host TSC ticks of all pauses that are over.
    total: u64,
    /// Host TSC when the present pause began.
    since: Option<u64>,
    /// The paravirtual clock then.
    clock: Option<u64>,
}

impl Pauses {
    /// Time stops.
    pub(crate) fn pause(&self, vm: &VmFd) {
        let mut record = self.lock();
        if record.since.is_none() {
            record.clock = vm.get_clock().ok().map(|data| data.clock);
            record.since = Some(call::host_tsc());
        }
    }

    /// Time goes on.
    pub(crate) fn resume(&self, vm: &VmFd) {
        let mut record = self.lock();
        if let Some(since) = record.since.take() {
            record.total += call::host_tsc().saturating_sub(since);
        }
        if let Some(clock) = record.clock.take()
            && let Err(error) = vm.set_clock(&kvm_clock_data { clock, ..Default::default() })
        {
            log::warn!("KVM_SET_CLOCK: {error}: the guest's paravirtual clock saw the pause");
        }
    }

    /// The paravirtual clock, in nanoseconds.
    pub(crate) fn clock(&self, vm: &VmFd) -> Option<u64> {
        self.lock().clock.or_else(|| vm.get_clock().ok().map(|data| data.clock))
    }

    /// Sets it, from the end of the present pause on.
    pub(crate) fn set_clock(&self, nanoseconds: u64) {
        self.lock().clock = Some(nanoseconds);
    }

    fn record(&self) -> Record {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A vCPU's share: what it has put right, and its timers as the last `run` left them.
#[derive(Debug, Default)]
pub(crate) struct VcpuTime {
    applied: u64,
    timers: Option<Timers>,
}

#[derive(Clone, Copy, Debug)]
struct Timers {
    current_count: u32,
    deadline: u64,
}

impl VcpuTime {
    /// `run` returns: a pause may follow.
    pub(crate) fn leave(&mut self, vcpu: &VcpuFd) {
        self.timers = Timers::read(vcpu).ok();
    }

    /// `run` begins: puts right what happened since the last.
    pub(crate) fn enter(&mut self, vcpu: &VcpuFd, pauses: &Pauses) -> Result<(), EngineError> {
        let missed = pauses.record().total - self.applied;
        let timers = self.timers.take();
        if missed == 0 {
            return Ok(());
        }
        set_offset(vcpu, offset(vcpu)?.wrapping_sub(missed))?;
        self.applied += missed;
        // Fails when the guest has no paravirtual clock: nobody to tell then.
        let _ = vcpu.kvmclock_ctrl();
        timers.map_or(Ok(()), |timers| timers.write(vcpu))
    }

    /// Makes a state that was just read from KVM one as of the present moment of guest time.
    pub(crate) fn correct(
        &self,
        state: &mut VcpuState,
        vcpu: &VcpuFd,
        pauses: &Pauses,
    ) -> Result<(), EngineError> {
        let record = pauses.record();
        let behind = record.total - self.applied;
        let now = record.since.unwrap_or_else(call::host_tsc);
        let tsc = now.wrapping_add(offset(vcpu)?).wrapping_sub(behind);
        let paused = behind != 0 || record.since.is_some();
        let timers = self.timers.filter(|_| paused);
        for (index, value) in &mut state.msrs {
            match *index {
                MSR_TSC => *value = tsc,
                MSR_TSC_DEADLINE => *value = timers.map_or(*value, |t| t.deadline),
                _ => {}
            }
        }
        if let Some(timers) = timers {
            set_register(&mut state.apic.registers, APIC_CURRENT_COUNT, timers.current_count);
        }
        Ok(())
    }

    /// A state was written to KVM: it is as of the present moment of guest time.
    pub(crate) fn set(
        &mut self,
        state: &VcpuState,
        vcpu: &VcpuFd,
        pauses: &Pauses,
    ) -> Result<(), EngineError> {
        let record = pauses.record();
        self.applied = record.total;
        self.timers = None;
        let value = |wanted| state.msrs.iter().find(|(i, _)| *i == wanted).map(|&(_, v)| v);
        if let Some(since) = record.since {
            if let Some(tsc) = value(MSR_TSC) {
                set_offset(vcpu, tsc.wrapping_sub(since))?;
            }
            self.timers = Some(Timers {
                current_count: register(&state.apic.registers, APIC_CURRENT_COUNT),
                deadline: value(MSR_TSC_DEADLINE).unwrap_or(0),
            });
        }
        Ok(())
    }
}

impl Timers {
    fn read(vcpu: &VcpuFd) -> Result<Timers, EngineError> {
        let page = state::apic_page(vcpu)?;
        let deadline = msr::read(vcpu, &[MSR_TSC_DEADLINE])?;
        Ok(Timers {
            current_count: register(&page, APIC_CURRENT_COUNT),
            deadline: deadline.first().map_or(0, |&(_, value)| value),
        })
    }

    /// Starts the timers anew from here; an expiry that KVM has noted since is forgotten with it.
    fn write(self, vcpu: &VcpuFd) -> Result<(), EngineError> {
        let mut page = state::apic_page(vcpu)?;
        if self.current_count != 0 && register(&page, APIC_INITIAL_COUNT) != 0 {
            set_register(&mut page, APIC_CURRENT_COUNT, self.current_count);
            state::set_apic_page(vcpu, &page)?;
        }
        if self.deadline != 0 {
            msr::write(vcpu, &[(MSR_TSC_DEADLINE, self.deadline)])?;
        }
        Ok(())
    }
}

fn register(page: &[u8], offset: usize) -> u32 {
    page.get(offset..offset + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn set_register(page: &mut [u8], offset: usize, value: u32) {
    if let Some(bytes) = page.get_mut(offset..offset + 4) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

/// Guest TSC minus host TSC.
pub(crate) fn offset(vcpu: &VcpuFd) -> Result<u64, EngineError> {
    let mut value = 0_u64;
    let attribute = tsc_offset_at(&raw mut value);
    // SAFETY: the attribute names a u64 of ours for the kernel to fill; it outlives the call.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_GET_DEVICE_ATTR(), &attribute) };
    if result == 0 {
        return Ok(value);
    }
    let tsc = msr::read(vcpu, &[MSR_TSC])?.first().map_or(0, |&(_, value)| value);
    Ok(tsc.wrapping_sub(call::host_tsc()))
}

fn set_offset(vcpu: &VcpuFd, mut offset: u64) -> Result<(), EngineError> {
    let attribute = tsc_offset_at(&raw mut offset);
    // SAFETY: the attribute names a u64 of ours for the kernel to read; it outlives the call.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) };
    if result == 0 {
        return Ok(());
    }
    msr::write(vcpu, &[(MSR_TSC, offset.wrapping_add(call::host_tsc()))])
}

fn tsc_offset_at(value: *mut u64) -> kvm_device_attr {
    kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: value as u64,
        flags: 0,
    }
}
