//! Requests and replies.

use kezhan_machine_spec::Forward;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// What a machine is asked. Cards are numbered from 0, in the order of the description; one that has no user
/// network of its own is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Which cards have a user network.
    Cards,
    /// The forwards of a card.
    Forwards {
        /// The card.
        card: usize,
    },
    /// Another forward.
    AddForward {
        /// The card.
        card: usize,
        /// The forward; port 0 of the host takes a free one, which the reply tells.
        forward: Forward,
    },
    /// A forward less; connections that came by it stay.
    RemoveForward {
        /// The card.
        card: usize,
        /// The forward, as [`Reply::Forwards`] tells it.
        forward: Forward,
    },
    /// What a card's network did so far.
    Report {
        /// The card.
        card: usize,
    },
    /// Plugs a card's cable in, or pulls it.
    SetLink {
        /// The card.
        card: usize,
        /// In, or out.
        up: bool,
    },
    /// A command to the machine itself, in the words of [`Command`](crate::Command). The reply comes when it is done,
    /// which may be never: a guest that is asked to let go of a disk does so when it likes.
    Command {
        /// The command.
        line: String,
    },
    /// A way for datagrams to a port of the guest's and back, which is there as long as this connection.
    Associate {
        /// The card.
        card: usize,
        /// The guest's port.
        port: u16,
        /// The UDP socket that they come from, on the host's loopback; others are not heard.
        peer: SocketAddr,
    },
    /// A TCP connection to a port of the guest's, which this socket then is.
    Connect {
        /// The card.
        card: usize,
        /// The guest's port.
        port: u16,
    },
}

/// What a machine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// It is done.
    Done,
    /// It is done, and this is to be told.
    Said {
        /// Words for people.
        text: String,
    },
    /// The cards with a user network.
    Cards {
        /// Them.
        cards: Vec<CardState>,
    },
    /// Forwards: those of a card, or the one that was added.
    Forwards {
        /// Them.
        forwards: Vec<Forward>,
    },
    /// What a network did.
    Report {
        /// Its figures.
        report: Box<NetReport>,
    },
    /// There is a way for datagrams.
    Associated {
        /// The UDP socket that they are sent to.
        at: SocketAddr,
    },
    /// The guest has accepted: what follows are the connection's bytes.
    Connected,
    /// It is not done.
    Failed {
        /// What kind of failure.
        fault: Fault,
        /// Why, for people.
        reason: String,
    },
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// What was asked for is not possible.
    Request,
    /// The host lacks something.
    Host,
    /// Nobody listens at the guest's port.
    Refused,
    /// The guest does not answer.
    Unreachable,
}

/// A card with a user network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardState {
    /// Its number.
    pub card: usize,
    /// The named network that it is on.
    pub network: Option<String>,
    /// The guest's address.
    pub guest: Ipv4Addr,
}

/// What a network did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetReport {
    /// Frames from the guest.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames to the guest.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that were not understood.
    pub dropped: u64,
    /// Frames from an address that is not the guest's.
    pub spoofed: u64,
    /// What the policy denied.
    pub denied: u64,
    /// What was lost because a queue or a table was full.
    pub full: u64,
    /// TCP connections now.
    pub streams: usize,
    /// UDP flows now.
    pub flows: usize,
    /// How often each rule decided, in the order of the description; then the default, then the fence around
    /// the host's own addresses.
    pub rules: Vec<u64>,
    /// How often the default decided.
    pub by_default: u64,
    /// How often an address of the host itself was denied.
    pub of_host: u64,
    /// The last decisions of the policy, the oldest first, each with its reason.
    pub decisions: Vec<String>,
}
