//! Neighbours and routers in IPv6 (RFC 4861): who we are, and which network the guest is in.
//!
//! The guest is the only neighbour, so that nothing is ever asked of it: what goes to it carries its
//! Ethernet address. Of its own messages two are answered.

use super::icmp;
use super::{GatewayConfig, Ipv6Config};
use std::net::{IpAddr, Ipv6Addr};

/// Message types (RFC 4861 §4).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Option types (RFC 4861 §4.6, RFC 8106 §5.1).
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const NAME_SERVERS: u8 = 25;

/// A neighbour advertisement's flags: a router, asked for, to be believed (RFC 4861 §4.4).
const ROUTER_SOLICITED_OVERRIDE: u8 = 0xe0;
/// A router advertisement's flag: more is told by DHCPv6 (RFC 4861 §4.2).
const OTHER_CONFIGURATION: u8 = 0x40;
/// A prefix's flags: on the link, and good for making addresses (RFC 4861 §4.6.2).
const ON_LINK_AUTONOMOUS: u8 = 0xc0;
/// Seconds that a router is one after its word (RFC 4861 §6.2.1, three times the longest interval).
const ROUTER_LIFETIME: u16 = 1800;
/// Seconds that an address in the prefix is valid, and preferred (RFC 4861 §6.2.1).
const VALID: u32 = 2_592_000;
const PREFERRED: u32 = 604_800;

/// The answer to a message; `None` when there is none to give.
pub(super) fn reply(config: &GatewayConfig, message: &[u8], asker: IpAddr) -> Option<Answer> {
    let six = config.six?;
    match *message.first()? {
        ROUTER_SOLICITATION => Some(advertisement(config, &six)),
        NEIGHBOUR_SOLICITATION => neighbour(config, &six, message, asker),
        _ => None,
    }
}

/// A message with its ends.
pub(super) struct Answer {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) message: Vec<u8>,
}

impl Answer {
    fn sealed(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Answer {
        let (from, to) = (from.into(), to.into());
        icmp::seal(&mut message, from, to);
        Answer { from, to, message }
    }
}

/// All nodes of the link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What the guest's network is (RFC 4861 §4.2).
pub(super) fn advertisement(config: &GatewayConfig, six: &Ipv6Config) -> Answer {
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, OTHER_CONFIGURATION];
    message.extend(ROUTER_LIFETIME.to_be_bytes());
    // Reachable time and retransmission timer: unspecified.
    message.extend([0; 8]);
    message.extend([SOURCE_ADDRESS, 1]);
    message.extend(config.mac);
    message.extend([MTU, 1, 0, 0]);
    message.extend(u32::from(config.mtu).to_be_bytes());
    message.extend([PREFIX, 4, 64, ON_LINK_AUTONOMOUS]);
    message.extend(VALID.to_be_bytes());
    message.extend(PREFERRED.to_be_bytes());
    message.extend([0; 4]);
    message.extend(six.prefix.octets());
    message.extend([NAME_SERVERS, 3, 0, 0]);
    message.extend(u32::from(ROUTER_LIFETIME).to_be_bytes());
    message.extend(six.gateway.octets());
    Answer::sealed(six.link_local, ALL_NODES, message)
}

/// Answers for our own addresses only (RFC 4861 §7.2.4).
fn neighbour(
    config: &GatewayConfig,
    six: &Ipv6Config,
    message: &[u8],
    asker: IpAddr,
) -> Option<Answer> {
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let IpAddr::V6(asker) = asker else { return None };
    // Who has no address yet asks whether its own is taken (RFC 4862 §5.4.3): it is not, unless it is ours.
    if target != six.gateway && target != six.link_local {
        return None;
    }
    let to = if asker.is_unspecified() { ALL_NODES } else { asker };
    let mut reply = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ROUTER_SOLICITED_OVERRIDE, 0, 0, 0];
    reply.extend(target.octets());
    reply.extend([TARGET_ADDRESS, 1]);
    reply.extend(config.mac);
    Some(Answer::sealed(target, to, reply))
}
