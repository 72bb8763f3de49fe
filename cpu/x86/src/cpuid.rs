//! What CPUID answers on the software engine (Intel SDM vol. 2A, CPUID).
//!
//! The CPU is an x86-64-v2 processor of family 6. Its frequencies come from leaf 15H, so that no guest has
//! to measure them; its model number is one that is known not to speculate, so that guests leave out
//! what would guard real silicon.

use crate::state::convert::{PKRU, PKRU_AT, PKRU_BYTES};
use kezhan_hypervisor::{CpuidEntry, CpuidTable};

/// TSC frequencies that the crystal of leaf 15H can be multiplied to, in kHz.
pub const TSC_STEP_KHZ: u32 = 250;

/// Family 6, model 1CH, stepping 10.
const SIGNATURE: u32 = 0x0001_06ca;

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, CX16, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, TSC-deadline, AES, XSAVE, hypervisor.
const FEATURES_ECX: u32 = 1
    | 1 << 1
    | 1 << 9
    | 1 << 13
    | 1 << 17
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 31;
/// Leaf 1 EDX: FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2.
const FEATURES_EDX: u32 = 0x078b_fbfd;
/// Leaf 7 EBX: FSGSBASE, TSC_ADJUST, SMEP, ERMS, INVPCID, SMAP.
const STRUCTURED_EBX: u32 = 1 | 1 << 1 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 20;
/// Leaf 7 ECX: UMIP, PKU, PKS.
const STRUCTURED_ECX: u32 = 1 << 2 | 1 << 3 | 1 << 31;
/// Leaf 7 EDX: ARCH_CAPABILITIES.
const STRUCTURED_EDX: u32 = 1 << 29;
/// Leaf 80000001H ECX: LAHF.
const EXTENDED_ECX: u32 = 1;
/// Leaf 80000001H EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;

/// What of KVM's paravirtual interface there is (Linux `Documentation/virt/kvm/x86/cpuid.rst`): port accesses need
/// no delay. That the interface is there at all tells Linux that its timer works: it would judge it by how many
/// interrupts come in 40 ms, and a busy host may run no thread of ours for as long as that.
const KVM_FEATURES: u32 = 1 << 1;

const BRAND: &[u8; 48] = b"Kezhan software CPU, x86-64-v2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// All that the software engine can serve, for a TSC of `tsc_khz` (a multiple of [`TSC_STEP_KHZ`]) and a
/// crystal of `crystal_khz`.
pub fn supported(tsc_khz: u32, crystal_khz: u32) -> CpuidTable {
    let mut table = CpuidTable::default();
    let mut put = |leaf: u32, subleaf: Option<u32>, registers: [u32; 4]| {
        table.set(CpuidEntry { leaf, subleaf, registers });
    };
    put(0, None, [0x16, word(b"Genu"), word(b"ntel"), word(b"ineI")]);
    put(1, None, [SIGNATURE, 8 << 8, FEATURES_ECX, FEATURES_EDX]);
    put(7, Some(0), [0, STRUCTURED_EBX, STRUCTURED_ECX, STRUCTURED_EDX]);
    put(0xb, Some(0), [0, 1, 1 << 8, 0]);
    put(0xb, Some(1), [8, 1, 2 << 8 | 1, 0]);
    put(0xd, Some(0), [3 | PKRU as u32, 576, (PKRU_AT + PKRU_BYTES) as u32, 0]);
    put(0xd, Some(1), [1, 576, 0, 0]);
    put(0xd, Some(9), [PKRU_BYTES as u32, PKRU_AT as u32, 0, 0]);
    let hundreds = crystal_khz / TSC_STEP_KHZ;
    put(0x15, None, [hundreds, tsc_khz / TSC_STEP_KHZ, crystal_khz * 1000, 0]);
    put(0x16, None, [tsc_khz / 1000, tsc_khz / 1000, 100, 0]);
    put(0x4000_0000, None, [0x4000_0010, word(b"Kezh"), word(b"anKe"), word(b"zhan")]);
    put(0x4000_0010, None, [tsc_khz, crystal_khz, 0, 0]);
    put(0x4000_0100, None, [0x4000_0101, word(b"KVMK"), word(b"VMKV"), word(b"M\0\0\0")]);
    put(0x4000_0101, None, [KVM_FEATURES, 0, 0, 0]);
    put(0x8000_0000, None, [0x8000_0008, 0, 0, 0]);
    put(0x8000_0001, None, [0, 0, EXTENDED_ECX, EXTENDED_EDX]);
    for (leaf, part) in (0x8000_0002..).zip(BRAND.chunks(16)) {
        let registers = [word(part), word(&part[4..]), word(&part[8..]), word(&part[12..])];
        put(leaf, None, registers);
    }
    put(0x8000_0006, None, [0, 0, 0x0400_8040, 0]);
    put(0x8000_0007, None, [0, 0, 0, 1 << 8]);
    put(0x8000_0008, None, [48 << 8 | crate::paging::PHYSICAL_BITS, 0, 0, 0]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux looks for the interface at each 100H from 40000000H on.
    #[test]
    fn kvm_s_interface_stands_beside_our_own_name() {
        let table = supported(2_600_000, 26_000);
        let leaf = |leaf| table.answer(leaf, 0);
        assert_eq!(leaf(0x4000_0000)[1..], [word(b"Kezh"), word(b"anKe"), word(b"zhan")]);
        assert_eq!(leaf(0x4000_0100)[1..], [word(b"KVMK"), word(b"VMKV"), word(b"M\0\0\0")]);
        assert_eq!(leaf(0x4000_0101), [KVM_FEATURES, 0, 0, 0]);
    }
}
