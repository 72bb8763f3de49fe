//! The translator against the interpreter: the same program in both must leave the same registers, flags,
//! vectors and memory. Programs loop until they are hot.

mod directed;
mod guest;
mod neighbours;
mod programs;
mod returns;

use guest::{CODE, COUNTER, DATA, DATA_BYTES, Guest, Outcome};
use programs::{Program, Random};

fn differences(ours: &Outcome, theirs: &Outcome, undefined: u64) -> String {
    let mut told = Vec::new();
    let mut tell = |name: &str, ours: u128, theirs: u128| {
        if ours != theirs {
            told.push(format!("{name} {ours:#x} for {theirs:#x}"));
        }
    };
    let fault = |outcome: &Outcome| outcome.fault.map_or(u128::MAX, u128::from);
    tell("fault", fault(ours), fault(theirs));
    let (a, b) = (&ours.state, &theirs.state);
    for register in 0..16 {
        let name = format!("gpr {register}");
        tell(&name, a.general.gpr[register].into(), b.general.gpr[register].into());
    }
    tell("rip", a.general.rip.into(), b.general.rip.into());
    if ours.fault.is_none() {
        let (a, b) = (a.general.rflags & !undefined, b.general.rflags & !undefined);
        tell("rflags", a.into(), b.into());
    }
    tell("cr2", a.system.cr2.into(), b.system.cr2.into());
    for (at, (a, b)) in ours.data.iter().zip(&theirs.data).enumerate() {
        tell(&format!("data {at:#x}"), (*a).into(), (*b).into());
    }
    for (at, (a, b)) in a.xsave.iter().zip(&b.xsave).enumerate() {
        if a != b {
            told.push(format!("xsave byte {at} {a:#x} for {b:#x}"));
        }
    }
    told.truncate(8);
    told.join(", ")
}

fn load(guest: &mut Guest, program: &Program, random: &mut Random) {
    guest.put(CODE, &program.bytes);
    guest.put(COUNTER, &100_u64.to_le_bytes());
    let data: Vec<u8> = (0..DATA_BYTES).map(|_| random.next() as u8).collect();
    guest.put(DATA, &data);
    let registers: [u64; 16] = std::array::from_fn(|_| random.integer());
    guest.start(|state| {
        for (number, value) in registers.iter().enumerate().filter(|(number, _)| *number != 4) {
            state.general.gpr[number] = *value;
        }
    });
}

#[test]
fn random_programs_leave_the_same_behind() {
    let (mut translated, mut interpreted) = (Guest::new(true), Guest::new(false));
    let mut programs = programs::Writer::new(0x6b65_7a68);
    for number in 0..3000 {
        let program = programs.program(CODE, COUNTER, DATA);
        let run = |guest: &mut Guest| {
            load(guest, &program, &mut Random::new(number + 1));
            guest.run()
        };
        let (ours, theirs) = (run(&mut translated), run(&mut interpreted));
        let told = differences(&ours, &theirs, program.undefined);
        assert!(told.is_empty(), "program {number}: {told}\n{}", program.text(CODE));
    }
    println!("{}", translated.statistics().join("\n"));
}
