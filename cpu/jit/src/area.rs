//! The vCPU area: everything of a vCPU that translated code touches, but guest RAM.
//!
//! ```text
//!               …       stack   of translated code: for its calls of the gate, and for signals
//!   RSP ──────► 0x0000  state   registers at the gate, scratch slots, exits        [`Registers`]
//!               0x1000  bell    one byte that other threads set                    [`Bell`]
//!               0x2000  jumps   {rip, code} by the low 16 bits of RIP, for each view
//!               …       slots   where each branch to another page goes
//!               …       journal numbers of sites whose region has changed, each once
//!               …       sites   {lo, limit, delta, host …} of each access
//! ```
//!
//! Translated code addresses it by constants off RSP, which is the host's in translated code too: whoever comes
//! by signal finds a stack below it. No value of the guest's ever takes part in such an address but the low 16 bits
//! of an index into `jumps`, which has a place for each. Where the gate's helpers have pushed something, they use the
//! GS base instead, which glibc and the kernel leave alone and which is the same address.
//!
//! The area is touched by the thread that runs the vCPU only, the bell excepted.
//!
//! Rejected: a reserved register (guests use all sixteen); the GS base alone (a byte more in each instruction, and
//! processors forward stores to loads at once only where both are off the stack's register); the area on the Rust
//! side of a `Core` (its address would change from run to run).
#![expect(unsafe_code, reason = "maps the area, and reads and writes it by offset")]

use crate::frame::{X87, X87_BYTES};
use crate::memory::ExecutableMemoryError;
use crate::returns::Returns;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// General registers, flags and vectors as they pass through the gate ([`crate::gate`]).
#[derive(Debug)]
#[repr(C)]
pub struct Registers {
    pub(crate) saved_rax: u64,
    pub(crate) saved_rcx: u64,
    /// Status flags: OF in bit 0; SF, ZF, AF, PF, CF in bits 15:8 as LAHF has them.
    pub flags: u64,
    /// Where an indirect branch goes.
    pub rip: u64,
    /// Number of the [`crate::translate::Record`] of the last exit.
    pub exit: u64,
    /// For each view, where in its ring the last call is ([`crate::returns`]), in bytes.
    pub(crate) returns_at: [u8; 8],
    /// Where code memory begins, for what executes there.
    pub(crate) code: u64,
    pub(crate) spill: [u64; 2],
    /// Outcomes of checks: what to add to a linear address for the host's (`translate::groups`).
    pub(crate) deltas: [u64; PLACES],
    /// For the look-up: the site's number, shifted left by 8, and bytes less one.
    pub(crate) wanted: u64,
    pub(crate) leave: u64,
    pub(crate) leave_saved: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// General registers in the order of their encoding.
    pub gpr: [u64; 16],
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    pub(crate) pushed: u64,
    /// RSP of whoever has entered.
    pub(crate) host_stack: u64,
    pub(crate) load_vectors: u64,
    pub(crate) load_x87: u64,
    /// x87 registers and control word are in the host's.
    pub(crate) x87_live: u64,
    /// Whether x87 state may have changed since it was last written by Rust.
    pub(crate) x87_changed: u64,
    /// XMM registers and MXCSR are in the host's registers.
    pub(crate) vectors_live: u64,
    /// MXCSR.
    pub mxcsr: u32,
    pub(crate) host_mxcsr: u32,
    pub(crate) reserved: [u64; 2],
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// Whether the vectors may have changed since [`Registers::xmm`] was last written by Rust.
    pub vectors_changed: u64,
    /// Addresses of the halves of the software TLB: [`TLB_SETS`] pairs of a page and its distance to the host's memory each.
    pub tlb: [u64; TLB_HALVES],
    /// Selectors of ES, CS, SS, DS, FS and GS.
    pub selectors: [u64; 6],
    /// The look-ups: of each half, by kind ([`crate::probe`]).
    pub(crate) look_ups: [[u64; 4]; TLB_HALVES],
    pub(crate) returns: Returns,
    /// How many sites are in the journal.
    pub(crate) journal: u64,
    /// RFLAGS.IF in its place, alone.
    pub interrupt_flag: u64,
    /// RFLAGS without IF and the status flags, as PUSHFQ shows it.
    pub other_flags: u64,
    /// Not zero: an interrupt waits for IF.
    pub interrupt_waits: u64,
    /// Not zero: SYSCALL and SYSRET do what they do in 64-bit mode, and SYSCALL clears TF and AC.
    pub fast_calls: u64,
    /// IA32_LSTAR.
    pub call_target: u64,
    /// Selectors of CS and SS that SYSCALL loads, and those that SYSRET loads.
    pub ring_selectors: [[u64; 2]; 2],
    /// What SYSCALL leaves of RFLAGS.
    pub call_mask: u64,
    /// Not zero: CR4.FSGSBASE is set.
    pub bases: u64,
    /// CR0 to CR4.
    pub control: [u64; 5],
    /// PKRU.
    pub pkru: u64,
    /// Not zero: CR4.PKE is set.
    pub keys: u64,
    /// The view of the code that runs.
    pub view: u64,
    /// Not zero: view and RFLAGS have changed since Rust last saw them.
    pub crossed: u64,
    /// Not zero: SYSCALL or SYSRET have been run, the last of them to where the view says.
    pub crossed_ring: u64,
    pub(crate) x87: X87Image,
    /// Address of the last x87 instruction that was no control instruction.
    pub(crate) x87_instruction: u64,
    /// Address of its operand, or of the last that had one.
    pub(crate) x87_operand: u64,
}

