//! Why a machine cannot be started or go on, and the exit status that goes with it.

use kezhan_block::BlockError;
use kezhan_board::{BoardError, KernelError};
use kezhan_chardev::ChardevError;
use kezhan_hypervisor::EngineError;
use kezhan_machine_spec::{Size, SpecError};
use std::io;
use std::path::PathBuf;

/// Exit statuses of `kezhan run`, as sysexits(3) numbers them where it has a number.
pub mod status {
    /// The guest powered off, or a person quit.
    pub const OK: u8 = 0;
    /// The guest panicked, or reset under `--no-reboot`.
    pub const GUEST_FAILED: u8 = 1;
    /// Wrong usage: something that was asked for is not possible.
    pub const USAGE: u8 = 2;
    /// EX_UNAVAILABLE: a host facility is missing.
    pub const UNAVAILABLE: u8 = 69;
    /// EX_SOFTWARE: our own fault.
    pub const SOFTWARE: u8 = 70;
    /// `--timeout` passed, as timeout(1) says it.
    pub const TIMED_OUT: u8 = 124;
    /// Ended by signal N: this and N, as shells say it.
    pub const SIGNALLED: u8 = 128;
}

/// Why a machine cannot be started or go on.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The description is not valid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The board cannot be built, or does not take a state.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// A back-end cannot be opened.
    #[error(transparent)]
    Chardev(#[from] ChardevError),
    /// A disk cannot be opened.
    #[error("--disk {disk}: {error}")]
    Disk {
        /// The disk as it was asked for.
        disk: String,
        /// What is wrong.
        error: BlockError,
    },
    /// A network cannot be opened.
    #[error("--net {net}: {reason}")]
    Net {
        /// The network as it was asked for.
        net: String,
        /// What is wrong.
        reason: String,
    },
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nothing to run.
    #[error("nothing to start: give --kernel FILE (and --initrd FILE, --append STRING)")]
    NothingToStart,
    /// A file cannot be opened.
    #[error("{option} {}: {error}; name a file that you may read", path.display())]
    File {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The kernel cannot be started.
    #[error("--kernel {} {error}", path.display())]
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// What is wrong with it.
        error: KernelError,
    },
    /// The host does not have the memory.
    #[error("--memory {size}: {reason}")]
    Memory {
        /// Asked for.
        size: Size,
        /// Why not.
        reason: String,
    },
    /// A feature that this CPU and engine cannot give.
    #[error("--cpu: {0}")]
    Cpu(String),
    /// A call to the host failed.
    #[error("{call}: {error}; free some of the host's resources and try again")]
    Host {
        /// The call.
        call: String,
        /// What the host said.
        error: io::Error,
    },
    /// A vCPU thread has died or does not answer.
    #[error("a vCPU thread does not answer; this is a fault of ours, please report it")]
    VcpuLost,
    /// A saved state of a machine with another number of CPUs.
    #[error("the saved state has {found} CPUs, this machine {has}; start it with --cpus {found}")]
    OtherCpus {
        /// Of this machine.
        has: usize,
        /// Of the state.
        found: usize,
    },
}

impl VmmError {
    /// The exit status that goes with it.
    pub fn status(&self) -> u8 {
        match self {
            VmmError::Engine(EngineError::TooManyCpus { .. }) => status::USAGE,
            VmmError::Engine(EngineError::NoSuchVcpu(_) | EngineError::State(_)) => {
                status::SOFTWARE
            }
            VmmError::Engine(_) | VmmError::Memory { .. } | VmmError::Host { .. } => {
                status::UNAVAILABLE
            }
            VmmError::VcpuLost => status::SOFTWARE,
            _ => status::USAGE,
        }
    }
}
