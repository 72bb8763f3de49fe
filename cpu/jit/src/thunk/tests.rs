use super::*;
use crate::frame::X87;
use crate::oracle::forms::{Plan, form};
use iced_x86::{Decoder, DecoderOptions, OpKind, Register};

fn decode(bytes: &[u8]) -> Instruction {
    Decoder::new(64, bytes, DecoderOptions::NONE).decode()
}

fn thunk(bytes: &[u8]) -> Thunk {
    Thunk::get(&decode(bytes)).unwrap()
}

fn floats(values: [f32; 4]) -> u128 {
    values.iter().rev().fold(0, |sum, value| sum << 32 | u128::from(value.to_bits()))
}

/// divss xmm3, xmm5: slots 1 and 2.
const DIVSS: [u8; 4] = [0xF3, 0x0F, 0x5E, 0xDD];

#[test]
fn an_sse_instruction_works_on_its_slots_and_the_memory_operand() {
    // addps xmm7, [rbx + 8]
    let thunk = thunk(&[0x0F, 0x58, 0x7B, 0x08]);
    assert_eq!(thunk.memory(), Some(MemoryUse { bytes: 16, read: true, write: false }));
    let mut frame = Frame::default();
    frame.xmm[1] = floats([1.0, 2.0, 3.0, 4.0]);
    frame.memory[..16].copy_from_slice(&floats([0.5, 0.25, -3.0, 1e9]).to_le_bytes());
    assert_eq!(thunk.run(&mut frame), Outcome::Done);
    assert_eq!(frame.xmm[1], floats([1.5, 2.25, 0.0, 1e9 + 4.0]));
}

#[test]
fn mxcsr_flags_stick_and_its_controls_are_obeyed() {
    let divss = thunk(&DIVSS);
    let mut frame = Frame::default();
    (frame.xmm[1], frame.xmm[2]) = (floats([1.0, 0.0, 0.0, 0.0]), floats([3.0, 0.0, 0.0, 0.0]));
    frame.x87.mxcsr = 0x7F81; // round towards zero, IE already set
    assert_eq!(divss.run(&mut frame), Outcome::Done);
    assert_eq!(frame.x87.mxcsr, 0x7FA1, "PE joins IE");
    assert_eq!(frame.xmm[1] as u32, 0x3EAA_AAAA, "rounded down");
}

#[test]
fn an_unmasked_simd_exception_is_reported_and_nothing_committed() {
    let divss = thunk(&DIVSS);
    let mut frame = Frame::default();
    (frame.xmm[1], frame.xmm[2]) = (floats([1.0; 4]), floats([0.0; 4]));
    frame.x87.mxcsr = 0x1D80; // ZM clear
    let before = frame.xmm;
    assert_eq!(divss.run(&mut frame), Outcome::SimdException);
    assert_eq!(frame.xmm, before);
    assert_eq!(frame.x87.mxcsr, 0x1D84);
}

#[test]
fn an_exact_tiny_result_is_an_unmasked_underflow() {
    let divss = thunk(&DIVSS);
    let mut frame = Frame::default();
    let smallest_normal = f32::from_bits(0x0080_0000);
    (frame.xmm[1], frame.xmm[2]) = (floats([smallest_normal; 4]), floats([2.0; 4]));
    assert_eq!(divss.run(&mut frame), Outcome::Done);
    assert_eq!(frame.x87.mxcsr, 0x1F80, "masked: exact, so not flagged");
    frame.xmm[1] = floats([smallest_normal; 4]);
    frame.x87.mxcsr = 0x1780; // UM clear
    assert_eq!(divss.run(&mut frame), Outcome::SimdException);
}

#[test]
fn reserved_bits_of_mxcsr_never_reach_the_host() {
    let divss = thunk(&DIVSS);
    let mut frame = Frame::default();
    frame.xmm[2] = floats([1.0; 4]);
    frame.x87.mxcsr = 0xFFFF_1F80;
    assert_eq!(divss.run(&mut frame), Outcome::Done);
    assert_eq!(frame.x87.mxcsr, 0x1F80);
}

#[test]
fn x87_results_are_exact_and_pointers_hidden() {
    let mut frame = Frame::default();
    (frame.x87.fip, frame.x87.fdp, frame.x87.fop) = (1, 2, 3);
    assert_eq!(thunk(&[0xD9, 0xEB]).run(&mut frame), Outcome::Done, "fldpi");
    assert_eq!(thunk(&[0xD9, 0xEE]).run(&mut frame), Outcome::Done, "fldz");
    assert_eq!(thunk(&[0xDE, 0xF9]).run(&mut frame), Outcome::Done, "fdivp: division by zero");
    let X87 { fsw, fip, fdp, fop, st, .. } = frame.x87;
    assert_eq!((fip, fdp, fop), (1, 2, 3));
    assert_eq!(fsw & 0x3F, 0x04, "ZE, masked");
    assert_eq!(st[0] & ((1 << 80) - 1), 0x7FFF_8000_0000_0000_0000, "infinity");
}