/// x87 state as XSAVE and XRSTOR with a mask of 1 have it (Intel SDM vol. 1 §13.4): the legacy region, of which the
/// first [`crate::X87_BYTES`] count, and the header.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct X87Image {
    legacy: [u8; 512],
    present: u64,
    reserved: [u64; 7],
}

impl X87Image {
    /// Sets the state.
    fn set(&mut self, x87: &X87) {
        self.legacy[..X87_BYTES].copy_from_slice(&x87.to_bytes());
        (self.present, self.reserved) = (1, [0; 7]);
    }

    /// The state, but for what belongs to SSE, and for the opcode and pointers: those are the host's.
    fn get(&self, before: &X87) -> X87 {
        let mut bytes = [0; X87_BYTES];
        bytes.copy_from_slice(&self.legacy[..X87_BYTES]);
        let X87 { fop, fip, fdp, mxcsr, mxcsr_mask, .. } = *before;
        X87 { fop, fip, fdp, mxcsr, mxcsr_mask, ..X87::from_bytes(&bytes) }
    }
}

impl Registers {
    /// Gives x87 state to translated code.
    pub fn set_x87(&mut self, x87: &X87) {
        self.x87_changed = 0;
        self.x87.set(x87);
        (self.x87_instruction, self.x87_operand) = (x87.fip, x87.fdp);
    }

    /// Takes it back, if it may have changed.
    pub fn x87(&self, before: &X87) -> Option<X87> {
        let pointers = (self.x87_instruction, self.x87_operand);
        let after = (self.x87_changed != 0).then(|| self.x87.get(before))?;
        Some(X87 { fip: pointers.0, fdp: pointers.1, ..after })
    }
}

/// Outcomes of checks that a superblock keeps.
pub(crate) const PLACES: usize = 4;

/// Sets in each half of the software TLB that the look-up looks into.
pub const TLB_SETS: u64 = 4096;
/// Halves: the read and the write half of each view.
pub const TLB_HALVES: usize = 2 * VIEWS;

/// What a site is good for: see [`crate::translate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Site {
    /// First linear address of the region.
    pub lo: u64,
    /// How far from `lo` an access of the size that the site was filled for may start, exclusive; 0 when the site is
    /// void.
    pub limit: u64,
    /// The same for accesses of [`Site::SIZES`] bytes at most.
    pub limits: [u64; 3],
    /// Host address minus linear address.
    pub delta: u64,
    /// Host address of `lo`; for a constant address the host address itself, 0 when void.
    pub host: u64,
    /// Bit 0: its number is in the journal. Bits 1 and 2: it waits to be listed (`translate::sites`). Bits 5 to 7 are the
    /// look-up's ([`crate::probe`]): its region went upwards the last time; it has no region because it hops; the next
    /// miss is compared with the last.
    pub journaled: u8,
    /// What `patience` is set to the next time.
    pub next_patience: u8,
    /// At which miss, from now on, the page may become the region, at least 1: those before are served by the TLB.
    pub patience: u16,
    /// Low bits of the address of the TLB's set that the miss fell into at which patience ended.
    pub missed: u16,
    /// At how many looks since the last region the page was another one.
    pub hops: u8,
}

impl Site {
    /// Sizes that a site shared by several accesses knows a limit for.
    pub const SIZES: [u64; 3] = [8, 64, 256];

    /// A site that takes the page of its first access.
    pub const VOID: Site = Site {
        lo: 0,
        limit: 0,
        limits: [0; 3],
        delta: 0,
        host: 0,
        journaled: 0,
        next_patience: 1,
        patience: 1,
        missed: 0,
        hops: 0,
    };

