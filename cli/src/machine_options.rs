//! The options that describe a machine: the same, by the same names, for every command that makes one,
//! and in the machine file.

use clap::Args;
use kezhan_machine_spec::{
    ConsoleSpec, CpuSpec, DeviceSpec, DiskSpec, EngineChoice, MachineSpec, SerialSpec, Size,
};
use std::path::PathBuf;

/// A machine, as typed.
#[derive(Debug, Args)]
pub(crate) struct MachineOptions {
    /// Name of the machine: in `ps`, in messages, as the terminal's title
    #[arg(long, value_name = "NAME", default_value = "guest")]
    name: String,

    /// CPU engine: auto, kvm or soft. auto takes KVM where it runs an unmodified guest
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineChoice,

    /// Number of CPUs, 1 to 255
    #[arg(long, value_name = "N", default_value = "1")]
    cpus: u32,

    /// CPU model host, x86-64-v1 … x86-64-v4, and features by their names in /proc/cpuinfo; vendor=AuthenticAMD
    /// or GenuineIntel where a guest must see one of them
    #[arg(long, value_name = "MODEL[,vendor=NAME][,±feature…]", default_value = "host")]
    cpu: CpuSpec,

    /// Memory, for example 128M or 2G
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    memory: Size,

    /// Kernel to start: bzImage, ELF with a PVH note, or multiboot
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// Kernel command line
    #[arg(long, value_name = "STRING", default_value = "", allow_hyphen_values = true)]
    append: String,

    /// Where the serial port goes: stdio, file=PATH, socket=PATH or none
    #[arg(long, value_name = "WHERE", default_value = "stdio")]
    serial: SerialSpec,

    /// Add a console on virtio: stdio, file=PATH, socket=PATH or none; may be given again
    ///
    /// The first is the guest's hvc0, the others are ports that it finds by ,name=NAME.
    #[arg(long = "console", value_name = "WHERE[,name=NAME]")]
    consoles: Vec<ConsoleSpec>,

    /// Add a disk: an image or a block device, raw unless format= says otherwise; may be given again
    ///
    /// Settings: format=NAME, readonly, serial=S, cache=writeback|writethrough|none|directsync|unsafe,
    /// backing=follow (open the files that the image stands on), on-error=report|pause (pause: when the host
    /// has no room or fails otherwise, the machine stands still until it can go on).
    #[arg(long = "disk", value_name = "FILE[,key=value…]")]
    disks: Vec<DiskSpec>,

    /// Add a device with its settings; may be given again
    #[arg(long = "device", value_name = "NAME[,key=value…]")]
    devices: Vec<DeviceSpec>,

    /// End with status 1 instead of restarting when the guest resets
    #[arg(long)]
    no_reboot: bool,

    /// Switch the machine off after so many seconds, and end with status 124
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Seed of everything random that the machine shows its guest
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl From<MachineOptions> for MachineSpec {
    fn from(typed: MachineOptions) -> MachineSpec {
        MachineSpec {
            name: typed.name,
            engine: typed.engine,
            cpus: typed.cpus,
            memory: typed.memory,
            cpu: typed.cpu,
            kernel: typed.kernel,
            initrd: typed.initrd,
            append: typed.append,
            serial: typed.serial,
            consoles: typed.consoles,
            disks: typed.disks,
            devices: typed.devices,
            no_reboot: typed.no_reboot,
            timeout: typed.timeout,
            seed: typed.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        options: MachineOptions,
    }

    fn spec(arguments: &[&str]) -> MachineSpec {
        Alone::try_parse_from([&["kezhan"], arguments].concat()).unwrap().options.into()
    }

    #[test]
    fn no_option_gives_the_default_machine() {
        assert_eq!(spec(&[]), MachineSpec::default());
    }

    #[test]
    fn every_option_reaches_the_description() {
        let arguments = "--name inn --engine soft --cpus 4 --cpu x86-64-v2,+aes --memory 1G --kernel k \
                         --initrd i --append -v --serial file=log --console file=c,name=n --disk a.img,readonly --device a,b=c --device d \
                         --no-reboot --timeout 9 --seed 7";
        let expected = MachineSpec {
            name: "inn".to_owned(),
            engine: EngineChoice::Soft,
            cpus: 4,
            cpu: "x86-64-v2,+aes".parse().unwrap(),
            memory: Size::gibibytes(1),
            kernel: Some("k".into()),
            initrd: Some("i".into()),
            append: "-v".to_owned(),
            serial: SerialSpec::File("log".into()),
            consoles: vec!["file=c,name=n".parse().unwrap()],
            disks: vec!["a.img,readonly".parse().unwrap()],
            devices: vec!["a,b=c".parse().unwrap(), "d".parse().unwrap()],
            no_reboot: true,
            timeout: Some(9),
            seed: Some(7),
        };
        assert_eq!(spec(&arguments.split_whitespace().collect::<Vec<_>>()), expected);
    }
}
