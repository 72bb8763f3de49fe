//! The look-up: what an access does that is not in its site's region.
//!
//! The software TLB is asked. When it knows the page, the access is made there and then. The page becomes the site's
//! region when that seems worth while: at once where there is none, and where the region goes through memory page after
//! page and the next one is missed; else at every so many-th miss, if the next one is in the same page. A site that
//! changes its region often, or finds no reason to, is looked at less often.
//!
//! ```text
//!   linear   ─┬────┬────┬────┬────┬────┬─        the TLB's sets of these pages, one after the other
//!   host       7000 3000 4000 5000 6000 2000
//!                   └────── region ────┘
//!                          ▲ the access
//! ```
//!
//! The pages on either side are of the region as well that the TLB knows to lie beside it in the host's memory. A kernel
//! that gives its programs page after page often gives them neighbours, so that what is spread over a few pages is one
//! region. Each page of it is in the half of the TLB that the access is for: it may be reached by such accesses, and
//! whoever takes the page away finds the site by it ([`crate::translate`], `sites`).
//!
//! A site whose accesses hop between a few pages goes without a region, unless one of them is long: each access would be
//! in it or not as chance has it, and a branch that nobody can predict costs more than a look-up.
//!
//! The check is the TLB's own: the page of the access' last byte is compared with the tag in the set of its first, so
//! that one that crosses into the next page misses. The tag of a set in which there is nothing is a page that belongs to
//! another set, so that no access agrees.
//!
//! Rejected: making the TLB's entries runs of pages (each insertion would have to look at its neighbours, and there are
//! more of them than of regions); a look-up in line at each access (most are never run, and those that are were in no
//! cache).
#![expect(unsafe_code, reason = "helpers of translated code")]

use crate::area::{JOURNAL_AT, Registers, SITES_AT, Site, TLB_HALVES, TLB_SETS};
use crate::translate::SHARED;
use std::arch::naked_asm;
use std::mem::offset_of;

/// Bytes of a block of linear memory that a region lies within: no more pages than there are sets.
const BLOCK: u64 = 256 << 10;

/// Misses between two looks at most.
const PATIENT: u32 = 16;
/// The same for sites that many accesses share: each new region is soon worth while.
const PATIENT_SHARED: u32 = 4;
/// The bit of [`Site::journaled`] that says that the site has no region because it hops.
pub(crate) const HOPS: u8 = 1 << 6;
/// The bit of [`Site::journaled`] that says that the region went upwards the last time.
const UP: u8 = 1 << 5;
/// Looks that found another page than the one before, between two that did not, of a site that hops.
const MANY_HOPS: u8 = 3;
/// Bytes of a region that is worth while all the same.
const LONG: usize = 8 * 4096;
/// The bit of [`Site::journaled`] that says that the last look was one.
const AGAIN: u8 = 1 << 7;

const _: () = assert!(BLOCK.is_power_of_two() && BLOCK / 4096 <= TLB_SETS);

/// The look-ups of each half of the TLB: for the distance to the host's memory; for the host address; for the region to
/// become the site's at once; and as the first, when patience has ended already.
pub(crate) fn look_ups() -> [[u64; 4]; TLB_HALVES] {
    [of_half::<0>(), of_half::<1>(), of_half::<2>(), of_half::<3>(), of_half::<4>(), of_half::<5>()]
}

fn of_half<const HALF: usize>() -> [u64; 4] {
    [
        look_up::<HALF, 0> as *const () as u64,
        look_up::<HALF, 1> as *const () as u64,
        look_up::<HALF, 2> as *const () as u64,
        look_up::<HALF, 3> as *const () as u64,
    ]
}

