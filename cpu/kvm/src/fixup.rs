//! Instructions that KVM cannot run, run by our interpreter.
//!
//! KVM gives up (KVM_EXIT_INTERNAL_ERROR, emulation failure) at an instruction that it had to emulate and
//! whose emulation it lacks: on any host, an unusual one that touched a device's registers; on a host
//! whose KVM interprets ring 0, half of the instruction set. Nothing of the instruction has happened then,
//! RIP points to it, and the guest can go on when somebody else completes it:
//!
//! ```text
//!   KVM ── registers, XSAVE area, nine MSRs ──► CpuState ── interpreter, `burst` instructions ──► KVM
//!                                                 │    only what has changed is written back
//!                  Linear: a page walk for each access; RAM, ROM, or the machine
//! ```
//!
//! # How many
//! One; but as long as KVM_RUN comes back with nothing but further failures, twice as many each time, up
//! to [`LONGEST_BURST`]: moving the state costs as much as tens of instructions. An interrupt that comes
//! meanwhile waits for the end of the burst.
//!
//! # What it leaves to KVM
//! The interpreter stops before anything whose state KVM keeps to itself: HLT, the APIC's registers, CR8,
//! MSRs and CPUID, none of which KVM fails at. When the first instruction is such, or one that the
//! interpreter does not have either, the vCPU fails with the reason.
//!
//! # Limits
//! Protection keys and data breakpoints are not checked; ZMM and mask registers keep their values and
//! cannot be used; a locked access across two cache lines is not atomic.

mod linear;
mod physical;

use crate::call::Named;
use crate::partition::Shared;
use crate::{msr, state, time};
use kezhan_hypervisor::{CpuIo, EngineError, SystemRegisters, VcpuState};
use kezhan_x86::core::Machine;
use kezhan_x86::state::{BLOCK, CodeBits, cr0, cr4};
use kezhan_x86::table::Operation;
use kezhan_x86::{Core, CpuState, Stop, block, flags, interp, lower, table};
use kvm_bindings::kvm_vcpu_events;
use kvm_ioctls::VcpuFd;
use linear::Linear;
use std::sync::Arc;

/// The most instructions that are run before KVM is asked again.
pub(crate) const LONGEST_BURST: u32 = 256;

/// CR4.LA57: five levels of page tables (Intel SDM vol. 3A §2.5), which our walk does not have.
const CR4_LA57: u64 = 1 << 12;

/// The MSRs that instructions use by themselves: the SYSENTER and SYSCALL targets, KERNEL_GS_BASE, TSC_AUX
/// (Intel SDM vol. 4 table 2-2).
const MSRS: [u32; 9] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0102,
    0xc000_0103,
];

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// At least one instruction was completed, or raised its exception.
    Done,
    /// Triple fault.
    Shutdown,
    /// The first instruction cannot be run here either, and why. Nothing has changed.
    Unable(String),
}

/// Runs the instruction at RIP, and up to `burst` in all.
pub(crate) fn run(
    vcpu: &VcpuFd,
    shared: &Arc<Shared>,
    io: &dyn CpuIo,
    burst: u32,
) -> Result<Outcome, EngineError> {
    let events = vcpu.get_vcpu_events().named("KVM_GET_VCPU_EVENTS")?;
    if events.exception.injected | events.exception.pending | events.interrupt.injected != 0 {
        return Ok(Outcome::Unable("an event was being delivered".into()));
    }
    let before = read(vcpu, &events)?;
    if before.system.cr4 & CR4_LA57 != 0 {
        return Ok(Outcome::Unable("five-level paging".into()));
    }
    let mut cpu = CpuState::from_vcpu(&before);
    let mem = Linear::new(shared.clone(), before.system.apic_base, time::offset(vcpu)?);
    mem.load_pdptrs(&mut cpu);
    let mut core = Core { cpu, mem, io: Machine(io) };
    match interpret(&mut core, burst) {
        Outcome::Done => write(vcpu, &before, &core, events)?,
        other => return Ok(other),
    }
    Ok(Outcome::Done)
}

