//! Accesses that are checked together, where pages end, change places and are absent.

use crate::differences;
use crate::directed::finish;
use crate::guest::{CODE, COUNTER, DATA, Guest, Outcome};

/// Entry 2 of the first page directory (`flat`), for linear memory from 4 MiB on.
const ENTRY: u64 = 0x5000 + 8 * 2;
/// A page table.
const TABLE: u64 = 0x1a_0000;
/// Two pages of operands the wrong way round, and an absent one.
const WINDOW: u64 = 0x40_0000;
const PAGE: u64 = 0x1000;
/// Present, writable, user, accessed and dirty (Intel SDM vol. 3A §4.5).
const MAPPED: u64 = 0b110_0111;
/// Of those, without the right to write.
const READ_ONLY: u64 = 0b110_0101;

/// The same program, with RBX at a linear address, in the translator and in the interpreter.
fn compare(bytes: &[u8], turns: u64, rbx: u64, entries: [u64; 3]) -> Outcome {
    let run = |translate| {
        let mut guest = Guest::new(translate);
        guest.put(CODE, bytes);
        guest.put(COUNTER, &turns.to_le_bytes());
        guest.put(DATA, &[0x5a; 2 * PAGE as usize]);
        guest.put(ENTRY, &(TABLE | MAPPED).to_le_bytes());
        for (number, entry) in (0..).zip(entries) {
            guest.put(TABLE + 8 * number, &entry.to_le_bytes());
        }
        guest.start(|state| {
            state.general.gpr[3] = rbx;
            state.general.gpr[8] = COUNTER;
        });
        guest.run()
    };
    let (ours, theirs) = (run(true), run(false));
    let told = differences(&ours, &theirs, 0);
    assert!(told.is_empty(), "{told}");
    ours
}

/// Linear neighbours that are none in the host's memory, and nothing behind them.
fn swapped(rights: u64) -> [u64; 3] {
    [(DATA + PAGE) | rights, DATA | rights, 0]
}

/// Reads and writes of [rbx] to [rbx + 24], flags that live through them, and a copy of RBX.
fn touch(bytes: &mut Vec<u8>) {
    bytes.extend([0x48, 0x8b, 0x03]); // mov rax, [rbx]
    bytes.extend([0x48, 0x8b, 0x4b, 0x08]); // mov rcx, [rbx + 8]
    bytes.extend([0x48, 0x01, 0xc8]); // add rax, rcx
    bytes.extend([0x48, 0x8b, 0x53, 0x10]); // mov rdx, [rbx + 16]
    bytes.extend([0x48, 0x83, 0xd2, 0x01]); // adc rdx, 1
    bytes.extend([0x48, 0x89, 0xdd]); // mov rbp, rbx
    bytes.extend([0x48, 0x83, 0xc5, 0x08]); // add rbp, 8
    bytes.extend([0x48, 0x89, 0x45, 0x00]); // mov [rbp], rax
    bytes.extend([0x48, 0x11, 0x55, 0x08]); // adc [rbp + 8], rdx
    bytes.extend([0x48, 0xff, 0x43, 0x18]); // inc qword [rbx + 24]
    bytes.extend([0x48, 0x89, 0x0b]); // mov [rbx], rcx
}

#[test]
fn neighbours_may_lie_on_two_pages_that_are_apart() {
    for offset in [0, 0xfe0, 0xfe8, 0xff0, 0xff8, 0xffc, 0xffd] {
        let mut main = Vec::new();
        touch(&mut main);
        finish(&mut main);
        let outcome = compare(&main, 200, WINDOW + offset, swapped(MAPPED));
        assert_eq!(outcome.fault, None);
    }
}

#[test]
fn neighbours_go_from_page_to_page() {
    for step in [8, 24, 45] {
        let mut main = Vec::new();
        touch(&mut main);
        main.extend([0x48, 0x83, 0xc3, step]); // add rbx, …
        finish(&mut main);
        let outcome = compare(&main, 130, WINDOW + 0x800, swapped(MAPPED));
        assert_eq!(outcome.fault, None);
    }
}

#[test]
fn a_fault_of_one_of_them_is_its_own() {
    for offset in [0xf00, 0xf03, 0xf09, 0xf14] {
        let mut main = Vec::new();
        touch(&mut main);
        main.extend([0x48, 0x83, 0xc3, 0x08]); // add rbx, 8
        finish(&mut main);
        let outcome = compare(&main, 1000, WINDOW + offset, swapped(MAPPED));
        assert_eq!(outcome.fault, Some(14));
        assert_eq!(outcome.state.system.cr2, WINDOW + 2 * PAGE);
    }
}

#[test]
fn what_may_be_read_is_not_written_to() {
    let mut main = Vec::new();
    main.extend([0x48, 0x8b, 0x03]); // mov rax, [rbx]
    main.extend([0x48, 0x03, 0x43, 0x08]); // add rax, [rbx + 8]
    main.extend([0x49, 0x83, 0x38, 0x01]); // cmp qword [r8], 1
    main.extend([0x75, 0x04]); // jne over
    main.extend([0x48, 0x89, 0x43, 0x08]); // mov [rbx + 8], rax
    finish(&mut main);
    // The last turn writes: CR0.WP says whether that is a fault.
    compare(&main, 200, WINDOW + 0x100, swapped(READ_ONLY));
}
