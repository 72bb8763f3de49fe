//! What the guest's network looks like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The network that the guest sees.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The guest's Ethernet address.
    pub guest_mac: [u8; 6],
    /// Our Ethernet address.
    pub mac: [u8; 6],
    /// The guest's address.
    pub guest: Ipv4Addr,
    /// Our address: router, DHCP server and name server.
    pub gateway: Ipv4Addr,
    /// Leading bits of the network.
    pub prefix: u8,
    /// The largest IP packet, in bytes: 68 at least (RFC 791 §3.2), 1280 with IPv6 (RFC 8200 §5).
    pub mtu: u16,
    /// How long the guest may keep its address.
    pub lease: Duration,
    /// IPv6, when the guest has it.
    pub six: Option<Ipv6Config>,
    /// Names are not resolved: each gets an address that stands for it, and [`super::Gateway::name_behind`]
    /// tells the name again. For egress by a proxy.
    pub stand_ins: bool,
    /// Files are served to a guest that starts from the network (RFC 1350), and which of them DHCP names.
    pub boot: Option<BootFile>,
}

/// The file to start, when DHCP is to name one (RFC 2132 §9.5).
pub type BootFile = Option<String>;

/// The network in IPv6. The guest makes its own addresses in it (RFC 4862 §5.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Config {
    /// The first 64 bits that all its addresses have.
    pub prefix: Ipv6Addr,
    /// Our address in it.
    pub gateway: Ipv6Addr,
    /// Our link-local address, which routers are known by (RFC 4861 §4.2).
    pub link_local: Ipv6Addr,
}

impl GatewayConfig {
    /// 10.0.2.0/24 with the guest at .15 and us at .2, and a unique local IPv6 network (RFC 4193) with us
    /// at `::2`; 1500 bytes.
    #[must_use]
    pub fn usual(guest_mac: [u8; 6]) -> GatewayConfig {
        GatewayConfig {
            guest_mac,
            mac: [0x02, 0x6b, 0x7a, 0x00, 0x00, 0x02],
            guest: Ipv4Addr::new(10, 0, 2, 15),
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            prefix: 24,
            mtu: 1500,
            lease: Duration::from_secs(24 * 60 * 60),
            six: Some(Ipv6Config {
                prefix: Ipv6Addr::new(0xfd6b, 0x7a68, 0x616e, 0, 0, 0, 0, 0),
                gateway: Ipv6Addr::new(0xfd6b, 0x7a68, 0x616e, 0, 0, 0, 0, 2),
                link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
            }),
            stand_ins: false,
            boot: None,
        }
    }

    /// Whether an address is ours.
    pub(super) fn is_ours(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip == self.gateway,
            IpAddr::V6(ip) => self.six.is_some_and(|six| ip == six.gateway || ip == six.link_local),
        }
    }

    /// Whether an address may be the guest's.
    pub(super) fn is_guests(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip == self.guest,
            IpAddr::V6(ip) => self.six.is_some_and(|six| six.is_guests(ip)),
        }
    }

    /// Our address in the family of another one.
    pub(super) fn ours_like(&self, ip: IpAddr) -> IpAddr {
        match (ip, self.six) {
            (IpAddr::V6(ip), Some(six)) if ip.is_unicast_link_local() => six.link_local.into(),
            (IpAddr::V6(_), Some(six)) => six.gateway.into(),
            _ => self.gateway.into(),
        }
    }

    /// Whether an address is everybody's on the guest's network (RFC 919 §7).
    pub(super) fn is_broadcast(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        let hosts = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let here = ip.to_bits() & !hosts == self.gateway.to_bits() & !hosts;
        ip.is_broadcast() || here && ip.to_bits() | hosts == ip.to_bits()
    }
}

impl Ipv6Config {
    fn is_guests(&self, ip: Ipv6Addr) -> bool {
        let [a, b, c, d, ..] = ip.segments();
        let [e, f, g, h, ..] = self.prefix.segments();
        let here = [a, b, c, d] == [e, f, g, h] || ip.is_unicast_link_local();
        here && ip != self.gateway && ip != self.link_local
    }
}