/// The parts of the state that instructions use.
fn read(vcpu: &VcpuFd, events: &kvm_vcpu_events) -> Result<VcpuState, EngineError> {
    let mut state = VcpuState {
        general: state::general(vcpu)?,
        system: state::system(&vcpu.get_sregs().named("KVM_GET_SREGS")?),
        debug: state::debug(vcpu)?,
        xcr0: state::xcr0(vcpu)?,
        xsave: state::xsave(vcpu)?,
        msrs: msr::read(vcpu, &MSRS)?,
        ..VcpuState::default()
    };
    state.events.interrupt_shadow = events.interrupt.shadow != 0;
    state.events.nmi_masked = events.nmi.masked != 0;
    Ok(state)
}

/// Writes what differs from `before`.
fn write(
    vcpu: &VcpuFd,
    before: &VcpuState,
    core: &Core<'_, Linear>,
    mut events: kvm_vcpu_events,
) -> Result<(), EngineError> {
    let mut after = core.cpu.to_vcpu();
    // The APIC's, which the core does not have.
    after.system.cr8 = before.system.cr8;
    after.system.apic_base = before.system.apic_base;
    write_system(vcpu, &before.system, &after.system, core.mem.flushed())?;
    state::set_general(vcpu, &after.general)?;
    if after.debug != before.debug {
        state::set_debug(vcpu, &after.debug)?;
    }
    if after.xcr0 != before.xcr0 || after.xsave != CpuState::from_vcpu(before).fpu.to_xsave() {
        let area = state::merge_xsave(&before.xsave, &after.xsave);
        state::set_extended(vcpu, after.xcr0, &area)?;
    }
    let changed: Vec<_> = after
        .msrs
        .iter()
        .filter(|msr| MSRS.contains(&msr.0) && !before.msrs.contains(msr))
        .copied()
        .collect();
    msr::write(vcpu, &changed)?;
    if after.events != before.events {
        events.interrupt.shadow = after.events.interrupt_shadow.into();
        events.nmi.masked = after.events.nmi_masked.into();
        events.flags = kvm_bindings::KVM_VCPUEVENT_VALID_SHADOW;
        vcpu.set_vcpu_events(&events).named("KVM_SET_VCPU_EVENTS")?;
    }
    Ok(())
}

/// KVM forgets what the processor remembers of the guest's page tables when CR4.PGE changes.
fn write_system(
    vcpu: &VcpuFd,
    before: &SystemRegisters,
    after: &SystemRegisters,
    flushed: bool,
) -> Result<(), EngineError> {
    if flushed {
        let toggled = SystemRegisters { cr4: after.cr4 ^ cr4::PGE, ..*after };
        state::set_system(vcpu, &toggled)?;
    }
    if flushed || after != before {
        state::set_system(vcpu, after)?;
    }
    Ok(())
}

fn interpret(core: &mut Core<'_, Linear>, burst: u32) -> Outcome {
    for done in 0..burst {
        let before = core.cpu.clone();
        match step(core) {
            Ok(()) => {}
            Err(Trouble::Shutdown) => return Outcome::Shutdown,
            Err(Trouble::NotHere(why)) => {
                core.cpu = before;
                return if done == 0 { Outcome::Unable(why) } else { Outcome::Done };
            }
        }
        if core.wants_single_step() {
            break;
        }
    }
    Outcome::Done
}

enum Trouble {
    Shutdown,
    NotHere(String),
}

/// One instruction, with the delivery of the exception that it raises.
fn step(core: &mut Core<'_, Linear>) -> Result<(), Trouble> {
    let begin = core.cpu.rip;
    let traced = core.cpu.rflags & flags::TF != 0;
    let result = match fetch(core)? {
        Some(block) => {
            core.cpu.gpr[BLOCK] = begin;
            core.cpu.interrupt_shadow = false;
            core.cpu.trap_blocked = false;
            core.cpu.rflags &= !flags::RF;
            block.ops.iter().try_for_each(|op| (op.run)(core, op))
        }
        None => Err(Stop::Exception),
    };
    if let Some(why) = core.mem.refused() {
        return Err(Trouble::NotHere(why));
    }
    match result {
        Ok(()) => {
            if !traced || core.cpu.trap_blocked {
                return Ok(());
            }
            core.raise_single_step();
            deliver(core)
        }
        Err(Stop::Exception) => {
            if !core.cpu.exception.trap {
                core.cpu.rip = begin;
            }
            deliver(core)
        }
        Err(Stop::Shutdown) => Err(Trouble::Shutdown),
        Err(Stop::CodeWrite) => Err(Trouble::NotHere("a store was refused".into())),
    }
}

