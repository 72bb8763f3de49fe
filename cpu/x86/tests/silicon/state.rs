//! What the oracle cannot run: FXSAVE, the XSAVE family, masked stores, gathers; and whether units may be
//! used at all.

use crate::case::{OPERAND, core, step};
use crate::flat::{Access, BASE, Flat};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use kezhan_x86::Core;
use kezhan_x86::state::{RAX, RCX, RDI, RDX, cr0, cr4};

const UD: Option<u8> = Some(6);
const NM: Option<u8> = Some(7);
const GP: Option<u8> = Some(13);
const PF: Option<u8> = Some(14);

fn decode(bytes: &[u8]) -> Instruction {
    Decoder::new(64, bytes, DecoderOptions::NONE).decode()
}

// All with [rdi] as operand.
const FXSAVE: [u8; 3] = [0x0F, 0xAE, 0x07];
const FXRSTOR: [u8; 3] = [0x0F, 0xAE, 0x0F];
const XSAVE: [u8; 3] = [0x0F, 0xAE, 0x27];
const XRSTOR: [u8; 3] = [0x0F, 0xAE, 0x2F];
const XSAVEOPT: [u8; 3] = [0x0F, 0xAE, 0x37];
const XSAVEC: [u8; 3] = [0x0F, 0xC7, 0x27];
const FNSAVE: [u8; 2] = [0xDD, 0x37];
const FRSTOR: [u8; 2] = [0xDD, 0x27];
const XGETBV: [u8; 3] = [0x0F, 0x01, 0xD0];
const XSETBV: [u8; 3] = [0x0F, 0x01, 0xD1];

fn run(core: &mut Core<'_, Flat>, bytes: &[u8]) -> Option<u8> {
    step(core, &decode(bytes))
}

fn memory<'c>(core: &'c mut Core<'_, Flat>, offset: usize) -> &'c mut [u8] {
    let start = (OPERAND - BASE) as usize + offset;
    &mut core.mem.bytes[start..]
}

/// A core with distinct values in every register and RDI at the operand.
fn filled() -> Core<'static, Flat> {
    let mut core = core();
    core.cpu.gpr[RDI] = OPERAND;
    (core.cpu.gpr[RAX], core.cpu.gpr[RDX]) = (7, 0);
    let fpu = &mut core.cpu.fpu;
    fpu.xmm = std::array::from_fn(|number| 0x1111 * (number as u128 + 1));
    fpu.ymm_high = std::array::from_fn(|number| 0x7777 * (number as u128 + 1));
    let x87 = &mut fpu.frame.x87;
    x87.st = std::array::from_fn(|number| (0x3fff << 64 | 1 << 63) + number as u128);
    (x87.fcw, x87.fsw, x87.ftw, x87.mxcsr) = (0x27f, 0x3800, 0xff, 0x3f80);
    (x87.fip, x87.fdp, x87.fop) = (0x1234, 0x5678, 0x1ab);
    core
}

fn same_state(one: &Core<'_, Flat>, other: &Core<'_, Flat>) -> bool {
    let (one, other) = (&one.cpu.fpu, &other.cpu.fpu);
    one.xmm == other.xmm && one.ymm_high == other.ymm_high && one.frame.x87 == other.frame.x87
}

/// Saves, forgets all, restores.
fn round_trip(save: &[u8], restore: &[u8]) -> (Core<'static, Flat>, Core<'static, Flat>) {
    let before = filled();
    let mut after = filled();
    assert_eq!(run(&mut after, save), None);
    let fresh = core();
    after.cpu.fpu = fresh.cpu.fpu.clone();
    assert_eq!(run(&mut after, restore), None);
    (before, after)
}

#[test]
fn the_whole_state_survives_every_pair_of_save_and_restore() {
    for save in [XSAVE, XSAVEOPT, XSAVEC] {
        let (before, after) = round_trip(&save, &XRSTOR);
        assert!(same_state(&before, &after), "{save:x?}");
    }
}

#[test]
fn fxsave_keeps_all_but_the_upper_halves() {
    let (mut before, after) = round_trip(&FXSAVE, &FXRSTOR);
    before.cpu.fpu.ymm_high = [0; 16];
    assert!(same_state(&before, &after));
}

#[test]
fn fnsave_keeps_x87_and_initialises_it() {
    let mut core = filled();
    let before = core.cpu.fpu.frame.x87;
    assert_eq!(run(&mut core, &FNSAVE), None);
    assert_eq!((core.cpu.fpu.frame.x87.fcw, core.cpu.fpu.frame.x87.ftw), (0x37f, 0));
    assert_eq!(run(&mut core, &FRSTOR), None);
    // The 32-bit format has the opcode too; MXCSR is no part of it.
    assert_eq!(core.cpu.fpu.frame.x87, before);
}

