//! Segment descriptors: reading, checking, loading (Intel SDM vol. 3A §3.4, §5).

use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::memory::Memory;
use crate::state::{CS, CodeBits, SS};
use kezhan_hypervisor::Segment;

/// A descriptor as it lies in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The selector that named it.
    pub selector: u16,
    /// Linear address of its 8 bytes.
    pub address: u64,
    /// Its 8 bytes.
    pub raw: u64,
}

/// Types of system descriptors (Intel SDM vol. 3A table 3-2).
pub mod system {
    /// 16-bit TSS, available.
    pub const TSS_16: u8 = 1;
    /// LDT.
    pub const LDT: u8 = 2;
    /// 16-bit TSS, busy.
    pub const TSS_16_BUSY: u8 = 3;
    /// 16-bit call gate.
    pub const CALL_GATE_16: u8 = 4;
    /// Task gate.
    pub const TASK_GATE: u8 = 5;
    /// 16-bit interrupt gate.
    pub const INTERRUPT_GATE_16: u8 = 6;
    /// 16-bit trap gate.
    pub const TRAP_GATE_16: u8 = 7;
    /// 32- or 64-bit TSS, available.
    pub const TSS: u8 = 9;
    /// 32- or 64-bit TSS, busy.
    pub const TSS_BUSY: u8 = 11;
    /// 32- or 64-bit call gate.
    pub const CALL_GATE: u8 = 12;
    /// 32- or 64-bit interrupt gate.
    pub const INTERRUPT_GATE: u8 = 14;
    /// 32- or 64-bit trap gate.
    pub const TRAP_GATE: u8 = 15;
}

impl Descriptor {
    /// Type field, 4 bits.
    pub fn kind(&self) -> u8 {
        (self.raw >> 40 & 0xf) as u8
    }

    /// Code or data rather than system.
    pub fn is_code_or_data(&self) -> bool {
        self.raw >> 44 & 1 == 1
    }

    /// A code segment.
    pub fn is_code(&self) -> bool {
        self.is_code_or_data() && self.kind() & 8 != 0
    }

    /// A conforming code segment.
    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.kind() & 4 != 0
    }

    /// A segment that data can be read from.
    pub fn is_readable(&self) -> bool {
        self.is_code_or_data() && (self.kind() & 8 == 0 || self.kind() & 2 != 0)
    }

    /// A data segment that can be written to.
    pub fn is_writable(&self) -> bool {
        self.is_code_or_data() && self.kind() & 0xa == 2
    }

    /// Privilege level.
    pub fn dpl(&self) -> u8 {
        (self.raw >> 45 & 3) as u8
    }

    /// Present.
    pub fn present(&self) -> bool {
        self.raw >> 47 & 1 == 1
    }

    /// 64-bit code.
    pub fn is_long(&self) -> bool {
        self.raw >> 53 & 1 == 1
    }

    /// D/B.
    pub fn is_big(&self) -> bool {
        self.raw >> 54 & 1 == 1
    }

    /// For gates: the selector they lead to.
    pub fn gate_selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }

    /// For gates: the offset they lead to, bits 31:0.
    pub fn gate_offset(&self) -> u64 {
        self.raw & 0xffff | self.raw >> 32 & 0xffff_0000
    }

    /// The hidden part of a segment register; `upper` is bits 63:32 of the base of system descriptors in long mode.
    pub fn segment(&self, upper: u64) -> Segment {
        let raw = self.raw;
        let limit = (raw & 0xffff | raw >> 32 & 0xf_0000) as u32;
        let g = raw >> 55 & 1 == 1;
        Segment {
            selector: self.selector,
            base: (raw >> 16 & 0xff_ffff | raw >> 32 & 0xff00_0000) | upper << 32,
            limit: if g { limit << 12 | 0xfff } else { limit },
            kind: self.kind(),
            s: self.is_code_or_data(),
            dpl: self.dpl(),
            present: self.present(),
            avl: raw >> 52 & 1 == 1,
            l: self.is_long(),
            db: self.is_big(),
            g,
            unusable: false,
        }
    }
}

/// A segment register that holds a null selector.
pub fn null_segment(selector: u16) -> Segment {
    Segment { selector, dpl: (selector & 3) as u8, unusable: true, ..Segment::default() }
}

/// A segment register as real and virtual-8086 mode load it.
pub fn real_segment(old: &Segment, selector: u16, virtual_8086: bool) -> Segment {
    let base = u64::from(selector) << 4;
    if virtual_8086 {
        return Segment {
            selector,
            base,
            limit: 0xffff,
            kind: 3,
            s: true,
            dpl: 3,
            present: true,
            ..Segment::default()
        };
    }
    Segment { selector, base, unusable: false, present: true, ..*old }
}

