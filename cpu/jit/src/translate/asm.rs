//! Bytes of our own instructions.
//!
//! Not an assembler: the two dozen forms that checks, exits and links are made of. What the guest's
//! instructions become is encoded by iced-x86, or copied.
//!
//! Numbers of registers are the host's. Every form that touches memory other than by `base` addresses the
//! vCPU area ([`crate::area`]) at a constant off GS.

/// Host register numbers.
pub(super) mod host {
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    /// Guest RSP.
    pub const STACK: u8 = 10;
    /// The scratch register.
    pub const SCRATCH: u8 = 11;
}

/// Condition numbers (Intel SDM vol. 1 appendix B).
pub(super) mod condition {
    pub const BELOW: u8 = 2;
    pub const ABOVE_OR_EQUAL: u8 = 3;
    pub const EQUAL: u8 = 4;
    pub const NOT_EQUAL: u8 = 5;
}

/// `base + index << scale + displacement`, by host numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Address {
    pub base: Option<u8>,
    pub index: Option<u8>,
    pub scale: u8,
    pub displacement: i32,
}

impl Address {
    pub fn at(base: u8, displacement: i32) -> Address {
        Address { base: Some(base), displacement, ..Address::default() }
    }

    pub fn indexed(base: u8, index: u8, displacement: i32) -> Address {
        Address { base: Some(base), index: Some(index), scale: 0, displacement }
    }
}

/// A relative branch whose target is not known yet: the place of its four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole(pub usize);

/// Code that is being written, and the address where it will run.
#[derive(Debug)]
pub(super) struct Asm {
    pub bytes: Vec<u8>,
    pub base: u64,
}

impl Asm {
    pub fn new(base: u64) -> Asm {
        Asm { bytes: Vec::with_capacity(1024), base }
    }

