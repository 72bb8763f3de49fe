//! What the instructions that are about the processor itself find: MSRs, time, the local APIC, CPUID, PAUSE.

use crate::apic::Effect;
use crate::apic::spec::{self, register};
use crate::memory::{SoftMemory, apply};
use crate::ticker::NEVER;
use kezhan_x86::Core;
use kezhan_x86::memory::Platform;
use kezhan_x86::state::convert::{PKRU, PKRU_AT, PKRU_BYTES};
use kezhan_x86::state::cr4;

type SoftCore<'r> = Core<'r, SoftMemory>;

/// PAUSEs after which the host may run somebody else.
const PAUSES: u32 = 32;

impl Platform for SoftMemory {
    fn read_msr(core: &mut SoftCore<'_>, index: u32) -> Option<Result<u64, ()>> {
        Some(match index {
            spec::MSR_TSC => Ok(SoftMemory::time_stamp(core)),
            spec::MSR_TSC_ADJUST => Ok(core.mem.tsc_adjust),
            spec::MSR_BASE => Ok(core.mem.apic.base()),
            spec::MSR_TSC_DEADLINE => Ok(core.mem.apic.tsc_deadline()),
            spec::MSR_X2APIC..=spec::MSR_X2APIC_LAST => read_x2apic(core, index),
            _ => return None,
        })
    }

    fn write_msr(core: &mut SoftCore<'_>, index: u32, value: u64) -> Option<Result<(), ()>> {
        match index {
            spec::MSR_TSC => {
                let by = value.wrapping_sub(SoftMemory::time_stamp(core));
                core.mem.move_time(by);
            }
            spec::MSR_TSC_ADJUST => {
                let by = value.wrapping_sub(core.mem.tsc_adjust);
                core.mem.move_time(by);
            }
            spec::MSR_BASE if value & spec::BASE_X2APIC != 0 && !has_x2apic(core) => {
                return Some(Err(()));
            }
            spec::MSR_BASE => {
                let done = core.mem.apic.set_base(value).or(Err(()));
                apply(core, Effect::None);
                return Some(done);
            }
            spec::MSR_TSC_DEADLINE => {
                let at = core.mem.time_of(value);
                core.mem.apic.set_tsc_deadline(value, at);
                // A deadline that has passed fires at once.
                let now = core.mem.clock.now();
                core.mem.apic.tick(now);
                core.mem.tell_deadline();
            }
            spec::MSR_X2APIC..=spec::MSR_X2APIC_LAST => {
                return Some(write_x2apic(core, index, value));
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    fn time_stamp(core: &mut SoftCore<'_>) -> u64 {
        let memory = &core.mem;
        memory.clock.tsc(memory.clock.now()).wrapping_add(memory.tsc_adjust)
    }

    fn task_priority(core: &mut SoftCore<'_>) -> u8 {
        core.mem.apic.task_priority()
    }

    fn set_task_priority(core: &mut SoftCore<'_>, priority: u8) {
        core.mem.apic.set_task_priority(priority);
    }

    fn pause(core: &mut SoftCore<'_>) {
        core.mem.pauses = (core.mem.pauses + 1) % PAUSES;
        if core.mem.pauses == 0 && core.mem.shared.mailboxes.len() > 1 {
            core.mem.traffic.yields += 1;
            std::thread::yield_now();
        }
    }

    fn cpuid(core: &mut SoftCore<'_>, leaf: u32, subleaf: u32) -> [u32; 4] {
        let mut answer = core.mem.cpuid.answer(leaf, subleaf);
        match (leaf, subleaf) {
            (1, _) => {
                answer[2] |= u32::from(core.cpu.cr4 & cr4::OSXSAVE != 0) << 27;
                // Software that turns the local APIC off takes it for absent (Intel SDM vol. 3A §11.4.3).
                answer[3] &= !(u32::from(!core.mem.apic.enabled()) << 9);
            }
            (7, 0) => answer[2] |= u32::from(core.cpu.cr4 & cr4::PKE != 0) << 4,
            (0xd, 0) => answer[1] = xsave_size(core.cpu.xcr0),
            _ => {}
        }
        answer
    }
}

/// Whether CPUID tells of x2APIC mode.
fn has_x2apic(core: &SoftCore<'_>) -> bool {
    core.mem.cpuid.answer(1, 0)[2] >> 21 & 1 == 1
}

/// Bytes that XSAVE writes for the components of XCR0 (Intel SDM vol. 1 §13.4).
fn xsave_size(xcr0: u64) -> u32 {
    match xcr0 {
        _ if xcr0 & PKRU != 0 => (PKRU_AT + PKRU_BYTES) as u32,
        _ if xcr0 & 4 != 0 => 832,
        _ => 576,
    }
}

fn read_x2apic(core: &mut SoftCore<'_>, index: u32) -> Result<u64, ()> {
    let offset = (index - spec::MSR_X2APIC) * 16;
    let now = core.mem.clock.now();
    let apic = &core.mem.apic;
    let write_only = matches!(offset, register::EOI | register::SELF_IPI);
    if !apic.x2apic() || !register::is_in_x2apic(offset) || write_only {
        return Err(());
    }
    if offset == register::ICR_LOW {
        return Ok(apic.icr());
    }
    Ok(u64::from(apic.read(offset, now)))
}

fn write_x2apic(core: &mut SoftCore<'_>, index: u32, value: u64) -> Result<(), ()> {
    let offset = (index - spec::MSR_X2APIC) * 16;
    let now = core.mem.clock.now();
    let apic = &mut core.mem.apic;
    let read_only = matches!(
        offset,
        register::ID
            | register::VERSION
            | register::PPR
            | register::LDR
            | register::CURRENT_COUNT
            | register::ISR..=0x270
    );
    let zero_only = matches!(offset, register::EOI | register::ESR);
    let absent = !apic.x2apic() || !register::is_in_x2apic(offset);
    if absent || read_only || zero_only && value != 0 {
        return Err(());
    }
    let effect = match offset {
        register::ICR_LOW => apic.write_icr(value),
        register::SELF_IPI if value > 0xff => return Err(()),
        register::SELF_IPI => Effect::Send(u64::from(value as u8) | 1 << 18),
        _ if value >> 32 != 0 => return Err(()),
        _ => apic.write(offset, value as u32, now),
    };
    apply(core, effect);
    Ok(())
}

impl SoftMemory {
    fn move_time(&mut self, by: u64) {
        self.tsc_adjust = self.tsc_adjust.wrapping_add(by);
        let tsc = self.apic.tsc_deadline();
        let at = self.time_of(tsc);
        self.apic.set_tsc_deadline(tsc, at);
        self.tell_deadline();
    }

    /// Makes sure that the vCPU looks at the clock when its timer fires.
    pub(crate) fn tell_deadline(&self) {
        let deadline = self.apic.deadline().unwrap_or(NEVER);
        let mailbox = &self.shared.mailboxes[self.index as usize];
        if mailbox.deadline() != deadline {
            mailbox.set_deadline(deadline);
        }
        // The plan may be from before this vCPU ran.
        self.shared.ticker.heed(deadline);
    }

    /// The nanosecond at which the TSC has a value.
    pub(crate) fn time_of(&self, tsc: u64) -> u64 {
        self.clock.time_of(tsc.wrapping_sub(self.tsc_adjust))
    }
}
