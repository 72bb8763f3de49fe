//! A router's address and the network that it is in.

use crate::NetworkError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 address and how many of its bits are the network's: `10.77.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    /// The router's address.
    pub address: Ipv4Addr,
    /// Bits of the network, 0 to 32.
    pub bits: u8,
}

impl Subnet {
    /// The bits of the network.
    pub(crate) fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0))
    }

    /// The network's own address.
    pub(crate) fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask().to_bits())
    }

    /// The address of all stations (RFC 919 §7).
    pub(crate) fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask().to_bits())
    }

    /// Whether the two have addresses in common.
    pub(crate) fn overlaps(self, other: Subnet) -> bool {
        let shorter = Subnet { bits: self.bits.min(other.bits), ..self };
        shorter.network() == Subnet { bits: shorter.bits, ..other }.network()
    }
}

impl FromStr for Subnet {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Subnet, NetworkError> {
        let wrong = || NetworkError::Subnet(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().ok().ok_or_else(wrong)?;
        let bits = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(wrong)?;
        let subnet = Subnet { address, bits };
        let a_station = address != subnet.network() && address != subnet.broadcast();
        if a_station { Ok(subnet) } else { Err(wrong()) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Subnet {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Subnet, NetworkError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_reads_as_it_is_written_and_names_a_station() {
        assert_eq!(subnet("10.77.0.1/24").to_string(), "10.77.0.1/24");
        for text in ["", "10.0.0.1", "10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "10.0.0.1/7"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn subnets_overlap_when_one_is_within_the_other() {
        assert!(subnet("10.0.0.1/8").overlaps(subnet("10.77.0.1/24")));
        assert!(subnet("10.77.0.1/24").overlaps(subnet("10.77.0.9/24")));
        assert!(!subnet("10.77.0.1/24").overlaps(subnet("10.77.1.1/24")));
        let everything = Subnet { address: Ipv4Addr::UNSPECIFIED, bits: 0 };
        assert!(everything.overlaps(subnet("10.77.0.1/24")));
    }
}
