//! Steps that say what a machine boots from.
//!
//! There is no firmware yet that finds a kernel on a disk. Until there is, an image brings its own: the files `vmlinuz`
//! and `initrd` in the image's folder, as `kezhan`'s guests have them. The image itself is never written to; the machine
//! gets a change of it.

use super::{ONLY, add, current, describe, seed};
use kezhan_steps::{DocString, Failure, StepDefinition, World, step, steps};
use std::path::Path;

/// The family's steps.
pub(crate) fn steps() -> Vec<StepDefinition> {
    steps![
        machine_with_image,
        machine_booted_from,
        machine_boots_image,
        machine_kernel,
        machine_initrd,
        cloud_init
    ]
}

/// Describes a machine that boots a system from an image, beside which lie its kernel `vmlinuz` and its `initrd`.
#[step(
    en = "a machine with {int} vCPU(s) and {size} of memory, booted from {path}",
    zh = "一台有 {int} 个虚拟处理器和 {size} 内存的机器,从 {path} 启动"
)]
fn machine_with_image(
    world: &mut World,
    cpus: u64,
    memory: u64,
    image: &str,
) -> Result<(), Failure> {
    describe(add(world, ONLY), cpus, memory);
    boot(world, image)
}

/// Describes a machine of usual size that boots a system from an image.
#[step(en = "a machine booted from {path}", zh = "一台从 {path} 启动的机器")]
fn machine_booted_from(world: &mut World, image: &str) -> Result<(), Failure> {
    add(world, ONLY);
    boot(world, image)
}

/// Starts the machine from an image, beside which lie its kernel `vmlinuz` and its `initrd`.
#[step(en = "the machine boots from {path}", zh = "机器从 {path} 启动")]
fn machine_boots_image(world: &mut World, image: &str) -> Result<(), Failure> {
    boot(world, image)
}

fn boot(world: &mut World, image: &str) -> Result<(), Failure> {
    let path = world.path(image);
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let [kernel, initrd] = ["vmlinuz", "initrd"].map(|name| folder.join(name));
    if let Some(missing) = [&path, &kernel, &initrd].into_iter().find(|file| !file.exists()) {
        return Err(Failure::Broken(format!(
            "{}: there is no such file; a machine boots from an image beside which lie `vmlinuz` and `initrd`",
            missing.display()
        )));
    }
    let disk = format!("{}.system", current(world)?.name());
    crate::images::disk_copy(world, &path.display().to_string(), &disk)?;
    let machine = current(world)?;
    machine.set("kernel", &kernel.display().to_string());
    machine.set("initrd", &initrd.display().to_string());
    machine.set("append", "console=ttyS0 root=/dev/vda quiet");
    super::control_steps::has_disk(world, &disk)
}

/// Starts the machine from a Linux kernel.
#[step(
    en = "the machine boots the kernel {path} with command line {string}",
    zh = "机器从内核 {path} 启动,命令行为 {string}"
)]
fn machine_kernel(world: &mut World, kernel: &str, line: &str) -> Result<(), Failure> {
    let kernel = world.path(kernel).display().to_string();
    let machine = current(world)?;
    machine.set("kernel", &kernel);
    machine.set("append", line);
    Ok(())
}

/// Gives the kernel its initial RAM disk.
#[step(en = "the machine has the initial RAM disk {path}", zh = "机器使用初始内存盘 {path}")]
fn machine_initrd(world: &mut World, initrd: &str) -> Result<(), Failure> {
    let initrd = world.path(initrd).display().to_string();
    current(world)?.set("initrd", &initrd);
    Ok(())
}

/// Gives the machine a disk with cloud-init's configuration (NoCloud): the doc string is `user-data`.
#[step(en = "the machine is configured by cloud-init with:", zh = "用以下 cloud-init 配置机器:")]
fn cloud_init(world: &mut World, user_data: DocString) -> Result<(), Failure> {
    let name = current(world)?.name().to_owned();
    let meta = format!("instance-id: {name}\nlocal-hostname: {name}\n");
    let files = [("user-data", user_data.content.as_bytes()), ("meta-data", meta.as_bytes())];
    let image = seed::image(&files).ok_or_else(|| {
        Failure::Broken("the configuration for cloud-init is larger than a megabyte".to_owned())
    })?;
    let disk = format!("{name}.seed");
    let written = std::fs::write(world.folder.join(&disk), image);
    written.map_err(|error| Failure::broken(&disk, error))?;
    crate::images::made(world, &disk, "raw");
    super::control_steps::has_read_only_disk(world, &disk)
}
