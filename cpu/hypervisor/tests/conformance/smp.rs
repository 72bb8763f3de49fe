//! More than one processor (Intel SDM vol. 3A §9.4).

use crate::Case;
use crate::kit::*;
use kezhan_hypervisor::{Hypervisor, MpState};
use vm_memory::{Bytes, GuestAddress};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("processors_but_the_first_wait_for_sipi", waiting),
        Case::new("a_kick_ends_a_processor_that_waits_for_sipi", kick_waiting),
        Case::new("init_and_sipi_start_all_processors", start_up),
        Case::new("cpuid_and_apic_give_each_processor_its_own_id", ids),
    ]
}

/// Page of the SIPI vector.
const START: u64 = 0xb000;
const ICR: u64 = 0x300;
const INIT_ALL_OTHERS: u32 = 0xc4500;
const SIPI_ALL_OTHERS: u32 = 0xc4600 | (START >> 12) as u32;

fn waiting(engine: &dyn Hypervisor) {
    let guest = Guest::with_cpus(engine, 2, |_| Ok(()));
    let state = |index| guest.partition.vcpu(index).unwrap().state().unwrap();
    let (first, second) = (state(0), state(1));
    assert_eq!((first.mp, second.mp), (MpState::Running, MpState::WaitForSipi));
    assert_eq!(first.general.rip, 0xfff0);
    assert_eq!(first.system.segments[1].base, 0xffff_0000);
    assert!(guest.partition.vcpu(1).is_err(), "each vCPU is given out once");
    assert!(guest.partition.vcpu(2).is_err());
}

fn kick_waiting(engine: &dyn Hypervisor) {
    // The second processor gets no SIPI, and is kicked when the first is done.
    Guest::with_cpus(engine, 2, |_| Ok(())).run();
}

/// Wakes the others with real-mode `code` at START, and waits until byte 0 of the results counts them.
fn start_others(engine: &dyn Hypervisor, cpus: u32, code: &[u8]) -> Guest {
    let guest = Guest::with_cpus(engine, cpus, |a| {
        enable_apic(a)?;
        write_apic(a, ICR, INIT_ALL_OTHERS)?;
        write_apic(a, ICR, SIPI_ALL_OTHERS)?;
        wait_for(a, 0, cpus as i32 - 1)
    });
    guest.memory.write_slice(code, GuestAddress(START)).unwrap();
    guest
}

/// `mov ax, 0x8000` · `mov ds, ax`: DS:0 is the results.
const DATA_IN_DS: [u8; 5] = [0xb8, 0x00, 0x80, 0x8e, 0xd8];
/// `lock inc byte [0]` · `cli` · `hlt` · `jmp -3`
const COUNT_AND_HALT: [u8; 9] = [0xf0, 0xfe, 0x06, 0, 0, 0xfa, 0xf4, 0xeb, 0xfd];

fn start_up(engine: &dyn Hypervisor) {
    // mov ax, cs; mov [8], ax
    let see_cs = [0x8c, 0xc8, 0xa3, 8, 0];
    let code = [&DATA_IN_DS[..], &see_cs, &COUNT_AND_HALT].concat();
    let guest = start_others(engine, 3, &code);
    guest.run();
    assert_eq!(guest.result(0), 2);
    assert_eq!(guest.result(1), START >> 4, "CS comes from the vector");
}

fn ids(engine: &dyn Hypervisor) {
    // mov eax, 1; cpuid; shr ebx, 24; mov [bx + 8], bl
    let see_id = [0x66, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x66, 0xc1, 0xeb, 24, 0x88, 0x5f, 8];
    let code = [&DATA_IN_DS[..], &see_id, &COUNT_AND_HALT].concat();
    let guest = start_others(engine, 3, &code);
    guest.run();
    assert_eq!(guest.result(1) & 0xff_ffff, 0x02_01_00);
}
