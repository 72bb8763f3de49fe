//! BOOTP (RFC 951, RFC 1533 for its vendor area): an address and a file for firmware that is older than DHCP.
//!
//! The message is DHCP's without the option that says of which kind it is (RFC 1534 §2). There is nothing to agree
//! upon and nothing that ends: the guest has one address, which is told.

use super::GatewayConfig;
use std::net::Ipv4Addr;

/// Where the fields are (RFC 951 §3), and the length of a message.
const SECONDS: usize = 8;
const YOUR_IP: usize = 16;
const SERVER_IP: usize = 20;
const HARDWARE: usize = 28;
const FILE: std::ops::Range<usize> = 108..236;
const VENDOR: usize = 236;
const LENGTH: usize = 300;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Ethernet, with addresses of six bytes.
const ETHERNET: [u8; 2] = [1, 6];

/// The four bytes before options, and the options (RFC 1533 §2, §3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAMES: u8 = 6;
const KIND: u8 = 53;
const END: u8 = 255;

/// The reply to a request of the guest's; `None` when it is none, or DHCP's.
pub(super) fn reply(config: &GatewayConfig, message: &[u8]) -> Option<Vec<u8>> {
    let mut reply = message.get(..VENDOR)?.to_vec();
    let is_request = message.first() == Some(&REQUEST) && message.get(1..3)? == ETHERNET;
    let guest = message.get(HARDWARE..HARDWARE + 6)? == config.guest_mac;
    if !is_request || !guest || has_kind(message.get(VENDOR..)?) {
        return None;
    }
    let mut put = |at: usize, bytes: &[u8]| {
        reply.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, &[REPLY]);
    put(SECONDS, &[0, 0]);
    put(YOUR_IP, &config.guest.octets());
    let server = if config.boot.is_some() { config.gateway } else { Ipv4Addr::UNSPECIFIED };
    put(SERVER_IP, &server.octets());
    // The file that is to be started; without one, that which the guest has named.
    if let Some(Some(file)) = &config.boot
        && file.len() < FILE.len()
    {
        put(FILE.start, &[0; 128]);
        put(FILE.start, file.as_bytes());
    }
    reply.extend(COOKIE);
    let mask = u32::MAX.checked_shl(32 - u32::from(config.prefix.min(32))).unwrap_or(0);
    for (kind, ip) in
        [(MASK, Ipv4Addr::from_bits(mask)), (ROUTER, config.gateway), (NAMES, config.gateway)]
    {
        reply.extend([kind, 4]);
        reply.extend(ip.octets());
    }
    reply.push(END);
    reply.resize(LENGTH, 0);
    Some(reply)
}

/// Whether the options say of which kind the message is: then it is DHCP's.
fn has_kind(vendor: &[u8]) -> bool {
    let Some(mut rest) = vendor.strip_prefix(&COOKIE) else { return false };
    loop {
        match rest {
            [0, behind @ ..] => rest = behind,
            [KIND, ..] => return true,
            [_, length, behind @ ..] if rest.first() != Some(&END) => {
                rest = behind.get(usize::from(*length)..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn request() -> Vec<u8> {
        let mut message = vec![0; LENGTH];
        message[..8].copy_from_slice(&[1, 1, 6, 0, 0xaa, 0xbb, 0xcc, 0xdd]);
        message[HARDWARE..HARDWARE + 6].copy_from_slice(&MAC);
        message
    }

    #[test]
    fn a_guest_is_told_its_address_and_its_file() {
        let boot = Some(Some("pxe/loader".to_owned()));
        let config = GatewayConfig { boot, ..GatewayConfig::usual(MAC) };
        let reply = reply(&config, &request()).unwrap();
        assert_eq!(reply[..8], [2, 1, 6, 0, 0xaa, 0xbb, 0xcc, 0xdd]);
        assert_eq!(reply[YOUR_IP..YOUR_IP + 4], config.guest.octets());
        assert_eq!(reply[SERVER_IP..SERVER_IP + 4], config.gateway.octets());
        assert_eq!(reply[HARDWARE..HARDWARE + 6], MAC);
        assert_eq!(&reply[FILE.start..FILE.start + 11], b"pxe/loader\0");
        let [a, b, c, d] = config.gateway.octets();
        let options = [1, 4, 255, 255, 255, 0, 3, 4, a, b, c, d, 6, 4, a, b, c, d, 255];
        assert_eq!(reply[VENDOR..VENDOR + 4], COOKIE);
        assert_eq!(reply[VENDOR + 4..VENDOR + 23], options);
        assert_eq!(reply.len(), LENGTH);
    }

    #[test]
    fn what_is_no_request_of_the_guests_is_not_answered() {
        let config = GatewayConfig::usual(MAC);
        let mut dhcp = request();
        dhcp[VENDOR..VENDOR + 8].copy_from_slice(&[99, 130, 83, 99, 0, KIND, 1, 1]);
        let mut other = request();
        other[HARDWARE] = 4;
        let mut answer = request();
        answer[0] = REPLY;
        for message in [&dhcp[..], &other, &answer, &request()[..200], &[]] {
            assert_eq!(reply(&config, message), None);
        }
        let mut unknown = request();
        unknown[VENDOR..VENDOR + 9].copy_from_slice(&[99, 130, 83, 99, 12, 2, KIND, 1, 255]);
        assert!(reply(&config, &unknown).is_some(), "the number is inside of another option");
    }
}
