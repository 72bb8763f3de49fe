//! The client: a server upstream, through which connections and datagrams go.
//!
//! As an [`Outbound`] it fails closed: what the upstream server does not carry is not carried at all, and
//! no name is resolved here but the upstream server's own.

use crate::client::{ClientSession, ClientStep, HandshakeError};
use crate::credentials::{Credentials, CredentialsError};
use crate::datagram::{read_datagram, write_datagram};
use crate::outbound::{Connection, Datagrams, Outbound, dial, reply_for};
use crate::server::{Command, Request};
use crate::spec::Reply;
use crate::target::{Host, Target, TargetError};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;
use std::time::{Duration, Instant};
use thiserror::Error;

/// The port that SOCKS servers listen on (RFC 1928 §3).
pub const DEFAULT_PORT: u16 = 1080;

/// A SOCKS5 server that connections go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    server: Target,
    credentials: Option<Credentials>,
    timeout: Duration,
}

/// A proxy's URL that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProxyUrlError {
    /// Another scheme, or none.
    #[error("{0:?} is not a SOCKS proxy: give socks5://[USER:PASSWORD@]HOST[:PORT]")]
    Scheme(String),
    /// A user without a password, or a bad percent sign.
    #[error(
        "the proxy's user and password are not understood: give USER:PASSWORD, with %XX for special characters"
    )]
    User,
    /// A field that SOCKS cannot carry.
    #[error("proxy: {0}")]
    Credentials(#[from] CredentialsError),
    /// No host or no port.
    #[error("proxy: {0}")]
    Server(#[from] TargetError),
}

/// Why the proxy carries nothing.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// No connection to the proxy itself.
    #[error("proxy {server}: no connection: {reply}")]
    Unreachable {
        /// The proxy.
        server: Target,
        /// What kept us.
        reply: Reply,
    },
    /// The connection broke during the hand-shake.
    #[error("proxy {server}: {error}")]
    Broken {
        /// The proxy.
        server: Target,
        /// How.
        error: io::Error,
    },
    /// The proxy answered, but not with what was asked.
    #[error("proxy {server}: {error}")]
    Handshake {
        /// The proxy.
        server: Target,
        /// The answer.
        error: HandshakeError,
    },
}

impl ProxyError {
    /// What a client of ours is told: the proxy's own word about the target when there is one.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            ProxyError::Handshake { error: HandshakeError::Refused(reply), .. } => *reply,
            _ => Reply::GENERAL_FAILURE,
        }
    }
}

/// An open way through a proxy.
#[derive(Debug)]
pub struct Tunnel {
    /// The connection to the proxy.
    pub stream: TcpStream,
    /// The proxy's BND.ADDR and BND.PORT.
    pub bound: Target,
}

impl Proxy {
    /// A proxy whose hand-shake must be done within `timeout`.
    #[must_use]
    pub fn new(server: Target, credentials: Option<Credentials>, timeout: Duration) -> Proxy {
        Proxy { server, credentials, timeout }
    }

    /// The same with another time-out.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Proxy {
        Proxy { timeout, ..self }
    }

    /// The server itself.
    #[must_use]
    pub fn server(&self) -> &Target {
        &self.server
    }

    /// A hand-shake with the server, for who drives the connection himself.
    #[must_use]
    pub fn session(&self, request: Request) -> ClientSession {
        ClientSession::new(self.credentials.clone(), request)
    }

    /// Connects to a target through the proxy.
    ///
    /// # Errors
    /// The proxy is out of reach, or refuses.
    pub fn tunnel(&self, target: &Target) -> Result<Tunnel, ProxyError> {
        self.open(Request { command: Command::Connect, target: target.clone() })
    }

    /// Opens a relay for datagrams through the proxy.
    ///
    /// # Errors
    /// The proxy is out of reach, or refuses.
    pub fn datagrams(&self) -> Result<ProxyDatagrams, ProxyError> {
        // We do not know which address the proxy will see: zeros (RFC 1928 §6).
        let unknown = Target { host: Host::Ip(Ipv4Addr::UNSPECIFIED.into()), port: 0 };
        let tunnel = self.open(Request { command: Command::UdpAssociate, target: unknown })?;
        let broken = |error| ProxyError::Broken { server: self.server.clone(), error };
        ProxyDatagrams::new(tunnel).map_err(broken)
    }

    fn open(&self, request: Request) -> Result<Tunnel, ProxyError> {
        let deadline = Instant::now() + self.timeout;
        let mut stream = dial(&self.server, deadline)
            .map_err(|reply| ProxyError::Unreachable { server: self.server.clone(), reply })?;
        let mut session = self.session(request);
        let bound = handshake(&mut stream, &mut session, deadline)
            .map_err(|error| ProxyError::Broken { server: self.server.clone(), error })?
            .map_err(|error| ProxyError::Handshake { server: self.server.clone(), error })?;
        Ok(Tunnel { stream, bound })
    }
}

