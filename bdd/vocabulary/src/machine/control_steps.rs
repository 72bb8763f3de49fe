//! Steps that hold a machine and press its buttons, and that give it disks.
//!
//! Hot-plugging, resizing a disk while the machine runs and snapshots of whole machines need a control channel of the
//! machine's process; their steps come with it.

use super::current;
use kezhan_steps::{Failure, StepDefinition, World, step, steps};

/// The family's steps.
pub(crate) fn steps() -> Vec<StepDefinition> {
    steps![
        pause,
        resume,
        reset,
        power_button,
        has_disk,
        has_read_only_disk,
        disk_setting,
        loses_keys
    ]
}

/// Holds the machine: its processors and its clock stand still.
#[step(en = "I pause the machine", zh = "我暂停机器")]
fn pause(world: &mut World) -> Result<(), Failure> {
    current(world)?.hold(true)
}

/// Lets a machine that is held go on.
#[step(en = "I resume the machine", zh = "我恢复机器")]
fn resume(world: &mut World) -> Result<(), Failure> {
    current(world)?.hold(false)
}

/// Presses the reset button: the guest starts anew without being asked.
#[step(en = "I reset the machine", zh = "我重置机器")]
fn reset(world: &mut World) -> Result<(), Failure> {
    current(world)?.choose(b'r')
}

/// Presses the power button: the guest is asked to shut down.
#[step(en = "I press the power button", zh = "我按下电源按钮")]
fn power_button(world: &mut World) -> Result<(), Failure> {
    current(world)?.choose(b'p')
}

fn attach(world: &mut World, name: &str, more: &str) -> Result<(), Failure> {
    let format = crate::images::format_of(world, name)?;
    let path = world.folder.join(name).display().to_string();
    current(world)?.add("disk", &format!("{path},format={format}{more}"));
    Ok(())
}

/// Gives the machine a disk; the guest sees it by its name, as its serial number.
#[step(en = "the machine has the disk {string}", zh = "机器有磁盘 {string}")]
fn has_disk(world: &mut World, name: &str) -> Result<(), Failure> {
    attach(world, name, &format!(",backing=follow,serial={name}"))
}

/// Gives the machine a disk that it cannot write to.
#[step(en = "the machine has the read-only disk {string}", zh = "机器有只读磁盘 {string}")]
fn has_read_only_disk(world: &mut World, name: &str) -> Result<(), Failure> {
    attach(world, name, &format!(",backing=follow,readonly,serial={name}"))
}

/// Gives the machine a disk with settings of `--disk`, as they are typed there.
#[step(
    en = "the machine has the disk {string} with the settings {string}",
    zh = "机器有磁盘 {string},设置为 {string}"
)]
fn disk_setting(world: &mut World, name: &str, settings: &str) -> Result<(), Failure> {
    attach(world, name, &format!(",{settings}"))
}

/// Loses typed characters on their way to the machine, from its next start on: a trial for the steps that type.
#[step(
    en = "the console loses one typed character in {int}",
    zh = "控制台每 {int} 个输入字符丢失一个"
)]
fn loses_keys(world: &mut World, every: u64) -> Result<(), Failure> {
    current(world)?.lose(every);
    Ok(())
}
