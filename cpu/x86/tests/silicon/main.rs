//! The interpreter against the host CPU, instruction by instruction.
//!
//! Every encoding in the table that user mode can run is tried with every kind of operand it has, and with
//! several inputs: registers, flags (but undefined ones), vectors, x87 state, memory and exceptions must
//! be those of the silicon. A second pass makes every memory operand fault and checks that nothing has
//! changed, so that the instruction can be restarted (Intel SDM vol. 3A §6.6).

mod case;
mod flat;
mod forms;
mod random;
mod state;

use case::{
    OPERAND, Result, address_mask, bits, core_in, execute, forget_undefined, inputs, interpret,
    load, snapshot, step,
};
use flat::{Access, BASE};
use forms::{Form, Variant};
use iced_x86::{Instruction, Mnemonic, OpKind};
use kezhan_jit::NotNative;
use kezhan_jit::oracle::Oracle;
use random::Random;

const IMMEDIATES: [u64; 10] = [0x5a, 0, 1, 7, 0x1f, 0x3f, 0x7f, 0x80, 0xff, 0xffff_ffff_8000_0001];

/// Results that the manual leaves undefined: SHLD and SHRD of 16 bits by more than 16.
fn has_undefined_result(instruction: &Instruction, inputs: &kezhan_jit::Frame) -> bool {
    let shift = matches!(instruction.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd);
    let count = match instruction.op_count() {
        3 if instruction.op_kind(2) == OpKind::Immediate8 => u64::from(instruction.immediate8()),
        _ => inputs.gpr[1],
    };
    let size = match instruction.op0_kind() {
        OpKind::Memory => instruction.memory_size().size(),
        _ => instruction.op0_register().size(),
    };
    shift && size == 2 && count & 0x1f > 16
}

/// The first difference between two results, in words.
fn difference(ours: &Result, silicon: &Result) -> String {
    let mut told = Vec::new();
    let mut tell = |name: String, ours: u128, silicon: u128| {
        if ours != silicon {
            told.push(format!("{name} {ours:#x} for {silicon:#x}"));
        }
    };
    let fault = |fault: Option<u8>| fault.map_or(u128::MAX, u128::from);
    tell("fault".into(), fault(ours.fault), fault(silicon.fault));
    tell("flags".into(), ours.flags.into(), silicon.flags.into());
    for register in 0..16 {
        tell(format!("gpr {register}"), ours.gpr[register].into(), silicon.gpr[register].into());
        tell(format!("xmm {register}"), ours.xmm[register], silicon.xmm[register]);
        tell(format!("high {register}"), ours.ymm_high[register], silicon.ymm_high[register]);
    }
    for byte in 0..64 {
        tell(format!("memory {byte}"), ours.memory[byte].into(), silicon.memory[byte].into());
    }
    if ours.x87 != silicon.x87 {
        told.push(format!("x87 {:x?} for {:x?}", ours.x87, silicon.x87));
    }
    told.join(", ")
}

/// Compares one case; `None` when the host cannot run it.
fn compare(
    oracle: &mut Oracle,
    form: Form,
    instruction: &Instruction,
    random: &mut Random,
) -> std::result::Result<Option<String>, NotNative> {
    let inputs = inputs(instruction, random);
    let mut silicon = execute(oracle, instruction, &inputs)?;
    if has_undefined_result(instruction, &inputs) {
        return Ok(None);
    }
    let mut ours = interpret(instruction, &inputs);
    forget_undefined(instruction, &inputs, &mut ours);
    forget_undefined(instruction, &inputs, &mut silicon);
    let differs = ours != silicon;
    Ok(differs.then(|| format!("{form:?}: {}", difference(&ours, &silicon))))
}