    /// The address of the next byte.
    pub fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn word(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    fn rex(&mut self, wide: bool, reg: u8, index: u8, base: u8) {
        let rex = 0x40 | u8::from(wide) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if rex != 0x40 {
            self.byte(rex);
        }
    }

    /// `op reg, [rsp + offset]` (or the other way round, as the opcode has it): a place in the area.
    fn area(&mut self, wide: bool, op: &[u8], reg: u8, offset: usize) {
        self.rex(wide, reg, 0, 0);
        self.raw(op);
        match u8::try_from(offset) {
            Ok(short @ 0..0x80) => self.raw(&[0x44 | (reg & 7) << 3, 0x24, short]),
            _ => {
                self.raw(&[0x84 | (reg & 7) << 3, 0x24]);
                self.word(offset as i32);
            }
        }
    }

    pub fn load(&mut self, reg: u8, offset: usize) {
        self.area(true, &[0x8b], reg, offset);
    }

    pub fn load_32(&mut self, reg: u8, offset: usize) {
        self.area(false, &[0x8b], reg, offset);
    }

    pub fn load_byte(&mut self, reg: u8, offset: usize) {
        self.area(false, &[0x0f, 0xb6], reg, offset);
    }

    pub fn store(&mut self, offset: usize, reg: u8) {
        self.area(true, &[0x89], reg, offset);
    }

    pub fn store_32(&mut self, offset: usize, reg: u8) {
        self.area(false, &[0x89], reg, offset);
    }

    pub fn store_number(&mut self, offset: usize, value: u32) {
        self.area(false, &[0xc7], 0, offset);
        self.word(value as i32);
    }

    pub fn add(&mut self, reg: u8, offset: usize) {
        self.area(true, &[0x03], reg, offset);
    }

    pub fn sub(&mut self, reg: u8, offset: usize) {
        self.area(true, &[0x2b], reg, offset);
    }

    pub fn or(&mut self, reg: u8, offset: usize) {
        self.area(true, &[0x0b], reg, offset);
    }

    /// `and qword [rsp + offset], value`, sign-extended.
    pub fn and_number(&mut self, offset: usize, value: i32) {
        self.area(true, &[0x81], 4, offset);
        self.word(value);
    }

    /// `dec word [rsp + offset]`
    pub fn decrement_word(&mut self, offset: usize) {
        self.byte(0x66);
        self.area(false, &[0xff], 1, offset);
    }

    /// `mov rcx, r11; shr rcx, 8; and ecx, mask`: 16 times the low bits of the page number in R11.
    pub fn set_offset_to_rcx(&mut self, mask: u32) {
        self.raw(&[0x4c, 0x89, 0xd9, 0x48, 0xc1, 0xe9, 8, 0x81, 0xe1]);
        self.word(mask as i32);
    }

    /// `xor r11, [rcx]; cmp r11, 4096`
    pub fn compare_page_at_rcx(&mut self) {
        self.raw(&[0x4c, 0x33, 0x19, 0x49, 0x81, 0xfb, 0, 0x10, 0, 0]);
    }

    /// `mov r11, [rcx + 8]`
    pub fn load_second_at_rcx(&mut self) {
        self.raw(&[0x4c, 0x8b, 0x59, 8]);
    }

    /// `test byte [rsp + offset], mask`
    pub fn test_byte(&mut self, offset: usize, mask: u8) {
        self.area(false, &[0xf6], 0, offset);
        self.byte(mask);
    }

    /// `movsxd rcx, reg`
    pub fn sign_extend_to_rcx(&mut self, reg: u8) {
        self.rex(true, host::RCX, 0, reg);
        self.raw(&[0x63, 0xc0 | host::RCX << 3 | reg & 7]);
    }

    /// `neg r11`
    pub fn negate_scratch(&mut self) {
        self.raw(&[0x49, 0xf7, 0xdb]);
    }

    /// `shr r11, by`
    pub fn shift_scratch(&mut self, by: u8) {
        self.raw(&[0x49, 0xc1, 0xeb, by]);
    }

    /// From AL (OF) and AH (the others under `mask`) to RFLAGS bits in RAX; RCX is lost.
    /// `movzx ecx, al; shl ecx, 11; movzx eax, ah; and eax, mask; or eax, ecx`
    pub fn flag_bits(&mut self, mask: u32) {
        self.raw(&[0x0f, 0xb6, 0xc8, 0xc1, 0xe1, 11, 0x0f, 0xb6, 0xc4, 0x25]);
        self.word(mask as i32);
        self.raw(&[0x09, 0xc8]);
    }

    pub fn and(&mut self, reg: u8, offset: usize) {
        self.area(true, &[0x23], reg, offset);
    }

    /// `mov reg, [rsp + offset]` of 16 bits; the others stay.
    pub fn load_16(&mut self, reg: u8, offset: usize) {
        self.byte(0x66);
        self.area(false, &[0x8b], reg, offset);
    }

    /// `and reg, value` of 32 bits, for RAX and RCX.
    pub fn and_number_32(&mut self, reg: u8, value: u32) {
        self.raw(&[0x81, 0xe0 | reg & 7]);
        self.word(value as i32);
    }

    /// `or reg, value` of 32 bits, for RAX and RCX.
    pub fn or_number_32(&mut self, reg: u8, value: u32) {
        self.raw(&[0x81, 0xc8 | reg & 7]);
        self.word(value as i32);
    }

    /// `test r11d, mask`
    pub fn test_scratch_32(&mut self, mask: u32) {
        self.raw(&[0x41, 0xf7, 0xc3]);
        self.word(mask as i32);
    }

    /// `cmp r11, value`
    pub fn compare_scratch(&mut self, value: u8) {
        self.raw(&[0x49, 0x83, 0xfb, value]);
    }

    /// From RFLAGS bits in EAX to the status flags as they lie in the area; RCX is lost.
    /// `movzx ecx, al; shl ecx, 8; shr eax, 11; and eax, 1; or eax, ecx`
    pub fn bits_to_flags(&mut self) {
        self.raw(&[0x0f, 0xb6, 0xc8, 0xc1, 0xe1, 8, 0xc1, 0xe8, 11, 0x83, 0xe0, 1, 0x09, 0xc8]);
    }

    pub fn compare(&mut self, reg: u8, offset: usize) {
        self.area(true, &[0x3b], reg, offset);
    }

    /// `cmp byte [rsp + offset], 0`
    pub fn is_zero(&mut self, offset: usize) {
        self.area(false, &[0x80], 7, offset);
        self.byte(0);
    }

    /// `jmp [rsp + offset]`
    pub fn jump_through(&mut self, offset: usize) {
        self.area(false, &[0xff], 4, offset);
    }

    /// `call [rsp + offset]`
    pub fn call_through(&mut self, offset: usize) {
        self.area(false, &[0xff], 2, offset);
    }

    /// `mov reg, [rsp + rcx * 8 + offset]`
    pub fn load_by_rcx(&mut self, reg: u8, offset: usize) {
        self.rex(true, reg, 0, 0);
        self.raw(&[0x8b, 0x84 | (reg & 7) << 3, 0xcc]);
        self.word(offset as i32);
    }

    /// The bytes of a memory operand on the guest's memory, or of LEA.
    fn modrm(&mut self, reg: u8, address: Address) {
        let Address { base, index, scale, displacement } = address;
        let middle = (reg & 7) << 3;
        let sib = |base: u8| scale << 6 | index.map_or(4, |index| index & 7) << 3 | base & 7;
        let Some(base) = base else {
            self.raw(&[middle | 4, sib(5)]);
            return self.word(displacement);
        };
        let short = i8::try_from(displacement);
        let mode = match short {
            Ok(0) if base & 7 != 5 => 0,
            Ok(_) => 0x40,
            Err(_) => 0x80,
        };
        if index.is_some() || base & 7 == 4 {
            self.raw(&[mode | middle | 4, sib(base)]);
        } else {
            self.byte(mode | middle | base & 7);
        }
        match (mode, short) {
            (0, _) => {}
            (_, Ok(short)) => self.byte(short as u8),
            _ => self.word(displacement),
        }
    }

    fn memory(&mut self, op: u8, reg: u8, address: Address) {
        self.rex(true, reg, address.index.unwrap_or(0), address.base.unwrap_or(0));
        self.byte(op);
        self.modrm(reg, address);
    }

    pub fn lea(&mut self, reg: u8, address: Address) {
        self.memory(0x8d, reg, address);
    }

    pub fn load_from(&mut self, reg: u8, address: Address) {
        self.memory(0x8b, reg, address);
    }

    pub fn store_to(&mut self, address: Address, reg: u8) {
        self.memory(0x89, reg, address);
    }

    /// `mov qword [address], value`, sign-extended.
    pub fn store_number_to(&mut self, address: Address, value: i32) {
        self.memory(0xc7, 0, address);
        self.word(value);
    }

    pub fn copy(&mut self, to: u8, from: u8) {
        if to != from {
            self.rex(true, from, 0, to);
            self.raw(&[0x89, 0xc0 | (from & 7) << 3 | to & 7]);
        }
    }

    /// The shortest move of a 64-bit number.
    pub fn number(&mut self, reg: u8, value: u64) {
        if u32::try_from(value).is_ok() {
            self.rex(false, 0, 0, reg);
            self.byte(0xb8 | reg & 7);
            self.word(value as u32 as i32);
        } else if let Ok(short) = i32::try_from(value as i64) {
            self.rex(true, 0, 0, reg);
            self.raw(&[0xc7, 0xc0 | reg & 7]);
            self.word(short);
        } else {
            self.rex(true, 0, 0, reg);
            self.byte(0xb8 | reg & 7);
            self.raw(&value.to_le_bytes());
        }
    }

    /// `test reg, reg`
    pub fn test(&mut self, reg: u8) {
        self.rex(true, reg, 0, reg);
        self.raw(&[0x85, 0xc0 | (reg & 7) << 3 | reg & 7]);
    }

    /// `mov reg, [address]` of 32 bits.
    pub fn load_32_from(&mut self, reg: u8, address: Address) {
        self.rex(false, reg, address.index.unwrap_or(0), address.base.unwrap_or(0));
        self.byte(0x8b);
        self.modrm(reg, address);
    }

    /// `op left, right` on registers: CMP (3B), TEST (85), MOV (8B).
    pub fn pair(&mut self, wide: bool, op: u8, left: u8, right: u8) {
        self.rex(wide, left, 0, right);
        self.raw(&[op, 0xc0 | (left & 7) << 3 | right & 7]);
    }

    /// `cmp reg, -1`
    pub fn is_minus_one(&mut self, wide: bool, reg: u8) {
        self.rex(wide, 0, 0, reg);
        self.raw(&[0x83, 0xf8 | reg & 7, 0xff]);
    }

    /// `sar reg, by`
    pub fn shift_right(&mut self, wide: bool, reg: u8, by: u8) {
        self.rex(wide, 0, 0, reg);
        self.raw(&[0xc1, 0xf8 | reg & 7, by]);
    }

    /// `div reg` or, signed, `idiv reg`.
    pub fn divide(&mut self, wide: bool, signed: bool, reg: u8) {
        self.rex(wide, 0, 0, reg);
        self.raw(&[0xf7, if signed { 0xf8 } else { 0xf0 } | reg & 7]);
    }

    /// `test r11b, mask`
    pub fn test_scratch(&mut self, mask: u8) {
        self.raw(&[0x41, 0xf6, 0xc3, mask]);
    }

    /// `movzx ecx, r11w; add ecx, ecx`: the scratch register's place in a jump cache, in steps of 8 bytes.
    pub fn jump_index(&mut self) {
        self.raw(&[0x41, 0x0f, 0xb7, 0xcb, 0x01, 0xc9]);
    }

    /// `mov byte [rsp + offset], reg`
    pub fn store_byte(&mut self, offset: usize, reg: u8) {
        self.area(false, &[0x88], reg, offset);
    }

    /// `movzx r11d, r11b`
    pub fn cut_scratch_to_byte(&mut self) {
        self.raw(&[0x45, 0x0f, 0xb6, 0xdb]);
    }

    /// `cmp r11, [rsp + rcx + offset]`
    pub fn compare_at_rcx(&mut self, offset: usize) {
        self.raw(&[0x4c, 0x3b, 0x9c, 0x0c]);
        self.word(offset as i32);
    }

    /// `mov r11d, [rsp + rcx + offset]`
    pub fn load_32_at_rcx(&mut self, offset: usize) {
        self.raw(&[0x44, 0x8b, 0x9c, 0x0c]);
        self.word(offset as i32);
    }

    /// `mov [rsp + r11 + offset], rcx`
    pub fn store_rcx_at_scratch(&mut self, offset: usize) {
        self.raw(&[0x4a, 0x89, 0x8c, 0x1c]);
        self.word(offset as i32);
    }

    /// `mov qword [rsp + r11 + offset], value`, 32 bits of which are stored; where those are.
    pub fn store_number_at_scratch(&mut self, offset: usize, value: i32) -> Hole {
        self.raw(&[0x4a, 0xc7, 0x84, 0x1c]);
        self.word(offset as i32);
        self.word(value);
        Hole(self.bytes.len() - 4)
    }

    /// Gives a number that was stored another value.
    pub fn fill_number(&mut self, hole: Hole, value: u32) {
        if let Some(place) = self.bytes.get_mut(hole.0..hole.0 + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// `cmp r11, [rsp + rcx * 8 + offset]`
    pub fn compare_by_rcx(&mut self, offset: usize) {
        self.raw(&[0x4c, 0x3b, 0x9c, 0xcc]);
        self.word(offset as i32);
    }

    /// `jmp r11`
    pub fn jump_scratch(&mut self) {
        self.raw(&[0x41, 0xff, 0xe3]);
    }

    /// `lahf; seto al`
    pub fn flags_to_rax(&mut self) {
        self.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
    }

    /// `add al, 0x7f; sahf`
    pub fn flags_from_rax(&mut self) {
        self.raw(&[0x04, 0x7f, 0x9e]);
    }

    /// `jmp` somewhere.
    pub fn jump(&mut self) -> Hole {
        self.byte(0xe9);
        self.word(0);
        Hole(self.bytes.len() - 4)
    }

    /// `jcc` somewhere.
    pub fn jump_if(&mut self, condition: u8) -> Hole {
        self.raw(&[0x0f, 0x80 | condition]);
        self.word(0);
        Hole(self.bytes.len() - 4)
    }

    /// `xchg r11, rcx`
    pub fn exchange_scratch_and_rcx(&mut self) {
        self.raw(&[0x4c, 0x87, 0xd9]);
    }

    /// `jrcxz` over what comes before [`Asm::land`].
    pub fn jump_if_rcx_is_zero(&mut self) -> usize {
        self.raw(&[0xe3, 0]);
        self.bytes.len()
    }

    /// Where a short jump lands.
    pub fn land(&mut self, from: usize) {
        self.bytes[from - 1] = (self.bytes.len() - from) as u8;
    }

    /// Fills a hole.
    pub fn fill(&mut self, hole: Hole, target: u64) {
        let next = self.base + hole.0 as u64 + 4;
        let distance = target.wrapping_sub(next) as i32;
        self.bytes[hole.0..hole.0 + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// Fills a hole with the next byte's address.
    pub fn fill_here(&mut self, hole: Hole) {
        let here = self.here();
        self.fill(hole, here);
    }

    /// The address of a hole.
    pub fn address_of(&self, hole: Hole) -> u64 {
        self.base + hole.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    fn text(write: impl FnOnce(&mut Asm)) -> String {
        let mut asm = Asm::new(0x1000);
        write(&mut asm);
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for instruction in Decoder::with_ip(64, &asm.bytes, 0x1000, DecoderOptions::NONE) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            formatter.format(&instruction, &mut text);
        }
        text
    }

    #[test]
    fn forms_decode_as_what_they_mean() {
        assert_eq!(text(|a| a.load(11, 0x40)), "mov r11,[rsp+40h]");
        assert_eq!(text(|a| a.store(8, 3)), "mov [rsp+8],rbx");
        assert_eq!(text(|a| a.compare(11, 0x40)), "cmp r11,[rsp+40h]");
        assert_eq!(text(|a| a.is_zero(0x1000)), "cmp byte ptr [rsp+1000h],0");
        assert_eq!(text(|a| a.jump_through(0x20)), "jmp qword ptr [rsp+20h]");
        assert_eq!(text(|a| a.call_through(0x20)), "call qword ptr [rsp+20h]");
        assert_eq!(text(|a| a.store_number(0x88, 7)), "mov dword ptr [rsp+88h],7");
        assert_eq!(text(|a| a.load_by_rcx(11, 0x20)), "mov r11,[rsp+rcx*8+20h]");
        assert_eq!(text(Asm::jump_index), "movzx ecx,r11w; add ecx,ecx");
        assert_eq!(text(|a| a.compare_by_rcx(0x20)), "cmp r11,[rsp+rcx*8+20h]");
        assert_eq!(text(|a| a.lea(11, Address::at(5, 0))), "lea r11,[rbp]");
        assert_eq!(text(|a| a.lea(11, Address::at(12, 8))), "lea r11,[r12+8]");
        assert_eq!(text(|a| a.store_to(Address::indexed(10, 11, -8), 0)), "mov [r10+r11-8],rax");
        let absolute = Address { index: Some(1), scale: 3, displacement: 16, ..Address::default() };
        assert_eq!(text(|a| a.lea(11, absolute)), "lea r11,[rcx*8+10h]");
        assert_eq!(text(|a| a.number(11, 0xffff_ffff_8100_0000)), "mov r11,0FFFFFFFF81000000h");
        assert_eq!(text(|a| a.number(9, 5)), "mov r9d,5");
        assert_eq!(text(|a| a.test(11)), "test r11,r11");
        assert_eq!(text(|a| a.test_scratch(15)), "test r11b,0Fh");
        assert_eq!(text(|a| a.test_byte(0x40, 4)), "test byte ptr [rsp+40h],4");
        assert_eq!(text(|a| a.decrement_word(0x40)), "dec word ptr [rsp+40h]");
        let set = "mov rcx,r11; shr rcx,8; and ecx,0FFF0h";
        assert_eq!(text(|a| a.set_offset_to_rcx(0xfff0)), set);
        assert_eq!(text(Asm::compare_page_at_rcx), "xor r11,[rcx]; cmp r11,1000h");
        assert_eq!(text(Asm::load_second_at_rcx), "mov r11,[rcx+8]");
        assert_eq!(text(Asm::negate_scratch), "neg r11");
        assert_eq!(text(|a| a.load_16(9, 0x40)), "mov r9w,[rsp+40h]");
        assert_eq!(text(|a| a.and_number_32(1, 0x200)), "and ecx,200h");
        assert_eq!(text(|a| a.or_number_32(1, 2)), "or ecx,2");
        assert_eq!(text(|a| a.test_scratch_32(0x100)), "test r11d,100h");
        assert_eq!(text(|a| a.compare_scratch(1)), "cmp r11,1");
        assert_eq!(text(|a| a.and_number(0x40, 7)), "and qword ptr [rsp+40h],7");
        let spread = "movzx ecx,al; shl ecx,8; shr eax,0Bh; and eax,1; or eax,ecx";
        assert_eq!(text(Asm::bits_to_flags), spread);
        assert_eq!(text(|a| a.shift_scratch(3)), "shr r11,3");
        assert_eq!(text(Asm::exchange_scratch_and_rcx), "xchg rcx,r11");
    }
}