#[test]
fn a_deferred_x87_exception_stops_the_next_instruction() {
    let mut frame = Frame::default();
    frame.x87.fcw = 0x37F & !0x04;
    for bytes in [[0xD9, 0xEB], [0xD9, 0xEE], [0xDE, 0xF9]] {
        assert_eq!(thunk(&bytes).run(&mut frame), Outcome::Done);
    }
    assert!(frame.x87.pending());
    assert_eq!(frame.x87.fsw & 0x8080, 0x8080);
    let before = frame.x87;
    assert_eq!(thunk(&[0xD9, 0xE8]).run(&mut frame), Outcome::X87Pending, "fld1");
    assert_eq!(thunk(&[0x0F, 0xFE, 0xC1]).run(&mut frame), Outcome::X87Pending, "paddd mm");
    assert_eq!(frame.x87, before);
}

#[test]
fn mmx_works_in_the_x87_registers() {
    let mut frame = Frame::default();
    frame.x87.st[0] = 0x0000_0001_0000_0002;
    frame.x87.st[1] = 0x0000_0010_0000_0020;
    assert_eq!(thunk(&[0x0F, 0xFE, 0xC1]).run(&mut frame), Outcome::Done);
    assert_eq!(frame.x87.st[0] as u64, 0x0000_0011_0000_0022);
    assert_eq!(frame.x87.ftw, 0xFF);
}

#[test]
fn flags_come_out_without_the_hosts() {
    // ptest xmm0, xmm0 of zero
    let mut frame = Frame { flags: !0, ..Frame::default() };
    assert_eq!(thunk(&[0x66, 0x0F, 0x38, 0x17, 0xC0]).run(&mut frame), Outcome::Done);
    assert_eq!(frame.flags, 0x41, "ZF and CF");
}

#[test]
fn flags_go_in_without_what_would_trap() {
    // adcx ecx, edx with TF, DF, AC and NT set in the frame
    let instruction = decode(&[0x66, 0x0F, 0x38, 0xF6, 0xCA]);
    let Ok(adcx) = Thunk::get(&instruction) else { return };
    let mut frame = Frame { flags: 0x44501, ..Frame::default() };
    (frame.gpr[8], frame.gpr[9]) = (0xFFFF_FFFF, 0);
    assert_eq!(adcx.run(&mut frame), Outcome::Done);
    assert_eq!((frame.gpr[8], frame.flags), (0, 1));
}

#[test]
fn vex_128_zeroes_the_upper_half() {
    // vpaddd xmm3, xmm4, xmm5
    let instruction = decode(&[0xC5, 0xD9, 0xFE, 0xDD]);
    let Ok(vpaddd) = Thunk::get(&instruction) else { return };
    assert!(vpaddd.is_wide());
    let mut frame = Frame::default();
    (frame.xmm[2], frame.xmm[3], frame.ymm_high[1]) = (1, 2, 77);
    assert_eq!(vpaddd.run(&mut frame), Outcome::Done);
    assert_eq!((frame.xmm[1], frame.ymm_high[1]), (3, 0));
}

#[test]
fn registers_that_are_not_operands_stay() {
    let mut frame = Frame { xmm: [7; 16], ymm_high: [8; 16], gpr: [9; 16], ..Frame::default() };
    let before = frame.clone();
    assert_eq!(thunk(&[0x66, 0x0F, 0xEF, 0xC1]).run(&mut frame), Outcome::Done, "pxor");
    assert_eq!(frame.xmm[1], 0);
    assert_eq!(frame.xmm[2..], before.xmm[2..]);
    assert_eq!((frame.gpr, frame.ymm_high), (before.gpr, before.ymm_high));
}

#[test]
fn what_is_not_on_the_list_is_refused() {
    let refused: [(&str, &[u8]); 20] = [
        ("jmp", &[0xEB, 0]),
        ("call", &[0xE8, 0, 0, 0, 0]),
        ("syscall", &[0x0F, 0x05]),
        ("hlt", &[0xF4]),
        ("in al, dx", &[0xEC]),
        ("push rax", &[0x50]),
        ("movsb", &[0xA4]),
        ("mov ds, ax", &[0x8E, 0xD8]),
        ("mov rax, cr0", &[0x0F, 0x20, 0xC0]),
        ("std", &[0xFD]),
        ("xlatb", &[0xD7]),
        ("bt [rax], rcx", &[0x48, 0x0F, 0xA3, 0x08]),
        ("lock add [rax], ecx", &[0xF0, 0x01, 0x08]),
        ("div ecx", &[0xF7, 0xF1]),
        ("fldenv", &[0xD9, 0x20]),
        ("fxrstor", &[0x0F, 0xAE, 0x08]),
        ("ldmxcsr", &[0x0F, 0xAE, 0x10]),
        ("maskmovdqu", &[0x66, 0x0F, 0xF7, 0xC1]),
        ("vpgatherdd", &[0xC4, 0xE2, 0x69, 0x90, 0x04, 0x08]),
        ("rdtsc", &[0x0F, 0x31]),
    ];
    for (name, bytes) in refused {
        let answer = Thunk::get(&decode(bytes));
        assert!(matches!(answer, Err(NotNative::Refused { .. })), "{name}: {answer:?}");
    }
}