impl<M: Memory> Core<'_, M> {
    /// Reads the descriptor that `selector` (not null) names.
    ///
    /// # Errors
    /// `vector` with the selector (and `external`, the EXT bit) when it is beyond its table's limit.
    pub fn descriptor(
        &mut self,
        selector: u16,
        vector: u8,
        external: u32,
    ) -> Result<Descriptor, Stop> {
        let (base, limit) = if selector & 4 != 0 {
            let usable = !self.cpu.ldtr.unusable && self.cpu.ldtr.present;
            (self.cpu.ldtr.base, usable.then_some(self.cpu.ldtr.limit))
        } else {
            (self.cpu.gdtr.base, Some(u32::from(self.cpu.gdtr.limit)))
        };
        let offset = u32::from(selector & !7);
        if limit.is_none_or(|limit| offset + 7 > limit) {
            return Err(self.raise_code(vector, u32::from(selector & !3) | external));
        }
        let address = base.wrapping_add(u64::from(offset));
        let raw = M::load_system::<u64>(self, address)?;
        Ok(Descriptor { selector, address, raw })
    }

    /// The second half of a 16-byte system descriptor: bits 63:32 of the base or offset.
    ///
    /// # Errors
    /// #GP with the selector.
    pub fn descriptor_upper(&mut self, descriptor: &Descriptor) -> Result<u64, Stop> {
        if !self.cpu.long_mode() {
            return Ok(0);
        }
        let upper = M::load_system::<u64>(self, descriptor.address.wrapping_add(8))?;
        if upper >> 40 & 0x1f != 0 {
            return Err(self.raise_code(vector::GP, u32::from(descriptor.selector & !3)));
        }
        Ok(upper & 0xffff_ffff)
    }

    /// Sets the accessed bit of a code or data descriptor.
    ///
    /// # Errors
    /// As a store.
    pub fn mark_accessed(&mut self, descriptor: &mut Descriptor) -> Outcome {
        if descriptor.raw >> 40 & 1 == 0 {
            descriptor.raw |= 1 << 40;
            let byte = (descriptor.raw >> 40) as u8;
            M::store_system::<u8>(self, descriptor.address.wrapping_add(5), byte)?;
        }
        Ok(())
    }

    /// Loads ES, SS, DS, FS or GS (number `seg`) as MOV, POP and LDS do.
    ///
    /// # Errors
    /// #GP, #SS, #NP with the selector.
    pub fn load_segment(&mut self, seg: usize, selector: u16) -> Outcome {
        if !self.cpu.protected() {
            let v86 = self.cpu.virtual_8086();
            self.set_segment(seg, real_segment(&self.cpu.segments[seg], selector, v86));
            return Ok(());
        }
        let loaded = if seg == SS {
            self.stack_segment(selector, self.cpu.cpl, vector::GP)?
        } else {
            self.data_segment(selector)?
        };
        self.set_segment(seg, loaded);
        Ok(())
    }

    /// Puts a segment register in place and brings derived state into step.
    pub fn set_segment(&mut self, seg: usize, segment: Segment) {
        let privilege = self.cpu.cpl;
        self.cpu.segments[seg] = segment;
        if seg == CS || seg == SS {
            self.cpu.derive();
        } else if self.cpu.code_bits != CodeBits::Bits64 || seg >= crate::state::FS {
            self.cpu.seg_base[seg] = segment.base;
        }
        if self.cpu.cpl != privilege {
            M::permissions_changed(self);
        }
    }

    fn data_segment(&mut self, selector: u16) -> Result<Segment, Stop> {
        if selector & !3 == 0 {
            return Ok(null_segment(selector));
        }
        let error = u32::from(selector & !3);
        let mut descriptor = self.descriptor(selector, vector::GP, 0)?;
        let rpl = (selector & 3) as u8;
        let privileged = !descriptor.is_conforming()
            && (rpl > descriptor.dpl() || self.cpu.cpl > descriptor.dpl());
        if !descriptor.is_readable() || privileged {
            return Err(self.raise_code(vector::GP, error));
        }
        if !descriptor.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(0))
    }

    /// Checks and reads a stack segment for privilege level `cpl`; faults are `vector` (#GP for loads,
    /// #TS for stacks out of a TSS) but for a segment that is not present (#SS).
    ///
    /// # Errors
    /// See above.
    pub fn stack_segment(&mut self, selector: u16, cpl: u8, vector: u8) -> Result<Segment, Stop> {
        let rpl = (selector & 3) as u8;
        let error = u32::from(selector & !3);
        if selector & !3 == 0 {
            if self.cpu.code_bits == CodeBits::Bits64 && cpl < 3 && rpl == cpl {
                return Ok(null_segment(selector));
            }
            return Err(self.raise_code(vector, 0));
        }
        let mut descriptor = self.descriptor(selector, vector, 0)?;
        if rpl != cpl || descriptor.dpl() != cpl || !descriptor.is_writable() {
            return Err(self.raise_code(vector, error));
        }
        if !descriptor.present() {
            return Err(self.raise_code(vector::SS, error));
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(0))
    }

    /// Loads CS with a checked code descriptor at privilege level `cpl`.
    pub fn set_code_segment(&mut self, descriptor: &Descriptor, cpl: u8) {
        let mut segment = descriptor.segment(0);
        segment.selector = segment.selector & !3 | u16::from(cpl);
        let privilege = self.cpu.cpl;
        self.cpu.segments[CS] = segment;
        self.cpu.derive();
        self.cpu.cpl = cpl;
        if cpl != privilege {
            M::permissions_changed(self);
        }
    }
}
