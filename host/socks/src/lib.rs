//! SOCKS: the protocol without I/O, and a server and a client on top.
//!
//! ```text
//!             bytes in, bytes out, steps                    sockets and threads
//!   server    ServerSession ◄────────────────────────────── listen ──► Outbound ──► target
//!   client    ClientSession ◄────────────────────────────── Proxy  ──► server ────► target
//!   datagrams read_datagram, write_datagram ◄────────────── both
//! ```
//!
//! | what | where it is written | what we do |
//! |---|---|---|
//! | SOCKS5 | RFC 1928 | CONNECT and UDP ASSOCIATE; BIND is answered with "command not supported" |
//! | user and password | RFC 1929 | both sides; never both "none" and "password" on one server |
//! | GSSAPI | RFC 1961 | not offered, though RFC 1928 wants it: nobody deploys it |
//! | SOCKS4, SOCKS4a | the memos of 1992 and 1996 | accepted by a server without a password; CONNECT only |
//!
//! # Two uses
//! *Egress*: a guest's flows leave through [`Proxy`]. *Ingress*: [`listen`] is given an [`Outbound`] that
//! reaches into the guests' network. Neither touches the other, and a server whose outbound is a proxy is
//! a chain.
//!
//! # What is promised
//! * A success reply means that the target has accepted; a failure has its own code and is sent before
//!   the connection closes.
//! * A proxy that fails carries nothing: there is no direct way around it.
//! * A name is resolved once, by whoever makes the connection, and an address written as a name counts
//!   as the address.
//! * Memory for each session is bounded: one message during the hand-shake, two 64 KiB buffers after it.
//!
//! # Rejected
//! An asynchronous runtime: the two machines are pure, so that a different driver (a guest network's event
//! loop) uses them as they are, and threads keep this one short. Answering success before the connection
//! stands, as some servers do: the client could not tell a refused port from an empty answer.

mod association;
mod client;
mod command;
mod credentials;
mod datagram;
mod listener;
mod outbound;
mod proxy;
mod reader;
mod relay;
mod server;
pub mod spec;
mod target;
mod wait;

pub use client::{ClientSession, ClientStep, HandshakeError};
pub use command::{SocksArgs, SocksCommandError, run, start};
pub use credentials::{Credentials, CredentialsError};
pub use datagram::{DatagramError, MAX_HEADER, read_datagram, write_datagram};
pub use listener::{ListenerConfig, ListenerHandle, listen};
pub use outbound::{Connection, Datagrams, HostOutbound, Outbound, reply_for};
pub use proxy::{DEFAULT_PORT, Proxy, ProxyDatagrams, ProxyError, ProxyUrlError, Tunnel};
pub use server::{Access, Command, Refusal, Request, ServerSession, ServerStep};
pub use spec::Reply;
pub use target::{Host, Name, Target, TargetError};
