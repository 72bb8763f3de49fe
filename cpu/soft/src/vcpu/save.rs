//! The vCPU's state to and from the contract's structs.

use super::{Parts, SoftVcpu, mp_state};
use crate::apic::spec;
use kezhan_hypervisor::{EngineError, MpState, VcpuState};
use kezhan_x86::CpuState;
use kezhan_x86::interp::control::is_possible_cr0;
use kezhan_x86::state::{cr0, cr4, efer};

fn lost() -> EngineError {
    EngineError::State("the vCPU was lost in an earlier failure".to_owned())
}

impl SoftVcpu {
    pub(super) fn save(&self) -> Result<VcpuState, EngineError> {
        let Parts { cpu, mem } = self.parts.as_ref().ok_or_else(lost)?;
        let now = mem.clock.now();
        let mut state = cpu.to_vcpu();
        state.system.cr8 = u64::from(mem.apic.task_priority());
        state.system.apic_base = mem.apic.base();
        state.apic = mem.apic.save(now);
        let tsc = mem.clock.tsc(now).wrapping_add(mem.tsc_adjust);
        state.msrs.push((spec::MSR_TSC, tsc));
        state.msrs.push((spec::MSR_TSC_ADJUST, mem.tsc_adjust));
        state.msrs.push((spec::MSR_TSC_DEADLINE, mem.apic.tsc_deadline()));
        state.events.nmi_pending = self.runner.nmis != 0;
        state.mp = mp_state(cpu.halted, self.runner.waiting_for_sipi);
        Ok(state)
    }

    pub(super) fn restore(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        check(state)?;
        let Parts { cpu, mem } = self.parts.as_mut().ok_or_else(lost)?;
        let msr = |index: u32| state.msrs.iter().find(|(i, _)| *i == index).map(|(_, v)| *v);
        *cpu = CpuState::from_vcpu(state);
        cpu.msr.kept.retain(|(index, _)| !owned_by_engine(*index));
        let now = mem.clock.now();
        mem.tsc_adjust = msr(spec::MSR_TSC_ADJUST).unwrap_or(mem.tsc_adjust);
        if let Some(tsc) = msr(spec::MSR_TSC) {
            mem.clock.set_tsc(tsc.wrapping_sub(mem.tsc_adjust));
        }
        mem.apic.restore(&state.apic, state.system.apic_base, now);
        if let Some(deadline) = msr(spec::MSR_TSC_DEADLINE).filter(|deadline| *deadline != 0) {
            let at = mem.time_of(deadline);
            mem.apic.set_tsc_deadline(deadline, at);
        }
        if let Some(vector) = state.events.interrupt {
            mem.apic.accept(vector, false);
        }
        mem.tlb.flush();
        mem.large.flush();
        mem.forget_fetches();
        mem.apic.publish(&mem.shared.identities[mem.index as usize]);
        self.runner.cache.clear();
        if let Some(tier) = &mut self.runner.tier {
            tier.clear();
        }
        self.runner.nmis = state.events.nmi_pending.into();
        self.runner.waiting_for_sipi = state.mp == MpState::WaitForSipi;
        Ok(())
    }
}

/// Refuses control registers that no CPU can be brought to have (Intel SDM vol. 3A §2.2.1, §2.5, §9.8.5).
fn check(state: &VcpuState) -> Result<(), EngineError> {
    let system = &state.system;
    let refuse = |what: &str, value: u64, rule: &str| {
        Err(EngineError::State(format!("{what} {value:#x} is not possible: {rule}")))
    };
    if !is_possible_cr0(system.cr0) {
        return refuse("CR0", system.cr0, "PG needs PE, NW needs CD, bits 63:32 are 0");
    }
    let paging = system.cr0 & cr0::PG != 0;
    let long = paging && system.efer & efer::LME != 0;
    if long != (system.efer & efer::LMA != 0) {
        return refuse("EFER", system.efer, "LMA is LME with CR0.PG set");
    }
    if long && system.cr4 & cr4::PAE == 0 {
        return refuse("CR4", system.cr4, "long mode needs PAE");
    }
    Ok(())
}

/// Registers that the engine keeps elsewhere.
fn owned_by_engine(index: u32) -> bool {
    matches!(index, spec::MSR_TSC | spec::MSR_TSC_ADJUST | spec::MSR_TSC_DEADLINE | spec::MSR_BASE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SoftHypervisor;
    use kezhan_hypervisor::{GuestMemory, Hypervisor, PartitionConfig};
    use std::sync::Arc;
    use vm_memory::GuestAddress;

    #[test]
    fn states_that_are_set_one_after_the_other_leave_one_tsc() {
        let engine = SoftHypervisor::with_translator(false);
        let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap());
        let cpuid = engine.supported_cpuid().unwrap();
        let config = PartitionConfig { memory, cpus: 2, cpuid, pins: 24 };
        let partition = engine.create(config).unwrap();
        let mut vcpus = [0, 1].map(|index| partition.vcpu(index).unwrap());
        for vcpu in &mut vcpus {
            let fresh = vcpu.state().unwrap();
            vcpu.set_state(&fresh).unwrap();
        }
        partition.pause();
        let [first, second] = vcpus.map(|vcpu| {
            let state = vcpu.state().unwrap();
            state.msrs.iter().find(|(index, _)| *index == spec::MSR_TSC).unwrap().1
        });
        assert_eq!(first, second);
    }

    #[test]
    fn control_registers_that_contradict_each_other_are_refused_by_name() {
        let paging = cr0::PE | cr0::PG;
        let long = efer::LME | efer::LMA;
        let cases = [
            (cr0::PE, 0, 0, None),
            (paging, cr4::PAE, long, None),
            (cr0::PE, 0, efer::LME, None),
            (cr0::PG, 0, 0, Some("CR0")),
            (paging, cr4::PAE, efer::LME, Some("EFER")),
            (cr0::PE, cr4::PAE, long, Some("EFER")),
            (paging, 0, long, Some("CR4")),
        ];
        for (cr0, cr4, efer, refused) in cases {
            let mut state = VcpuState::default();
            (state.system.cr0, state.system.cr4, state.system.efer) = (cr0, cr4, efer);
            let answer = check(&state).err().map(|error| error.to_string());
            match refused {
                None => assert_eq!(answer, None),
                Some(name) => {
                    assert!(answer.unwrap().contains(name), "{cr0:#x} {cr4:#x} {efer:#x}")
                }
            }
        }
    }
}