fn handshake(
    stream: &mut TcpStream,
    session: &mut ClientSession,
    deadline: Instant,
) -> io::Result<Result<Target, HandshakeError>> {
    stream.set_nodelay(true)?;
    let mut byte = [0; 1];
    let outcome = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        stream.write_all(&session.take_output())?;
        // One byte at a time: what follows the reply belongs to the stream and stays in the socket.
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        match session.receive(&byte) {
            ClientStep::More => {}
            ClientStep::Open(bound) => break Ok(bound),
            ClientStep::Failed(error) => break Err(error),
        }
    };
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(outcome)
}

impl Outbound for Proxy {
    fn connect(&self, target: &Target) -> Result<Connection, Reply> {
        let tunnel = self.tunnel(target).map_err(|error| {
            log::info!("{target}: {error}");
            error.reply()
        })?;
        let ours = tunnel.stream.local_addr().map_err(|error| reply_for(&error))?;
        let bound = tunnel.bound.socket_address().unwrap_or(ours);
        Ok(Connection { socket: tunnel.stream.into(), bound })
    }

    fn associate(&self) -> Result<Box<dyn Datagrams>, Reply> {
        match self.datagrams() {
            Ok(datagrams) => Ok(Box::new(datagrams)),
            Err(error) => {
                log::info!("datagrams: {error}");
                Err(error.reply())
            }
        }
    }
}

/// Datagrams through a proxy; they end with the connection to it.
#[derive(Debug)]
pub struct ProxyDatagrams {
    control: TcpStream,
    socket: UdpSocket,
    relay: SocketAddr,
    message: Vec<u8>,
}

impl ProxyDatagrams {
    fn new(tunnel: Tunnel) -> io::Result<ProxyDatagrams> {
        let server = tunnel.stream.peer_addr()?;
        let relay = match tunnel.bound.socket_address() {
            // Some servers answer with zeros and mean the address that they were reached at.
            Some(bound) if bound.ip().is_unspecified() => {
                SocketAddr::new(server.ip(), bound.port())
            }
            Some(bound) => bound,
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        let ours: IpAddr = tunnel.stream.local_addr()?.ip();
        let socket = UdpSocket::bind((ours, 0))?;
        socket.connect(relay)?;
        socket.set_nonblocking(true)?;
        tunnel.stream.set_nonblocking(true)?;
        Ok(ProxyDatagrams { control: tunnel.stream, socket, relay, message: Vec::new() })
    }

    /// Where the proxy takes datagrams.
    #[must_use]
    pub fn relay(&self) -> SocketAddr {
        self.relay
    }
}

impl Datagrams for ProxyDatagrams {
    fn send(&mut self, target: &Target, payload: &[u8]) {
        self.message.clear();
        write_datagram(target, payload, &mut self.message);
        self.socket.send(&self.message).ok();
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(Target, usize)> {
        loop {
            let length = match self.socket.recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return None,
            };
            if let Ok((from, payload)) = read_datagram(buffer.get(..length)?) {
                let start = length - payload.len();
                buffer.copy_within(start..length, 0);
                return Some((from, length - start));
            }
        }
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.as_fd(), self.control.as_fd()]
    }

    fn ended(&mut self) -> bool {
        match self.control.read(&mut [0; 256]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// How long a proxy given as a URL may take.
const URL_TIMEOUT: Duration = Duration::from_secs(30);

impl FromStr for Proxy {
    type Err = ProxyUrlError;

    /// `socks5://[USER:PASSWORD@]HOST[:PORT]`; `socks5h` means the same, since names always go to the
    /// proxy. User and password may hold `%XX`.
    fn from_str(url: &str) -> Result<Proxy, ProxyUrlError> {
        let rest = ["socks5://", "socks5h://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| ProxyUrlError::Scheme(without_user(url).to_owned()))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, server) = match rest.rsplit_once('@') {
            Some((user, server)) => (Some(user), server),
            None => (None, rest),
        };
        let credentials = match user.map(|user| user.split_once(':').ok_or(ProxyUrlError::User)) {
            None => None,
            Some(pair) => {
                let (user, password) = pair?;
                Some(Credentials::new(unescape(user)?, unescape(password)?)?)
            }
        };
        let has_port = server.rfind(':') > server.rfind(']');
        let server = match has_port {
            true => server.parse()?,
            false => format!("{server}:{DEFAULT_PORT}").parse()?,
        };
        Ok(Proxy::new(server, credentials, URL_TIMEOUT))
    }
}

/// A URL for a message: without what may be a password.
fn without_user(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, server)| server)
}

/// Percent-decoding (RFC 3986 §2.1).
fn unescape(text: &str) -> Result<Vec<u8>, ProxyUrlError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()]
                    .map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
                let [Some(high), Some(low)] = digits else { return Err(ProxyUrlError::User) };
                u8::try_from(high * 16 + low).map_err(|_out_of_range| ProxyUrlError::User)?
            }
            byte => byte,
        });
    }
    Ok(decoded)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socks5://{}", self.server)
    }
}
