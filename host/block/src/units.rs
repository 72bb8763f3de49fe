//! Offsets that cannot be mixed up, and ranges of them.

use std::fmt;

macro_rules! offset {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The number itself.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// This offset moved up by `bytes`; stays at the top instead of wrapping.
            pub const fn plus(self, bytes: u64) -> $name {
                $name(self.0.saturating_add(bytes))
            }

            /// The next lower multiple of `unit` (not zero).
            pub const fn align_down(self, unit: u64) -> $name {
                $name(self.0 - self.0 % unit)
            }

            /// Bytes above the next lower multiple of `unit` (not zero).
            pub const fn within(self, unit: u64) -> u64 {
                self.0 % unit
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

offset! {
    /// A byte of the disk that the guest sees.
    GuestOffset
}
offset! {
    /// A byte of a [`crate::Storage`].
    HostOffset
}

/// A range of the guest's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: GuestOffset,
    /// Its length in bytes.
    pub length: u64,
}

impl Span {
    /// The range from `start` to `end`; empty when `end` is not above `start`.
    pub const fn between(start: GuestOffset, end: GuestOffset) -> Span {
        Span { start, length: end.0.saturating_sub(start.0) }
    }

    /// The first byte after it.
    pub const fn end(self) -> GuestOffset {
        self.start.plus(self.length)
    }

    /// Whether the two have a byte in common.
    pub const fn overlaps(self, other: Span) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0
    }
}

/// Whether every byte is zero. Looks at blocks large enough for the compiler to use vectors and small
/// enough to stop early.
pub fn is_zero(data: &[u8]) -> bool {
    let (blocks, rest) = data.as_chunks::<256>();
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_makes_a_buffer_not_zero() {
        for length in [1, 255, 256, 257, 4096] {
            let mut data = vec![0; length];
            assert!(is_zero(&data));
            data[length - 1] = 1;
            assert!(!is_zero(&data));
        }
    }

    #[test]
    fn spans_that_only_touch_do_not_overlap() {
        let low = Span { start: GuestOffset(0), length: 10 };
        let high = Span::between(GuestOffset(10), GuestOffset(20));
        assert!(!low.overlaps(high));
        assert!(low.overlaps(Span { start: GuestOffset(9), length: 1 }));
    }
}
