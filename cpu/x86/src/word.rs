//! Operand widths as types.

use std::fmt::Debug;

/// An unsigned integer of an operand's width.
pub trait Word: Copy + Eq + Ord + Debug + Default + Send + Sync + 'static {
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: u64;
    /// All ones, as 64 bits.
    const MASK: u64;
    /// Zero-extended.
    fn u64(self) -> u64;
    /// The low bits.
    fn low(value: u64) -> Self;
    /// Sign-extended to 64 bits.
    fn sign_extended(self) -> u64;
    /// From little-endian bytes; missing ones are zero.
    fn from_bytes(bytes: &[u8]) -> Self {
        Self::low(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

macro_rules! word {
    ($type:ty, $signed:ty) => {
        impl Word for $type {
            const BITS: u32 = <$type>::BITS;
            const BYTES: u64 = <$type>::BITS as u64 / 8;
            const MASK: u64 = <$type>::MAX as u64;

            #[inline(always)]
            fn u64(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn low(value: u64) -> Self {
                value as $type
            }

            #[inline(always)]
            fn sign_extended(self) -> u64 {
                self as $signed as i64 as u64
            }
        }
    };
}

word!(u8, i8);
word!(u16, i16);
word!(u32, i32);
word!(u64, i64);
