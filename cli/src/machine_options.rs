//! The options that describe a machine: the same, by the same names, for every command that makes one,
//! and in the machine file.

use clap::Args;
use kezhan_machine_spec::{
    ConsoleSpec, CpuSpec, DeviceSpec, DiskSpec, EngineChoice, MachineSpec, NetSpec, SerialSpec,
    Size, Switch,
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

    /// Whether the software engine translates what runs often: on, or off for diagnosis
    #[arg(long, value_name = "on|off", default_value = "on")]
    jit: Switch,

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

    /// Add a disk: an image, a block device or nbd://HOST[:PORT]/EXPORT, raw unless format= says so; may be given
    /// again
    ///
    /// Settings: format=NAME, readonly, serial=S, cache=writeback|writethrough|none|directsync|unsafe,
    /// backing=follow (open the files that the image stands on), on-error=report|pause (pause: when the host
    /// has no room or fails otherwise, the machine stands still until it can go on), bus=pci|mmio (mmio: beside
    /// PCI, announced by ACPI, for a guest that has no PCI). iops=N[/BURST] and bps=SIZE[/BURST]: at most so many
    /// requests and bytes a second, and so many at once after a rest. discard=off (what the guest discards keeps
    /// its room), detect-zeroes=on (zeroes that it writes take none).
    #[arg(long = "disk", value_name = "FILE[,key=value…]")]
    disks: Vec<DiskSpec>,

    /// Add a network card: user, tap=NAME, bridge=NAME, macvtap=NAME, or none for no card; may be given again
    ///
    /// user is a network of the machine's own, with the host as its router and no privilege needed; tap and
    /// bridge are networks of the host (kezhan net --help). macvtap=eth0 puts the machine into the network that
    /// the host's eth0 is in; host and machine do not hear each other there.
    ///
    /// Settings of every card: card=virtio|e1000, mac=ADDRESS, mtu=BYTES, capture=FILE (every frame, for
    /// tcpdump and Wireshark), loss=5%, delay=20ms, rate=100mbit. Of tap and bridge: queues=N for a guest with several
    /// CPUs (a tap must be made with multi_queue).
    ///
    /// Settings of user: forward=tcp:[ADDRESS:]PORT:GUEST-PORT, udp:… or unix:PATH:GUEST-PORT leads from the
    /// host into the guest; [IPV6-ADDRESS]: before GUEST-PORT is where in it, in place of its IPv4 address. allow=RULE and deny=RULE (deb.example:443, *.example, 10.0.0.0/8, any:25): the
    /// first that matches decides, else default=allow|deny. flows=N: connections and flows a second at most. resolver=ADDRESS[:PORT] is asked for names in
    /// place of the host's. socks=[USER:PASSWORD@]HOST:PORT: everything leaves through this SOCKS server or
    /// not at all. network=NAME: machines that name the same network reach each other, each by its --name.
    /// socks-listen=ADDRESS:PORT is a SOCKS server into it. tftp=FOLDER serves the folder's files to a guest that
    /// starts from the network, bootfile=NAME is the one that it is told to start.
    #[arg(long = "net", value_name = "KIND[,key=value…]")]
    nets: Vec<NetSpec>,

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
            jit: typed.jit,
            cpus: typed.cpus,
            memory: typed.memory,
            cpu: typed.cpu,
            kernel: typed.kernel,
            initrd: typed.initrd,
            append: typed.append,
            serial: typed.serial,
            consoles: typed.consoles,
            disks: typed.disks,
            nets: typed.nets,
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
                         --initrd i --append -v --serial file=log --console file=c,name=n --disk a.img,readonly --net user,mtu=9000 --device a,b=c --device d \
                         --no-reboot --timeout 9 --seed 7 --jit off";
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
            nets: vec!["user,mtu=9000".parse().unwrap()],
            devices: vec!["a,b=c".parse().unwrap(), "d".parse().unwrap()],
            no_reboot: true,
            timeout: Some(9),
            seed: Some(7),
            jit: Switch::Off,
        };
        assert_eq!(spec(&arguments.split_whitespace().collect::<Vec<_>>()), expected);
    }
}
