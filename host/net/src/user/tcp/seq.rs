//! Sequence numbers: places in a stream, modulo 2^32 (RFC 9293 §3.4).

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    /// The place so many bytes on.
    pub(crate) fn plus(self, bytes: usize) -> Seq {
        // Lengths are far below 2^31.
        Seq(self.0.wrapping_add(bytes as u32))
    }

    /// How far this is behind another place; negative when it is before it.
    pub(crate) fn minus(self, other: Seq) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// The bytes from another place up to this; 0 when that is not before this.
    pub(crate) fn since(self, other: Seq) -> usize {
        usize::try_from(self.minus(other)).unwrap_or(0)
    }

    pub(crate) fn is_after(self, other: Seq) -> bool {
        self.minus(other) > 0
    }

    /// The later of two.
    pub(crate) fn later(self, other: Seq) -> Seq {
        if other.is_after(self) { other } else { self }
    }
}
