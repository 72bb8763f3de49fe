//! Forwards: `tcp:[ADDRESS:]PORT:GUEST-PORT`, `udp:…` or `unix:PATH:GUEST-PORT`; an IPv6 address of the guest's in
//! brackets may stand before its port, as in `tcp:2222:[fd6b:7a68:616e::15]:22`.

use super::values::serde_as_text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

const FORWARD: &str = "forward is tcp:[ADDRESS:]PORT:GUEST-PORT, udp:[ADDRESS:]PORT:GUEST-PORT or \
                       unix:PATH:GUEST-PORT; without an address it is 127.0.0.1; [IPV6-ADDRESS]: may stand \
                       before the guest's port";

/// What is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where the host listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardFrom {
    /// At this address and port.
    Port(SocketAddr),
    /// At a Unix stream socket.
    Unix(PathBuf),
}

/// A way from a port of the host to one of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forward {
    /// The protocol in the guest; a Unix socket leads to TCP.
    pub protocol: ForwardProtocol,
    /// Where the host listens.
    pub from: ForwardFrom,
    /// The guest's address; its IPv4 address when `None`.
    pub guest: Option<Ipv6Addr>,
    /// The guest's port.
    pub to: u16,
}

impl FromStr for Forward {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Forward, &'static str> {
        let (kind, rest) = text.split_once(':').ok_or(FORWARD)?;
        let (from, to) =
            rest.rsplit_once(':').filter(|(from, _)| !from.is_empty()).ok_or(FORWARD)?;
        let to = to.parse().ok().filter(|port| *port != 0).ok_or(FORWARD)?;
        let (from, guest) = match from.strip_suffix(']').and_then(|from| from.rsplit_once(":[")) {
            Some((from, guest)) => (from, Some(guest.parse().map_err(|_no_address| FORWARD)?)),
            None => (from, None),
        };
        let (protocol, from) = match kind {
            "tcp" => (ForwardProtocol::Tcp, ForwardFrom::Port(listen(from)?)),
            "udp" => (ForwardProtocol::Udp, ForwardFrom::Port(listen(from)?)),
            "unix" => (ForwardProtocol::Tcp, ForwardFrom::Unix(from.into())),
            _ => return Err(FORWARD),
        };
        Ok(Forward { protocol, from, guest, to })
    }
}

/// An address and port, or a port of the loopback address.
fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    let alone = || Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), text.parse().ok()?));
    text.parse().ok().or_else(alone).ok_or(FORWARD)
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            ForwardProtocol::Tcp => "tcp",
            ForwardProtocol::Udp => "udp",
        };
        match &self.from {
            ForwardFrom::Port(address) => write!(f, "{protocol}:{address}:")?,
            ForwardFrom::Unix(path) => write!(f, "unix:{}:", path.display())?,
        }
        if let Some(guest) = self.guest {
            write!(f, "[{guest}]:")?;
        }
        write!(f, "{}", self.to)
    }
}

serde_as_text!(Forward);
