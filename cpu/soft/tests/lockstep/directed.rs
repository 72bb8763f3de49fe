//! Programs for what chance seldom writes: flags that go a long way, and data beside code.

use crate::differences;
use crate::guest::{CODE, COUNTER, DATA, DONE, Guest, Outcome};

/// Where functions in another page than the loop's are.
pub const FAR: u64 = 0x3_0000;
/// A page of code with data behind it.
const MIXED: u64 = 0x5_0000;
const MIXED_DATA: u64 = MIXED + 0x800;
/// RSI is DATA, R8 is COUNTER.
pub const TURNS: u64 = 200;

/// `call` to `target` at the end of what is written so far.
pub fn call(bytes: &mut Vec<u8>, target: u64) {
    let next = CODE + bytes.len() as u64 + 5;
    bytes.push(0xe8);
    bytes.extend((target.wrapping_sub(next) as i32).to_le_bytes());
}

/// Goes back to the start until the counter is zero, and then is done.
pub fn finish(bytes: &mut Vec<u8>) {
    bytes.extend([0x49, 0xff, 0x08, 0x0f, 0x85]); // dec qword [r8]; jnz
    bytes.extend((-(bytes.len() as i32) - 4).to_le_bytes());
    bytes.extend([0xe6, DONE as u8, 0xf4]); // out DONE, al; hlt
}

fn run(guest: &mut Guest, pieces: &[(u64, Vec<u8>)]) -> Outcome {
    guest.put(COUNTER, &TURNS.to_le_bytes());
    guest.put(DATA, &[0; 64]);
    for (at, bytes) in pieces {
        guest.put(*at, bytes);
    }
    guest.start(|state| {
        state.general.gpr[6] = DATA;
        state.general.gpr[8] = COUNTER;
    });
    guest.run()
}

pub fn compare(pieces: &[(u64, Vec<u8>)]) -> Outcome {
    let ours = run(&mut Guest::new(true), pieces);
    let theirs = run(&mut Guest::new(false), pieces);
    let told = differences(&ours, &theirs, 0);
    assert!(told.is_empty(), "{told}");
    assert_eq!(ours.fault, None);
    ours
}

#[test]
fn every_condition_is_found_behind_a_store_a_call_and_a_jump() {
    let mut main = Vec::new();
    for condition in 0..16_u8 {
        main.extend([0x48, 0x3d, 0x40, 0x42, 0x0f, 0x00]); // cmp rax, 1000000
        main.extend([0x48, 0x89, 0x1e]); // mov [rsi], rbx
        main.extend([0x70 | condition, 4, 0x48, 0x8d, 0x52, 0x01]); // jcc; lea rdx, [rdx + 1]
        call(&mut main, FAR);
        main.extend([0x70 | condition, 4, 0x48, 0x8d, 0x7f, 0x01]); // jcc; lea rdi, [rdi + 1]
        // A sum of two numbers of 32 bits, so that there is a carry or an overflow now and then.
        main.extend([0x89, 0xc3, 0x01, 0xd8]); // mov ebx, eax; add eax, ebx
        main.extend([0x48, 0x89, 0x5e, 0x08]); // mov [rsi + 8], rbx
        call(&mut main, FAR + 0x100);
        main.extend([0x70 | condition, 4, 0x48, 0x8d, 0x49, 0x01]); // jcc; lea rcx, [rcx + 1]
        main.extend([0x48, 0x69, 0xc0, 0x6d, 0x4e, 0xc6, 0x41]); // imul rax, rax, 1103515245
        main.extend([0x48, 0x05, 0x39, 0x30, 0x00, 0x00]); // add rax, 12345
    }
    finish(&mut main);
    // mov [rsi + 16], rax; ret
    let stores = vec![0x48, 0x89, 0x46, 0x10, 0xc3];
    // lea r9, [FAR + 0x200]; jmp r9 … mov rbp, [rsi + 16]; ret
    let jumps = vec![0x4c, 0x8d, 0x0d, 0xf9, 0x00, 0x00, 0x00, 0x41, 0xff, 0xe1];
    let lands = vec![0x48, 0x8b, 0x6e, 0x10, 0xc3];
    compare(&[(CODE, main), (FAR, stores), (FAR + 0x100, jumps), (FAR + 0x200, lands)]);
}