#[test]
fn fxsave_leaves_what_belongs_to_software() {
    let mut core = filled();
    memory(&mut core, 0)[..512].fill(0xee);
    assert_eq!(run(&mut core, &FXSAVE), None);
    assert!(memory(&mut core, 464)[..48].iter().all(|byte| *byte == 0xee));
    assert_eq!(memory(&mut core, 28)[..4], [0xff, 0xff, 0, 0], "MXCSR_MASK");
}

#[test]
fn saving_images_demands_alignment() {
    for (bytes, alignment) in [(FXSAVE, 16), (FXRSTOR, 16), (XSAVE, 64), (XRSTOR, 64), (XSAVEC, 64)]
    {
        let mut core = filled();
        core.cpu.gpr[RDI] = OPERAND + alignment / 2;
        assert_eq!(run(&mut core, &bytes), GP, "{bytes:x?}");
    }
}

#[test]
fn a_malformed_xsave_area_is_refused_and_nothing_is_loaded() {
    // Offset of a byte in the area, its value: what is wrong.
    let faults = [
        (512, 0x0f, "a component that XCR0 does not have"),
        (520, 0x01, "XCOMP_BV without the compaction bit"),
        (528, 0x01, "reserved bytes of the header"),
        (26, 0x01, "reserved bits of MXCSR"),
    ];
    for (offset, value, what) in faults {
        let mut core = filled();
        assert_eq!(run(&mut core, &XSAVE), None);
        memory(&mut core, offset)[0] = value;
        let before = core.cpu.fpu.clone();
        core.cpu.fpu.xmm[3] = 9;
        assert_eq!(run(&mut core, &XRSTOR), GP, "{what}");
        assert_eq!(core.cpu.fpu.xmm[3], 9, "{what}");
        assert_eq!(core.cpu.fpu.frame.x87, before.frame.x87, "{what}");
    }
}

#[test]
fn xrstor_initialises_what_the_area_does_not_hold() {
    let mut core = filled();
    assert_eq!(run(&mut core, &XSAVE), None);
    memory(&mut core, 512)[0] = 2;
    assert_eq!(run(&mut core, &XRSTOR), None);
    assert_eq!(core.cpu.fpu.ymm_high, [0; 16]);
    assert_eq!(core.cpu.fpu.frame.x87.fcw, 0x37f);
    assert_eq!(core.cpu.fpu.xmm[0], 0x1111);
    assert_eq!(core.cpu.fpu.frame.x87.mxcsr, 0x3f80);
}

#[test]
fn xrstor_does_not_read_components_that_the_area_does_not_hold() {
    let mut core = filled();
    core.mem.access[1] = Access::None;
    core.cpu.gpr[RDI] = BASE + 4096 - 576;
    core.mem.bytes[4096 - 576..4096].fill(0);
    assert_eq!(core.cpu.gpr[RDI] % 64, 0);
    assert_eq!(run(&mut core, &XRSTOR), None);
    assert_eq!(core.cpu.fpu.ymm_high, [0; 16]);
}

#[test]
fn only_requested_components_are_touched() {
    let mut core = filled();
    core.cpu.gpr[RAX] = 1;
    memory(&mut core, 0)[..832].fill(0);
    assert_eq!(run(&mut core, &XSAVE), None);
    assert_eq!(memory(&mut core, 160)[..256], [0; 256]);
    assert_eq!(memory(&mut core, 24)[..4], [0; 4], "MXCSR belongs to SSE");
    assert_eq!(memory(&mut core, 512)[0], 1);
}

#[test]
fn xsaveopt_skips_components_in_their_initial_state() {
    let mut core = filled();
    core.cpu.fpu.ymm_high = [0; 16];
    memory(&mut core, 576)[..256].fill(0xee);
    assert_eq!(run(&mut core, &XSAVEOPT), None);
    assert_eq!(memory(&mut core, 512)[0], 3);
    assert_eq!(memory(&mut core, 576)[0], 0xee);
}

#[test]
fn xcr0_takes_what_cpuid_offers_and_nothing_else() {
    let mut core = filled();
    core.cpu.gpr[RCX] = 0;
    for (value, fault) in [(7, GP), (3, GP)] {
        core.cpu.gpr[RAX] = value;
        assert_eq!(run(&mut core, &XSETBV), fault, "CPL 3");
    }
    core.cpu.cpl = 0;
    for (value, fault) in [(0, GP), (2, GP), (5, GP), (15, GP), (1, None), (3, None), (7, None)] {
        core.cpu.gpr[RAX] = value;
        assert_eq!(run(&mut core, &XSETBV), fault, "{value}");
    }
    core.cpu.gpr[RAX] = 0;
    assert_eq!(run(&mut core, &XGETBV), None);
    assert_eq!(core.cpu.gpr[RAX], 7);
}

