//! Why a kernel is not started.

/// Why a kernel cannot be loaded. The caller puts the file's name in front.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel cannot be read.
    #[error("cannot be read: {0}")]
    ReadKernel(std::io::Error),
    /// The initial RAM disk cannot be read.
    #[error("the initrd cannot be read: {0}")]
    ReadInitrd(std::io::Error),
    /// None of the formats known.
    #[error("is no kernel: give a bzImage, an ELF file with a PVH note, or a multiboot kernel")]
    UnknownFormat,
    /// An ELF file without a way in.
    #[error(
        "is an ELF file with neither a PVH note nor a multiboot header: give the bzImage, or build with CONFIG_PVH"
    )]
    NoEntry,
    /// The file ends too early.
    #[error("is cut short: {part} wants bytes up to {end}, the file has {length}; copy it again")]
    Truncated {
        /// What is missing.
        part: &'static str,
        /// Where it would end.
        end: u64,
        /// Where the file ends.
        length: u64,
    },
    /// A field contradicts the format.
    #[error("is damaged: {field} is {value:#x}, but {rule}; build or copy it again")]
    Damaged {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What the format asks.
        rule: &'static str,
    },
    /// It asks for something that is not offered.
    #[error("asks for {0}, which is not offered; use another kernel")]
    Unsupported(&'static str),
    /// It does not fit in RAM.
    #[error("needs memory up to {needs:#x}, RAM ends at {has:#x}; give more --memory")]
    MemoryTooSmall {
        /// Where its memory must end.
        needs: u64,
        /// Where RAM ends.
        has: u64,
    },
    /// It wants to lie where the machine has something else.
    #[error("wants to lie at {address:#x} to {end:#x}, where there is {what}; link it elsewhere")]
    Overlap {
        /// First byte.
        address: u64,
        /// Last byte.
        end: u64,
        /// What is there.
        what: &'static str,
    },
    /// The command line is too long.
    #[error("takes a command line of at most {most} bytes, --append has {length}; shorten it")]
    CommandLineTooLong {
        /// Bytes given.
        length: usize,
        /// Bytes possible.
        most: usize,
    },
    /// The initial RAM disk does not fit.
    #[error("leaves {room} bytes for the initrd, which has {size}; give more --memory")]
    InitrdTooLarge {
        /// Its size.
        size: u64,
        /// Bytes free.
        room: u64,
    },
    /// Guest memory is not as the memory map says.
    #[error("cannot be loaded: guest memory at {0:#x} is not there; this is a fault of ours")]
    GuestMemory(u64),
}
