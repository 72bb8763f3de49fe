//! Interfaces of the host and their addresses (rtnetlink(7)).

use crate::netlink::Netlink;
use crate::{NetworkError, Subnet};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVtap, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVtapMode,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::IpAddr;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) bridge: bool,
    /// A tun or tap interface.
    pub(crate) tap: bool,
    pub(crate) mtu: u32,
    /// The interface that it is a part of.
    pub(crate) controller: Option<u32>,
}

/// The host's interfaces, spoken to.
pub(crate) struct Links(Netlink);

impl Links {
    pub(crate) fn open() -> Result<Links, NetworkError> {
        Netlink::open().map(Links).map_err(NetworkError::kernel("netlink"))
    }

    pub(crate) fn all(&mut self) -> Result<Vec<Link>, NetworkError> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.0.dump(question).map_err(NetworkError::kernel("interfaces"))?;
        Ok(answers.into_iter().filter_map(link).collect())
    }

    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Link>, NetworkError> {
        Ok(self.all()?.into_iter().find(|link| link.name == name))
    }

    /// Every IPv4 address: its network, and the interface's index.
    pub(crate) fn subnets(&mut self) -> Result<Vec<(Subnet, u32)>, NetworkError> {
        let mut question = AddressMessage::default();
        question.header.family = AddressFamily::Inet;
        let answers = self.0.dump(RouteNetlinkMessage::GetAddress(question));
        let answers = answers.map_err(NetworkError::kernel("addresses"))?;
        Ok(answers.into_iter().filter_map(subnet).collect())
    }

    pub(crate) fn add_bridge(&mut self, name: &str, alias: &str) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        let new = RouteNetlinkMessage::NewLink(message);
        self.0
            .perform(new, NLM_F_CREATE | NLM_F_EXCL)
            .map_err(NetworkError::kernel(format!("bridge {name}")))?;
        // A bridge's alias cannot be given when it is made.
        let made = self.existing(name)?;
        self.set_alias(&made, alias)
    }

    /// A macvtap interface on another, in bridge mode, with this Ethernet address.
    pub(crate) fn add_macvtap(
        &mut self,
        name: &str,
        parent: &Link,
        mac: [u8; 6],
    ) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent.index),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVtap),
                LinkInfo::Data(InfoData::MacVtap(vec![InfoMacVtap::Mode(MacVtapMode::Bridge)])),
            ]),
        ];
        self.0
            .perform(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(NetworkError::kernel(format!("macvtap interface on {}", parent.name)))
    }

    pub(crate) fn set_alias(&mut self, link: &Link, alias: &str) -> Result<(), NetworkError> {
        self.change(link, vec![LinkAttribute::IfAlias(alias.to_owned())])
    }

    fn existing(&mut self, name: &str) -> Result<Link, NetworkError> {
        let gone = || NetworkError::Kernel {
            what: format!("interface {name}"),
            error: io::ErrorKind::NotFound.into(),
        };
        self.find(name)?.ok_or_else(gone)
    }

    fn change(&mut self, link: &Link, attributes: Vec<LinkAttribute>) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes = attributes;
        self.0
            .perform(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(NetworkError::kernel(format!("interface {}", link.name)))
    }

    pub(crate) fn set_up(&mut self, link: &Link) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.0
            .perform(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(NetworkError::kernel(format!("interface {}", link.name)))
    }

    /// Makes it a part of a bridge.
    pub(crate) fn join(&mut self, link: &Link, bridge: &Link) -> Result<(), NetworkError> {
        self.change(link, vec![LinkAttribute::Controller(bridge.index)])
    }

    pub(crate) fn set_mtu(&mut self, link: &Link, mtu: u32) -> Result<(), NetworkError> {
        self.change(link, vec![LinkAttribute::Mtu(mtu)])
    }

    pub(crate) fn add_address(&mut self, link: &Link, subnet: Subnet) -> Result<(), NetworkError> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = subnet.bits;
        message.header.index = link.index;
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(subnet.address)),
            AddressAttribute::Address(IpAddr::V4(subnet.address)),
            AddressAttribute::Broadcast(subnet.broadcast()),
        ];
        self.0
            .perform(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(NetworkError::kernel(format!("address {subnet} of {}", link.name)))
    }

    pub(crate) fn remove(&mut self, link: &Link) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        self.0
            .perform(RouteNetlinkMessage::DelLink(message), 0)
            .map_err(NetworkError::kernel(format!("interface {}", link.name)))
    }
}

fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let mut link = Link { index: message.header.index, ..Link::default() };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(info) => {
                link.bridge = info.contains(&LinkInfo::Kind(InfoKind::Bridge));
                link.tap = info.contains(&LinkInfo::Kind(InfoKind::Tun));
            }
            _ => {}
        }
    }
    Some(link)
}

fn subnet(answer: RouteNetlinkMessage) -> Option<(Subnet, u32)> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((Subnet { address, bits: message.header.prefix_len }, message.header.index))
}
