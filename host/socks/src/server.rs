//! The server's side of the hand-shake, without I/O.
//!
//! ```text
//!   Greeting ──05 methods──► Password ──user, password──► Request ──► Asked ──answer──► Open
//!      │  └────────────05, no password asked────────────────▲           ▲
//!      └────04 (SOCKS4 or 4a, when no password is asked)────────────────┘
//!   any of them ──refusal──► Closed
//! ```
//! 1. The caller gives [`ServerSession::receive`] what came from the client, in pieces of any size, sends
//!    what [`ServerSession::take_output`] holds, and does as the step says.
//! 2. On [`ServerStep::Ask`] it carries the request out and calls [`ServerSession::answer`]: only then is
//!    a reply written, so that "succeeded" means that the target has accepted.
//! 3. Bytes that the client sent behind its request are kept; [`ServerSession::take_payload`] gives them.
//! 4. On [`ServerStep::Close`] it sends the output, which may hold a last word, and closes.
//!
//! The machine holds one message of at most 513 bytes and what the caller gave it in the same piece.

use crate::credentials::Credentials;
use crate::reader::{Missing, Reader};
use crate::spec::{PASSWORD_VERSION, Reply, VERSION, VERSION_4, command, method, reply_4, status};
use crate::target::{AddressFault, Host, Target};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use thiserror::Error;

/// Who may use the server.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody who reaches it.
    Open,
    /// Who knows these; SOCKS4, which carries no password, is refused.
    Password(Credentials),
}

/// What a client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A TCP connection to the target.
    Connect,
    /// A relay for datagrams; the target is the address that the client says it will send from, or zeros
    /// (or, with careless clients, where it will send to).
    UdpAssociate,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Where.
    pub target: Target,
}

/// Why the session ends before a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The first byte is no version that we speak.
    #[error("version {0} is not SOCKS")]
    Version(u8),
    /// The client offers no method that we accept.
    #[error("the client offers no acceptable authentication")]
    Method,
    /// User or password are wrong, or not well formed.
    #[error("the client gave a wrong user or password")]
    Password,
    /// The request is refused with this reply.
    #[error("request refused: {0}")]
    Request(Reply),
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// Wait for more bytes.
    More,
    /// Carry this out, then call [`ServerSession::answer`].
    Ask(Request),
    /// Send the output and close.
    Close(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Four,
    Five,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Greeting,
    Password,
    Request,
    Asked(Dialect),
    Open,
    Closed(Refusal),
}

enum Pause {
    More,
    Refuse(Refusal),
}

impl From<Missing> for Pause {
    fn from(_: Missing) -> Pause {
        Pause::More
    }
}

/// One client's hand-shake. See the module.
#[derive(Debug)]
pub struct ServerSession {
    access: Access,
    stage: Stage,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl ServerSession {
    /// A session that waits for the client's greeting.
    #[must_use]
    pub fn new(access: Access) -> ServerSession {
        ServerSession { access, stage: Stage::Greeting, input: Vec::new(), output: Vec::new() }
    }

    /// Takes bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) -> ServerStep {
        self.input.extend_from_slice(bytes);
        loop {
            match self.advance() {
                Ok(Some(request)) => return ServerStep::Ask(request),
                Ok(None) => {}
                Err(Pause::More) => return ServerStep::More,
                Err(Pause::Refuse(refusal)) => {
                    self.stage = Stage::Closed(refusal);
                    self.input.clear();
                    return ServerStep::Close(refusal);
                }
            }
        }
    }

    /// Answers the request with the address that the connection or the relay has on our side, or with
    /// the reason of the failure. Does nothing when no request is open.
    pub fn answer(&mut self, outcome: Result<SocketAddr, Reply>) {
        let Stage::Asked(dialect) = self.stage else { return };
        let (reply, bound) = match outcome {
            Ok(bound) => (Reply::SUCCEEDED, Target::from(bound)),
            Err(reply) => (reply, nowhere()),
        };
        self.write_reply(dialect, reply, &bound);
        self.stage = match outcome {
            Ok(_) => Stage::Open,
            Err(reply) => Stage::Closed(Refusal::Request(reply)),
        };
    }

    /// What to send to the client.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What the client sent behind its request; empty before the request has been answered.
    pub fn take_payload(&mut self) -> Vec<u8> {
        match self.stage {
            Stage::Open => std::mem::take(&mut self.input),
            _ => Vec::new(),
        }
    }

    fn advance(&mut self) -> Result<Option<Request>, Pause> {
        match self.stage {
            Stage::Greeting => self.greeting(),
            Stage::Password => self.password(),
            Stage::Request => self.request(),
            Stage::Asked(_) | Stage::Open => Err(Pause::More),
            Stage::Closed(refusal) => Err(Pause::Refuse(refusal)),
        }
    }

    /// Marks a message as read.
    fn pass(&mut self, left: usize, next: Stage) {
        self.input.drain(..self.input.len() - left);
        self.stage = next;
    }

