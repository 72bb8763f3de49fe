//! Steps that change a machine while it runs, by `kezhan control`: disks come, go, grow and fail, memory is given back.
//!
//! ```text
//! "I attach the disk "data"" ----> kezhan control NAME.PID attach FILE,… ----> "disk2"
//!                                                                                |
//! "I resize the disk "data" …" ----> kezhan control NAME.PID resize disk2 … <----/
//! ```
//!
//! Sentences know a disk by its image's name, and the machine by the name of its device: those that it was started with
//! have numbers in their order, and of one that came later the machine tells.

use super::{Machines, current};
use crate::images;
use crate::process::Process;
use kezhan_steps::{Failure, StepDefinition, Table, World, step, steps};
use std::process::Command;

/// The family's steps.
pub(crate) fn steps() -> Vec<StepDefinition> {
    steps![
        slots,
        balloon,
        attach_disk,
        detach_disk,
        hot_plug,
        unplug,
        resize,
        set_cpus,
        set_memory,
        disk_fails,
        disk_works
    ]
}

/// Runs `kezhan control` for the machine that sentences speak of; what the machine said.
fn control(world: &mut World, words: &[&str]) -> Result<String, Failure> {
    let machine = current(world)?.address()?;
    let mut command = Command::new(&world.settings.kezhan);
    command.args(["control", &machine]).args(words);
    let line = format!("kezhan control {machine} {}", words.join(" "));
    let mut process = Process::start(world, command, &line)?;
    if process.wait(world.deadline)?.success() {
        return Ok(process.output().trim().to_owned());
    }
    Err(Failure::Broken(format!("{line}: {}", process.output().trim_end())))
}

/// Gives the machine slots for disks that come and go while it runs.
#[step(en = "the machine has {int} hot-plug slot(s)", zh = "机器有 {int} 个热插槽")]
fn slots(world: &mut World, count: u64) -> Result<(), Failure> {
    current(world)?.add("device", &format!("hotplug,slots={count}"));
    Ok(())
}

/// Gives the machine a balloon, by which memory is taken from its guest and given back.
#[step(en = "the machine has a memory balloon", zh = "机器有内存气球")]
fn balloon(world: &mut World) -> Result<(), Failure> {
    current(world)?.add("device", "virtio-balloon");
    Ok(())
}

fn plug(world: &mut World, name: &str, file: &str) -> Result<(), Failure> {
    let device = control(world, &["attach", file])?;
    current(world)?.plugged(name, &device)
}

/// Gives the machine one more disk: at its next start, or at once when it runs and has a free hot-plug slot.
#[step(en = "I attach the disk {string}", zh = "我挂接磁盘 {string}")]
fn attach_disk(world: &mut World, name: &str) -> Result<(), Failure> {
    if !current(world)?.is_alive() {
        return super::control_steps::has_disk(world, name);
    }
    let image = super::control_steps::image(world, name)?;
    plug(world, name, &format!("{image},backing=follow,serial={name}"))
}

/// Takes a disk away from the machine; what is on the disk stays. One that runs gives it when its guest has let go of
/// it.
#[step(en = "I detach the disk {string}", zh = "我卸下磁盘 {string}")]
fn detach_disk(world: &mut World, name: &str) -> Result<(), Failure> {
    if current(world)?.is_alive() {
        return unplug(world, name);
    }
    let path = world.folder.join(name).display().to_string();
    let machine = current(world)?;
    if machine.remove("disk", &format!("{path},")) {
        return Ok(());
    }
    let machine = machine.name().to_owned();
    Err(Failure::Broken(format!("machine \"{machine}\" has no disk \"{name}\"")))
}

/// Plugs a device into a machine that runs. The table has its settings, those of `kezhan control attach`: `file` names
/// a disk that a sentence made, and is the device's own name unless it is given.
#[step(en = "I hot-plug the device {string} with:", zh = "我热插设备 {string},参数:")]
fn hot_plug(world: &mut World, name: &str, settings: Table) -> Result<(), Failure> {
    let settings = settings.pairs()?;
    let file = settings.iter().find(|(setting, _)| *setting == "file");
    let mut disk = super::control_steps::image(world, file.map_or(name, |(_, file)| *file))?;
    for (setting, value) in settings.iter().filter(|(setting, _)| *setting != "file") {
        disk.push_str(&format!(",{setting}={value}"));
    }
    plug(world, name, &disk)
}

/// Pulls a device out of a machine that runs, once its guest has let go of it.
#[step(en = "I unplug the device {string}", zh = "我拔出设备 {string}")]
fn unplug(world: &mut World, name: &str) -> Result<(), Failure> {
    let device = current(world)?.device(name)?;
    control(world, &["detach", &device])?;
    current(world)?.unplugged(name);
    Ok(())
}

/// Changes the size of a disk. The machine that has it, if one runs, is told.
#[step(en = "I resize the disk {string} to {size}", zh = "我把磁盘 {string} 扩容到 {size}")]
fn resize(world: &mut World, name: &str, size: u64) -> Result<(), Failure> {
    let mut machines = world.state::<Machines>().machines.values_mut();
    let user = machines.find_map(|machine| machine.device(name).ok().map(|_| machine.name()));
    let Some(user) = user.map(str::to_owned) else {
        return images::resize(world, name, size);
    };
    world.machine = Some(user);
    let device = current(world)?.device(name)?;
    control(world, &["resize", &device, &format!("{}K", size >> 10)]).map(drop)
}

/// Changes the number of processors, which a machine takes at its next start.
#[step(en = "I set the machine to {int} vCPU(s)", zh = "我把机器调整为 {int} 个处理器")]
fn set_cpus(world: &mut World, cpus: u64) -> Result<(), Failure> {
    let machine = current(world)?;
    if machine.is_alive() {
        return Err(Failure::Broken(format!(
            "machine \"{}\" is running; its processors are set while it is stopped",
            machine.name()
        )));
    }
    machine.set("cpus", &cpus.to_string());
    Ok(())
}

/// Changes the memory: at the next start, or, while the machine runs, what its balloon leaves the guest.
#[step(en = "I set the machine to {size} of memory", zh = "我把机器调整为 {size} 内存")]
fn set_memory(world: &mut World, size: u64) -> Result<(), Failure> {
    let size = format!("{}K", size >> 10);
    let machine = current(world)?;
    if machine.is_alive() {
        return control(world, &["balloon", &size]).map(drop);
    }
    machine.set("memory", &size);
    Ok(())
}

fn fail(world: &mut World, name: &str, requests: &str) -> Result<(), Failure> {
    let device = current(world)?.device(name)?;
    control(world, &["fail", &device, requests]).map(drop)
}

/// Lets everything that the machine asks of a disk fail, as if the host's hardware were broken.
#[step(
    en = "the host disk returns I\\/O errors for {string}",
    zh = "宿主机磁盘对 {string} 返回读写错误"
)]
fn disk_fails(world: &mut World, name: &str) -> Result<(), Failure> {
    fail(world, name, "everything")
}

/// Lets a disk whose requests failed be whole again.
#[step(en = "the host disk works again for {string}", zh = "宿主机磁盘对 {string} 恢复正常")]
fn disk_works(world: &mut World, name: &str) -> Result<(), Failure> {
    fail(world, name, "nothing")
}
