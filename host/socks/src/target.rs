//! Where a client wants to go: an address or a name, and a port.

use crate::reader::{Missing, Reader};
use crate::spec::address;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use thiserror::Error;

/// A domain name as SOCKS carries it: 1 to 255 printable ASCII characters, and not an address in text
/// (that becomes a [`Host::Ip`], so that rules about addresses see it).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A host by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address; IPv4-mapped IPv6 addresses are turned into the IPv4 address.
    Ip(IpAddr),
    /// A name, to be resolved by whoever makes the connection.
    Name(Name),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The TCP or UDP port.
    pub port: u16,
}

/// Text that is not a host, or not a host with a port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Empty, too long, or with characters that no name has.
    #[error(
        "{0:?} is not a host: give an address or a name of 1 to 255 printable ASCII characters"
    )]
    Host(String),
    /// No port, or not a number of 16 bits.
    #[error("{0:?} has no port: give HOST:PORT, an IPv6 address in brackets")]
    Port(String),
}

/// Why the bytes of an address are not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressFault {
    Missing,
    UnknownType,
    BadName,
}

impl From<Missing> for AddressFault {
    fn from(_: Missing) -> AddressFault {
        AddressFault::Missing
    }
}

impl Host {
    /// A host from the bytes of a name field.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Host> {
        let well_formed =
            (1..=255).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(bytes).ok().filter(|_| well_formed)?;
        Some(match text.parse::<IpAddr>() {
            Ok(ip) => Host::Ip(ip.to_canonical()),
            Err(_) => Host::Name(Name(text.into())),
        })
    }
}

impl Target {
    /// Takes ATYP, address and port (RFC 1928 §5).
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Target, AddressFault> {
        let host = match reader.byte()? {
            address::IPV4 => Host::Ip(Ipv4Addr::from(reader.array::<4>()?).into()),
            address::IPV6 => {
                Host::Ip(IpAddr::from(Ipv6Addr::from(reader.array::<16>()?)).to_canonical())
            }
            address::NAME => Host::from_bytes(reader.counted()?).ok_or(AddressFault::BadName)?,
            _ => return Err(AddressFault::UnknownType),
        };
        Ok(Target { host, port: reader.port()? })
    }

    /// Appends ATYP, address and port (RFC 1928 §5).
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => {
                to.push(address::IPV4);
                to.extend(ip.octets());
            }
            Host::Ip(IpAddr::V6(ip)) => {
                to.push(address::IPV6);
                to.extend(ip.octets());
            }
            Host::Name(Name(name)) => {
                to.push(address::NAME);
                // A name is made of 255 bytes at most.
                to.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                to.extend(name.as_bytes());
            }
        }
        to.extend(self.port.to_be_bytes());
    }

    /// The socket address, when the host is an address.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target { host: Host::Ip(address.ip().to_canonical()), port: address.port() }
    }
}

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Host, TargetError> {
        Host::from_bytes(text.as_bytes()).ok_or_else(|| TargetError::Host(text.to_owned()))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// `HOST:PORT`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Target, TargetError> {
        let missing = || TargetError::Port(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(missing)?;
        let port = port.parse().ok().ok_or_else(missing)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host: Host = bracketed.unwrap_or(host).parse()?;
        let six = matches!(host, Host::Ip(IpAddr::V6(_)));
        if six && bracketed.is_none() {
            return Err(missing());
        }
        Ok(Target { host, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}