/// Asks the half of the TLB for the access at the linear address in R11, of the site and the size that
/// [`Registers::wanted`] says. Called from the cold side; keeps all registers but R11. When the TLB knows the page, CF is
/// set and R11 has what was asked for.
#[unsafe(naked)]
unsafe extern "sysv64" fn look_up<const HALF: usize, const KIND: usize>() {
    naked_asm!(
        "push rcx",
        "mov ecx, gs:[{wanted}]",
        "and ecx, -256",
        "shr ecx, 8 - {site_shift}",
        ".if {kind} >= 2",
        "jmp {refill}",
        ".else",
        "dec word ptr gs:[rcx + {patience}]",
        "jz {refill}",
        "movzx ecx, byte ptr gs:[{wanted}]",
        "add rcx, r11",
        "shr r11, 12 - 4",
        "and r11d, ({sets} - 1) * 16",
        "add r11, gs:[{half}]",
        // RCX: the access' last byte. R11: the set of its first.
        "xor rcx, [r11]",
        "cmp rcx, 4096",
        "jae 2f",
        ".if {kind} == 1",
        "add rcx, [r11]",
        "add rcx, [r11 + 8]",
        "movzx r11d, byte ptr gs:[{wanted}]",
        "sub rcx, r11",
        "mov r11, rcx",
        "stc",
        ".else",
        "mov r11, [r11 + 8]",
        ".endif",
        "2:",
        "pop rcx",
        "ret",
        ".endif",
        wanted = const offset_of!(Registers, wanted),
        half = const offset_of!(Registers, tlb) + HALF * size_of::<u64>(),
        kind = const KIND,
        site_shift = const size_of::<Site>().trailing_zeros(),
        patience = const SITES_AT + offset_of!(Site, patience),
        sets = const TLB_SETS,
        refill = sym refill::<HALF, KIND>,
    )
}

/// Goes on where patience has ended; RCX has how far the site is from the first, RCX's value is on the stack.
///
/// From here on RDI has that, RCX the address of the TLB's set, RAX the page, RDX what to add to a linear address for the
/// host's; and the registers wait on the stack.
#[unsafe(naked)]
unsafe extern "sysv64" fn refill<const HALF: usize, const KIND: usize>() {
    naked_asm!(
        "push rax", "push rbx", "push rdx", "push rsi", "push rdi", "push r11",
        "mov rdi, rcx",
        "mov rcx, r11",
        "shr rcx, 12 - 4",
        "and ecx, ({sets} - 1) * 16",
        "add rcx, gs:[{half}]",
        "movzx eax, byte ptr gs:[{wanted}]",
        "add rax, r11",
        "and rax, -4096",
        "mov word ptr gs:[rdi + {patience}], 1",
        "cmp rax, [rcx]",
        "jne {unknown}",
        "mov rdx, [rcx + 8]",
        ".if {kind} == 2",
        "jmp {grow}",
        ".else",
        "jmp {choose}",
        ".endif",
        wanted = const offset_of!(Registers, wanted),
        half = const offset_of!(Registers, tlb) + HALF * size_of::<u64>(),
        kind = const KIND,
        patience = const SITES_AT + offset_of!(Site, patience),
        sets = const TLB_SETS,
        grow = sym grow::<KIND>,
        choose = sym choose::<KIND>,
        unknown = sym unknown,
    )
}

/// Whether the page is to be the site's region: at once when there is none, or when it is the next one on the way that
/// the region takes through memory.
#[unsafe(naked)]
unsafe extern "sysv64" fn choose<const KIND: usize>() {
    naked_asm!(
        "movzx ebx, byte ptr gs:[rdi + {next}]",
        "mov gs:[rdi + {patience}], bx",
        "test byte ptr gs:[rdi + {journaled}], {hops}",
        "jnz {compare}",
        "cmp qword ptr gs:[rdi + {limit}], 0",
        "je {take}",
        "cmp byte ptr gs:[rdi + {count}], 0",
        "jne {compare}",
        "mov rsi, gs:[rdi + {lo}]",
        "lea r11, [rax + 4096]",
        "cmp r11, rsi",
        "mov r11d, 0",
        "je 2f",
        "add rsi, gs:[rdi + {limits}]",
        "add rsi, {size_0} - 1",
        "cmp rsi, rax",
        "mov r11d, {up}",
        "jne {compare}",
        // Below the region, or above it. A site that goes to and fro is no stream, and is looked at less often.
        "2:",
        "movzx esi, byte ptr gs:[rdi + {journaled}]",
        "and esi, {up}",
        "cmp esi, r11d",
        "je 3f",
        "xor byte ptr gs:[rdi + {journaled}], {up}",
        "lea esi, [rbx + rbx]",
        "cmp esi, {patient}",
        "ja {compare}",
        "mov gs:[rdi + {next}], sil",
        "jmp {compare}",
        "3:",
        "mov word ptr gs:[rdi + {patience}], 1",
        "mov byte ptr gs:[rdi + {count}], 0",
        "mov gs:[rdi + {missed}], cx",
        "and byte ptr gs:[rdi + {journaled}], {not_again}",
        "jmp {grow}",
        journaled = const SITES_AT + offset_of!(Site, journaled),
        patience = const SITES_AT + offset_of!(Site, patience),
        next = const SITES_AT + offset_of!(Site, next_patience),
        missed = const SITES_AT + offset_of!(Site, missed),
        lo = const SITES_AT + offset_of!(Site, lo),
        limit = const SITES_AT + offset_of!(Site, limit),
        limits = const SITES_AT + offset_of!(Site, limits),
        count = const SITES_AT + offset_of!(Site, hops),
        size_0 = const Site::SIZES[0],
        patient = const PATIENT,
        hops = const HOPS,
        up = const UP,
        not_again = const !AGAIN,
        compare = sym compare::<KIND>,
        take = sym take::<KIND>,
        grow = sym grow::<KIND>,
    )
}

