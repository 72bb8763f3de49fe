//! Steps that hold a machine and press its buttons, that give it disks, and that fill up the host's.
//!
//! A host without room is played by a limit on the size of the files of the machine's process: what would make an image
//! longer fails as on a full disk, and nobody else's disk is filled. Snapshots of whole machines have their steps when
//! there are such snapshots.

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
        host_is_full,
        host_has_room,
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

/// A disk that a sentence made, as `--disk` takes it.
pub(super) fn image(world: &mut World, name: &str) -> Result<String, Failure> {
    let format = crate::images::format_of(world, name)?;
    let path = world.folder.join(name).display().to_string();
    Ok(format!("{path},format={format}"))
}

fn attach(world: &mut World, name: &str, more: &str) -> Result<(), Failure> {
    let image = image(world, name)?;
    current(world)?.add("disk", &format!("{image}{more}"));
    Ok(())
}

/// Gives the machine a disk; the guest sees it by its name, as its serial number.
#[step(en = "the machine has the disk {string}", zh = "机器有磁盘 {string}")]
pub(crate) fn has_disk(world: &mut World, name: &str) -> Result<(), Failure> {
    attach(world, name, &format!(",backing=follow,serial={name}"))
}

/// Gives the machine a disk that it cannot write to.
#[step(en = "the machine has the read-only disk {string}", zh = "机器有只读磁盘 {string}")]
pub(crate) fn has_read_only_disk(world: &mut World, name: &str) -> Result<(), Failure> {
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

/// Lets no image of the machine become longer, as if the host's disk were full. The machine must run, and its disks
/// must be in a format whose files grow, such as qcow2.
#[step(en = "the host disk is full", zh = "宿主机磁盘写满")]
fn host_is_full(world: &mut World) -> Result<(), Failure> {
    current(world)?.limit_files(true)
}

/// Lets the machine's images grow again.
#[step(en = "the host disk has room again", zh = "宿主机磁盘又有空间")]
fn host_has_room(world: &mut World) -> Result<(), Failure> {
    current(world)?.limit_files(false)
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
