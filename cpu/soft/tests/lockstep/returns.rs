//! Returns that go elsewhere than their call says, or to code that is other than it was.

use crate::directed::{FAR, TURNS, call, compare, finish};
use crate::guest::CODE;

/// `mov [rsp], r9; ret`
const REPLACES: &[u8] = &[0x4c, 0x89, 0x0c, 0x24, 0xc3];

/// `lea r9, […]` of what is `ahead` bytes behind it.
fn address_ahead(bytes: &mut Vec<u8>, ahead: u8) {
    bytes.extend([0x4c, 0x8d, 0x0d, ahead, 0, 0, 0]);
}

#[test]
fn calls_may_be_deeper_than_the_ring() {
    let mut main = vec![0xb9, 40, 0, 0, 0]; // mov ecx, 40
    call(&mut main, FAR);
    finish(&mut main);
    // inc rax; dec ecx; jz +5; call FAR; lea rbx, [rbx + rax]; ret
    let mut deep = vec![0x48, 0xff, 0xc0, 0xff, 0xc9, 0x74, 5, 0xe8];
    deep.extend((-12_i32).to_le_bytes());
    deep.extend([0x48, 0x8d, 0x1c, 0x03, 0xc3]);
    let outcome = compare(&[(CODE, main), (FAR, deep)]);
    assert_eq!(outcome.state.general.gpr[0], 40 * TURNS);
}

#[test]
fn a_return_address_may_be_replaced_or_dropped() {
    let mut main = Vec::new();
    address_ahead(&mut main, 5 + 3);
    call(&mut main, FAR);
    main.extend([0x48, 0xff, 0xc0]); // inc rax, which is left out
    main.extend([0x48, 0xff, 0xc3]); // inc rbx
    call(&mut main, FAR + 0x40);
    main.extend([0x48, 0xff, 0xc1]); // inc rcx
    finish(&mut main);
    let mut outer = Vec::new();
    outer.extend([0xe8, 1, 0, 0, 0, 0xf4]); // call over the HLT behind it
    outer.extend([0x48, 0xff, 0xc2, 0x48, 0x83, 0xc4, 8, 0xc3]); // inc rdx; add rsp, 8; ret
    let pieces = [(CODE, main), (FAR, REPLACES.to_vec()), (FAR + 0x40, outer)];
    let gpr = compare(&pieces).state.general.gpr;
    assert_eq!([gpr[0], gpr[1], gpr[3]], [0, TURNS, TURNS]);
}

#[test]
fn what_is_returned_to_may_have_been_written_meanwhile() {
    let mut main = Vec::new();
    address_ahead(&mut main, 5 + 3);
    call(&mut main, FAR);
    main.extend([0x48, 0x8d, 0x40, 0x01]); // lea rax, [rax + 1]: the 1 is at R9
    finish(&mut main);
    // inc byte [r9]; ret
    compare(&[(CODE, main), (FAR, vec![0x41, 0xfe, 0x01, 0xc3])]);
}

#[test]
fn address_zero_can_be_returned_to() {
    let mut main = Vec::new();
    address_ahead(&mut main, 3);
    main.extend([0x6a, 0, 0xc3]); // push 0; ret
    finish(&mut main);
    // inc rbx; jmp r9
    let outcome = compare(&[(CODE, main), (0, vec![0x48, 0xff, 0xc3, 0x41, 0xff, 0xe1])]);
    assert_eq!(outcome.state.general.gpr[3], TURNS);
}
