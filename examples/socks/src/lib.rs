//! A conversation with the SOCKS unit, as a feature speaks of it: bytes in hex go in, bytes and decisions come out.
//!
//! ```text
//! feature --generate--> tests/generated --calls--> tests/steps (a person wrote them) --> Conversation --> kezhan-socks
//! ```
//!
//! The unit does no I/O, so a test of it needs no socket, no thread and no waiting. Whatever a client sends is fed
//! three times, to three servers: whole, byte by byte, and in pieces of three. All must do the same, so that every
//! sentence of the feature also proves that the cut of the messages does not matter.

use kezhan_socks::{
    Access, Command, DatagramError, Reply, Request, ServerSession, ServerStep, Target,
    read_datagram,
};
use std::fmt::Write;
use std::net::SocketAddr;

/// The sizes of the pieces in which each server gets its bytes.
const PIECES: [usize; 3] = [usize::MAX, 1, 3];

/// A slip of the pen in a feature: a vector that says something else than it seems must not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHex(pub String);

/// Bytes from hex; blanks are for the eye, and text stands in single quotes.
///
/// # Errors
/// The part that is neither.
pub fn bytes(text: &str) -> Result<Vec<u8>, NotHex> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend(part.as_bytes());
            continue;
        }
        for word in part.split_whitespace() {
            for at in (0..word.len()).step_by(2) {
                let digits = word.get(at..at + 2).unwrap_or_default();
                match u8::from_str_radix(digits, 16) {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => return Err(NotHex(word.to_owned())),
                }
            }
        }
    }
    Ok(bytes)
}

/// Bytes as the features write them.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x} ");
    }
    text.trim_end().to_owned()
}

/// One server, and what it did so far.
#[derive(Debug)]
struct Server {
    session: ServerSession,
    output: Vec<u8>,
    asked: Option<Request>,
    closed: bool,
}

impl Server {
    fn receive(&mut self, bytes: &[u8], piece: usize) {
        for part in bytes.chunks(piece) {
            match self.session.receive(part) {
                ServerStep::More => {}
                ServerStep::Ask(request) => self.asked = Some(request),
                ServerStep::Close(_) => self.closed = true,
            }
        }
        self.output.extend(self.session.take_output());
    }
}

/// A client's talk with the servers: one for each way to cut the client's bytes.
#[derive(Debug, Default)]
pub struct Conversation {
    servers: Vec<Server>,
}

impl Conversation {
    /// With servers that let everybody in, or only those who know a password.
    pub fn new(access: &Access) -> Conversation {
        let mut servers = Vec::new();
        for _ in PIECES {
            let session = ServerSession::new(access.clone());
            servers.push(Server { session, output: Vec::new(), asked: None, closed: false });
        }
        Conversation { servers }
    }

    /// The client sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        for (server, piece) in self.servers.iter_mut().zip(PIECES) {
            server.receive(bytes, piece);
        }
    }

    /// The connection was made from this address of ours, or failed with this code.
    pub fn answer(&mut self, outcome: Result<SocketAddr, u8>) {
        for server in &mut self.servers {
            server.session.answer(outcome.map_err(Reply));
            server.closed |= outcome.is_err();
            server.output.extend(server.session.take_output());
        }
    }

    /// All that the servers have said.
    pub fn said(&self) -> Vec<String> {
        self.servers.iter().map(said).collect()
    }

    /// What the servers want to be done: a command and its target.
    pub fn asked(&self) -> Vec<Option<(Command, String)>> {
        self.servers.iter().map(asked).collect()
    }

    /// Whether the servers hang up.
    pub fn closed(&self) -> Vec<bool> {
        self.servers.iter().map(closed).collect()
    }

    /// What the servers carry to the target.
    pub fn payload(&mut self) -> Vec<String> {
        self.servers.iter_mut().map(payload).collect()
    }
}

fn said(server: &Server) -> String {
    hex(&server.output)
}

fn asked(server: &Server) -> Option<(Command, String)> {
    let request = server.asked.as_ref()?;
    Some((request.command, request.target.to_string()))
}

fn closed(server: &Server) -> bool {
    server.closed
}

fn payload(server: &mut Server) -> String {
    hex(&server.session.take_payload())
}

/// Where a datagram goes, and with what.
///
/// # Errors
/// Why it is dropped.
pub fn relayed(datagram: &[u8]) -> Result<(String, String), DatagramError> {
    let (target, payload): (Target, &[u8]) = read_datagram(datagram)?;
    Ok((target.to_string(), hex(payload)))
}
