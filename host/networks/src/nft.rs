//! A table of netfilter rules for each network: what leaves it gets the host's address (nf_tables).
//!
//! ```text
//!   table ip kezhan-NAME {
//!     chain out { type nat hook postrouting priority srcnat;
//!       ip saddr NETWORK oifname != BRIDGE masquerade } }
//! ```
//! Made in one batch, so that all of it is there or nothing. The numbers are those of
//! linux/netfilter/nf_tables.h.

use crate::bytes::{Attributes, Message, messages};
use crate::netlink::socket;
use crate::{NetworkError, Subnet};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;

/// Flags of netlink requests.
mod flag {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// Message types: a batch's ends, and those of nf_tables.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
/// The kernel's answer to a message (NLMSG_ERROR).
const ERROR: u16 = 2;
/// NFPROTO_IPV4.
const IPV4: u8 = 2;

/// NF_INET_POST_ROUTING, and the priority of source NAT there.
const POSTROUTING: u32 = 4;
const SOURCE_NAT: u32 = 100;
/// The first register of 16 bytes.
const REGISTER: u32 = 1;
/// NFT_PAYLOAD_NETWORK_HEADER; where the source address is in it (RFC 791 §3.1).
const NETWORK_HEADER: u32 = 1;
const SOURCE: u32 = 12;
/// NFT_META_OIFNAME and the length of a name.
const OUTPUT_NAME: u32 = 7;
const NAME: usize = 16;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// The name of a network's table.
fn table(network: &str) -> String {
    format!("kezhan-{network}")
}

/// Makes a network's table.
pub(crate) fn add(network: &str, subnet: Subnet, bridge: &str) -> Result<(), NetworkError> {
    let new = flag::CREATE | flag::EXCL;
    let name = table(network);
    let hook = Attributes::default().number(1, POSTROUTING).number(2, SOURCE_NAT);
    let chain = Attributes::default().text(1, &name).text(3, "out").nested(4, hook).text(7, "nat");
    let rule = Attributes::default().text(1, &name).text(2, "out").nested(4, rule(subnet, bridge));
    let batch = [
        (NEW_TABLE, new, Attributes::default().text(1, &name)),
        (NEW_CHAIN, new, chain),
        (NEW_RULE, flag::CREATE | flag::APPEND, rule),
    ];
    perform(&batch).map_err(NetworkError::kernel(format!("rules of network {network}")))
}

/// Takes a network's table away, if it is there.
pub(crate) fn remove(network: &str) -> Result<(), NetworkError> {
    let gone = perform(&[(DELETE_TABLE, 0, Attributes::default().text(1, &table(network)))]);
    match gone {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(NetworkError::kernel(format!("rules of network {network}"))),
    }
}

/// `ip saddr NETWORK oifname != BRIDGE masquerade`.
fn rule(subnet: Subnet, bridge: &str) -> Attributes {
    let number = Attributes::number;
    let value = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
    let source = number(number(Attributes::default(), 1, REGISTER), 2, NETWORK_HEADER);
    let source = number(number(source, 3, SOURCE), 4, 4);
    let mask = number(number(Attributes::default(), 1, REGISTER), 2, REGISTER);
    let mask = number(mask, 3, 4).nested(4, value(&subnet.mask().octets()));
    let mask = mask.nested(5, value(&[0; 4]));
    let is = |operation: u32, wanted: &[u8]| {
        let compare = number(number(Attributes::default(), 1, REGISTER), 2, operation);
        compare.nested(3, value(wanted))
    };
    let output = number(number(Attributes::default(), 1, REGISTER), 2, OUTPUT_NAME);
    let mut name = bridge.as_bytes().to_vec();
    name.resize(NAME, 0);
    let expressions = [
        ("payload", source),
        ("bitwise", mask),
        ("cmp", is(EQUAL, &subnet.network().octets())),
        ("meta", output),
        ("cmp", is(NOT_EQUAL, &name)),
        ("masq", Attributes::default()),
    ];
    expressions.into_iter().fold(Attributes::default(), |list, (name, data)| {
        list.nested(1, Attributes::default().text(1, name).nested(2, data))
    })
}

/// Has a batch done; gives the first error.
fn perform(batch: &[(u16, u16, Attributes)]) -> io::Result<()> {
    let socket = socket(NETLINK_NETFILTER)?;
    let mut bytes = Vec::new();
    let end = |kind, sequence| Message {
        kind,
        flags: flag::REQUEST,
        sequence,
        family: 0,
        resource: NFTABLES,
        attributes: Attributes::default(),
    };
    end(BATCH_BEGIN, 0).write(&mut bytes);
    for (sequence, (kind, flags, attributes)) in (1..).zip(batch) {
        Message {
            kind: NFTABLES << 8 | kind,
            flags: flag::REQUEST | flag::ACK | flags,
            sequence,
            family: IPV4,
            resource: 0,
            attributes: attributes.clone(),
        }
        .write(&mut bytes);
    }
    end(BATCH_END, batch.len() as u32 + 1).write(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut waiting = batch.len();
    while waiting > 0 {
        let (answer, _kernel) = socket.recv_from_full()?;
        for (kind, _sequence, payload) in messages(&answer) {
            let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
            if kind == ERROR && code != 0 {
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            waiting -= usize::from(kind == ERROR);
        }
    }
    Ok(())
}
