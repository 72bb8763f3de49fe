//! A network of the host for the machines of one scenario: made by `kezhan net`, taken away with the world.
//!
//! Scenarios run beside each other, and their networks are all the host's: each gets a name that nobody else has.

use crate::process::Process;
use kezhan_steps::{Failure, Reaper, World};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many networks this process has made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A network of the host. Dropping it takes it away.
#[derive(Debug)]
pub(super) struct Network {
    program: std::path::PathBuf,
    name: String,
    reaper: Option<(Arc<dyn Reaper>, u64)>,
}

impl Network {
    /// Makes a network.
    ///
    /// # Errors
    /// What `kezhan net` has to say.
    pub fn make(world: &mut World, subnet: &str) -> Result<Network, Failure> {
        let subnet = router(subnet)?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{:x}n{number}", std::process::id());
        let program = world.settings.kezhan.clone();
        let undo = format!("'{}' net delete {name}", program.display());
        let reaper = world.settings.reaper.clone();
        let reaper = reaper.map(|reaper| (reaper.clone(), reaper.made(&undo)));
        // Also a network that was made in part is taken away.
        let network = Network { program: program.clone(), name, reaper };
        let mut command = Command::new(program);
        command.args(["net", "create", network.name(), "--subnet", &subnet]);
        let mut process = Process::start(world, command, "kezhan net create")?;
        let status = process.wait(world.deadline)?;
        if status.success() {
            return Ok(network);
        }
        Err(Failure::Broken(format!("kezhan net create: {}", process.output().trim_end())))
    }

    /// Its name, as `--net bridge=` has it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["net", "delete", &self.name]).stdin(Stdio::null());
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        self.reaper.iter().for_each(|(reaper, number)| reaper.gone(*number));
    }
}

/// The router's address of a subnet: what was given, or the first of the subnet.
fn router(subnet: &str) -> Result<String, Failure> {
    let wrong = || Failure::Broken(format!("subnet \"{subnet}\": write it as 10.9.0.0/24"));
    let (address, bits) = subnet.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_error| wrong())?;
    let bits: u32 = bits.parse().ok().filter(|bits| (1..=30).contains(bits)).ok_or_else(wrong)?;
    let host = u32::from(address) & (u32::MAX >> bits);
    let address = if host == 0 { Ipv4Addr::from(u32::from(address) | 1) } else { address };
    Ok(format!("{address}/{bits}"))
}

#[cfg(test)]
mod tests {
    use super::router;

    #[test]
    fn a_subnet_has_its_router_at_its_first_address_unless_it_says_otherwise() {
        assert_eq!(router("10.9.0.0/24").unwrap(), "10.9.0.1/24");
        assert_eq!(router("10.9.0.7/24").unwrap(), "10.9.0.7/24");
        for wrong in ["10.9.0.0", "10.9.0.0/33", "10.9.0/24"] {
            router(wrong).unwrap_err();
        }
    }
}
