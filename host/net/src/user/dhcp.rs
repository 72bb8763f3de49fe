//! The DHCP server (RFC 2131): one guest, one address, always the same.

use super::GatewayConfig;
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// RFC 2132 §5.1: the interface's MTU.
const OPTION_MTU: u8 = 26;
/// RFC 2132 §9.4, §9.5: the server and the file of a start from the network.
const OPTION_BOOT_SERVER: u8 = 66;
const OPTION_BOOT_FILE: u8 = 67;

/// The reply to a message, and the address that it goes to; `None` when there is none to give.
pub(super) fn reply(config: &GatewayConfig, message: &[u8]) -> Option<(Vec<u8>, Ipv4Addr)> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    if request.client_hardware_address != EthernetAddress(config.guest_mac) {
        return None;
    }
    let kind = verdict(config, &request)?;
    let mtu = config.mtu.to_be_bytes();
    let gateway = config.gateway.to_string();
    let mut options = vec![DhcpOption { kind: OPTION_MTU, data: &mtu }];
    if let Some(Some(file)) = &config.boot {
        options.push(DhcpOption { kind: OPTION_BOOT_SERVER, data: gateway.as_bytes() });
        options.push(DhcpOption { kind: OPTION_BOOT_FILE, data: file.as_bytes() });
    }
    let mut reply = frame_of(config, &request, kind);
    if kind != DhcpMessageType::Nak {
        reply.additional_options = &options;
    }
    let mut bytes = vec![0; reply.buffer_len()];
    reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).ok()?;
    // RFC 2131 §4.1: to the address that the client has, otherwise to all.
    let known = !request.client_ip.is_unspecified() && kind != DhcpMessageType::Nak;
    Some((bytes, if known { request.client_ip } else { Ipv4Addr::BROADCAST }))
}

/// RFC 2131 §4.3: what a message is answered with.
fn verdict(config: &GatewayConfig, request: &DhcpRepr<'_>) -> Option<DhcpMessageType> {
    let for_us = request.server_identifier.is_none_or(|server| server == config.gateway);
    let wanted = request.requested_ip.unwrap_or(request.client_ip);
    match request.message_type {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        DhcpMessageType::Request if !for_us => None,
        DhcpMessageType::Request if wanted == config.guest => Some(DhcpMessageType::Ack),
        DhcpMessageType::Request => Some(DhcpMessageType::Nak),
        // An address set by hand: the other parameters only, and only to the address that is the guest's.
        DhcpMessageType::Inform if request.client_ip == config.guest => Some(DhcpMessageType::Ack),
        _ => None,
    }
}

fn frame_of<'a>(
    config: &GatewayConfig,
    request: &DhcpRepr<'_>,
    kind: DhcpMessageType,
) -> DhcpRepr<'a> {
    let refused = kind == DhcpMessageType::Nak;
    let inform = request.message_type == DhcpMessageType::Inform;
    let gives = |ip: Ipv4Addr| Some(ip).filter(|_| !refused);
    let leased = !refused && !inform;
    let mask = u32::MAX.checked_shl(32 - u32::from(config.prefix.min(32))).unwrap_or(0);
    let lease = u32::try_from(config.lease.as_secs()).unwrap_or(u32::MAX);
    DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
        your_ip: if leased { config.guest } else { Ipv4Addr::UNSPECIFIED },
        // RFC 2131 §3: of the next step in starting.
        server_ip: if config.boot.is_some() { config.gateway } else { Ipv4Addr::UNSPECIFIED },
        router: gives(config.gateway),
        subnet_mask: gives(Ipv4Addr::from_bits(mask)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(config.gateway),
        parameter_request_list: None,
        dns_servers: gives(config.gateway).map(|ip| [ip].into_iter().collect()),
        max_size: None,
        lease_duration: Some(lease).filter(|_| leased),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}
