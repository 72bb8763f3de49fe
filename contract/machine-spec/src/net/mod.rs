//! Network cards: `--net KIND[,key=value]…`.
//!
//! What is given here is a card and what is behind it: `user`, a network of the machine's own with the host as
//! its router, no privilege needed; `tap=`, `bridge=` and `macvtap=`, a network of the host's kernel; `none`. Rules
//! are kept as text: what reads them is the network itself.

mod forward;
mod values;

pub use forward::{Forward, ForwardFrom, ForwardProtocol};
pub use values::{BitRate, LineDelay, Loss, MacAddress};

use crate::SpecError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest name of a network interface (netdevice(7): IFNAMSIZ less its zero).
const LONGEST_INTERFACE: usize = 15;
/// Pairs of queues at most.
const MOST_QUEUES: u16 = 16;
/// The smallest MTU of IPv4 (RFC 791 §3.2).
const LEAST_MTU: u16 = 68;

/// What is behind a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetKind {
    /// A network of the machine's own, in user mode.
    #[default]
    User,
    /// This tap interface of the host.
    Tap(String),
    /// A tap interface made for the machine in this bridge or network of the host.
    Bridge(String),
    /// A macvtap interface made for the machine on this interface of the host.
    Macvtap(String),
    /// There is no card.
    None,
}

/// Which card it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetCard {
    /// virtio-net.
    #[default]
    Virtio,
    /// Intel 82540EM, for guests without virtio.
    E1000,
}

/// What the network does where no rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetVerdict {
    /// It lets the flow pass.
    #[default]
    Allow,
    /// It does not.
    Deny,
}

/// A rule of a user network: names, networks, ports and protocols as its text says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetRule {
    /// Allow or deny.
    pub verdict: NetVerdict,
    /// What it is about: `deb.example:443`, `10.0.0.0/8`, `any:25`.
    pub about: String,
}

/// A network card and what is behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetSpec {
    /// What is behind it.
    pub kind: NetKind,
    /// The card.
    pub card: NetCard,
    /// Its Ethernet address; made from the machine's name when left out.
    pub mac: Option<MacAddress>,
    /// The largest IP packet in bytes, when it is not the network's own.
    pub mtu: Option<u16>,
    /// File to which every frame is captured.
    pub capture: Option<PathBuf>,
    /// Frames that get lost, in each direction.
    pub loss: Loss,
    /// How long a frame takes, in each direction.
    pub delay: LineDelay,
    /// How much passes in a second, in each direction.
    pub rate: Option<BitRate>,
    /// Tap and bridge: pairs of queues, one when left out.
    pub queues: Option<u16>,
    /// User: ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// User: rules, the first that matches decides.
    pub rules: Vec<NetRule>,
    /// User: what is done where none matches.
    pub default: NetVerdict,
    /// User: connections and flows of datagrams that the guest may begin in a second.
    pub flows: Option<u32>,
    /// User: name servers in place of the host's.
    pub resolvers: Vec<SocketAddr>,
    /// User: the SOCKS server through which everything leaves.
    pub socks: Option<String>,
    /// User: where a SOCKS server that reaches into the network listens.
    pub socks_listen: Option<SocketAddr>,
    /// User: the network, shared by all machines that name it.
    pub network: Option<String>,
    /// User: the folder whose files a guest that starts from the network may fetch.
    pub tftp: Option<PathBuf>,
    /// User: the file of them that it is told to start.
    pub bootfile: Option<String>,
}

/// What is possible, for a setting that is not.
const SETTINGS: &str = "write user, tap=NAME, bridge=NAME, macvtap=NAME or none, and of card=, mac=, mtu=, capture=, \
                        loss=, delay=, rate=, for tap and bridge queues=, and for user forward=, allow=, deny=, default=, flows=, resolver=, socks=, \
                        socks-listen=, network=, tftp= and bootfile= what you need";

impl NetSpec {
    /// Whether there is a card.
    pub fn is_card(&self) -> bool {
        self.kind != NetKind::None
    }