    /// The next access misses, and its page becomes the region. A site that had many regions is given the next ones
    /// sooner than before.
    #[inline(always)]
    pub fn make_void(&mut self) {
        (self.limit, self.limits, self.host) = (0, [0; 3], 0);
        self.journaled &= !crate::probe::HOPS;
        (self.patience, self.next_patience) = (1, (self.next_patience / 2).max(1));
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Jump {
    /// The linear RIP.
    tag: u64,
    code: u64,
}

/// Views that have jump caches of their own: user, supervisor, supervisor with RFLAGS.AC.
pub const VIEWS: usize = 3;
pub(crate) const USER: u8 = 0;
pub(crate) const SUPERVISOR: u8 = 1;
pub(crate) const SUPERVISOR_AC: u8 = 2;

/// Sites of a vCPU.
pub const SITES: usize = 1 << 18;
/// Slots of a vCPU.
pub const SLOTS: usize = 1 << 16;
const JUMPS: usize = 1 << 16;

pub(crate) const BELL: usize = 0x1000;
pub(crate) const JUMPS_AT: usize = 0x2000;
const JUMPS_BYTES: usize = JUMPS * size_of::<Jump>();
pub(crate) const SLOTS_AT: usize = JUMPS_AT + VIEWS * JUMPS_BYTES;
pub(crate) const SITES_AT: usize = SLOTS_AT + SLOTS * 8;
pub(crate) const JOURNAL_AT: usize = SITES_AT + SITES * size_of::<Site>();
pub(crate) const AREA: usize = JOURNAL_AT + SITES * 4;
/// Bytes of stack below the state. The lowest page of them cannot be reached.
const STACK: usize = 1 << 16;
const GUARD: usize = 0x1000;
/// The state begins at a multiple of a large page of the host, so that the tables behind it can lie in some.
const LARGE_PAGE: usize = 2 << 20;
const MAPPED: usize = STACK + LARGE_PAGE + AREA;

const _: () = assert!(size_of::<Registers>() <= BELL);
const _: () = assert!(offset_of!(Registers, xmm).is_multiple_of(16));
// What comes first is addressed by one byte.
const _: () = assert!(offset_of!(Registers, leave_saved) < 0x80);

/// The offset of a view's jump cache.
pub(crate) const fn jumps_of(view: u8) -> usize {
    JUMPS_AT + view as usize * JUMPS_BYTES
}

/// The mapping, which a bell keeps alive as well: where its state begins, and where it does itself.
#[derive(Debug)]
struct Mapping(NonNull<u8>, NonNull<u8>);

// SAFETY: the mapping belongs to whoever holds this; nothing in it is tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference only the bell is reached, which is atomic.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `Area::new` with this size and ends with this value.
        let _ = unsafe { munmap(self.1.as_ptr().cast(), MAPPED) };
    }
}

/// The area of one vCPU.
#[derive(Debug)]
pub struct Area {
    mapping: Arc<Mapping>,
    /// What a void slot holds: the way out.
    void: u64,
}

/// Asks a vCPU in translated code to come out at its next poll.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Mapping>);

impl Bell {
    fn byte(&self) -> &AtomicU8 {
        // SAFETY: the byte lies in the mapping, which `self` keeps alive, and is accessed atomically by
        // Rust and by single loads in translated code.
        unsafe { AtomicU8::from_ptr(self.0.0.as_ptr().add(BELL)) }
    }

    /// Rings: the next poll leaves.
    pub fn ring(&self) {
        self.byte().store(1, Ordering::SeqCst);
    }

    /// Stops ringing, if it rings. Loads behind it see what whoever rang had stored before.
    pub fn silence(&self) {
        if self.byte().load(Ordering::SeqCst) != 0 {
            self.byte().swap(0, Ordering::SeqCst);
        }
    }
}

