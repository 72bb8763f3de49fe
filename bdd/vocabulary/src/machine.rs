//! Steps on machines and their serial consoles.
//!
//! A machine is a process `kezhan run …` at a terminal of its own, driven as a person drives it: by its command line,
//! its console and the menu behind Ctrl-].
//!
//! ```text
//! "the machine has …" ----> options ----> kezhan run --serial stdio …
//! "I enter … on the console" ----> keys  |  output ----> Console (transcript, cursor) ----> "the console shows …"
//! "I reset the machine" ----> Ctrl-] r   |  stderr ----> messages of kezhan
//! ```
//!
//! Every sentence about "the machine" may name one: `I start the machine "web"`. The last one that was named, or
//! described, is "the machine" from there on.
//!
//! While anything on a console is waited for, the machine is watched: a kernel panic or the end of the process
//! fails the step at once, with that reason. When any step fails, the tail of every console and kezhan's messages are
//! attached to the report. The machine's process ends with the world.

mod boot_steps;
mod change_steps;
mod console;
mod console_steps;
mod control_steps;
mod frames;
mod guest_steps;
mod network;
mod network_steps;
mod process;
mod seed;
mod terminal;

pub use console::{Console, ConsoleError, Transcript};
pub use process::Machine;

use kezhan_steps::{Failure, MachineState, StepDefinition, Table, World, check, step, steps};
use network::Network;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    let machines = steps![
        machine_with,
        machine_with_named,
        machine_options,
        machine_engine,
        start,
        stop,
        delete,
        is_in_state,
        shuts_down,
        exits,
        machine_says
    ];
    let consoles = [console_steps::steps(), guest_steps::steps()].concat();
    [
        machines,
        boot_steps::steps(),
        control_steps::steps(),
        change_steps::steps(),
        consoles,
        network_steps::steps(),
    ]
    .concat()
}

/// The machines of a scenario, by name; "the machine" is the last one spoken of, [`World::machine`]. They end before
/// the networks that they are connected to.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    machines: BTreeMap<String, Machine>,
    networks: BTreeMap<String, Network>,
}

const ONLY: &str = "machine";

/// A new machine, which sentences speak of from here on.
fn add<'w>(world: &'w mut World, name: &str) -> &'w mut Machine {
    world.on_failure(attach_evidence);
    world.machine = Some(name.to_owned());
    world.state::<Machines>().machines.entry(name.to_owned()).or_insert_with(|| Machine::new(name))
}

fn unknown(name: &str) -> Failure {
    Failure::Broken(format!(
        "there is no machine \"{name}\"; describe it first: `a machine \"{name}\" with: …`"
    ))
}

/// The machine that sentences speak of.
pub(crate) fn current(world: &mut World) -> Result<&mut Machine, Failure> {
    let name = world.machine.clone().unwrap_or_else(|| ONLY.to_owned());
    world.state::<Machines>().machines.get_mut(&name).ok_or_else(|| unknown(&name))
}

fn attach_evidence(world: &mut World) {
    let machines = world.state::<Machines>().machines.values_mut();
    let evidence: Vec<(String, String)> = machines.flat_map(|machine| machine.evidence()).collect();
    for (name, text) in evidence {
        world.attach(&name, "text/plain", text);
    }
}

fn describe(machine: &mut Machine, cpus: u64, memory: u64) {
    machine.set("cpus", &cpus.to_string());
    machine.set("memory", &format!("{}K", memory >> 10));
}

/// Describes the machine: processors and memory.
#[step(
    en = "a machine with {int} vCPU(s) and {size} of memory",
    zh = "一台有 {int} 个虚拟处理器和 {size} 内存的机器"
)]
fn machine_with(world: &mut World, cpus: u64, memory: u64) -> Result<(), Failure> {
    describe(add(world, ONLY), cpus, memory);
    Ok(())
}

/// Describes a machine of a name: processors and memory.
#[step(
    en = "a machine {string} with {int} vCPU(s) and {size} of memory",
    zh = "一台名为 {string} 的机器,有 {int} 个虚拟处理器和 {size} 内存"
)]
fn machine_with_named(
    world: &mut World,
    name: &str,
    cpus: u64,
    memory: u64,
) -> Result<(), Failure> {
    describe(add(world, name), cpus, memory);
    Ok(())
}

