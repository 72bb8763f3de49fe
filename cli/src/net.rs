//! `kezhan net`: networks of the host, and the networks of machines that run.

use crate::failure::Failure;
use crate::output::print;
use clap::{Args, Subcommand, ValueEnum};
use kezhan_control::{Client, NetReport, Reply, Request};
use kezhan_machine_spec::Forward;
use kezhan_networks::NetCommand;
use kezhan_socks::{Outbound, SocksArgs};
use kezhan_vmm::{Guests, machines_folder, status};
use std::fmt::Write;
use std::process::ExitCode;

/// What to do with networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Net {
    #[command(flatten)]
    OfHost(NetCommand),
    /// Show, add and remove forwards of a machine that runs
    #[command(subcommand)]
    Forward(ForwardCommand),
    /// Tell what the network of a machine that runs has carried, lost and denied, and why
    Report {
        #[command(flatten)]
        card: Card,
        /// How
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        output: Output,
    },
    /// Pull the cable of a machine that runs, or plug it in
    Link {
        #[command(flatten)]
        card: Card,
        /// up or down
        state: LinkState,
    },
}

/// A card of a machine that runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Card {
    /// The machine: its name, or NAME.PID where several have one name
    machine: String,
    /// Its card, from 0
    #[arg(long, value_name = "N", default_value = "0")]
    card: usize,
}

/// What to do with forwards.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ForwardCommand {
    /// Show them
    List {
        #[command(flatten)]
        card: Card,
    },
    /// Lead a port of this host into the guest; it says where it listens, since port 0 takes a free one
    Add {
        #[command(flatten)]
        card: Card,
        /// tcp:[ADDRESS:]PORT:GUEST-PORT, udp:… or unix:PATH:GUEST-PORT
        forward: Forward,
    },
    /// End a forward; connections that came by it stay
    Remove {
        #[command(flatten)]
        card: Card,
        /// The forward, as list shows it
        forward: Forward,
    },
}

/// Plugged in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkState {
    Up,
    Down,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Net {
    pub(crate) fn execute(self) -> Result<ExitCode, Failure> {
        match self {
            Net::OfHost(command) => return Ok(kezhan_networks::run(command)),
            Net::Forward(command) => command.execute()?,
            Net::Report { card, output } => report(&card, output)?,
            Net::Link { card, state } => {
                let up = state == LinkState::Up;
                card.ask(&Request::SetLink { card: card.card, up })?;
            }
        }
        Ok(ExitCode::from(status::OK))
    }
}

impl Card {
    fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        Ok(Client::find(&machines_folder()?, &self.machine)?.order(request)?)
    }

    fn strange(&self) -> Failure {
        kezhan_control::ControlError::Strange(self.machine.clone()).into()
    }
}

impl ForwardCommand {
    fn execute(self) -> Result<(), Failure> {
        let (at, request) = match self {
            ForwardCommand::List { card } => {
                let request = Request::Forwards { card: card.card };
                (card, request)
            }
            ForwardCommand::Add { card, forward } => {
                let request = Request::AddForward { card: card.card, forward };
                (card, request)
            }
            ForwardCommand::Remove { card, forward } => {
                let request = Request::RemoveForward { card: card.card, forward };
                (card, request)
            }
        };
        match at.ask(&request)? {
            Reply::Forwards { forwards } => {
                let lines: String = forwards.iter().map(|forward| format!("{forward}\n")).collect();
                Ok(print(&lines)?)
            }
            Reply::Done => Ok(()),
            _ => Err(at.strange()),
        }
    }
}

fn report(card: &Card, output: Output) -> Result<(), Failure> {
    let Reply::Report { report } = card.ask(&Request::Report { card: card.card })? else {
        return Err(card.strange());
    };
    let text = match output {
        Output::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
        Output::Table => table(&report),
    };
    Ok(print(&text)?)
}

fn table(report: &NetReport) -> String {
    let mut text = String::new();
    let rows = [
        ("from the guest", format!("{} frames, {} bytes", report.frames_out, report.bytes_out)),
        ("to the guest", format!("{} frames, {} bytes", report.frames_in, report.bytes_in)),
        ("now", format!("{} TCP connections, {} UDP flows", report.streams, report.flows)),
        (
            "lost",
            format!(
                "{} not understood, {} from a false address, {} without room",
                report.dropped, report.spoofed, report.full
            ),
        ),
        ("denied", format!("{}, {} of them the host itself", report.denied, report.of_host)),
    ];
    for (what, figures) in rows {
        // Writing to a string does not fail.
        writeln!(text, "{what:16}{figures}").ok();
    }
    for (index, count) in report.rules.iter().enumerate() {
        writeln!(text, "{:16}decided {count} times", format!("rule {}", index + 1)).ok();
    }
    writeln!(text, "{:16}decided {} times", "default", report.by_default).ok();
    for decision in &report.decisions {
        writeln!(text, "  {decision}").ok();
    }
    text
}

/// `kezhan socks`, with the machines behind `--network`.
pub(crate) fn serve_socks(args: &SocksArgs) -> Result<ExitCode, Failure> {
    let guests = match &args.network {
        None => None,
        Some(network) => {
            let guests: Box<dyn Outbound> =
                Box::new(Guests::of_network(machines_folder()?, network));
            Some(guests)
        }
    };
    Ok(kezhan_socks::run(args, guests))
}
