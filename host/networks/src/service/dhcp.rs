//! The DHCP server (RFC 2131): each machine has the address that follows from its Ethernet address, unless
//! another has it already.

use super::is_station;
use crate::Subnet;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// How long an address may be kept, in seconds.
const LEASE: u32 = 3600;
/// Leases at a time: the one that was not heard of for longest makes room once it has ended.
const LEASES: usize = 4096;
/// Where clients listen (RFC 2131 §4.1).
const CLIENT: u16 = 68;
/// Option: the client's name (RFC 2132 §3.14).
const HOST_NAME: u8 = 12;

type Mac = [u8; 6];

/// What a machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    address: Ipv4Addr,
    name: Option<String>,
    /// When it was last heard of, in seconds.
    heard: u64,
}

/// A network's leases.
#[derive(Debug)]
pub(super) struct Leases {
    subnet: Subnet,
    by_mac: BTreeMap<Mac, Lease>,
}

impl Leases {
    pub(super) fn new(subnet: Subnet) -> Leases {
        Leases { subnet, by_mac: BTreeMap::new() }
    }

    /// The address of the machine that called itself by this name.
    pub(super) fn of_name(&self, name: &str) -> Option<Ipv4Addr> {
        let called = |lease: &&Lease| lease.name.as_deref() == Some(name);
        self.by_mac.values().find(called).map(|lease| lease.address)
    }

    /// The reply to a message, and where it goes.
    pub(super) fn reply(&mut self, now: u64, message: &[u8]) -> Option<(Vec<u8>, SocketAddrV4)> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let request = DhcpRepr::parse(&packet).ok()?;
        let EthernetAddress(mac) = request.client_hardware_address;
        let name = packet.options().find(|option| option.kind == HOST_NAME);
        let name = name.and_then(|option| plain_name(option.data));
        let (kind, address) = self.verdict(now, &request, mac)?;
        if let Some(lease) = self.by_mac.get_mut(&mac) {
            lease.heard = now;
            // A name belongs to the machine that had it first.
            lease.name = name.or_else(|| lease.name.take());
        }
        let reply = self.frame(&request, kind, address);
        let mut bytes = vec![0; reply.buffer_len()];
        reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
        // RFC 2131 §4.1: to the address that the client has, otherwise to all.
        let known = !request.client_ip.is_unspecified() && kind != DhcpMessageType::Nak;
        let to = if known { request.client_ip } else { Ipv4Addr::BROADCAST };
        Some((bytes, SocketAddrV4::new(to, CLIENT)))
    }

    /// RFC 2131 §4.3: what a message is answered with, and the address that it is about.
    fn verdict(
        &mut self,
        now: u64,
        request: &DhcpRepr<'_>,
        mac: Mac,
    ) -> Option<(DhcpMessageType, Ipv4Addr)> {
        let for_us = request.server_identifier.is_none_or(|server| server == self.subnet.address);
        let wanted = request.requested_ip.unwrap_or(request.client_ip);
        match request.message_type {
            DhcpMessageType::Discover => {
                let address = self.take(now, mac, wanted).or_else(|| self.find(now, mac))?;
                Some((DhcpMessageType::Offer, address))
            }
            DhcpMessageType::Request if !for_us => None,
            DhcpMessageType::Request => Some(match self.take(now, mac, wanted) {
                Some(address) => (DhcpMessageType::Ack, address),
                None => (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED),
            }),
            DhcpMessageType::Inform => Some((DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED)),
            DhcpMessageType::Release | DhcpMessageType::Decline => {
                self.by_mac.remove(&mac);
                None
            }
            _ => None,
        }
    }

    /// Gives a machine this address, when it may have it: its own, or one that nobody has.
    fn take(&mut self, now: u64, mac: Mac, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let holder = self.by_mac.iter().find(|(_, lease)| lease.address == address);
        let free = match holder {
            Some((other, lease)) => *other == mac || lease.heard + u64::from(LEASE) < now,
            None => is_station(self.subnet, address),
        };
        if !free || !self.make_room(now, mac) {
            return None;
        }
        self.by_mac.retain(|other, lease| *other == mac || lease.address != address);
        let name = self.by_mac.remove(&mac).and_then(|lease| lease.name);
        self.by_mac.insert(mac, Lease { address, name, heard: now });
        Some(address)
    }

    /// An address for a machine: that of its lease, or the first free one from where its Ethernet address
    /// leads to.
    fn find(&mut self, now: u64, mac: Mac) -> Option<Ipv4Addr> {
        if let Some(lease) = self.by_mac.get(&mac) {
            return Some(lease.address);
        }
        let stations = u32::MAX >> self.subnet.bits;
        let hash = mac.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let network = self.subnet.network().to_bits();
        (0..stations.min(2 * LEASES as u32))
            .map(|step| Ipv4Addr::from_bits(network + hash.wrapping_add(step) % stations))
            .find_map(|address| self.take(now, mac, address))
    }

    /// Whether there is room for another lease, of which the longest unheard one may have to go.
    fn make_room(&mut self, now: u64, mac: Mac) -> bool {
        if self.by_mac.len() < LEASES || self.by_mac.contains_key(&mac) {
            return true;
        }
        let oldest = self.by_mac.iter().min_by_key(|(_, lease)| lease.heard);
        let ended = oldest.filter(|(_, lease)| lease.heard + u64::from(LEASE) < now);
        let Some(mac) = ended.map(|(mac, _)| *mac) else { return false };
        self.by_mac.remove(&mac);
        true
    }

    fn frame<'a>(
        &self,
        request: &DhcpRepr<'_>,
        kind: DhcpMessageType,
        address: Ipv4Addr,
    ) -> DhcpRepr<'a> {
        let refused = kind == DhcpMessageType::Nak;
        let leased = !address.is_unspecified();
        let router = Some(self.subnet.address).filter(|_| !refused);
        DhcpRepr {
            message_type: kind,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: request.client_hardware_address,
            client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
            your_ip: address,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router,
            subnet_mask: Some(self.subnet.mask()).filter(|_| !refused),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.subnet.address),
            parameter_request_list: None,
            dns_servers: router.map(|router| [router].into_iter().collect()),
            max_size: None,
            lease_duration: Some(LEASE).filter(|_| leased),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        }
    }
}

/// A name of one label (RFC 1123 §2.1), in lower case.
fn plain_name(bytes: &[u8]) -> Option<String> {
    let name = String::from_utf8(bytes.to_vec()).ok()?.to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ((1..=63).contains(&name.len()) && name.chars().all(fits)).then_some(name)
}
