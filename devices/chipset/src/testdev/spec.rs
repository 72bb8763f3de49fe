//! What the x86 programs of kvm-unit-tests expect of their two devices (sources named for each group;
//! these devices have no other specification).

/// The ISA device (`lib/x86/apic.c`, `x86/emulator.c`, `x86/eventinj.c`, `x86/ioram.h`).
pub mod isa {
    /// Bytes of the register that gives back what was written to it, at port 0xe0.
    pub const DATA_LENGTH: u64 = 4;
    /// Bytes of the register that takes the address of a page to flush, at port 0xe4.
    pub const FLUSH_LENGTH: u64 = 4;
    /// Bytes of memory that is not RAM, at 0xff000000.
    pub const MEMORY_LENGTH: u64 = 0x10000;
}

/// The PCI function (`lib/pci.h`, `lib/pci-testdev.c`, `x86/vmexit.c`).
pub mod pci {
    /// Red Hat.
    pub const VENDOR: u16 = 0x1b36;
    /// Test device.
    pub const DEVICE: u16 = 0x0005;
    /// No class (PCI 3.0 appendix D, class FFh).
    pub const CLASS: u32 = 0xff_0000;
    /// Bytes of BAR 0.
    pub const MEMORY_LENGTH: u64 = 0x1000;
    /// Ports of BAR 1.
    pub const PORTS_LENGTH: u64 = 0x100;

    /// Offset of the number of the test: a write chooses one and clears the count.
    pub const TEST: u64 = 0;
    /// Offset of the width in bytes that the test writes; 0 says that there is no such test.
    pub const WIDTH: usize = 1;
    /// Offset of the 32-bit offset to which the test writes.
    pub const OFFSET: usize = 4;
    /// Offset of the 32-bit value that the test writes.
    pub const DATA: usize = 8;
    /// Offset of the 32-bit count of such writes.
    pub const COUNT: usize = 12;
    /// Offset of the test's name, ended by a zero.
    pub const NAME: usize = 16;
    /// Where tests write.
    pub const TARGET: u64 = 0x80;
    /// The tests: width, value, name.
    pub const TESTS: [(u8, u32, &str); 3] =
        [(1, 0xfa, "byte"), (2, 0xfafa, "word"), (4, 0xfafa_fafa, "doubleword")];
}
