//! Model-specific registers: what happens to those that KVM does not know, and which belong to a vCPU's
//! state.
//!
//! # Policy
//! KVM serves the MSRs that it knows, with the checks of the manual. An access to one that it does not
//! know comes to us (KVM API §5, KVM_EXIT_X86_RDMSR; §7.22), and
//!
//! * where a real processor may have an MSR ([`MSR_REAL`]), a read gives 0 and a write is ignored:
//!   operating systems read model-specific knobs of the processor that they believe to be on without
//!   guarding against #GP, and 0 has proved harmless;
//! * elsewhere (paravirtual ranges, garbage) the guest gets #GP, since that is how guests find out that
//!   an interface is absent.
//!
//! Wrong values for known MSRs are #GP by KVM itself. The first access to each unknown MSR is logged, up
//! to [`LOGGED`] of them; all are counted. A guest cannot make the log grow further.
//!
//! Rejected: KVM_X86_SET_MSR_FILTER. It serves to take MSRs away from KVM, and there is none that we want
//! to serve in its place.
//!
//! # State
//! KVM lists the MSRs to save (KVM API §4.3); the MTRRs, which older kernels do not list, are added; those
//! of x2APIC (they are the APIC page) and of Hyper-V (never offered) are taken out; what then cannot be
//! read is dropped. Machine-check banks are not saved: nothing raises a machine check in our guests.

use crate::call::Named;
use crate::spec::{MSR_HYPERV, MSR_REAL, MSR_X2APIC};
use kezhan_hypervisor::EngineError;
use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN, Msrs, kvm_enable_cap, kvm_msr_entry,
};
use kvm_ioctls::{Kvm, ReadMsrExit, VcpuFd, VmFd, WriteMsrExit};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Unknown MSRs that are logged by number; later ones are only counted together.
const LOGGED: usize = 64;

/// MTRRs: capabilities, eight variable pairs, fixed ranges, default type (Intel SDM vol. 3A §12.11).
fn mtrrs() -> impl Iterator<Item = u32> {
    [0x250, 0x258, 0x259, 0x2ff].into_iter().chain(0x200..=0x20f).chain(0x268..=0x26f)
}

/// Makes accesses to unknown MSRs come to us.
pub(crate) fn enable_exits(vm: &VmFd) -> Result<(), EngineError> {
    let mut cap = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
    cap.args[0] = u64::from(KVM_MSR_EXIT_REASON_UNKNOWN);
    vm.enable_cap(&cap).named("KVM_ENABLE_CAP of KVM_CAP_X86_USER_SPACE_MSR")
}

/// The accesses to MSRs that nobody knows.
#[derive(Debug, Default)]
pub(crate) struct UnknownMsrs {
    counts: Mutex<BTreeMap<u32, u64>>,
}

impl UnknownMsrs {
    /// Answers a read.
    pub(crate) fn read(&self, exit: ReadMsrExit<'_>) {
        let known_place = self.note(exit.index, None);
        *exit.data = 0;
        *exit.error = u8::from(!known_place);
    }

    /// Answers a write.
    pub(crate) fn write(&self, exit: WriteMsrExit<'_>) {
        let known_place = self.note(exit.index, Some(exit.data));
        *exit.error = u8::from(!known_place);
    }

    /// Counts the access; true when it is to be ignored, false when it is a fault.
    fn note(&self, index: u32, written: Option<u64>) -> bool {
        let ignored = MSR_REAL.iter().any(|range| range.contains(&index));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let room = counts.len() < LOGGED;
        let count = counts.entry(if room { index } else { u32::MAX }).or_insert(0);
        *count += 1;
        if *count == 1 && room {
            let access = written.map_or("read".into(), |value| format!("write of {value:#x}"));
            let outcome = if ignored { "ignored" } else { "#GP" };
            log::info!("MSR {index:#x}: {access}: not known to KVM: {outcome}");
        }
        ignored
    }
}

/// The MSRs of a vCPU's state that can be read on this host.
pub(crate) fn state_list(kvm: &Kvm, vcpu: &VcpuFd) -> Result<Vec<u32>, EngineError> {
    let listed = kvm.get_msr_index_list().named("KVM_GET_MSR_INDEX_LIST")?;
    let mut indices: Vec<u32> = listed.as_slice().iter().copied().chain(mtrrs()).collect();
    indices.retain(|index| !MSR_X2APIC.contains(index) && !MSR_HYPERV.contains(index));
    indices.sort_unstable();
    indices.dedup();
    let mut readable = Vec::new();
    let mut rest = indices.as_slice();
    while !rest.is_empty() {
        let done = read_some(vcpu, rest)?.len();
        readable.extend_from_slice(rest.get(..done).unwrap_or_default());
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(readable)
}

/// Reads all of `indices`.
pub(crate) fn read(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, EngineError> {
    let values = read_some(vcpu, indices)?;
    match indices.get(values.len()) {
        None => Ok(values),
        Some(index) => Err(EngineError::State(format!("MSR {index:#x} cannot be read"))),
    }
}

/// Reads up to the first that cannot be read.
fn read_some(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, EngineError> {
    let entries: Vec<_> = indices.iter().map(|&index| entry(index, 0)).collect();
    let mut msrs = list(&entries)?;
    let done = vcpu.get_msrs(&mut msrs).named("KVM_GET_MSRS")?;
    Ok(msrs.as_slice().iter().take(done).map(|e| (e.index, e.data)).collect())
}

/// Writes all of `values`. One that KVM refuses is an error, unless it has that value already or cannot
/// be read either and is to be 0 (an MSR that the other engine has and this host has not).
pub(crate) fn write(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), EngineError> {
    let entries: Vec<_> = values.iter().map(|&(index, value)| entry(index, value)).collect();
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let done = vcpu.set_msrs(&list(rest)?).named("KVM_SET_MSRS")?;
        if let Some(refused) = rest.get(done) {
            let has = read_some(vcpu, &[refused.index])?.first().map_or(0, |&(_, value)| value);
            if has != refused.data {
                return Err(EngineError::State(format!(
                    "MSR {:#x} cannot be set to {:#x} on this host (it is {has:#x})",
                    refused.index, refused.data
                )));
            }
        }
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(())
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, ..Default::default() }
}

fn list(entries: &[kvm_msr_entry]) -> Result<Msrs, EngineError> {
    Msrs::from_entries(entries)
        .map_err(|_too_many| EngineError::State(format!("{} MSRs are too many", entries.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ioctls::MsrExitReason;

    fn read(msrs: &UnknownMsrs, index: u32) -> (u64, u8) {
        let (mut data, mut error) = (7, 7);
        let reason = MsrExitReason::Unknown;
        msrs.read(ReadMsrExit { error: &mut error, reason, index, data: &mut data });
        (data, error)
    }

    #[test]
    fn an_unknown_msr_reads_0_where_processors_have_msrs_and_faults_elsewhere() {
        let msrs = UnknownMsrs::default();
        assert_eq!(read(&msrs, 0x1a0), (0, 0));
        assert_eq!(read(&msrs, 0xc001_1029), (0, 0));
        assert_eq!(read(&msrs, 0x4b56_4d00).1, 1);
        assert_eq!(read(&msrs, 0x4000_0000).1, 1);
    }

    #[test]
    fn a_guest_that_scans_all_msrs_does_not_grow_the_counts() {
        let msrs = UnknownMsrs::default();
        for index in 0..10_000 {
            read(&msrs, index);
        }
        let counts = msrs.counts.lock().unwrap();
        assert!(counts.len() <= LOGGED + 1);
        assert_eq!(counts.values().sum::<u64>(), 10_000);
    }
}