#[test]
fn units_that_are_switched_off_raise_what_the_manual_says() {
    let x87 = [0xD9, 0xE8].as_slice();
    let mmx = [0x0F, 0xFE, 0xC1].as_slice();
    let sse = [0x66, 0x0F, 0xFE, 0xC1].as_slice();
    let moves = [0x0F, 0x28, 0xC1].as_slice();
    let avx = [0xC5, 0xF1, 0xFE, 0xC2].as_slice();
    // EM, TS, OSFXSR, OSXSAVE, then the faults of x87, MMX, SSE, a move of SSE and AVX.
    let cases = [
        (0, cr4::OSFXSR | cr4::OSXSAVE, [None; 5]),
        (cr0::EM, cr4::OSFXSR | cr4::OSXSAVE, [NM, UD, UD, UD, None]),
        (cr0::TS, cr4::OSFXSR | cr4::OSXSAVE, [NM, NM, NM, NM, NM]),
        (cr0::EM | cr0::TS, cr4::OSFXSR, [NM, UD, UD, UD, UD]),
        (0, 0, [None, None, UD, UD, UD]),
    ];
    for (bits0, bits4, faults) in cases {
        for (bytes, fault) in [x87, mmx, sse, moves, avx].into_iter().zip(faults) {
            let mut core = core();
            core.cpu.cr0 = core.cpu.cr0 & !(cr0::EM | cr0::TS) | bits0;
            core.cpu.cr4 = core.cpu.cr4 & !(cr4::OSFXSR | cr4::OSXSAVE) | bits4;
            assert_eq!(run(&mut core, bytes), fault, "{bytes:x?} with {bits0:#x}, {bits4:#x}");
        }
    }
}

#[test]
fn x87_pointers_are_the_guests() {
    let mut core = filled();
    core.cpu.fpu.frame.x87.ftw = 0;
    // fld dword [rdi]
    assert_eq!(run(&mut core, &[0xD9, 0x07]), None);
    let x87 = core.cpu.fpu.frame.x87;
    assert_eq!((x87.fip, x87.fdp), (0x40_0000, OPERAND));
}

#[test]
fn a_masked_store_touches_only_what_the_mask_chooses() {
    let mut core = filled();
    // The last 4 bytes of a page whose successor is not there.
    core.cpu.gpr[RDI] = BASE + 4092;
    core.mem.access[1] = Access::None;
    core.cpu.fpu.xmm[1] = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
    core.cpu.fpu.xmm[2] = 0x8000_8000;
    // maskmovdqu xmm1, xmm2
    assert_eq!(run(&mut core, &[0x66, 0x0F, 0xF7, 0xCA]), None);
    assert_eq!(core.mem.bytes[4092..4096], [0, 1, 0, 3]);
    core.cpu.fpu.xmm[2] = 0x80_0000_8000;
    core.cpu.fpu.xmm[1] = !0;
    assert_eq!(run(&mut core, &[0x66, 0x0F, 0xF7, 0xCA]), PF);
    assert_eq!(core.mem.bytes[4092..4096], [0, 1, 0, 3], "all or nothing");
}

#[test]
fn a_gather_keeps_its_progress_when_an_element_faults() {
    let mut core = filled();
    core.mem.access[1] = Access::None;
    core.mem.bytes[..4].copy_from_slice(&[1, 2, 3, 4]);
    core.cpu.gpr[RDI] = BASE;
    core.cpu.fpu.xmm[2] = 0x400 << 32; // the second index reaches the second page
    core.cpu.fpu.xmm[3] = 0x8000_0000_8000_0000;
    core.cpu.fpu.xmm[1] = 0;
    // vpgatherdd xmm1, [rdi + xmm2 * 4], xmm3
    let gather = [0xC4, 0xE2, 0x61, 0x90, 0x0C, 0x97];
    assert_eq!(run(&mut core, &gather), PF);
    assert_eq!(core.cpu.fpu.xmm[1], 0x0403_0201);
    assert_eq!(core.cpu.fpu.xmm[3], 0x8000_0000_0000_0000);
    core.mem.access[1] = Access::Read;
    core.mem.bytes[4096] = 7;
    assert_eq!(run(&mut core, &gather), None);
    assert_eq!(core.cpu.fpu.xmm[1], 7 << 32 | 0x0403_0201);
    assert_eq!((core.cpu.fpu.xmm[3], core.cpu.fpu.ymm_high[1]), (0, 0));
}

#[test]
fn a_vector_masked_load_reads_only_what_the_mask_chooses() {
    let mut core = filled();
    core.mem.access[1] = Access::None;
    core.cpu.gpr[RDI] = BASE + 4088;
    core.mem.bytes[4088..4096].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
    core.cpu.fpu.xmm[2] = 0x8000_0000_0000_0000;
    core.cpu.fpu.ymm_high[2] = 0;
    // vpmaskmovd ymm1, ymm2, [rdi]
    assert_eq!(run(&mut core, &[0xC4, 0xE2, 0x6D, 0x8C, 0x0F]), None);
    assert_eq!((core.cpu.fpu.xmm[1], core.cpu.fpu.ymm_high[1]), (2 << 32, 0));
}
