//! What can be wrong with a description.

use crate::Size;

/// Why a description is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The name has other characters, or is too long.
    #[error(
        "--name '{0}': use 1 to 64 letters, digits, '-', '_' or '.', starting with a letter or digit"
    )]
    Name(String),
    /// No or too many CPUs.
    #[error("--cpus {0}: give a number from 1 to 255")]
    Cpus(u32),
    /// Too little, too much, or not whole pages.
    #[error("--memory {0}: give 2 MiB to 1 TiB in whole pages of 4 KiB, for example 512M")]
    Memory(Size),
    /// Not a size.
    #[error("size '{0}': write a number and a unit, for example 128M, 2G or 512KiB")]
    SizeSyntax(String),
    /// An initrd but no kernel.
    #[error("--initrd needs --kernel: name the kernel that is to use it")]
    InitrdWithoutKernel,
    /// A command line but no kernel.
    #[error("--append needs --kernel: name the kernel that is to read it")]
    AppendWithoutKernel,
    /// A time-out of nothing.
    #[error("--timeout 0: give at least 1 second, or leave it out")]
    Timeout,
    /// A CPU model not known.
    #[error("--cpu '{0}': models are host, x86-64-v1, x86-64-v2, x86-64-v3 and x86-64-v4")]
    CpuModel(String),
    /// A CPU maker not known.
    #[error("--cpu vendor '{0}': vendors are GenuineIntel and AuthenticAMD")]
    CpuVendor(String),
    /// A feature without a sign.
    #[error("--cpu feature '{0}': write +NAME to add it or -NAME to take it away")]
    CpuFeature(String),
    /// A serial destination not known.
    #[error("--serial '{0}': write stdio, file=PATH, socket=PATH or none")]
    Serial(String),
    /// A console destination not known, or a name that cannot be.
    #[error(
        "--console '{0}': write stdio, file=PATH, socket=PATH or none, and if need be ,name=NAME"
    )]
    Console(String),
    /// More than one stream on one terminal.
    #[error(
        "--console stdio: the terminal is taken; give --serial none, or the console another place"
    )]
    TwoOnTerminal,
    /// More consoles than the device has ports.
    #[error("--console: there are {0}; a machine has at most 31")]
    Consoles(usize),
    /// A disk with a setting that there is not.
    #[error("--disk '{text}': {rule}")]
    Disk {
        /// What was given.
        text: String,
        /// What is possible.
        rule: &'static str,
    },
    /// A network card with a setting that there is not.
    #[error("--net '{text}': {rule}")]
    Net {
        /// What was given.
        text: String,
        /// What is possible.
        rule: &'static str,
    },
    /// No card, and a card.
    #[error("--net none: leave it out, or leave out the other --net options")]
    NetsAndNone,
    /// A device setting without a value.
    #[error("--device '{0}': write NAME[,key=value]…")]
    Device(String),
    /// Neither on nor off.
    #[error("--jit '{0}': on or off")]
    Switch(String),
    /// An engine not known.
    #[error("--engine '{0}': engines are auto, kvm and soft")]
    Engine(String),
}
