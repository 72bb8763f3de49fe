//! RFLAGS: bits, and the lazy form of the arithmetic flags.
//!
//! An arithmetic result leaves two words behind:
//!
//! ```text
//!   result  the result, sign-extended to 64 bits          ZF = (result == 0), SF = sign, PF = low byte
//!   carry   bit 63: carry out of the top bit               CF
//!           bit 62: carry into the top bit                 OF = bit 63 xor bit 62
//!           bit  3: carry out of bit 3                     AF
//!           bit  1: SF is the opposite of result's sign    only after flags were loaded as a whole
//!           bit  0: PF is the opposite of result's parity  likewise
//! ```
//!
//! The carry vector of `r = a + b` is `(a & b) | ((a | b) & !r)`, of `r = a - b`
//! `(!a & b) | ((!a | b) & r)`: three operations, whatever the width. Bits 4 to 61 are not used.

use crate::word::Word;

/// Carry.
pub const CF: u64 = 1 << 0;
/// Always one.
pub const FIXED: u64 = 1 << 1;
/// Parity of the low byte.
pub const PF: u64 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u64 = 1 << 4;
/// Zero.
pub const ZF: u64 = 1 << 6;
/// Sign.
pub const SF: u64 = 1 << 7;
/// Single step.
pub const TF: u64 = 1 << 8;
/// Interrupts enabled.
pub const IF: u64 = 1 << 9;
/// String direction: down.
pub const DF: u64 = 1 << 10;
/// Signed overflow.
pub const OF: u64 = 1 << 11;
/// I/O privilege level (two bits).
pub const IOPL: u64 = 3 << 12;
/// Nested task.
pub const NT: u64 = 1 << 14;
/// Resume: no instruction breakpoint.
pub const RF: u64 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u64 = 1 << 17;
/// Alignment check, or access control under SMAP.
pub const AC: u64 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u64 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u64 = 1 << 20;
/// CPUID exists.
pub const ID: u64 = 1 << 21;
/// The six arithmetic flags.
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

const CARRY_OUT: u64 = 1 << 63;
const CARRY_IN_TOP: u64 = 1 << 62;
const CARRY_3: u64 = 1 << 3;
const FLIP_SIGN: u64 = 1 << 1;
const FLIP_PARITY: u64 = 1;

/// The arithmetic flags in lazy form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LazyFlags {
    result: u64,
    carry: u64,
}

impl LazyFlags {
    /// After `result = left + right (+ carry)`.
    #[inline(always)]
    pub fn set_add<T: Word>(&mut self, left: T, right: T, result: T) {
        let (a, b, r) = (left.u64(), right.u64(), result.u64());
        self.set::<T>(result, (a & b) | ((a | b) & !r));
    }

    /// After `result = left - right (- borrow)`.
    #[inline(always)]
    pub fn set_sub<T: Word>(&mut self, left: T, right: T, result: T) {
        let (a, b, r) = (left.u64(), right.u64(), result.u64());
        self.set::<T>(result, (!a & b) | ((!a | b) & r));
    }

    /// After a logical operation: CF, OF and AF are zero.
    #[inline(always)]
    pub fn set_logic<T: Word>(&mut self, result: T) {
        self.result = result.sign_extended();
        self.carry = 0;
    }

    /// CF as given, the others as they are: after INC or DEC, which keep it, and bit tests.
    #[inline(always)]
    pub fn keep_carry(&mut self, carry: bool) {
        let overflow = self.carry ^ (self.carry << 1);
        let out = if carry { CARRY_OUT } else { 0 };
        let into = (out ^ overflow & CARRY_OUT) >> 1;
        self.carry = self.carry & !(CARRY_OUT | CARRY_IN_TOP) | out | into;
    }

    /// A result with CF and OF given and AF zero, as shifts leave.
    #[inline(always)]
    pub fn set_shift<T: Word>(&mut self, result: T, carry: bool, overflow: bool) {
        self.result = result.sign_extended();
        self.carry = u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62;
    }

    /// CF and OF as given, the others as they are: what rotates leave.
    #[inline(always)]
    pub fn set_carry_and_overflow(&mut self, carry: bool, overflow: bool) {
        let both = u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62;
        self.carry = self.carry & !(CARRY_OUT | CARRY_IN_TOP) | both;
    }

