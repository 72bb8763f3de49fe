//! What can go wrong with a network of the host.

use crate::Subnet;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why something was not done.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The name is none.
    #[error(
        "network '{0}': a name has 1 to 12 letters, digits, '-' or '_', and begins with a letter"
    )]
    Name(String),
    /// There is one of that name.
    #[error("network {0}: it exists; delete it first, or take another name")]
    Exists(String),
    /// There is none of that name.
    #[error("network {0}: there is none of that name; kezhan net list shows those that are there")]
    Unknown(String),
    /// Not a subnet.
    #[error(
        "subnet '{0}': write the router's address and the bits of the network, 10.77.0.1/24, 8 to 30 bits"
    )]
    Subnet(String),
    /// Another network is there.
    #[error("subnet {0}: the host has {1} on {2}; take another subnet")]
    Overlap(Subnet, Subnet, String),
    /// Every subnet that is tried is taken.
    #[error(
        "the host uses all subnets from 10.77.0.1/24 to 10.77.255.1/24; give one with --subnet"
    )]
    NoSubnet,
    /// An interface that is in the way.
    #[error("interface {0}: it exists and is not ours; remove it, or take another name")]
    NotOurs(String),
    /// There is no such interface.
    #[error("interface {0}: there is none of that name, or it is not a {1}; {2}")]
    NoInterface(String, &'static str, &'static str),
    /// Nothing answers on it.
    #[error(
        "network {name}: its DHCP and names are not served: {reason}; --no-dhcp makes one without"
    )]
    Service {
        /// The network.
        name: String,
        /// Why.
        reason: String,
    },
    /// The kernel refuses.
    #[error("{what}: {error}{}", hint(.error))]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The runtime folder.
    #[error("{}: {error}; set KEZHAN_RUNTIME_DIR to a folder that you may write", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// A record that is none.
    #[error("{}: not a network's record: {error}; remove the file, and what 'ip link' shows of the network", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; this needs CAP_NET_ADMIN: run it as root, or use --net user, which needs no privilege"
        }
        _ => "",
    }
}

impl NetworkError {
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
        let what = what.into();
        move |error| NetworkError::Kernel { what, error }
    }
}
