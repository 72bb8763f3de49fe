//! One rule, and how it is written.
//!
//! ```text
//!   RULE = SUBJECT [":" PORT ["-" PORT]] ["/" ("tcp" | "udp" | "icmp")]
//!   SUBJECT = "any" | name | "*." name | ADDRESS | ADDRESS "/" BITS      (IPv6 with a port: in brackets)
//! ```
//! `deb.example:443`, `*.example/tcp`, `10.0.0.0/8:53/udp`, `[2001:db8::/32]:443`, `any:25`.

use super::Reach;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use thiserror::Error;

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The flow may be.
    Allow,
    /// It may not.
    Deny,
}

/// What a flow is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// Echo requests of RFC 792 and RFC 4443; their port is 0.
    Icmp,
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Text that is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// No such subject.
    #[error(
        "{0:?} is neither a name nor a network: give a name, *.NAME, ADDRESS, ADDRESS/BITS or any"
    )]
    Subject(String),
    /// The port is not a number, or the range is upside down.
    #[error("{0:?} is not a port: give a number from 0 to 65535, or FIRST-LAST")]
    Port(String),
    /// More bits than the address has, or an address with bits set beyond them.
    #[error("{0:?} is not a network: give ADDRESS/BITS with nothing but zeros behind the bits")]
    Network(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Any,
    Network(Network),
    /// This name alone.
    Name(String),
    /// Every name that ends in a dot and this.
    Under(String),
}

/// A rule. See the module for its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) verdict: Verdict,
    subject: Subject,
    ports: RangeInclusive<u16>,
    protocol: Option<Protocol>,
}

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(ours), IpAddr::V4(ip)) => same_bits(
                u128::from(ours.to_bits()) << 96,
                u128::from(ip.to_bits()) << 96,
                self.bits,
            ),
            (IpAddr::V6(ours), IpAddr::V6(ip)) => {
                same_bits(ours.to_bits(), ip.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

impl Network {
    /// Whether it begins at an address of the host and is no wider than the widest block of these:
    /// multicast, 224.0.0.0/4 and ff00::/8.
    fn is_of_host(&self) -> bool {
        let widest = if self.address.is_ipv4() { 4 } else { 8 };
        self.bits >= widest && Reach::of(self.address) == Reach::Host
    }
}

/// Whether two left-aligned addresses agree in their first bits.
fn same_bits(a: u128, b: u128, bits: u8) -> bool {
    let left = 128 - u32::from(bits);
    (a ^ b).checked_shr(left).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Network, RuleError> {
        let wrong = || RuleError::Network(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok().ok_or_else(wrong)?;
        let (whole, all) = match address {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= all).ok_or_else(wrong)?,
            None => all,
        };
        let beyond = whole.checked_shl(bits.into()).unwrap_or(0);
        if beyond == 0 { Ok(Network { address, bits }) } else { Err(wrong()) }
    }
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// The text is not one.
    pub fn parse(verdict: Verdict, text: &str) -> Result<Rule, RuleError> {
        let (rest, protocol) = split_protocol(text);
        let (subject, ports) = split_ports(rest)?;
        Ok(Rule { verdict, subject: subject_of(subject)?, ports, protocol })
    }

    /// Whether it is about this port and protocol. ICMP has no port: only a rule for all ports covers it.
    pub(super) fn covers(&self, port: u16, protocol: Protocol) -> bool {
        let port = protocol == Protocol::Icmp && self.ports == (0..=u16::MAX)
            || protocol != Protocol::Icmp && self.ports.contains(&port);
        port && self.protocol.is_none_or(|ours| ours == protocol)
    }

    /// Whether it is about this address, which has these names.
    pub(super) fn holds(&self, ip: IpAddr, names: &[&str]) -> bool {
        match &self.subject {
            Subject::Any => true,
            Subject::Network(network) => network.contains(ip),
            _ => names.iter().any(|name| self.names(name)),
        }
    }

    /// Whether it names a network that this address of the host is in: a denial of any width, or a
    /// permission that is about addresses of the host and not about the world by the way.
    pub(super) fn holds_host(&self, ip: IpAddr) -> bool {
        match &self.subject {
            Subject::Any => self.verdict == Verdict::Deny,
            Subject::Network(network) => {
                network.contains(ip) && (self.verdict == Verdict::Deny || network.is_of_host())
            }
            Subject::Name(_) | Subject::Under(_) => false,
        }
    }

    /// Whether it is about this name.
    pub(super) fn names(&self, name: &str) -> bool {
        match &self.subject {
            Subject::Name(ours) => ours == name,
            Subject::Under(ours) => {
                name.strip_suffix(ours.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            Subject::Any | Subject::Network(_) => false,
        }
    }

    /// Whether it tells if this name may be resolved. A denial of some ports or of one protocol does not:
    /// it leaves uses for the name.
    pub(super) fn resolves(&self, name: &str) -> bool {
        let partial = self.ports != (0..=u16::MAX) || self.protocol.is_some();
        let about = self.subject == Subject::Any || self.names(name);
        about && !(partial && self.verdict == Verdict::Deny)
    }
}

/// A name as it is compared: lower case, without the root's dot.
pub(super) fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn split_protocol(text: &str) -> (&str, Option<Protocol>) {
    let known = [("/tcp", Protocol::Tcp), ("/udp", Protocol::Udp), ("/icmp", Protocol::Icmp)];
    known
        .into_iter()
        .find_map(|(ending, protocol)| Some((text.strip_suffix(ending)?, Some(protocol))))
        .unwrap_or((text, None))
}

fn split_ports(text: &str) -> Result<(&str, RangeInclusive<u16>), RuleError> {
    let all = 0..=u16::MAX;
    if let Some(inside) = text.strip_prefix('[') {
        let wrong = || RuleError::Subject(text.to_owned());
        let (subject, behind) = inside.split_once(']').ok_or_else(wrong)?;
        return match behind.strip_prefix(':') {
            Some(ports) => Ok((subject, ports_of(ports)?)),
            None if behind.is_empty() => Ok((subject, all)),
            None => Err(wrong()),
        };
    }
    match text.split_once(':') {
        // A second colon: an IPv6 address without brackets.
        Some((_, ports)) if ports.contains(':') => Ok((text, all)),
        Some((subject, ports)) => Ok((subject, ports_of(ports)?)),
        None => Ok((text, all)),
    }
}

fn ports_of(text: &str) -> Result<RangeInclusive<u16>, RuleError> {
    let wrong = || RuleError::Port(text.to_owned());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().ok().ok_or_else(wrong)?;
    let last: u16 = last.parse().ok().ok_or_else(wrong)?;
    if first <= last { Ok(first..=last) } else { Err(wrong()) }
}

fn subject_of(text: &str) -> Result<Subject, RuleError> {
    if text == "any" {
        return Ok(Subject::Any);
    }
    if text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok() {
        return Ok(Subject::Network(text.parse()?));
    }
    let (under, name) = match text.strip_prefix("*.") {
        Some(name) => (true, plain(name)),
        None => (false, plain(text)),
    };
    // Letters, digits and hyphens (RFC 1123 §2.1), and the underscore that service names use.
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.len() > 253 || numeric || !name.split('.').all(label) {
        return Err(RuleError::Subject(text.to_owned()));
    }
    Ok(if under { Subject::Under(name) } else { Subject::Name(name) })
}
