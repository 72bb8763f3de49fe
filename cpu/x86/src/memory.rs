//! How linear addresses reach bytes.
//!
//! All methods take the whole [`Core`], since a page walk reads control registers, raises exceptions
//! into the state, and may end at the machine (memory-mapped registers).
//!
//! Each access is whole or not at all: when one that crosses a page faults in the second page, the first
//! is untouched.

use crate::core::Core;
use crate::fault::Stop;
use crate::word::Word;

/// What an access means to do: decides permissions and the page-fault error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Data read.
    Read,
    /// Data write, or read of a read-modify-write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// What of a CPU belongs to its engine rather than to the core: time, local APIC, identity.
pub trait Platform: Sized + 'static {
    /// CPUID offers BMI1 and LZCNT: an F3 prefix turns BSF and BSR into TZCNT and LZCNT instead of being
    /// ignored.
    const COUNTS_ZEROS: bool = false;

    /// A model-specific register that belongs to the engine (APIC base, x2APIC, TSC deadline, TSC):
    /// `None` when the engine has none such (the core then raises #GP), `Some(Err)` for #GP.
    fn read_msr(core: &mut Core<'_, Self>, index: u32) -> Option<Result<u64, ()>>;

    /// As [`Platform::read_msr`], for writing.
    fn write_msr(core: &mut Core<'_, Self>, index: u32, value: u64) -> Option<Result<(), ()>>;

    /// The time-stamp counter.
    fn time_stamp(core: &mut Core<'_, Self>) -> u64;

    /// CR8: the local APIC's task priority, bits 7:4.
    fn task_priority(core: &mut Core<'_, Self>) -> u8;

    /// Sets CR8.
    fn set_task_priority(core: &mut Core<'_, Self>, priority: u8);

    /// PAUSE: the guest spins, so the host may run somebody else.
    fn pause(core: &mut Core<'_, Self>);

    /// What CPUID answers on this CPU.
    fn cpuid(core: &mut Core<'_, Self>, leaf: u32, subleaf: u32) -> [u32; 4];
}

/// Linear memory of one CPU, with its translation caches.
pub trait Memory: Platform {
    /// Loads with the privilege of the running code.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    fn load<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop>;

    /// The load of a read-modify-write: the page must be writable.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn load_for_write<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop>;

    /// Stores with the privilege of the running code.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn store<T: Word>(core: &mut Core<'_, Self>, linear: u64, value: T) -> Result<(), Stop>;

    /// Atomically: when the value there is `old`, `new` takes its place. Gives the value found.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn compare_exchange<T: Word>(
        core: &mut Core<'_, Self>,
        linear: u64,
        old: T,
        new: T,
    ) -> Result<T, Stop>;

    /// As [`Memory::compare_exchange`] for CMPXCHG16B; `linear` is a multiple of 16.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn compare_exchange_16(
        core: &mut Core<'_, Self>,
        linear: u64,
        old: u128,
        new: u128,
    ) -> Result<u128, Stop>;

    /// Loads any number of bytes.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    fn load_bytes(core: &mut Core<'_, Self>, linear: u64, bytes: &mut [u8]) -> Result<(), Stop>;

    /// Stores any number of bytes, all or none.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn store_bytes(core: &mut Core<'_, Self>, linear: u64, bytes: &[u8]) -> Result<(), Stop>;

    /// Checks that `length` bytes may be accessed, without accessing them.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn probe(
        core: &mut Core<'_, Self>,
        linear: u64,
        length: u64,
        intent: Intent,
    ) -> Result<(), Stop>;

    /// Loads as supervisor whatever the CPL: descriptor tables, TSS, IDT.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    fn load_system<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop>;

    /// Stores as supervisor whatever the CPL: accessed and busy bits, TSS.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn store_system<T: Word>(core: &mut Core<'_, Self>, linear: u64, value: T) -> Result<(), Stop>;

    /// Stores bytes as supervisor whatever the CPL, all or none: stack frames of gates.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    fn store_system_bytes(core: &mut Core<'_, Self>, linear: u64, bytes: &[u8])
    -> Result<(), Stop>;

    /// The 8 bytes of RAM at an aligned guest-physical address; all-ones where there is none.
    fn load_physical(core: &mut Core<'_, Self>, physical: u64) -> u64;

    /// `rep movs` forward: copies up to `count` elements of `size` bytes from `source` to
    /// `destination` (linear), as many as can be done at once without a fault, a page crossing or an
    /// overlap that matters. Gives the number done; 0 sends the caller to the element-wise way.
    fn copy_forward(
        core: &mut Core<'_, Self>,
        destination: u64,
        source: u64,
        count: u64,
        size: u64,
    ) -> u64;

    /// `rep stos` forward: as [`Memory::copy_forward`], with the low `size` bytes of `value`.
    fn fill_forward(
        core: &mut Core<'_, Self>,
        destination: u64,
        value: u64,
        count: u64,
        size: u64,
    ) -> u64;

    /// CPL, CR0.WP, CR4.SMAP, RFLAGS.AC … have changed: permissions are other than before.
    fn permissions_changed(core: &mut Core<'_, Self>);

    /// Forgets all translations, or all but the global ones.
    fn flush(core: &mut Core<'_, Self>, keep_global: bool);

    /// Forgets the translation of one linear page.
    fn flush_page(core: &mut Core<'_, Self>, linear: u64);
}
