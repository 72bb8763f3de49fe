//! `kezhan net`.

use crate::{Network, NetworkError, Request, Store, Subnet, network, service};
use clap::{Args, Subcommand, ValueEnum};
use std::io::{self, Write};
use std::process::ExitCode;

/// Statuses: wrong usage, and a host that lacks something.
const USAGE: u8 = 2;
const UNAVAILABLE: u8 = 69;

/// What to do with networks.
#[derive(Clone, Debug, Subcommand)]
pub enum NetCommand {
    /// Make a network: a bridge with an address, what leaves it getting the host's
    Create(Create),
    /// Take a network away, with all that was made for it and nothing else
    Delete {
        /// Its name
        name: String,
    },
    /// Show the networks that were made
    List {
        /// How
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        output: Output,
    },
    /// Show one network
    Show {
        /// Its name
        name: String,
        /// How
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        output: Output,
    },
    /// Answer for a network, until ended: what create starts
    #[command(hide = true)]
    Serve {
        /// Its name
        name: String,
    },
}

/// A network to be made.
#[derive(Args, Clone, Debug)]
pub struct Create {
    /// Its name: machines join it with --net bridge=NAME
    name: String,
    /// Its router's address and size; a free one of 10.77.0.1/24, 10.77.1.1/24 … when left out
    #[arg(long, value_name = "ADDRESS/BITS")]
    subnet: Option<Subnet>,
    /// Leave addresses as they are: the network has no way out but what you make
    #[arg(long)]
    no_nat: bool,
    /// Give machines neither addresses nor names
    #[arg(long)]
    no_dhcp: bool,
}

/// How a listing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Does it; gives the exit status.
pub fn run(command: NetCommand) -> ExitCode {
    match perform(command, &Store::usual()) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprintln!("kezhan: standard output: {error}");
                ExitCode::from(UNAVAILABLE)
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            eprintln!("kezhan: {error}");
            ExitCode::from(status(&error))
        }
    }
}

fn status(error: &NetworkError) -> u8 {
    match error {
        NetworkError::Kernel { .. }
        | NetworkError::Service { .. }
        | NetworkError::File { .. }
        | NetworkError::NoSubnet => UNAVAILABLE,
        _ => USAGE,
    }
}

/// Does it; gives what is to be written.
pub(crate) fn perform(command: NetCommand, store: &Store) -> Result<String, NetworkError> {
    match command {
        NetCommand::Create(Create { name, subnet, no_nat, no_dhcp }) => {
            let request = Request { name, subnet, nat: !no_nat, dhcp: !no_dhcp };
            let made = network::create(store, &request)?;
            Ok(format!("network {}: {} on {}\n", made.name, made.subnet, made.bridge))
        }
        NetCommand::Delete { name } => {
            network::delete(store, &name)?;
            Ok(format!("network {name}: deleted\n"))
        }
        NetCommand::Serve { name } => service::run(store, &name).map(|()| String::new()),
        NetCommand::List { output } => Ok(write(&network::list(store)?, output)),
        NetCommand::Show { name, output } => {
            let all = network::list(store)?;
            let found = all.into_iter().find(|network| network.name == name);
            Ok(write(&[found.ok_or(NetworkError::Unknown(name))?], output))
        }
    }
}

fn write(networks: &[Network], output: Output) -> String {
    if output == Output::Json {
        let text = serde_json::to_string_pretty(networks).unwrap_or_default();
        return text + "\n";
    }
    let mut lines = format!(
        "{:12} {:18} {:16} {:4} {:4} {:4} MEMBERS\n",
        "NAME", "SUBNET", "BRIDGE", "NAT", "DHCP", "UP"
    );
    let yes = |on| if on { "yes" } else { "no" };
    for Network { name, bridge, subnet, nat, dhcp, up, members } in networks {
        let (subnet, members) = (subnet.to_string(), members.join(" "));
        let line = format!(
            "{name:12} {subnet:18} {bridge:16} {:4} {:4} {:4} {members}",
            yes(*nat),
            yes(*dhcp),
            yes(*up)
        );
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}
