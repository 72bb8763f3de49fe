//! The state in which the first vCPU starts.

use crate::placement::Placement;
use crate::spec::{apic, control, gdt, low, paging, segment};
use crate::{KernelError, MemoryKind};
use kezhan_hypervisor::{DescriptorTable, Segment, VcpuState};

/// The processor mode that a boot protocol asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 64-bit mode with the first 4 GiB mapped to themselves.
    Long,
    /// 32-bit protected mode without paging, flat segments.
    Protected,
}

/// How the first vCPU starts: what the boot protocol says, no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mode.
    pub mode: Mode,
    /// Address of the first instruction.
    pub rip: u64,
    /// RAX.
    pub rax: u64,
    /// RBX.
    pub rbx: u64,
    /// RSI.
    pub rsi: u64,
}

impl Entry {
    /// Changes a vCPU's reset state into the entry state: general registers, segments, tables, CR0, CR3,
    /// CR4, EFER, and the local APIC's inputs: the PIC's interrupts come through. The rest (MSRs, extended
    /// state, CPU number) stays the engine's own.
    pub fn apply(&self, state: &mut VcpuState) {
        let general = &mut state.general;
        general.gpr = [0; 16];
        general.gpr[0] = self.rax;
        general.gpr[3] = self.rbx;
        general.gpr[6] = self.rsi;
        general.rip = self.rip;
        general.rflags = control::RFLAGS_ONE;
        let system = &mut state.system;
        system.segments = [flat(gdt::DATA_SELECTOR, segment::DATA, false); 6];
        system.segments[1] = flat(gdt::CODE_SELECTOR, segment::CODE, self.mode == Mode::Long);
        system.ldtr = table_segment(segment::LDT, 0xffff);
        system.tr = table_segment(segment::TSS_BUSY, 0x67);
        system.gdtr = DescriptorTable { base: low::GDT, limit: gdt::LENGTH - 1 };
        system.idtr = DescriptorTable { base: 0, limit: 0 };
        system.cr2 = 0;
        (system.cr0, system.cr3, system.cr4, system.efer) = self.control();
        let apic = &mut state.apic.registers;
        for (offset, value) in apic::VIRTUAL_WIRE {
            apic.iter_mut().skip(offset).zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }

    fn control(&self) -> (u64, u64, u64, u64) {
        let cr0 = control::CR0_PE | control::CR0_ET;
        match self.mode {
            Mode::Protected => (cr0, 0, 0, 0),
            Mode::Long => (
                cr0 | control::CR0_PG,
                low::PML4,
                control::CR4_PAE,
                control::EFER_LME | control::EFER_LMA,
            ),
        }
    }
}

fn flat(selector: u16, kind: u8, long: bool) -> Segment {
    Segment {
        selector,
        limit: u32::MAX,
        kind,
        s: true,
        present: true,
        l: long,
        db: !long,
        g: true,
        ..Segment::default()
    }
}

fn table_segment(kind: u8, limit: u32) -> Segment {
    Segment { limit, kind, present: true, ..Segment::default() }
}

/// Writes the descriptor table that [`Entry::apply`] points to and, for long mode, the identity map.
pub(crate) fn write_tables(placement: &Placement<'_>, mode: Mode) -> Result<(), KernelError> {
    let code = if mode == Mode::Long { gdt::CODE64 } else { gdt::CODE32 };
    placement.write_words(low::GDT, &[0, 0, code, gdt::DATA])?;
    if mode == Mode::Protected {
        return Ok(());
    }
    let pdpt = low::PML4 + 0x1000;
    let directory = |n: u64| pdpt + 0x1000 * (n + 1);
    placement.write_words(low::PML4, &[pdpt | paging::TABLE])?;
    for n in 0..paging::DIRECTORIES {
        placement.write_words(pdpt + 8 * n, &[directory(n) | paging::TABLE])?;
        let pages: Vec<u64> = (0..512).map(|page| (n * 512 + page) << 21 | paging::LARGE).collect();
        placement.write_words(directory(n), &pages)?;
    }
    Ok(())
}

/// Whether the loader's own block is RAM in this machine.
pub(crate) fn check_low_block(placement: &Placement<'_>) -> Result<(), KernelError> {
    if placement.map().iter().any(|entry| entry.is_ram_around(low::START, low::END)) {
        return Ok(());
    }
    let ram = placement.map().iter().filter(|entry| entry.kind == MemoryKind::Ram);
    let has = ram.map(|entry| entry.end()).next().unwrap_or(0);
    Err(KernelError::MemoryTooSmall { needs: low::END, has })
}
