//! Numbers of the local APIC (Intel SDM vol. 3A chapter 11).

/// Register offsets in the xAPIC page (§11.4.1, table 11-1).
pub mod register {
    /// Local APIC ID.
    pub const ID: u32 = 0x20;
    /// Version.
    pub const VERSION: u32 = 0x30;
    /// Task priority.
    pub const TPR: u32 = 0x80;
    /// Processor priority.
    pub const PPR: u32 = 0xa0;
    /// End of interrupt.
    pub const EOI: u32 = 0xb0;
    /// Logical destination.
    pub const LDR: u32 = 0xd0;
    /// Destination format.
    pub const DFR: u32 = 0xe0;
    /// Spurious interrupt vector.
    pub const SVR: u32 = 0xf0;
    /// In-service, 8 registers.
    pub const ISR: u32 = 0x100;
    /// Trigger mode, 8 registers.
    pub const TMR: u32 = 0x180;
    /// Interrupt request, 8 registers.
    pub const IRR: u32 = 0x200;
    /// Error status.
    pub const ESR: u32 = 0x280;
    /// Interrupt command, low half.
    pub const ICR_LOW: u32 = 0x300;
    /// Interrupt command, high half.
    pub const ICR_HIGH: u32 = 0x310;
    /// First local vector table entry: the timer's.
    pub const LVT_TIMER: u32 = 0x320;
    /// Last local vector table entry: the error's.
    pub const LVT_ERROR: u32 = 0x370;
    /// Timer: initial count.
    pub const INITIAL_COUNT: u32 = 0x380;
    /// Timer: current count.
    pub const CURRENT_COUNT: u32 = 0x390;
    /// Timer: divide configuration.
    pub const DIVIDE: u32 = 0x3e0;
    /// Self IPI, x2APIC only (§11.12.11).
    pub const SELF_IPI: u32 = 0x3f0;

    /// Whether x2APIC mode has a register here (§11.12.1.2, table 11-6): those that exist, but for the
    /// destination format and the upper half of the ICR, which is 64 bits wide.
    pub fn is_in_x2apic(offset: u32) -> bool {
        matches!(
            offset,
            ID | VERSION
                | TPR
                | PPR
                | EOI
                | LDR
                | SVR
                | ISR..=ESR
                | ICR_LOW
                | LVT_TIMER..=CURRENT_COUNT
                | DIVIDE
                | SELF_IPI
        )
    }
}

/// IA32_APIC_BASE (§11.4.4): default address.
pub const BASE_ADDRESS: u64 = 0xfee0_0000;
/// Its address bits.
pub const BASE_PAGE: u64 = 0x3fff_ffff_f000;
/// Bootstrap processor.
pub const BASE_BOOTSTRAP: u64 = 1 << 8;
/// x2APIC mode.
pub const BASE_X2APIC: u64 = 1 << 10;
/// Enabled.
pub const BASE_ENABLED: u64 = 1 << 11;
/// Both mode bits.
pub const BASE_MODE: u64 = BASE_X2APIC | BASE_ENABLED;

/// IA32_APIC_BASE's index.
pub const MSR_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE's index.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// IA32_TIME_STAMP_COUNTER's index.
pub const MSR_TSC: u32 = 0x10;
/// IA32_TSC_ADJUST's index.
pub const MSR_TSC_ADJUST: u32 = 0x3b;
/// First x2APIC register (§11.12.1.2); number n is xAPIC offset 16 n.
pub const MSR_X2APIC: u32 = 0x800;
/// Last x2APIC register.
pub const MSR_X2APIC_LAST: u32 = 0x83f;

/// Version 0x14, six local vectors, no EOI-broadcast suppression (§11.4.8).
pub const VERSION: u32 = 0x0005_0014;
/// Software enable bit of the SVR (§11.9).
pub const SVR_ENABLED: u32 = 1 << 8;
/// ESR: received an illegal vector (§11.5.3).
pub const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
/// Delivery status bit of the ICR (§11.6.1).
pub const ICR_PENDING: u32 = 1 << 12;

/// Mask bit of a local vector table entry (§11.5.1).
pub const LVT_MASKED: u32 = 1 << 16;
/// Numbers of the entries: timer.
pub const LVT_TIMER: usize = 0;
/// LINT0.
pub const LVT_LINT0: usize = 3;
/// Writable bits: timer, thermal, performance, LINT0, LINT1, error.
pub const LVT_WRITABLE: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];

/// Delivery modes (§11.6.1): fixed.
pub const MODE_FIXED: u32 = 0;
/// Lowest priority.
pub const MODE_LOWEST: u32 = 1;
/// Non-maskable interrupt.
pub const MODE_NMI: u32 = 4;
/// INIT.
pub const MODE_INIT: u32 = 5;
/// Start-up.
pub const MODE_STARTUP: u32 = 6;
/// External interrupt controller.
pub const MODE_EXTINT: u32 = 7;
