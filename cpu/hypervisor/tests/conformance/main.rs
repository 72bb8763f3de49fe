//! The conformance suite: one list of small guests, run on every engine.
//!
//! ```text
//!   CASES × engines() ──► libtest-mimic trials "engine::group::case"
//!                           a case that the host's engine cannot run is reported as ignored,
//!                           with the reason in its name
//! ```
//!
//! A case is a function that makes a guest with the kit, runs it and asserts. To add an engine, add one
//! line to [`engines`]; to add a case, one line to the group's `CASES`.

mod devices;
mod exits;
mod instructions;
mod interrupts;
mod kit;
mod memory;
mod smp;
mod states;
mod timers;

use kezhan_hypervisor::Hypervisor;
use libtest_mimic::{Arguments, Failed, Trial};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A small guest with its check.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    /// Does not work where ring 0 is interpreted by the host kernel, and why.
    needs_hardware: Option<&'static str>,
    run: fn(&dyn Hypervisor),
}

impl Case {
    const fn new(name: &'static str, run: fn(&dyn Hypervisor)) -> Case {
        Case { name, needs_hardware: None, run }
    }

    const fn on_hardware(mut self, why: &'static str) -> Case {
        self.needs_hardware = Some(why);
        self
    }
}

struct Engine {
    name: &'static str,
    /// The engine, or why this host has none.
    open: fn() -> Result<Box<dyn Hypervisor>, String>,
    /// Whether it runs ring 0 on the processor, or by software of ours that is complete.
    complete: fn() -> bool,
}

fn engines() -> Vec<Engine> {
    vec![Engine { name: "kvm", open: open_kvm, complete: kvm_is_hardware }]
}

fn open_kvm() -> Result<Box<dyn Hypervisor>, String> {
    let kvm = kezhan_kvm::Kvm::open().map_err(|error| error.to_string())?;
    Ok(Box::new(kvm))
}

/// The module `kvm_pvm` interprets ring 0 in the host kernel.
fn kvm_is_hardware() -> bool {
    !std::path::Path::new("/sys/module/kvm_pvm").exists()
}

fn groups() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("exits", exits::cases()),
        ("memory", memory::cases()),
        ("interrupts", interrupts::cases()),
        ("timers", timers::cases()),
        ("devices", devices::cases()),
        ("smp", smp::cases()),
        ("states", states::cases()),
        ("instructions", instructions::cases()),
    ]
}

fn trial(engine: &Engine, group: &str, case: Case) -> Trial {
    let name = format!("{}::{group}::{}", engine.name, case.name);
    let reason = match ((engine.open)(), case.needs_hardware) {
        (Err(error), _) => Some(error),
        (Ok(_), Some(why)) if !(engine.complete)() => {
            Some(format!("this host's KVM interprets ring 0: {why}"))
        }
        _ => None,
    };
    if let Some(reason) = reason {
        return Trial::test(format!("{name} ({reason})"), || Ok(())).with_ignored_flag(true);
    }
    let open = engine.open;
    Trial::test(name, move || {
        let hypervisor = open().map_err(Failed::from)?;
        catch_unwind(AssertUnwindSafe(|| (case.run)(hypervisor.as_ref()))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Failed::from(text.unwrap_or("panicked"))
        })
    })
}

fn main() {
    let arguments = Arguments::from_args();
    let trials = engines()
        .iter()
        .flat_map(|engine| {
            groups().into_iter().flat_map(move |(group, cases)| {
                cases.into_iter().map(move |case| trial(engine, group, case))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
