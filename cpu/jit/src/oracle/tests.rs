use super::*;
use crate::thunk::{Outcome, Thunk};
use iced_x86::{Decoder, DecoderOptions};

fn decode(bytes: &[u8]) -> Instruction {
    Decoder::new(64, bytes, DecoderOptions::NONE).decode()
}

#[test]
fn registers_keep_their_numbers() {
    let mut oracle = Oracle::new().unwrap();
    let mut frame = Frame::default();
    (frame.gpr[3], frame.gpr[12], frame.gpr[4]) = (5, 7, 100);
    // add rbx, r12; add rsp, rbx
    assert_eq!(oracle.run(&decode(&[0x4C, 0x01, 0xE3]), &mut frame), Ok(Ok(())));
    assert_eq!(oracle.run(&decode(&[0x48, 0x01, 0xDC]), &mut frame), Ok(Ok(())));
    assert_eq!((frame.gpr[3], frame.gpr[4]), (12, 112));
}

#[test]
fn high_bytes_are_not_taken_for_the_registers_of_their_numbers() {
    let mut oracle = Oracle::new().unwrap();
    let mut frame = Frame::default();
    (frame.gpr[0], frame.gpr[3]) = (0x1200, 0x3400);
    // add ah, bh
    assert_eq!(oracle.run(&decode(&[0x00, 0xFC]), &mut frame), Ok(Ok(())));
    assert_eq!((frame.gpr[0], frame.gpr[4], frame.gpr[7]), (0x4600, 0, 0));
}

#[test]
fn division_by_zero_is_a_divide_error_that_changes_nothing() {
    let mut oracle = Oracle::new().unwrap();
    let mut frame = Frame { gpr: [0; 16], ..Frame::default() };
    frame.gpr[0] = 9;
    assert_eq!(oracle.run(&decode(&[0xF7, 0xF1]), &mut frame), Ok(Err(Fault::Divide)));
    assert_eq!(frame.gpr[0], 9);
    frame.gpr[1] = 2;
    assert_eq!(oracle.run(&decode(&[0xF7, 0xF1]), &mut frame), Ok(Ok(())));
    assert_eq!((frame.gpr[0], frame.gpr[2]), (4, 1));
}

#[test]
fn a_locked_exchange_works_on_the_memory_operand() {
    let mut oracle = Oracle::new().unwrap();
    let mut frame = Frame::default();
    frame.gpr[1] = 3;
    frame.memory[0] = 4;
    // lock xadd [rax], ecx
    assert_eq!(oracle.run(&decode(&[0xF0, 0x0F, 0xC1, 0x08]), &mut frame), Ok(Ok(())));
    assert_eq!((frame.memory[0], frame.gpr[1]), (7, 4));
}

#[test]
fn a_bit_test_outside_the_operand_is_refused() {
    let mut oracle = Oracle::new().unwrap();
    let mut frame = Frame::default();
    frame.gpr[1] = 32;
    let bts = decode(&[0x0F, 0xAB, 0x08]);
    assert!(matches!(oracle.run(&bts, &mut frame), Err(NotNative::Refused { .. })));
    frame.gpr[1] = 31;
    assert_eq!(oracle.run(&bts, &mut frame), Ok(Ok(())));
    assert_eq!(frame.memory[3], 0x80);
}

const OVERFLOW: u32 = 1 << 3;
const UNDERFLOW: u32 = 1 << 4;
const PRECISION: u32 = 1 << 5;

/// Thunks decide about #XM by trial; here the processor itself decides.
#[test]
fn thunks_and_silicon_agree_on_simd_exceptions() {
    let mut oracle = Oracle::new().unwrap();
    let special: [u32; 9] = [
        0,
        0x8000_0000,
        1,
        0x0080_0000,
        0x3F80_0000,
        0x4040_0000,
        0x7F7F_FFFF,
        0x7F80_0000,
        0x7FA0_0000,
    ];
    // addss, mulss, divss, subps, mulps, divps, cvtss2sd, cvtps2dq, sqrtps, minps, all xmm1, xmm2
    let operations: [&[u8]; 10] = [
        &[0xF3, 0x0F, 0x58, 0xCA],
        &[0xF3, 0x0F, 0x59, 0xCA],
        &[0xF3, 0x0F, 0x5E, 0xCA],
        &[0x0F, 0x5C, 0xCA],
        &[0x0F, 0x59, 0xCA],
        &[0x0F, 0x5E, 0xCA],
        &[0xF3, 0x0F, 0x5A, 0xCA],
        &[0x66, 0x0F, 0x5B, 0xCA],
        &[0x0F, 0x51, 0xCA],
        &[0x0F, 0x5D, 0xCA],
    ];
    for (bytes, left, right) in operations.into_iter().flat_map(|bytes| {
        special.into_iter().flat_map(move |left| special.map(move |right| (bytes, left, right)))
    }) {
        let instruction = decode(bytes);
        let thunk = Thunk::get(&instruction).unwrap();
        for masks in 0..64_u32 {
            let mut native = Frame::default();
            native.xmm[1] = u128::from(left) << 32 | u128::from(special[4]);
            native.xmm[2] = u128::from(right) << 32 | u128::from(right);
            native.x87.mxcsr = masks << 7;
            let mut tried = native.clone();
            let fault = oracle.run(&instruction, &mut native).unwrap();
            let outcome = thunk.run(&mut tried);
            assert_eq!(outcome == Outcome::SimdException, fault == Err(Fault::Simd));
            assert_eq!(tried.xmm, native.xmm, "{bytes:x?} {left:x} {right:x} {masks:x}");
            let range = fault.is_err() && native.x87.mxcsr & !masks & (OVERFLOW | UNDERFLOW) != 0;
            let compared = if range { !PRECISION } else { !0 };
            assert_eq!(
                tried.x87.mxcsr & compared,
                native.x87.mxcsr & compared,
                "{bytes:x?} {left:x} {right:x} {masks:x}"
            );
        }
    }
}
