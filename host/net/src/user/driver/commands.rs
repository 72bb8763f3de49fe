//! What the machine asks of a running network.

use super::forwards::Listener;
use super::nic::Shared;
use super::sockets::Answers;
use super::{Forward, ForwardId, Report, UserError};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// Something to do, and where the answer goes.
#[derive(Debug)]
pub(super) enum Command {
    AddForward(Listener, Sender<ForwardId>),
    /// The asking thread closes it: its file may have to be removed.
    RemoveForward(ForwardId, Sender<Option<Listener>>),
    /// A connection into the guest, to this port.
    Enter(u16, (OwnedFd, Option<Answers>)),
    Forwards(Sender<Vec<(ForwardId, Forward)>>),
    Report(Sender<Report>),
    Names(Vec<(String, Vec<IpAddr>)>),
    Stop,
}

/// The machine's end of the line.
#[derive(Debug)]
pub(super) struct Remote {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

impl Remote {
    pub(super) fn new(commands: Sender<Command>, shared: Arc<Shared>) -> Remote {
        Remote { commands, shared }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Sends a command and waits for its answer: the thread is never busy for long.
    pub(super) fn ask<T>(
        &self,
        command: impl FnOnce(Sender<T>) -> Command,
    ) -> Result<T, UserError> {
        let (reply, answer) = channel();
        self.commands.send(command(reply)).map_err(|_closed| UserError::Ended)?;
        self.shared.ring();
        answer.recv().map_err(|_closed| UserError::Ended)
    }

    /// Sends a command without an answer.
    pub(super) fn order(&self, command: Command) -> Result<(), UserError> {
        self.commands.send(command).map_err(|_closed| UserError::Ended)?;
        self.shared.ring();
        Ok(())
    }

    /// Sends a command that may come too late.
    pub(super) fn tell(&self, command: Command) {
        self.order(command).ok();
    }

    pub(super) fn set_link(&self, up: bool) {
        self.shared.set_link(up);
    }
}
