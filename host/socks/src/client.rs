//! The client's side of the hand-shake, without I/O.
//!
//! ```text
//!   Method ──02──► Password ──00──► Reply ──00──► Open
//!      └─────00────────────────────────▲
//!   any of them ──refusal, nonsense──► Failed
//! ```
//! A message is written only when the answer to the one before has come: some servers lose what a client
//! sends ahead. The caller drives it as it drives [`crate::ServerSession`].

use crate::credentials::Credentials;
use crate::reader::{Missing, Reader};
use crate::server::{Command, Request};
use crate::spec::{PASSWORD_VERSION, Reply, VERSION, command, method, status};
use crate::target::{AddressFault, Target};
use thiserror::Error;

/// Why a hand-shake with a server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The server speaks something else.
    #[error("the server answers with version {0}: it is not a SOCKS5 server")]
    Version(u8),
    /// The server accepts none of our methods.
    #[error(
        "the server accepts none of the offered ways to log in: give the user and password that it wants"
    )]
    NoMethod,
    /// The server chose a method that was not offered.
    #[error("the server chose authentication method {0}, which was not offered")]
    Method(u8),
    /// The server does not accept user and password.
    #[error("the server refused the user or the password (status {0})")]
    Password(u8),
    /// The server refused the request.
    #[error("the server refused the request: {0}")]
    Refused(Reply),
    /// The reply carries an address that cannot be one.
    #[error("the server's reply carries an address that is not understood")]
    Address,
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Send the output, wait for more bytes.
    More,
    /// The request is granted; this is the server's BND.ADDR and BND.PORT.
    Open(Target),
    /// Close.
    Failed(HandshakeError),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Method,
    Password,
    Reply,
    Open,
    Failed(HandshakeError),
}

enum Pause {
    More,
    Fail(HandshakeError),
}

impl From<Missing> for Pause {
    fn from(_: Missing) -> Pause {
        Pause::More
    }
}

/// One hand-shake with a server. See the module.
#[derive(Debug)]
pub struct ClientSession {
    credentials: Option<Credentials>,
    request: Request,
    stage: Stage,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl ClientSession {
    /// A session for one request; its greeting is in the output at once. The target of
    /// [`Command::UdpAssociate`] is where the client itself will send from, zeros when it does not know.
    #[must_use]
    pub fn new(credentials: Option<Credentials>, request: Request) -> ClientSession {
        let output = match credentials {
            None => vec![VERSION, 1, method::NONE],
            Some(_) => vec![VERSION, 2, method::NONE, method::PASSWORD],
        };
        ClientSession { credentials, request, stage: Stage::Method, input: Vec::new(), output }
    }

    /// Takes bytes from the server.
    pub fn receive(&mut self, bytes: &[u8]) -> ClientStep {
        self.input.extend_from_slice(bytes);
        loop {
            match self.advance() {
                Ok(Some(bound)) => return ClientStep::Open(bound),
                Ok(None) => {}
                Err(Pause::More) => return ClientStep::More,
                Err(Pause::Fail(error)) => {
                    self.stage = Stage::Failed(error);
                    self.input.clear();
                    return ClientStep::Failed(error);
                }
            }
        }
    }

    /// What to send to the server.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What the server sent behind its reply; empty before.
    pub fn take_payload(&mut self) -> Vec<u8> {
        match self.stage {
            Stage::Open => std::mem::take(&mut self.input),
            _ => Vec::new(),
        }
    }

    fn advance(&mut self) -> Result<Option<Target>, Pause> {
        match self.stage {
            Stage::Method => self.method(),
            Stage::Password => self.password(),
            Stage::Reply => self.reply(),
            Stage::Open => Err(Pause::More),
            Stage::Failed(error) => Err(Pause::Fail(error)),
        }
    }

    /// RFC 1928 §3.
    fn method(&mut self) -> Result<Option<Target>, Pause> {
        let mut reader = Reader(&self.input);
        expect_version(reader.byte()?, VERSION)?;
        match (reader.byte()?, &self.credentials) {
            (method::NONE, _) => self.ask(),
            (method::PASSWORD, Some(credentials)) => {
                self.output.push(PASSWORD_VERSION);
                credentials.write(&mut self.output);
                self.input.drain(..2);
                self.stage = Stage::Password;
            }
            (method::NOT_ACCEPTABLE, _) => return Err(Pause::Fail(HandshakeError::NoMethod)),
            (other, _) => return Err(Pause::Fail(HandshakeError::Method(other))),
        }
        Ok(None)
    }

    /// RFC 1929 §2.
    fn password(&mut self) -> Result<Option<Target>, Pause> {
        let mut reader = Reader(&self.input);
        expect_version(reader.byte()?, PASSWORD_VERSION)?;
        match reader.byte()? {
            status::SUCCESS => self.ask(),
            other => return Err(Pause::Fail(HandshakeError::Password(other))),
        }
        Ok(None)
    }

    /// Writes the request (RFC 1928 §4), the two bytes before it being read.
    fn ask(&mut self) {
        let code = match self.request.command {
            Command::Connect => command::CONNECT,
            Command::UdpAssociate => command::UDP_ASSOCIATE,
        };
        self.input.drain(..2);
        self.output.extend([VERSION, code, 0]);
        self.request.target.write(&mut self.output);
        self.stage = Stage::Reply;
    }

    /// RFC 1928 §6. A failure is known from its second byte: some servers send no more.
    fn reply(&mut self) -> Result<Option<Target>, Pause> {
        let mut reader = Reader(&self.input);
        expect_version(reader.byte()?, VERSION)?;
        match Reply(reader.byte()?) {
            Reply::SUCCEEDED => {}
            reply => return Err(Pause::Fail(HandshakeError::Refused(reply))),
        }
        reader.byte()?;
        let bound = match Target::read(&mut reader) {
            Ok(bound) => bound,
            Err(AddressFault::Missing) => return Err(Pause::More),
            Err(AddressFault::UnknownType | AddressFault::BadName) => {
                return Err(Pause::Fail(HandshakeError::Address));
            }
        };
        let left = reader.0.len();
        self.input.drain(..self.input.len() - left);
        self.stage = Stage::Open;
        Ok(Some(bound))
    }
}

fn expect_version(version: u8, wanted: u8) -> Result<(), Pause> {
    if version == wanted { Ok(()) } else { Err(Pause::Fail(HandshakeError::Version(version))) }
}