#[test]
fn data_beside_code_may_become_code() {
    let mut main = Vec::new();
    for _ in 0..3 {
        call(&mut main, MIXED);
    }
    // dec rax; ret, and then inc rbx; ret where the data was: RDX is MIXED_DATA
    for bytes in [[0x48, 0xff, 0xc8, 0xc3], [0x48, 0xff, 0xc3, 0xc3]] {
        main.extend([0xba, 0, 0, 0, 0]); // mov edx, MIXED_DATA
        let at = main.len();
        main[at - 4..].copy_from_slice(&(MIXED_DATA as u32).to_le_bytes());
        main.extend([0xc7, 0x02]); // mov dword [rdx], …
        main.extend(bytes);
        call(&mut main, MIXED_DATA);
        call(&mut main, MIXED_DATA);
    }
    call(&mut main, MIXED);
    finish(&mut main);
    // mov rcx, [rip + data]; add rcx, 3; mov [rip + data], rcx; ret
    let mut mixed = vec![0x48, 0x8b, 0x0d];
    mixed.extend((0x800_i32 - 7).to_le_bytes());
    mixed.extend([0x48, 0x83, 0xc1, 0x03, 0x48, 0x89, 0x0d]);
    mixed.extend((0x800_i32 - 18).to_le_bytes());
    mixed.push(0xc3);
    let outcome = compare(&[(CODE, main), (MIXED, mixed), (MIXED_DATA, vec![0; 8])]);
    assert_eq!(outcome.state.general.gpr[3], 2 * TURNS);
}

#[test]
fn the_direction_flag_and_control_registers_are_as_in_the_interpreter() {
    let mut main = Vec::new();
    main.extend([0xfd, 0x48, 0x8d, 0x7e, 0x20, 0xaa]); // std; lea rdi, [rsi + 32]; stosb
    main.extend([0x49, 0x89, 0xf9]); // mov r9, rdi
    main.extend([0xf9, 0xfc, 0xaa, 0x9c, 0x41, 0x5a]); // stc; cld; stosb; pushfq; pop r10
    main.extend([0x0f, 0x20, 0xc3, 0x0f, 0x20, 0xd1]); // mov rbx, cr0; mov rcx, cr2
    main.extend([0x0f, 0x20, 0xda, 0x0f, 0x20, 0xe5]); // mov rdx, cr3; mov rbp, cr4
    finish(&mut main);
    let outcome = compare(&[(CODE, main)]);
    assert_eq!(outcome.state.general.gpr[3], outcome.state.system.cr0);
    assert_eq!(outcome.state.general.gpr[5], outcome.state.system.cr4);
}

#[test]
fn high_bytes_reach_memory() {
    let mut main = Vec::new();
    main.extend([0x48, 0x05, 0x95, 0x1f, 0x00, 0x00]); // add rax, 8085
    main.extend([0x88, 0x26, 0x02, 0x6e, 0x01]); // mov [rsi], ah; add ch, [rsi + 1]
    main.extend([0x86, 0x7e, 0x02, 0x10, 0x76, 0x03]); // xchg [rsi + 2], bh; adc [rsi + 3], dh
    main.extend([0x88, 0x64, 0x24, 0xf0, 0x0f, 0x92, 0xc7]); // mov [rsp - 16], ah; setc bh
    main.extend([0x28, 0xe1, 0x3a, 0x6c, 0x24, 0xf0]); // sub cl, ah; cmp ch, [rsp - 16]
    main.extend([0x0f, 0x9c, 0xc6, 0x00, 0x66, 0x01]); // setl dh; add [rsi + 1], ah
    finish(&mut main);
    compare(&[(CODE, main)]);
}

#[test]
fn rows_on_the_stack_may_lie_over_the_end_of_a_page() {
    let mut main = Vec::new();
    for stack in [0x8_f010_u32, 0x8_f008, 0x8_f018, 0x8_f000] {
        main.extend([0x48, 0xc7, 0xc4]); // mov rsp, …
        main.extend(stack.to_le_bytes());
        main.extend([0x48, 0x8d, 0x40, 0x07, 0x48, 0x8d, 0x5c, 0x43, 0x01]); // rax += 7; rbx = rbx + 2 rax + 1
        main.extend([0x50, 0x53, 0x52, 0x57]); // push rax; push rbx; push rdx; push rdi
        main.extend([0x5d, 0x41, 0x5b, 0x41, 0x5c, 0x5a]); // pop rbp; pop r11; pop r12; pop rdx
        call(&mut main, FAR);
        main.extend([0x48, 0x89, 0x26]); // mov [rsi], rsp
    }
    finish(&mut main);
    // push rbx; push rdx; lea rbx, [rbx + rdx]; pop rdi; pop rcx; ret
    let saves = vec![0x53, 0x52, 0x48, 0x8d, 0x1c, 0x13, 0x5f, 0x59, 0xc3];
    compare(&[(CODE, main), (FAR, saves)]);
}