fn deliver(core: &mut Core<'_, Linear>) -> Result<(), Trouble> {
    match core.deliver_exception() {
        Ok(()) => core.mem.refused().map_or(Ok(()), |why| Err(Trouble::NotHere(why))),
        Err(_) => Err(Trouble::Shutdown),
    }
}

/// Decodes the instruction at RIP; `None` when fetching it raised an exception.
fn fetch(core: &mut Core<'_, Linear>) -> Result<Option<block::Block<Linear>>, Trouble> {
    let mut bytes = [0; block::LONGEST_INSTRUCTION];
    let linear = core.cpu.seg_base[1].wrapping_add(core.cpu.rip & core.cpu.rip_mask);
    let in_page = (0x1000 - (linear & 0xfff)).min(bytes.len() as u64) as usize;
    let (first, rest) = bytes.split_at_mut(in_page);
    if Linear::fetch(core, linear, first).is_err() {
        return Ok(None);
    }
    let bits = core.cpu.code_bits;
    if let Some(block) = decode(first, bits)? {
        return Ok(Some(block));
    }
    if Linear::fetch(core, linear + in_page as u64, rest).is_err() {
        return Ok(None);
    }
    decode(&bytes, bits)?
        .map(Some)
        .ok_or_else(|| Trouble::NotHere("an instruction of more than 15 bytes".into()))
}

/// One instruction out of `bytes`; `None` when it is longer.
fn decode(bytes: &[u8], bits: CodeBits) -> Result<Option<block::Block<Linear>>, Trouble> {
    let instruction = lower::decoder::<Linear>(bits, bytes, 0).decode();
    let row = table::row(instruction.code());
    let kept_by_kvm = matches!(row.map(|row| row.operation), Some(Operation::Hlt));
    let block = block::decode::<Linear>(bytes, bits, 1);
    let native = block.as_ref().is_some_and(|b| b.ops.iter().any(|op| op.thunk.is_some()));
    let known =
        native || row.is_some_and(|row| interp::select::<Linear>(row, &instruction).is_some());
    let undefined = instruction.is_invalid()
        || matches!(instruction.mnemonic(), iced_x86::Mnemonic::Ud0 | iced_x86::Mnemonic::Ud1);
    if kept_by_kvm || !known && !undefined {
        return Err(Trouble::NotHere(format!("no {:?} here", instruction.mnemonic())));
    }
    Ok(block)
}

/// Whether PAE paging's pointers are in use (Intel SDM vol. 3A §4.4.1).
fn uses_pdptrs(cpu: &CpuState) -> bool {
    cpu.cr0 & cr0::PG != 0 && cpu.cr4 & cr4::PAE != 0 && !cpu.long_mode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> iced_x86::Code {
        let block = decode(bytes, CodeBits::Bits64).ok().flatten().unwrap();
        iced_x86::Code::try_from(usize::from(block.ops[0].code)).unwrap()
    }

    #[test]
    fn bytes_are_read_as_hardware_reads_them() {
        assert_eq!(decoded(&[0xf3, 0x0f, 0xbc, 0xc1]), iced_x86::Code::Tzcnt_r32_rm32);
        assert_eq!(decoded(&[0xf3, 0x0f, 0xbd, 0xc1]), iced_x86::Code::Lzcnt_r32_rm32);
        assert_eq!(decoded(&[0x0f, 0xbc, 0xc1]), iced_x86::Code::Bsf_r32_rm32);
    }

    #[test]
    fn a_prefetch_is_a_hint_and_no_stop() {
        let block = decode(&[0x0f, 0x18, 0x08], CodeBits::Bits64).ok().flatten();
        assert_eq!(block.map(|block| block.length), Some(3));
    }
}