/// The same, where it lies elsewhere: when it is the page of the miss before.
#[unsafe(naked)]
unsafe extern "sysv64" fn compare<const KIND: usize>() {
    naked_asm!(
        "cmp cx, gs:[rdi + {missed}]",
        "mov gs:[rdi + {missed}], cx",
        "je 3f",
        // Another page than the last time: look once more at the next miss, if this was no such look.
        "inc byte ptr gs:[rdi + {count}]",
        "xor byte ptr gs:[rdi + {journaled}], {again}",
        "test byte ptr gs:[rdi + {journaled}], {again}",
        "jz 2f",
        "mov word ptr gs:[rdi + {patience}], 1",
        "jmp {known}",
        // It is looked at less often.
        "2:",
        "add ebx, ebx",
        "cmp ebx, {patient}",
        "ja {known}",
        "cmp edi, {shared}",
        "jb {known}",
        "mov gs:[rdi + {next}], bl",
        "jmp {known}",
        // The same page. A site that hops wants to see that twice.
        "3:",
        "test byte ptr gs:[rdi + {journaled}], {hops}",
        "jz 4f",
        "cmp byte ptr gs:[rdi + {count}], 0",
        "mov byte ptr gs:[rdi + {count}], 0",
        "jne {known}",
        "and byte ptr gs:[rdi + {journaled}], {no_hops}",
        "jmp {take}",
        "4:",
        "cmp edi, {shared}",
        "jb {take}",
        "cmp byte ptr gs:[rdi + {count}], {many_hops}",
        "jb {take}",
        "or byte ptr gs:[rdi + {journaled}], {hops}",
        "jmp {take}",
        journaled = const SITES_AT + offset_of!(Site, journaled),
        patience = const SITES_AT + offset_of!(Site, patience),
        next = const SITES_AT + offset_of!(Site, next_patience),
        missed = const SITES_AT + offset_of!(Site, missed),
        count = const SITES_AT + offset_of!(Site, hops),
        patient = const PATIENT,
        hops = const HOPS,
        no_hops = const !HOPS,
        many_hops = const MANY_HOPS,
        shared = const SHARED as usize * size_of::<Site>(),
        again = const AGAIN,
        take = sym take::<KIND>,
        known = sym known::<KIND>,
    )
}

/// Takes the page, and is looked at less often from now on.
#[unsafe(naked)]
unsafe extern "sysv64" fn take<const KIND: usize>() {
    naked_asm!(
        "mov byte ptr gs:[rdi + {count}], 0",
        "and byte ptr gs:[rdi + {journaled}], {not_again}",
        "mov gs:[rdi + {missed}], cx",
        "add ebx, ebx",
        "mov r11d, {patient}",
        "mov esi, {patient_shared}",
        "cmp edi, {shared}",
        "cmovb r11d, esi",
        "cmp ebx, r11d",
        "ja 2f",
        "mov gs:[rdi + {next}], bl",
        "2:",
        "jmp {grow}",
        journaled = const SITES_AT + offset_of!(Site, journaled),
        next = const SITES_AT + offset_of!(Site, next_patience),
        missed = const SITES_AT + offset_of!(Site, missed),
        count = const SITES_AT + offset_of!(Site, hops),
        patient = const PATIENT,
        patient_shared = const PATIENT_SHARED,
        shared = const SHARED as usize * size_of::<Site>(),
        not_again = const !AGAIN,
        grow = sym grow::<KIND>,
    )
}