impl Area {
    /// An area with all sites, slots and jumps void; `generous`: in large pages of the host, if it has some.
    ///
    /// # Errors
    /// The host refused the memory.
    pub(crate) fn new(generous: bool) -> Result<Area, ExecutableMemoryError> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing else.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                MAPPED,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let failed = |source| ExecutableMemoryError::area(MAPPED, source);
        let lowest: NonNull<u8> = mapped
            .and_then(|base| NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM))
            .map_err(failed)?;
        let below = lowest.as_ptr() as usize + STACK;
        let distance = STACK + below.next_multiple_of(LARGE_PAGE) - below;
        // SAFETY: the state begins within the mapping, less than a large page behind the room for the stack.
        let mapping = Mapping(unsafe { lowest.add(distance) }, lowest);
        // SAFETY: the page belongs to the mapping, and nobody has used it yet.
        let guard = unsafe { lowest.add(distance - STACK) };
        // SAFETY: likewise.
        unsafe { mprotect(guard.as_ptr().cast(), GUARD, MprotectFlags::empty()) }
            .map_err(failed)?;
        if generous {
            // SAFETY: changes how the host backs the mapping's pages, and nothing that is in them. It may refuse.
            let _ = unsafe { madvise(mapping.0.as_ptr().cast(), AREA, Advice::LinuxHugepage) };
        }
        let exits = crate::gate::exits();
        let mut area = Area { mapping: Arc::new(mapping), void: exits.void_slot };
        let registers = area.registers();
        registers.leave = exits.leave;
        registers.leave_saved = exits.leave_saved;
        registers.load_vectors = exits.load_vectors;
        registers.load_x87 = exits.load_x87;
        registers.look_ups = crate::probe::look_ups();
        area.void_edges();
        Ok(area)
    }

    /// What the GS base is to be, and RSP in translated code.
    pub(crate) fn base(&self) -> u64 {
        self.mapping.0.as_ptr() as u64
    }

    /// The bell, for other threads.
    pub fn bell(&self) -> Bell {
        Bell(self.mapping.clone())
    }

    /// The state.
    #[inline(always)]
    pub fn registers(&mut self) -> &mut Registers {
        // SAFETY: the state lies at the start of the mapping, is valid for every bit pattern, and is
        // reached by translated code only while `&mut self` is with the gate.
        unsafe { self.mapping.0.cast::<Registers>().as_mut() }
    }

    /// Item `index` of the table at `offset`; the caller sees to `index` being within it.
    #[inline(always)]
    fn item<T: Copy>(&mut self, offset: usize, index: usize) -> &mut T {
        let at = offset + index * size_of::<T>();
        assert!(at + size_of::<T>() <= AREA);
        // SAFETY: the place lies in the mapping (checked above), the tables are aligned for their items
        // and valid for every bit pattern; exclusive as in `registers`.
        unsafe { self.mapping.0.add(at).cast::<T>().as_mut() }
    }

    #[inline(always)]
    pub(crate) fn site(&mut self, site: u32) -> &mut Site {
        self.item(SITES_AT, site as usize & (SITES - 1))
    }

    /// Notes that a site's region has changed. There is room for every site once.
    #[inline(always)]
    pub(crate) fn journal(&mut self, number: u32) {
        let site = self.site(number);
        if site.journaled & 1 == 0 {
            site.journaled |= 1;
            let n = self.registers().journal as usize & (SITES - 1);
            *self.item::<u32>(JOURNAL_AT, n) = number;
            self.registers().journal = n as u64 + 1;
        }
    }

    /// Empties the journal: how many sites [`Area::journaled`] has.
    pub(crate) fn take_journal(&mut self) -> usize {
        (std::mem::take(&mut self.registers().journal) as usize).min(SITES)
    }

    /// The `n`th site of what was the journal, which is not in it any more.
    pub(crate) fn journaled(&mut self, n: usize) -> u32 {
        let number = *self.item::<u32>(JOURNAL_AT, n & (SITES - 1));
        self.site(number).journaled &= !1;
        number
    }

    /// Where slot `slot` leads from now on; `None` makes it void.
    #[inline(always)]
    pub fn set_slot(&mut self, slot: u32, code: Option<u64>) {
        let void = self.void;
        *self.item::<u64>(SLOTS_AT, slot as usize & (SLOTS - 1)) = code.unwrap_or(void);
    }

    /// Remembers where the code for `rip` in a view is.
    #[inline(always)]
    pub fn set_jump(&mut self, view: u8, rip: u64, code: u64) {
        let index = (rip & 0xffff) as usize;
        *self.item::<Jump>(jumps_of(view.min(VIEWS as u8 - 1)), index) = Jump { tag: rip, code };
    }

    /// Forgets what is remembered for the place of `rip`.
    #[inline(always)]
    pub fn clear_jump(&mut self, view: u8, rip: u64) {
        let index = (rip & 0xffff) as usize;
        *self.item::<Jump>(jumps_of(view.min(VIEWS as u8 - 1)), index) = Jump::void(index);
    }

    /// Forgets all jumps.
    pub fn clear_jumps(&mut self) {
        // SAFETY: the range lies in the mapping, which is private and anonymous: its pages read as zero
        // again, which is valid for jumps.
        let _ = unsafe {
            madvise(
                self.mapping.0.as_ptr().add(JUMPS_AT).cast(),
                VIEWS * JUMPS_BYTES,
                Advice::LinuxDontNeed,
            )
        };
        self.void_edges();
    }

    /// A tag of zero is void for all places but the first.
    fn void_edges(&mut self) {
        for view in 0..VIEWS as u8 {
            self.clear_jump(view, 0);
        }
    }
}

impl Jump {
    /// A tag that no address matches which is looked up there: its low 16 bits are another place's.
    fn void(index: usize) -> Jump {
        Jump { tag: !index as u64, code: 0 }
    }
}
