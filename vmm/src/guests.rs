//! Into the guests' networks from the host: where a SOCKS server's connections go that names machines.
//!
//! ```text
//!   browser ── SOCKS ──► kezhan socks --network lan ── control socket ──► the machine's network ──► guest
//! ```
//! A target is a machine's name, plain or under `kezhan.internal`, or a guest's address. It is looked up among
//! the machines that run: nothing here resolves a name or goes to the host's own network.

use kezhan_control::{CardState, Client, Fault, MachineAddress, Reply, Request, machines};
use kezhan_socks::{Connection, Datagrams, Host, Outbound, Target, spec};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How long a guest may take to accept.
const PATIENCE: Duration = Duration::from_secs(20);

/// What machines' names end with (`host/net`, "names").
const ZONE: &str = ".kezhan.internal";

/// Which machines are reached.
#[derive(Clone, Debug)]
enum Which {
    Network(String),
    Process(u32),
}

/// The machines of a person, as a place to connect to.
#[derive(Clone, Debug)]
pub struct Guests {
    folder: PathBuf,
    which: Which,
}

impl Guests {
    /// Those on a named network.
    pub fn of_network(folder: PathBuf, network: &str) -> Guests {
        Guests { folder, which: Which::Network(network.to_owned()) }
    }

    /// That of one process.
    pub(crate) fn of_process(folder: PathBuf, process: u32) -> Guests {
        Guests { folder, which: Which::Process(process) }
    }

    /// Asks each machine that may be meant, and connects to the first that is.
    fn dial(&self, target: &Target) -> Result<Connection, spec::Reply> {
        let all = machines(&self.folder).map_err(|_folder| spec::Reply::GENERAL_FAILURE)?;
        for machine in &all {
            // One that has just ended is not meant.
            let Ok(mut client) = Client::connect(machine) else { continue };
            let Ok(Reply::Cards { cards }) = client.ask(&Request::Cards) else { continue };
            if let Some(card) = cards.iter().find(|card| self.is_meant(machine, card, &target.host))
            {
                return enter(client, card, target.port);
            }
        }
        Err(spec::Reply::HOST_UNREACHABLE)
    }

    fn is_meant(&self, machine: &MachineAddress, card: &CardState, host: &Host) -> bool {
        let here = match &self.which {
            Which::Network(network) => card.network.as_ref() == Some(network),
            Which::Process(process) => machine.process == *process,
        };
        here && match host {
            Host::Ip(ip) => *ip == IpAddr::V4(card.guest),
            Host::Name(name) => {
                let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
                name.strip_suffix(ZONE).unwrap_or(&name) == machine.name.to_ascii_lowercase()
            }
        }
    }
}

fn enter(mut client: Client, card: &CardState, port: u16) -> Result<Connection, spec::Reply> {
    let failed = |_error| spec::Reply::GENERAL_FAILURE;
    client.wait_at_most(PATIENCE).map_err(failed)?;
    match client.ask(&Request::Connect { card: card.card, port }) {
        Ok(Reply::Connected) => {}
        Ok(Reply::Failed { fault: Fault::Refused, .. }) => {
            return Err(spec::Reply::CONNECTION_REFUSED);
        }
        Ok(Reply::Failed { fault: Fault::Unreachable, .. }) | Err(_) => {
            return Err(spec::Reply::HOST_UNREACHABLE);
        }
        Ok(_) => return Err(spec::Reply::GENERAL_FAILURE),
    }
    let socket = client.into_stream().map_err(|_error| spec::Reply::GENERAL_FAILURE)?;
    // The guest sees its router; which port of it is known in the machine only.
    Ok(Connection {
        socket: socket.into(),
        bound: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    })
}

impl Outbound for Guests {
    fn connect(&self, target: &Target) -> Result<Connection, spec::Reply> {
        self.dial(target)
    }

    /// Datagrams have forwards (`--net user,forward=udp:…`).
    fn associate(&self) -> Result<Box<dyn Datagrams>, spec::Reply> {
        Err(spec::Reply::COMMAND_NOT_SUPPORTED)
    }
}