/// Each form twice: registers (RSP and high numbers among them), and memory.
fn all_forms() -> impl Iterator<Item = Instruction> {
    let plans = [
        Plan::default(),
        Plan { numbers: [4, 4, 4, 4, 4], ..Plan::default() },
        Plan { numbers: [7, 5, 1, 0, 15], memory: Some(Register::RSP), ..Plan::default() },
    ];
    Code::values().flat_map(move |code| plans.into_iter().filter_map(move |plan| form(code, &plan)))
}

#[test]
fn every_form_that_is_admitted_gives_a_confined_thunk() {
    let mut made = 0;
    for instruction in all_forms() {
        match Thunk::get(&instruction) {
            Ok(_) => made += 1,
            Err(NotNative::Refused { reason, .. }) => {
                assert_ne!(reason, "its thunk is not confined", "{:?}", instruction.code());
            }
            Err(NotNative::HostLacks { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(made > 2000, "{made} forms");
}

/// How many thunks forms like this one can have: by immediate, and by MMX and x87 register.
fn variants(instruction: &Instruction) -> usize {
    (0..instruction.op_count())
        .map(|operand| match instruction.op_kind(operand) {
            OpKind::Memory => 1,
            OpKind::Register => {
                let register = instruction.op_register(operand);
                if register.is_mm() || register.is_st() { 8 } else { 1 }
            }
            _ => 256,
        })
        .product()
}

#[test]
fn the_thunks_of_all_instructions_fit_in_the_memory_reserved() {
    let plans = [Plan::default(), Plan { memory: Some(Register::RSI), ..Plan::default() }];
    let mut bytes = 0;
    for instruction in
        Code::values().flat_map(|code| plans.into_iter().filter_map(move |plan| form(code, &plan)))
    {
        if Thunk::get(&instruction).is_ok() {
            let hosted = host(&canonical(&instruction).0).unwrap();
            let length = emit(&hosted).unwrap().code.len().next_multiple_of(64);
            bytes += length * variants(&instruction);
        }
    }
    println!("{} MiB of {}", bytes >> 20, RESERVED >> 20);
    assert!(bytes <= RESERVED, "{bytes} bytes");
}

#[test]
fn every_admitted_form_runs_without_a_signal_on_hostile_registers() {
    let mut ran = 0;
    for instruction in all_forms() {
        let Ok(thunk) = Thunk::get(&instruction) else { continue };
        let mut frame = Frame { gpr: [!0; 16], flags: !0, ..Frame::default() };
        frame.xmm = [0x7FF0_0000_0000_0001_7F80_0001_8000_0001; 16];
        frame.x87.st = [0xFFFF_7FFF_8000_0000_0000_0001; 8];
        frame.x87 = X87 { fcw: 0xFFC0, fsw: 0x3800, ftw: 0xFF, mxcsr: !0x1F80, ..frame.x87 };
        frame.memory = [0xFF; 64];
        let _ = thunk.run(&mut frame);
        ran += 1;
    }
    assert!(ran > 2000, "{ran} forms");
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    let cases: [(&str, &[u8]); 7] = [
        ("paddd", &[0x66, 0x0F, 0xFE, 0xCA]),
        ("paddd mem", &[0x66, 0x0F, 0xFE, 0x08]),
        ("addps", &[0x0F, 0x58, 0xCA]),
        ("ucomiss", &[0x0F, 0x2E, 0xCA]),
        ("fadd", &[0xD8, 0xC1]),
        ("paddd mm", &[0x0F, 0xFE, 0xC1]),
        ("vpaddd", &[0xC5, 0xD9, 0xFE, 0xDD]),
    ];
    for (name, bytes) in cases {
        let thunk = thunk(bytes);
        let mut frame = Frame::default();
        let count = 3_000_000;
        let start = std::time::Instant::now();
        for _ in 0..count {
            let _ = std::hint::black_box(thunk).run(&mut frame);
        }
        println!("{name}: {:.2} ns", start.elapsed().as_nanos() as f64 / f64::from(count));
    }
}
