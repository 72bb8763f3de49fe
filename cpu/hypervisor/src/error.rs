//! Why an engine refuses.

/// An engine's error.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device file is missing.
    #[error(
        "/dev/kvm: {0}; 'kezhan doctor' tells what this host lacks, --engine soft runs without it"
    )]
    NoKvm(std::io::Error),
    /// This KVM lacks something that we need.
    #[error("KVM on this host lacks {0}; use a newer kernel, or --engine soft")]
    MissingCapability(&'static str),
    /// A host call failed.
    #[error("{call}: {error}")]
    Host {
        /// The call, with its values.
        call: String,
        /// What the host said.
        error: std::io::Error,
    },
    /// The CPUs asked for are not possible.
    #[error("--cpus {asked}: this engine runs at most {most}")]
    TooManyCpus {
        /// Asked for.
        asked: u32,
        /// Possible.
        most: u32,
    },
    /// This host's KVM does not run whole operating systems.
    #[error(
        "--engine kvm: KVM on this host does not run Linux {version}: {reason}; use --engine soft"
    )]
    NotForSystems {
        /// The version of the system.
        version: String,
        /// What KVM lacks.
        reason: String,
    },
    /// No such vCPU, or already given out.
    #[error("vCPU {0} does not exist or is in use")]
    NoSuchVcpu(u32),
    /// A state that this engine cannot take.
    #[error("vCPU state: {0}")]
    State(String),
}