/// Describes a machine by options of `kezhan run`: names without dashes, and values; a name may stand twice.
#[step(en = "a machine {string} with:", zh = "一台名为 {string} 的机器,配置如下:")]
fn machine_options(world: &mut World, name: &str, options: Table) -> Result<(), Failure> {
    let mut described = Vec::new();
    for (option, value) in options.pairs()? {
        let option = option.trim().trim_start_matches("--");
        let value = match option {
            "kernel" | "initrd" => world.path(value).display().to_string(),
            _ => value.to_owned(),
        };
        described.push((option.to_owned(), value));
    }
    let machine = add(world, name);
    described.iter().for_each(|(option, value)| machine.add(option, value));
    Ok(())
}

/// Chooses the CPU engine: auto, kvm or soft.
#[step(en = "the machine uses the engine {string}", zh = "机器使用引擎 {string}")]
fn machine_engine(world: &mut World, engine: &str) -> Result<(), Failure> {
    current(world)?.set("engine", engine);
    Ok(())
}

/// Starts the machine.
#[step(en = "I start the machine", zh = "我启动机器")]
fn start(world: &mut World) -> Result<(), Failure> {
    let settings = world.settings.clone();
    let folder = world.folder.clone();
    current(world)?.start(&settings, &folder)
}

/// How long a machine may take to end after it was told to.
const STOPPING: Duration = Duration::from_secs(10);

/// Switches the machine off: SIGTERM to its process.
#[step(en = "I stop the machine", zh = "我停止机器")]
fn stop(world: &mut World) -> Result<(), Failure> {
    let deadline = Instant::now() + world.scaled(STOPPING);
    current(world)?.stop(deadline)
}

/// Ends the machine's process and forgets its description; what is on its disks stays.
#[step(en = "I delete the machine", zh = "我删除机器")]
fn delete(world: &mut World) -> Result<(), Failure> {
    let name = current(world)?.name().to_owned();
    world.state::<Machines>().machines.remove(&name);
    Ok(())
}

fn state_is(machine: &mut Machine, expected: MachineState) -> Result<(), Failure> {
    let seen = machine.state();
    if seen == expected {
        return Ok(());
    }
    let word = |state: MachineState| format!("{state:?}").to_lowercase();
    let detail = machine.ending().map(|ending| format!("; {ending}")).unwrap_or_default();
    Err(Failure::mismatch(
        format!("{} {}", machine.name(), word(expected)),
        format!("{}{detail}", word(seen)),
    ))
}

/// Compares what the machine is doing: running, stopped (it ended with status 0) or crashed.
#[check(
    en = "the machine is {state}",
    zh = "机器处于{state}状态",
    zh = "机器已{state}",
    patience = "10 s"
)]
fn is_in_state(world: &mut World, expected: MachineState) -> Result<(), Failure> {
    state_is(current(world)?, expected)
}

/// Waits until the guest has powered off.
#[check(en = "the machine shuts down cleanly", zh = "机器正常关机", patience = "60 s")]
fn shuts_down(world: &mut World) -> Result<(), Failure> {
    let machine = current(world)?;
    match machine.state() {
        MachineState::Crashed => Err(Failure::Guard(machine.death())),
        _ => state_is(machine, MachineState::Stopped),
    }
}

/// Waits until the machine's process ends, and compares its exit status.
#[check(en = "the machine exits with {int}", zh = "机器的退出码为 {int}", patience = "60 s")]
fn exits(world: &mut World, expected: i32) -> Result<(), Failure> {
    let machine = current(world)?;
    match machine.exit_status() {
        Some(status) if status.code() == Some(expected) => Ok(()),
        Some(_) => Err(Failure::Broken(format!(
            "expected exit status {expected}\n     saw {}",
            machine.death()
        ))),
        None => Err(Failure::mismatch(format!("exit status {expected}"), "it still runs")),
    }
}

/// Looks for a text in what `kezhan` says about the machine.
#[check(
    en = "the machine's messages contain {string}",
    zh = "机器的消息包含 {string}",
    patience = "5 s"
)]
fn machine_says(world: &mut World, expected: &str) -> Result<(), Failure> {
    let messages = current(world)?.messages();
    if messages.contains(expected) {
        Ok(())
    } else {
        Err(Failure::mismatch(
            format!("{expected:?} in the machine's messages"),
            crate::files::tail(&messages),
        ))
    }
}
