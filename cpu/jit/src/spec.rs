//! Numbers of the architecture that thunks depend on.

/// Status flags in RFLAGS: CF, PF, AF, ZF, SF, OF (Intel SDM vol. 1 §3.4.3.1). All that a thunk ever
/// loads from a frame: TF, IF, DF, AC and the rest stay the host's.
pub const STATUS_FLAGS: u64 = 0x8D5;

/// MXCSR after reset: all exceptions masked, round to nearest (Intel SDM vol. 1 §10.2.3).
pub const MXCSR_RESET: u32 = 0x1F80;
/// MXCSR exception flags IE, DE, ZE, OE, UE, PE (Intel SDM vol. 1 §10.2.3.1).
pub const MXCSR_FLAGS: u32 = 0x3F;
/// MXCSR exception masks, in the same order.
pub const MXCSR_MASKS: u32 = 0x1F80;
/// How far the masks lie above the flags.
pub const MXCSR_MASK_SHIFT: u32 = 7;
/// MXCSR.FZ: flush results to zero (Intel SDM vol. 1 §10.2.3.3).
pub const MXCSR_FLUSH_TO_ZERO: u32 = 1 << 15;
/// The bits that a guest may set: loading others is #GP (Intel SDM vol. 1 §10.2.3).
pub const MXCSR_VALID: u32 = 0xFFFF;
/// Conditions found before the computation: IE, DE, ZE (Intel SDM vol. 1 §11.5.3.2).
pub const PRE_COMPUTATION: u32 = 0x07;
/// MXCSR.UE.
pub const UNDERFLOW: u32 = 1 << 4;

/// x87 control word after FNINIT (Intel SDM vol. 1 §8.1.5).
pub const FCW_RESET: u16 = 0x037F;
/// x87 exception flags in the status word, and their masks in the control word (vol. 1 §8.1.3.3).
pub const X87_EXCEPTIONS: u16 = 0x3F;
/// Status word: exception summary (ES) and busy (B), which mirrors it (vol. 1 §8.1.3.3).
pub const X87_SUMMARY: u16 = 0x8080;
/// Status word: number of the physical register that is ST(0) (vol. 1 §8.1.2).
pub const X87_TOP: u16 = 7 << 11;

/// Size of an FXSAVE image (Intel SDM vol. 1 §10.5.1).
pub const FXSAVE_BYTES: usize = 512;