    /// The Ethernet address of this card, the machine's `index`th.
    pub fn mac_of(&self, machine: &str, index: usize) -> MacAddress {
        self.mac.unwrap_or_else(|| MacAddress::made_for(machine, index))
    }

    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        let wrong = |rule| Err(wrong(&self.to_string(), rule));
        if self.mtu.is_some_and(|mtu| mtu < LEAST_MTU) {
            return wrong("mtu is 68 to 65535");
        }
        if self.mac.is_some_and(MacAddress::is_group) {
            return wrong("mac is a group's address; its first byte has to be even");
        }
        if let NetKind::Tap(name) | NetKind::Bridge(name) | NetKind::Macvtap(name) = &self.kind
            && !is_interface(name)
        {
            return wrong("an interface's name has 1 to 15 characters, without '/' and spaces");
        }
        if self.network.as_deref().is_some_and(|name| !is_interface(name)) {
            return wrong("a network's name has 1 to 15 characters, without '/' and spaces");
        }
        if self.bootfile.as_ref().is_some_and(|name| self.tftp.is_none() || name.len() > 255) {
            return wrong(
                "bootfile is a name of at most 255 bytes, of a file in the folder of tftp=",
            );
        }
        if self.kind != NetKind::User && self.has_user_settings() {
            return wrong(
                "forward=, allow=, deny=, default=, flows=, resolver=, socks=, socks-listen=, network=, tftp= and \
                 bootfile= belong to user",
            );
        }
        if let Some(queues) = self.queues {
            return self.validate_queues(queues).or_else(wrong);
        }
        if self.kind == NetKind::None && *self != NetSpec::of(NetKind::None) {
            return wrong("none takes no settings: there is no card");
        }
        Ok(())
    }

    fn validate_queues(&self, queues: u16) -> Result<(), &'static str> {
        let layered = self.capture.is_some()
            || self.loss != Loss::default()
            || self.delay != LineDelay::default()
            || self.rate.is_some();
        match self.kind {
            NetKind::Tap(_) | NetKind::Bridge(_) if self.card == NetCard::Virtio => {}
            _ => return Err("queues= belongs to tap and bridge, and to a virtio card"),
        }
        match queues {
            1..=MOST_QUEUES if layered => {
                Err("queues= does not go with capture=, loss=, delay= and rate=")
            }
            1..=MOST_QUEUES => Ok(()),
            _ => Err("queues is 1 to 16"),
        }
    }

    /// A card with nothing set.
    pub fn of(kind: NetKind) -> NetSpec {
        NetSpec { kind, ..NetSpec::default() }
    }

    fn has_user_settings(&self) -> bool {
        !self.forwards.is_empty()
            || !self.rules.is_empty()
            || self.default != NetVerdict::Allow
            || self.flows.is_some()
            || !self.resolvers.is_empty()
            || self.socks.is_some()
            || self.socks_listen.is_some()
            || self.network.is_some()
            || self.tftp.is_some()
            || self.bootfile.is_some()
    }

    fn set(&mut self, setting: &str) -> Result<(), &'static str> {
        let (key, value) =
            setting.split_once('=').filter(|(_, v)| !v.is_empty()).ok_or(SETTINGS)?;
        match key {
            "card" => self.card = card(value)?,
            "mac" => self.mac = Some(value.parse()?),
            "mtu" => self.mtu = Some(value.parse().map_err(|_number| "mtu is 68 to 65535")?),
            "capture" => self.capture = Some(value.into()),
            "loss" => self.loss = value.parse()?,
            "delay" => self.delay = value.parse()?,
            "rate" => self.rate = Some(value.parse()?),
            "queues" => self.queues = Some(value.parse().map_err(|_number| "queues is 1 to 16")?),
            _ => return self.set_user(key, value),
        }
        Ok(())
    }

    fn set_user(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let rule = |verdict| NetRule { verdict, about: value.to_owned() };
        match key {
            "forward" => self.forwards.push(value.parse()?),
            "allow" => self.rules.push(rule(NetVerdict::Allow)),
            "deny" => self.rules.push(rule(NetVerdict::Deny)),
            "default" => self.default = verdict(value)?,
            "flows" => self.flows = Some(value.parse().map_err(|_number| "flows is a number")?),
            "resolver" => self.resolvers.push(resolver(value)?),
            "socks" => self.socks = Some(value.to_owned()),
            "socks-listen" => {
                let address = value.parse().map_err(|_address| "socks-listen is ADDRESS:PORT")?;
                self.socks_listen = Some(address);
            }
            "network" => self.network = Some(value.to_owned()),
            "tftp" => self.tftp = Some(value.into()),
            "bootfile" => self.bootfile = Some(value.to_owned()),
            _ => return Err(SETTINGS),
        }
        Ok(())
    }
}