    /// RFC 1928 §3, or the first byte of a SOCKS4 request.
    fn greeting(&mut self) -> Result<Option<Request>, Pause> {
        let mut reader = Reader(&self.input);
        match reader.byte()? {
            VERSION => {}
            VERSION_4 => return self.request_4(),
            other => return Err(Pause::Refuse(Refusal::Version(other))),
        }
        let offered = reader.counted()?;
        let (wanted, next) = match self.access {
            Access::Open => (method::NONE, Stage::Request),
            Access::Password(_) => (method::PASSWORD, Stage::Password),
        };
        if !offered.contains(&wanted) {
            self.output.extend([VERSION, method::NOT_ACCEPTABLE]);
            return Err(Pause::Refuse(Refusal::Method));
        }
        let left = reader.0.len();
        self.output.extend([VERSION, wanted]);
        self.pass(left, next);
        Ok(None)
    }

    /// RFC 1929 §2.
    fn password(&mut self) -> Result<Option<Request>, Pause> {
        let mut reader = Reader(&self.input);
        let known = reader.byte()? == PASSWORD_VERSION && {
            let user = reader.counted()?;
            let password = reader.counted()?;
            matches!(&self.access, Access::Password(ours) if ours.are(user, password))
        };
        let left = reader.0.len();
        if !known {
            self.output.extend([PASSWORD_VERSION, status::FAILURE]);
            return Err(Pause::Refuse(Refusal::Password));
        }
        self.output.extend([PASSWORD_VERSION, status::SUCCESS]);
        self.pass(left, Stage::Request);
        Ok(None)
    }

    /// RFC 1928 §4. The reserved byte is not looked at.
    fn request(&mut self) -> Result<Option<Request>, Pause> {
        let mut reader = Reader(&self.input);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(Pause::Refuse(Refusal::Version(version)));
        }
        let code = reader.byte()?;
        reader.byte()?;
        let target = match Target::read(&mut reader) {
            Ok(target) => target,
            Err(AddressFault::Missing) => return Err(Pause::More),
            Err(AddressFault::BadName) => {
                return Err(self.refuse(Dialect::Five, Reply::GENERAL_FAILURE));
            }
            Err(AddressFault::UnknownType) => {
                return Err(self.refuse(Dialect::Five, Reply::ADDRESS_TYPE_NOT_SUPPORTED));
            }
        };
        let left = reader.0.len();
        let command = match code {
            command::CONNECT => Command::Connect,
            command::UDP_ASSOCIATE => Command::UdpAssociate,
            _ => return Err(self.refuse(Dialect::Five, Reply::COMMAND_NOT_SUPPORTED)),
        };
        self.pass(left, Stage::Asked(Dialect::Five));
        Ok(Some(Request { command, target }))
    }

    /// SOCKS4: version, command, port, address, user and a NUL; 4a: address 0.0.0.x, then a name and a NUL.
    fn request_4(&mut self) -> Result<Option<Request>, Pause> {
        if matches!(self.access, Access::Password(_)) {
            return Err(self.refuse(Dialect::Four, Reply::NOT_ALLOWED));
        }
        let mut reader = Reader(&self.input);
        reader.byte()?;
        let code = reader.byte()?;
        let port = reader.port()?;
        let ip = reader.array::<4>()?;
        let user = reader.until_nul(256)?;
        let host = match ip {
            [0, 0, 0, last] if last != 0 => reader.until_nul(256)?.and_then(Host::from_bytes),
            _ => Some(Host::Ip(Ipv4Addr::from(ip).into())),
        };
        let left = reader.0.len();
        match (code, user, host) {
            (command::CONNECT, Some(_), Some(host)) => {
                self.pass(left, Stage::Asked(Dialect::Four));
                Ok(Some(Request { command: Command::Connect, target: Target { host, port } }))
            }
            _ => Err(self.refuse(Dialect::Four, Reply::GENERAL_FAILURE)),
        }
    }

    fn refuse(&mut self, dialect: Dialect, reply: Reply) -> Pause {
        self.write_reply(dialect, reply, &nowhere());
        Pause::Refuse(Refusal::Request(reply))
    }

    /// RFC 1928 §6, or SOCKS4's eight bytes, which have no room for an IPv6 address.
    fn write_reply(&mut self, dialect: Dialect, reply: Reply, bound: &Target) {
        match dialect {
            Dialect::Five => {
                self.output.extend([VERSION, reply.0, 0]);
                bound.write(&mut self.output);
            }
            Dialect::Four => {
                let granted = reply == Reply::SUCCEEDED;
                self.output.extend([0, if granted { reply_4::GRANTED } else { reply_4::REJECTED }]);
                self.output.extend(bound.port.to_be_bytes());
                let ip = match bound.host {
                    Host::Ip(IpAddr::V4(ip)) => ip,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                self.output.extend(ip.octets());
            }
        }
    }
}

/// The address of a reply that has none.
fn nowhere() -> Target {
    Target { host: Host::Ip(Ipv4Addr::UNSPECIFIED.into()), port: 0 }
}