/// Finds the page's neighbours that lie beside it in the host's memory: then RAX is where the region begins, RSI its
/// length.
#[unsafe(naked)]
unsafe extern "sysv64" fn grow<const KIND: usize>() {
    naked_asm!(
        "mov rsi, rax",
        "mov rbx, rcx",
        "2:",
        "add rsi, 4096",
        "test esi, {block} - 1",
        "jz 3f",
        "add rbx, 16",
        "cmp rsi, [rbx]",
        "jne 3f",
        "cmp rdx, [rbx + 8]",
        "je 2b",
        "3:",
        "test eax, {block} - 1",
        "jz 4f",
        "lea r11, [rax - 4096]",
        "sub rcx, 16",
        "cmp r11, [rcx]",
        "jne 4f",
        "cmp rdx, [rcx + 8]",
        "jne 4f",
        "mov rax, r11",
        "jmp 3b",
        "4:",
        "sub rsi, rax",
        "jmp {settle}",
        block = const BLOCK,
        settle = sym settle::<KIND>,
    )
}

/// Makes the region the site's, unless the site hops and the region is short.
#[unsafe(naked)]
unsafe extern "sysv64" fn settle<const KIND: usize>() {
    naked_asm!(
        "test byte ptr gs:[rdi + {journaled}], {hops}",
        "jz 3f",
        "and byte ptr gs:[rdi + {journaled}], {no_hops}",
        "cmp rsi, {long}",
        "jae 3f",
        "or byte ptr gs:[rdi + {journaled}], {hops}",
        "xor esi, esi",
        "mov gs:[rdi + {limit}], rsi",
        "mov gs:[rdi + {limits}], rsi",
        "mov gs:[rdi + {limits} + 8], rsi",
        "mov gs:[rdi + {limits} + 16], rsi",
        "mov gs:[rdi + {host}], rsi",
        "jmp {known}",
        "3:",
        "test byte ptr gs:[rdi + {journaled}], 1",
        "jne 2f",
        "mov ebx, gs:[{wanted}]",
        "shr ebx, 8",
        "mov r11, gs:[{journal}]",
        "mov gs:[{journal_at} + r11 * 4], ebx",
        "inc r11",
        "mov gs:[{journal}], r11",
        "or byte ptr gs:[rdi + {journaled}], 1",
        "2:",
        "mov gs:[rdi + {lo}], rax",
        "mov gs:[rdi + {delta}], rdx",
        "add rax, rdx",
        "mov gs:[rdi + {host}], rax",
        "movzx eax, byte ptr gs:[{wanted}]",
        "mov rbx, rsi",
        "sub rbx, rax",
        "mov gs:[rdi + {limit}], rbx",
        "lea rbx, [rsi - ({size_0} - 1)]",
        "mov gs:[rdi + {limits}], rbx",
        "lea rbx, [rsi - ({size_1} - 1)]",
        "mov gs:[rdi + {limits} + 8], rbx",
        "lea rbx, [rsi - ({size_2} - 1)]",
        "mov gs:[rdi + {limits} + 16], rbx",
        "jmp {known}",
        wanted = const offset_of!(Registers, wanted),
        journal = const offset_of!(Registers, journal),
        journal_at = const JOURNAL_AT,
        journaled = const SITES_AT + offset_of!(Site, journaled),
        lo = const SITES_AT + offset_of!(Site, lo),
        limit = const SITES_AT + offset_of!(Site, limit),
        limits = const SITES_AT + offset_of!(Site, limits),
        delta = const SITES_AT + offset_of!(Site, delta),
        host = const SITES_AT + offset_of!(Site, host),
        size_0 = const Site::SIZES[0],
        size_1 = const Site::SIZES[1],
        size_2 = const Site::SIZES[2],
        hops = const HOPS,
        no_hops = const !HOPS,
        long = const LONG,
        known = sym known::<KIND>,
    )
}

/// Back with what was asked for.
#[unsafe(naked)]
unsafe extern "sysv64" fn known<const KIND: usize>() {
    naked_asm!(
        "pop r11",
        ".if {kind} % 3 == 0",
        "mov r11, rdx",
        ".else",
        "add r11, rdx",
        ".endif",
        "stc",
        "pop rdi", "pop rsi", "pop rdx", "pop rbx", "pop rax",
        "pop rcx",
        "ret",
        kind = const KIND,
    )
}

/// Back with nothing.
#[unsafe(naked)]
unsafe extern "sysv64" fn unknown() {
    naked_asm!(
        "clc", "pop r11", "pop rdi", "pop rsi", "pop rdx", "pop rbx", "pop rax", "pop rcx", "ret",
    )
}
