//! Forwarding between interfaces (ip-sysctl: `net.ipv4.ip_forward`). The file is that of the network namespace
//! in which the calling thread is.

use crate::NetworkError;
use std::fs;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether packets are forwarded.
pub(crate) fn forwards() -> Result<bool, NetworkError> {
    let text = fs::read_to_string(FORWARD).map_err(NetworkError::kernel(FORWARD))?;
    Ok(text.trim() == "1")
}

/// Has packets forwarded, or not.
pub(crate) fn set_forwards(on: bool) -> Result<(), NetworkError> {
    fs::write(FORWARD, if on { "1" } else { "0" }).map_err(NetworkError::kernel(FORWARD))
}
