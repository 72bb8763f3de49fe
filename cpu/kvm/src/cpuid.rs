//! CPUID between our table and KVM's (KVM API §4.20, §4.46).

use crate::call::Named;
use crate::spec::{
    CPUID_1_ECX_TSC_DEADLINE, CPUID_KVM_FEATURES, CPUID_KVM_FEATURES_PASSED, CPUID_KVM_SIGNATURE,
};
use kezhan_hypervisor::{CpuidEntry, CpuidTable, EngineError};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::{Cap, Kvm};

/// What KVM can offer on this host, with our choice among its paravirtual features. The TSC-deadline
/// timer is a capability, which older kernels do not put into the table.
pub(crate) fn supported(kvm: &Kvm) -> Result<CpuidTable, EngineError> {
    let entries =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).named("KVM_GET_SUPPORTED_CPUID")?;
    let mut table = table(&entries);
    for entry in &mut table.entries {
        match entry.leaf {
            1 if kvm.check_extension(Cap::TscDeadlineTimer) => {
                entry.registers[2] |= CPUID_1_ECX_TSC_DEADLINE;
            }
            CPUID_KVM_SIGNATURE => entry.registers[0] = CPUID_KVM_FEATURES,
            CPUID_KVM_FEATURES => entry.registers[0] &= CPUID_KVM_FEATURES_PASSED,
            _ => {}
        }
    }
    Ok(table)
}

/// KVM's table as ours.
pub(crate) fn table(entries: &CpuId) -> CpuidTable {
    let mut table = CpuidTable::default();
    for entry in entries.as_slice() {
        table.set(from_kvm(entry));
    }
    table
}

/// `table` for the vCPU with APIC id `id`: leaf 1 EBX[31:24], leaves 0x0b and 0x1f EDX (Intel SDM vol. 2A,
/// CPUID), leaf 0x8000_001e EAX (AMD APM vol. 3 appendix E.4.17).
pub(crate) fn for_vcpu(table: &CpuidTable, id: u32) -> Result<CpuId, EngineError> {
    let mut entries: Vec<_> = table.entries.iter().map(to_kvm).collect();
    for entry in &mut entries {
        match entry.function {
            1 => entry.ebx = (entry.ebx & 0x00ff_ffff) | id << 24,
            0x0b | 0x1f => entry.edx = id,
            0x8000_001e => entry.eax = id,
            _ => {}
        }
    }
    CpuId::from_entries(&entries).map_err(|_too_many| {
        EngineError::State(format!("{} CPUID entries are more than KVM takes", entries.len()))
    })
}

fn from_kvm(entry: &kvm_cpuid_entry2) -> CpuidEntry {
    let indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
    CpuidEntry {
        leaf: entry.function,
        subleaf: indexed.then_some(entry.index),
        registers: [entry.eax, entry.ebx, entry.ecx, entry.edx],
    }
}

fn to_kvm(entry: &CpuidEntry) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = entry.registers;
    kvm_cpuid_entry2 {
        function: entry.leaf,
        index: entry.subleaf.unwrap_or(0),
        flags: if entry.subleaf.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_that_holds_an_apic_id_gets_the_vcpus_own() {
        let mut table = CpuidTable::default();
        for (leaf, subleaf) in [(1, None), (0xb, Some(0)), (0xb, Some(1)), (0x8000_001e, None)] {
            table.set(CpuidEntry { leaf, subleaf, registers: [0, 0x0010_0800, 0, 0] });
        }
        let cpuid = for_vcpu(&table, 5).unwrap();
        let entries = cpuid.as_slice();
        assert_eq!(entries[0].ebx, 0x0510_0800);
        assert_eq!((entries[1].edx, entries[2].edx), (5, 5));
        assert_eq!(entries[3].eax, 5);
        assert_eq!(entries[0].flags, 0);
        assert_eq!((entries[2].index, entries[2].flags), (1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX));
    }
}
