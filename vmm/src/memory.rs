//! Guest memory: anonymous, private, not reserved, so that a guest costs what it has touched.

use crate::{HostRoot, VmmError};
use kezhan_device::GuestMemory;
use kezhan_machine_spec::Size;
use vm_memory::GuestAddress;

/// Maps the ranges.
///
/// # Errors
/// [`VmmError::Memory`] with what the host said.
pub(crate) fn map(size: Size, ranges: &[(GuestAddress, usize)]) -> Result<GuestMemory, VmmError> {
    GuestMemory::from_ranges(ranges)
        .map_err(|error| VmmError::Memory { size, reason: error.to_string() })
}

/// Refuses a machine that the host has no memory for, before anything is started: later, the host could
/// only kill it.
///
/// # Errors
/// [`VmmError::Memory`] with what there is.
pub(crate) fn check_host_has(host: &HostRoot, size: Size) -> Result<(), VmmError> {
    let Some(memory) = host.memory() else { return Ok(()) };
    let has = memory.available.saturating_add(memory.swap);
    if size.bytes() <= has {
        return Ok(());
    }
    let mebibytes = has >> 20;
    let reason = format!("this host has {mebibytes}M available; give at most that");
    Err(VmmError::Memory { size, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_larger_than_the_host_is_refused_with_what_there_is() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("proc")).unwrap();
        let text = "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\nSwapFree: 0 kB\n";
        std::fs::write(tree.path().join("proc/meminfo"), text).unwrap();
        let host = HostRoot::new(tree.path());
        check_host_has(&host, Size::gibibytes(1)).unwrap();
        let error = check_host_has(&host, Size::gibibytes(2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--memory 2G: this host has 1024M available; give at most that"
        );
    }
}