    #[inline(always)]
    fn set<T: Word>(&mut self, result: T, carries: u64) {
        self.result = result.sign_extended();
        let top = (carries << (64 - T::BITS)) & (CARRY_OUT | CARRY_IN_TOP);
        self.carry = top | (carries & CARRY_3);
    }

    /// CF.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        (self.carry as i64) < 0
    }

    /// ZF.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.result == 0
    }

    /// SF.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        ((self.result ^ (self.carry << 62)) as i64) < 0
    }

    /// OF.
    #[inline(always)]
    pub fn of(&self) -> bool {
        ((self.carry ^ (self.carry << 1)) as i64) < 0
    }

    /// PF.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        ((self.result as u8).count_ones() as u64 ^ self.carry) & 1 == 0
    }

    /// AF.
    #[inline(always)]
    pub fn af(&self) -> bool {
        self.carry & CARRY_3 != 0
    }

    /// As RFLAGS bits.
    pub fn bits(&self) -> u64 {
        let bit = |on: bool, mask: u64| if on { mask } else { 0 };
        bit(self.cf(), CF)
            | bit(self.pf(), PF)
            | bit(self.af(), AF)
            | bit(self.zf(), ZF)
            | bit(self.sf(), SF)
            | bit(self.of(), OF)
    }

    /// From RFLAGS bits.
    pub fn from_bits(bits: u64) -> LazyFlags {
        let has = |mask: u64| bits & mask != 0;
        // A zero result has even parity and no sign; a non-zero one here is 0x100, likewise.
        let result = if has(ZF) { 0 } else { 0x100 };
        let mut carry = 0;
        if has(CF) {
            carry |= CARRY_OUT;
        }
        if has(CF) != has(OF) {
            carry |= CARRY_IN_TOP;
        }
        if has(AF) {
            carry |= CARRY_3;
        }
        if has(SF) {
            carry |= FLIP_SIGN;
        }
        if !has(PF) {
            carry |= FLIP_PARITY;
        }
        LazyFlags { result, carry }
    }

    /// Replaces the flags of `mask` by those of `bits`.
    pub fn update(&mut self, mask: u64, bits: u64) {
        *self = LazyFlags::from_bits(self.bits() & !mask | bits & mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_the_lazy_form() {
        for number in 0..64_u64 {
            let bit = |n: u32, mask: u64| if number >> n & 1 == 1 { mask } else { 0 };
            let bits = bit(0, CF) | bit(1, PF) | bit(2, AF) | bit(3, ZF) | bit(4, SF) | bit(5, OF);
            assert_eq!(LazyFlags::from_bits(bits).bits(), bits);
        }
    }

    fn reference_add(a: u8, b: u8, carry: u8) -> u64 {
        let wide = u16::from(a) + u16::from(b) + u16::from(carry);
        let r = wide as u8;
        let bit = |on: bool, mask: u64| if on { mask } else { 0 };
        bit(wide > 0xff, CF)
            | bit(r.count_ones().is_multiple_of(2), PF)
            | bit((a & 15) + (b & 15) + carry > 15, AF)
            | bit(r == 0, ZF)
            | bit(r >= 0x80, SF)
            | bit((a ^ r) & (b ^ r) & 0x80 != 0, OF)
    }

    #[test]
    fn all_byte_sums_and_differences_have_the_flags_of_the_manual() {
        for a in 0..=255_u8 {
            for b in 0..=255_u8 {
                for carry in 0..2_u8 {
                    let mut flags = LazyFlags::default();
                    flags.set_add(a, b, a.wrapping_add(b).wrapping_add(carry));
                    assert_eq!(flags.bits(), reference_add(a, b, carry), "{a}+{b}+{carry}");
                    flags.set_sub(a, b, a.wrapping_sub(b).wrapping_sub(carry));
                    // a - b - c is a + !b + !c with CF, AF inverted.
                    let expected = reference_add(a, !b, 1 - carry) ^ (CF | AF);
                    assert_eq!(flags.bits(), expected, "{a}-{b}-{carry}");
                }
            }
        }
    }
}
