//! The stateless DHCPv6 server (RFC 8415 §6.1): everything but addresses, which the guest makes itself.

use super::{GatewayConfig, Ipv6Config};
use std::net::Ipv6Addr;

/// The port of servers, and their group on the link (RFC 8415 §7.1, §7.2).
pub(super) const SERVER: u16 = 547;
pub(super) const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Message types (RFC 8415 §7.3).
const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;

/// Option codes (RFC 8415 §21.2 and §21.3, RFC 3646 §3, RFC 8415 §21.23).
const CLIENT: u16 = 1;
const SERVER_ID: u16 = 2;
const NAME_SERVERS: u16 = 23;
const REFRESH: u16 = 32;

/// Seconds until the guest asks again.
const REFRESH_TIME: u32 = 86_400;

/// The longest DUID (RFC 8415 §11.1).
const DUID: usize = 130;

/// The reply to a message; `None` when there is none to give.
pub(super) fn reply(config: &GatewayConfig, six: &Ipv6Config, message: &[u8]) -> Option<Vec<u8>> {
    let (header, options) = message.split_first_chunk::<4>()?;
    let [INFORMATION_REQUEST, id @ ..] = *header else { return None };
    let client = option(options, CLIENT);
    let ours = duid(config);
    // RFC 8415 §16.12: a request for another server is not ours.
    if option(options, SERVER_ID).is_some_and(|wanted| wanted != ours) {
        return None;
    }
    let mut reply = vec![REPLY];
    reply.extend(id);
    if let Some(client) = client.filter(|client| client.len() <= DUID) {
        append(&mut reply, CLIENT, client);
    }
    append(&mut reply, SERVER_ID, &ours);
    append(&mut reply, NAME_SERVERS, &six.gateway.octets());
    append(&mut reply, REFRESH, &REFRESH_TIME.to_be_bytes());
    Some(reply)
}

/// Who we are: by our Ethernet address (RFC 8415 §11.4).
fn duid(config: &GatewayConfig) -> Vec<u8> {
    let mut duid = vec![0, 3, 0, 1];
    duid.extend(config.mac);
    duid
}

fn append(to: &mut Vec<u8>, code: u16, data: &[u8]) {
    to.extend(code.to_be_bytes());
    to.extend((data.len() as u16).to_be_bytes());
    to.extend(data);
}

/// The data of the first option of a kind.
fn option(mut options: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(([a, b, c, d], rest)) = options.split_first_chunk::<4>() {
        let (data, behind) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
        if u16::from_be_bytes([*a, *b]) == wanted {
            return Some(data);
        }
        options = behind;
    }
    None
}