#[test]
fn every_form_does_what_the_silicon_does() {
    let mut oracle = Oracle::new().unwrap();
    let mut random = Random::new(0x6b65_7a68_616e);
    let mut compared = 0;
    let mut wrong = Vec::new();
    for form in forms::all() {
        let mut messages = Vec::new();
        let mut ran = false;
        for immediate in IMMEDIATES {
            let Some(instruction) = form.instruction(immediate) else { continue };
            for _ in 0..3 {
                match compare(&mut oracle, form, &instruction, &mut random) {
                    Ok(message) => {
                        ran = true;
                        messages.extend(message);
                    }
                    Err(_) => break,
                }
            }
        }
        compared += usize::from(ran);
        wrong.extend(messages.into_iter().next());
    }
    println!("{compared} forms compared");
    assert!(wrong.is_empty(), "{} of {compared} forms differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 2000, "{compared} forms");
}

#[test]
fn random_instructions_do_what_the_silicon_does() {
    let mut oracle = Oracle::new().unwrap();
    let forms = forms::all();
    for seed in 1..=8 {
        let mut random = Random::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for _ in 0..20_000 {
            let form = forms[(random.next() >> 33) as usize % forms.len()];
            let Some(instruction) = form.instruction(random.integer()) else { continue };
            if let Ok(Some(message)) = compare(&mut oracle, form, &instruction, &mut random) {
                panic!("seed {seed}: {message}");
            }
        }
    }
}

/// Runs a form whose operand lies at `place`, with the second page as given; what it raised, and whether
/// anything changed.
fn with_operand_at(form: Form, place: u64, second: Access) -> Option<(Option<u8>, bool)> {
    let instruction = form.instruction(1)?;
    let mut inputs = inputs(&instruction, &mut Random::new(77));
    inputs.x87.fcw = 0x37f;
    let base = instruction.memory_base().number();
    inputs.gpr[base] = inputs.gpr[base].wrapping_add(place.wrapping_sub(OPERAND));
    inputs.gpr[base] &= address_mask(&instruction);
    let mut core = core_in(bits(&instruction));
    load(&mut core, &inputs, place);
    core.mem.access[1] = second;
    let before = snapshot(&core, place, None);
    let fault = step(&mut core, &instruction);
    let mut after = snapshot(&core, place, None);
    after.x87.mxcsr = before.x87.mxcsr;
    Some((fault, after != before))
}

fn memory_forms() -> impl Iterator<Item = Form> {
    let has_access = |form: &Form| {
        form.instruction(1).is_some_and(|instruction| {
            let mut factory = iced_x86::InstructionInfoFactory::new();
            factory.info(&instruction).used_memory().len() == 1
                && !instruction.is_stack_instruction()
        })
    };
    forms::all()
        .into_iter()
        .filter(|form| {
            matches!(form.variant, Variant::Memory | Variant::Locked | Variant::MemoryHighBytes)
        })
        .filter(has_access)
}

#[test]
fn an_instruction_whose_operand_faults_changes_nothing() {
    const PAGE_FAULT: u8 = 14;
    let mut faulted = 0;
    for form in memory_forms() {
        // The last byte of the first page, and the first of a page that is not there.
        let place = BASE + 4095;
        let Some((fault, changed)) = with_operand_at(form, place, Access::None) else { continue };
        if let Some(fault) = fault {
            assert!(!changed, "{form:?} raised {fault} and changed something");
            faulted += usize::from(fault == PAGE_FAULT);
        }
    }
    println!("{faulted} forms faulted");
    assert!(faulted > 300, "{faulted} forms");
}

/// What a form does with its operand at `place`, in terms that do not depend on the place.
fn at(form: Form, place: u64) -> Option<Result> {
    let instruction = form.instruction(1)?;
    let mut inputs = inputs(&instruction, &mut Random::new(79));
    (inputs.x87.fcw, inputs.x87.mxcsr) = (0x37f, 0x1f80);
    let base = instruction.memory_base().number();
    inputs.gpr[base] = inputs.gpr[base].wrapping_add(place.wrapping_sub(OPERAND));
    inputs.gpr[base] &= address_mask(&instruction);
    let mut core = core_in(bits(&instruction));
    load(&mut core, &inputs, place);
    let fault = step(&mut core, &instruction);
    let mut result = snapshot(&core, place, fault);
    result.gpr[base] = result.gpr[base].wrapping_sub(place) & address_mask(&instruction);
    Some(result)
}

#[test]
fn an_operand_across_two_pages_is_like_any_other() {
    const PROTECTION: Option<u8> = Some(13);
    let mut crossed = 0;
    for form in memory_forms() {
        let (Some(whole), Some(split)) = (at(form, OPERAND), at(form, BASE + 4095)) else {
            continue;
        };
        if split.fault == PROTECTION || form.code.mnemonic() == Mnemonic::Lea {
            continue;
        }
        assert_eq!(split, whole, "{form:?}");
        crossed += 1;
    }
    println!("{crossed} forms crossed a page");
    assert!(crossed > 1000, "{crossed} forms");
}

#[test]
fn a_store_to_a_read_only_page_changes_nothing() {
    const PAGE_FAULT: u8 = 14;
    let mut faulted = 0;
    for form in memory_forms() {
        let place = BASE + 4096 + 64;
        let Some((fault, changed)) = with_operand_at(form, place, Access::Read) else { continue };
        if fault == Some(PAGE_FAULT) {
            assert!(!changed, "{form:?} changed something");
            faulted += 1;
        }
    }
    println!("{faulted} forms faulted");
    assert!(faulted > 100, "{faulted} forms");
}

#[test]
fn alignment_is_demanded_where_the_silicon_demands_it() {
    const PROTECTION: u8 = 13;
    let mut oracle = Oracle::new().unwrap();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for form in memory_forms().filter(|form| form.variant == Variant::Memory) {
        let Some(instruction) = form.instruction(1) else { continue };
        // Some processors do not demand it of SHA instructions; we do, as the manual says.
        let sha = instruction.cpuid_features().contains(&iced_x86::CpuidFeature::SHA);
        if instruction.memory_size().size() < 16 || sha {
            continue;
        }
        let mut frame = inputs(&instruction, &mut Random::new(78));
        (frame.x87.fcw, frame.x87.mxcsr) = (0x37f, 0x1f80);
        let Ok(silicon) = oracle.run_at(&instruction, &mut frame, 1) else { continue };
        let (ours, _) = with_operand_at(form, OPERAND + 1, Access::Write).unwrap();
        let expected = silicon.is_err().then_some(PROTECTION);
        if ours.filter(|fault| *fault == PROTECTION) != expected {
            wrong.push(format!("{form:?}: silicon {silicon:?}"));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 150, "{compared} forms");
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    let cases: [(&str, &[u8]); 14] = [
        ("add rax, rcx", &[0x48, 0x01, 0xC8]),
        ("movaps xmm1, xmm2", &[0x0F, 0x28, 0xCA]),
        ("movdqu xmm1, [rsi]", &[0xF3, 0x0F, 0x6F, 0x0E]),
        ("pxor xmm1, xmm2", &[0x66, 0x0F, 0xEF, 0xCA]),
        ("pcmpeqb xmm1, [rsi]", &[0x66, 0x0F, 0x74, 0x0E]),
        ("pmovmskb eax, xmm1", &[0x66, 0x0F, 0xD7, 0xC1]),
        ("paddd xmm1, xmm2", &[0x66, 0x0F, 0xFE, 0xCA]),
        ("paddd xmm1, [rsi]", &[0x66, 0x0F, 0xFE, 0x0E]),
        ("addsd xmm1, xmm2", &[0xF2, 0x0F, 0x58, 0xCA]),
        ("mulsd xmm1, [rsi]", &[0xF2, 0x0F, 0x59, 0x0E]),
        ("cvtsi2sd xmm1, rax", &[0xF2, 0x48, 0x0F, 0x2A, 0xC8]),
        ("ucomisd xmm1, xmm2", &[0x66, 0x0F, 0x2E, 0xCA]),
        ("vpaddd ymm1, ymm2, ymm3", &[0xC5, 0xED, 0xFE, 0xCB]),
        ("fld1; fstp st0", &[0xD9, 0xC0]),
    ];
    for (name, bytes) in cases {
        let instruction = iced_x86::Decoder::new(64, bytes, 0).decode();
        let op = kezhan_x86::lower::lower::<flat::Flat>(
            &instruction,
            0,
            kezhan_x86::state::CodeBits::Bits64,
        );
        let mut core = case::core();
        core.cpu.gpr[6] = OPERAND;
        let op = std::hint::black_box(op);
        // The best of many short slices: others use the machine too.
        let slice = || {
            let start = std::time::Instant::now();
            for _ in 0..20_000 {
                let _ = (op.run)(&mut core, &op);
            }
            start.elapsed().as_nanos()
        };
        let best = std::iter::repeat_with(slice).take(100).min().unwrap();
        println!("{name}: {:.1} ns", best as f64 / 20_000.0);
    }
}