fn card(text: &str) -> Result<NetCard, &'static str> {
    match text {
        "virtio" => Ok(NetCard::Virtio),
        "e1000" => Ok(NetCard::E1000),
        _ => Err("card is virtio or e1000"),
    }
}

/// An address, and a port when it is not that of name servers (RFC 1035 §4.2.1).
fn resolver(text: &str) -> Result<SocketAddr, &'static str> {
    let alone = || Some(SocketAddr::new(text.parse().ok()?, 53));
    text.parse().ok().or_else(alone).ok_or("resolver is ADDRESS or ADDRESS:PORT")
}

fn verdict(text: &str) -> Result<NetVerdict, &'static str> {
    match text {
        "allow" => Ok(NetVerdict::Allow),
        "deny" => Ok(NetVerdict::Deny),
        _ => Err("default is allow or deny"),
    }
}

fn kind(text: &str) -> Result<NetKind, &'static str> {
    match text.split_once('=') {
        None if text == "user" => Ok(NetKind::User),
        None if text == "none" => Ok(NetKind::None),
        Some(("tap", name)) if !name.is_empty() => Ok(NetKind::Tap(name.to_owned())),
        Some(("bridge", name)) if !name.is_empty() => Ok(NetKind::Bridge(name.to_owned())),
        Some(("macvtap", name)) if !name.is_empty() => Ok(NetKind::Macvtap(name.to_owned())),
        _ => Err(SETTINGS),
    }
}

/// Whether the kernel takes it as an interface's name (dev_valid_name in Linux).
fn is_interface(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let length = (1..=LONGEST_INTERFACE).contains(&name.len());
    length && name != "." && name != ".." && !name.contains(odd)
}

fn wrong(text: &str, rule: &'static str) -> SpecError {
    SpecError::Net { text: text.to_owned(), rule }
}

impl FromStr for NetSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<NetSpec, SpecError> {
        let mut parts = text.split(',');
        let kind = kind(parts.next().unwrap_or_default()).map_err(|rule| wrong(text, rule))?;
        let mut net = NetSpec::of(kind);
        parts.try_for_each(|part| net.set(part)).map_err(|rule| wrong(text, rule))?;
        net.validate().map(|()| net)
    }
}

impl fmt::Display for NetVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetVerdict::Allow => "allow",
            NetVerdict::Deny => "deny",
        })
    }
}

impl fmt::Display for NetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            NetKind::User => f.write_str("user")?,
            NetKind::Tap(name) => write!(f, "tap={name}")?,
            NetKind::Bridge(name) => write!(f, "bridge={name}")?,
            NetKind::Macvtap(name) => write!(f, "macvtap={name}")?,
            NetKind::None => f.write_str("none")?,
        }
        if self.card == NetCard::E1000 {
            f.write_str(",card=e1000")?;
        }
        write_some(f, "mac", self.mac.as_ref())?;
        write_some(f, "mtu", self.mtu.as_ref())?;
        write_some(f, "capture", self.capture.as_ref().map(|path| path.display()).as_ref())?;
        write_some(f, "loss", Some(&self.loss).filter(|loss| **loss != Loss::default()))?;
        write_some(f, "delay", Some(&self.delay).filter(|delay| **delay != LineDelay::default()))?;
        write_some(f, "rate", self.rate.as_ref())?;
        write_some(f, "queues", self.queues.as_ref())?;
        for forward in &self.forwards {
            write!(f, ",forward={forward}")?;
        }
        for NetRule { verdict, about } in &self.rules {
            write!(f, ",{verdict}={about}")?;
        }
        write_some(f, "default", Some(&self.default).filter(|d| **d != NetVerdict::Allow))?;
        write_some(f, "flows", self.flows.as_ref())?;
        for resolver in &self.resolvers {
            write!(f, ",resolver={resolver}")?;
        }
        write_some(f, "socks", self.socks.as_ref())?;
        write_some(f, "socks-listen", self.socks_listen.as_ref())?;
        write_some(f, "network", self.network.as_ref())?;
        write_some(f, "tftp", self.tftp.as_ref().map(|path| path.display()).as_ref())?;
        write_some(f, "bootfile", self.bootfile.as_ref())
    }
}

fn write_some(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    value: Option<&impl fmt::Display>,
) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, ",{key}={value}"))
}

#[cfg(test)]
mod tests;
