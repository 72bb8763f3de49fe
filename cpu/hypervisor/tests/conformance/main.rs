//! The conformance suite: one list of small guests, run on every engine.
//!
//! ```text
//!   groups() × engines() ─────────► trials "engine::group::case"
//!   MOVES × engines() × engines() ─► trials "engine_to_engine::move"
//!      a trial that an engine cannot run on this host is reported as ignored, with the reason
//! ```
//!
//! A case is a function that makes a guest with the kit, runs it and asserts. To add an engine, add one
//! line to [`engines`]; to add a case, one line to its group's list.

mod devices;
mod exits;
mod instructions;
mod interrupts;
mod kit;
mod memory;
mod parallel;
mod smp;
mod states;
mod timers;

use kezhan_hypervisor::Hypervisor;
use kezhan_soft::SoftHypervisor;
use libtest_mimic::{Arguments, Failed, Trial};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Check = Box<dyn Fn(&dyn Hypervisor) + Send + Sync>;

/// A small guest with its check.
pub(crate) struct Case {
    name: &'static str,
    /// Does not work where ring 0 is interpreted by the host kernel, and why.
    needs_hardware: Option<&'static str>,
    run: Check,
}

impl Case {
    fn new(name: &'static str, run: impl Fn(&dyn Hypervisor) + Send + Sync + 'static) -> Case {
        Case { name, needs_hardware: None, run: Box::new(run) }
    }

    fn on_hardware(mut self, why: &'static str) -> Case {
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
    vec![
        Engine { name: "kvm", open: open_kvm, complete: kvm_is_hardware },
        Engine { name: "soft", open: || Ok(Box::new(SoftHypervisor::new())), complete: || true },
    ]
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
        ("parallel", parallel::cases()),
        ("states", states::cases()),
        ("instructions", instructions::cases()),
    ]
}

/// Why the engine cannot run a case that `needs` more than an interpreted ring 0 on this host.
fn obstacle(engine: &Engine, needs: Option<&str>) -> Option<String> {
    match ((engine.open)(), needs) {
        (Err(error), _) => Some(error),
        (Ok(_), Some(why)) if !(engine.complete)() => {
            Some(format!("this host's KVM interprets ring 0: {why}"))
        }
        _ => None,
    }
}

fn trial(
    name: String,
    obstacle: Option<String>,
    run: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Trial {
    if let Some(reason) = obstacle {
        return Trial::test(format!("{name} ({reason})"), || Ok(())).with_ignored_flag(true);
    }
    Trial::test(name, move || {
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").into())
        });
        result.map_err(Failed::from)
    })
}

fn cases_on(engine: &Engine) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (group, cases) in groups() {
        for case in cases {
            let name = format!("{}::{group}::{}", engine.name, case.name);
            let open = engine.open;
            trials.push(trial(name, obstacle(engine, case.needs_hardware), move || {
                (case.run)(open()?.as_ref());
                Ok(())
            }));
        }
    }
    trials
}

fn moves_between(from: &Engine, to: &Engine) -> Vec<Trial> {
    let obstacle = || obstacle(from, None).or_else(|| obstacle(to, None));
    let trials = states::MOVES.iter().map(|&(name, run)| {
        let name = format!("{}_to_{}::{name}", from.name, to.name);
        let (from, to) = (from.open, to.open);
        trial(name, obstacle(), move || {
            run(from()?.as_ref(), to()?.as_ref());
            Ok(())
        })
    });
    trials.collect()
}

fn main() {
    let engines = engines();
    let mut trials: Vec<Trial> = engines.iter().flat_map(cases_on).collect();
    for from in &engines {
        trials.extend(engines.iter().flat_map(|to| moves_between(from, to)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
