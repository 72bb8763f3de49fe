//! Which frames the guest wants (virtio 1.2 §5.1.6.5.1 to §5.1.6.5.3).
//!
//! A driver that says nothing gets everything; one that sets a table gets what is in it. A table longer than
//! what is kept here lets all addresses of its kind pass, which is imprecise and allowed: the guest looks again.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Addresses of each kind that are kept.
const TABLE: usize = 128;
/// VLAN identifiers (IEEE 802.1Q §9.6): 12 bits.
const VLAN: u16 = 0xfff;
/// Type of a frame with a VLAN tag, and where type and tag are.
const TAGGED: [u8; 2] = [0x81, 0x00];
const TYPE_AT: usize = 12;
const TAG_AT: usize = 14;

/// An Ethernet address.
type Mac = [u8; 6];

/// Addresses of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    addresses: Vec<Mac>,
    overflown: bool,
}

/// What may pass. The switches are those of the driver's commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) all_unicast: bool,
    pub(super) no_multicast: bool,
    pub(super) no_unicast: bool,
    pub(super) no_broadcast: bool,
    unicast: Table,
    multicast: Table,
    vlans: BTreeSet<u16>,
}

impl Default for Filter {
    /// Everything passes.
    fn default() -> Filter {
        Filter {
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Table::default(),
            multicast: Table::default(),
            vlans: BTreeSet::new(),
        }
    }
}

impl Table {
    /// Of a count in 4 bytes and so many addresses; what follows them too.
    fn read(data: &[u8]) -> Option<(Table, &[u8])> {
        let (count, rest) = data.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(6)?;
        let (addresses, rest) = rest.split_at_checked(length)?;
        let (addresses, _) = addresses.as_chunks::<6>();
        let kept: Vec<Mac> = addresses.iter().take(TABLE).copied().collect();
        let overflown = kept.len() < addresses.len();
        Some((Table { addresses: kept, overflown }, rest))
    }

    fn holds(&self, mac: &Mac) -> bool {
        self.overflown || self.addresses.contains(mac)
    }
}

impl Filter {
    /// Takes the two tables of a command, unicast first; false when they are malformed.
    pub(super) fn set_tables(&mut self, data: &[u8]) -> bool {
        let Some((unicast, rest)) = Table::read(data) else { return false };
        let Some((multicast, [])) = Table::read(rest) else { return false };
        (self.unicast, self.multicast) = (unicast, multicast);
        true
    }

    /// Lets a VLAN pass or not; false when there is no such VLAN.
    pub(super) fn set_vlan(&mut self, vlan: u16, pass: bool) -> bool {
        if vlan > VLAN {
            return false;
        }
        if pass {
            self.vlans.insert(vlan)
        } else {
            self.vlans.remove(&vlan)
        };
        true
    }

    /// Whether a frame passes to a card with the address `mac`; VLANs count when `vlans` were agreed upon.
    pub(super) fn passes(&self, frame: &[u8], mac: Mac, vlans: bool) -> bool {
        let Some((to, _)) = frame.split_first_chunk::<6>() else { return false };
        self.passes_address(to, mac) && !(vlans && self.is_of_other_vlan(frame))
    }

    fn passes_address(&self, to: &Mac, mac: Mac) -> bool {
        let [first, ..] = to;
        if self.promiscuous {
            return true;
        }
        if *to == [0xff; 6] {
            return !self.no_broadcast;
        }
        if first & 1 != 0 {
            return !self.no_multicast && (self.all_multicast || self.multicast.holds(to));
        }
        !self.no_unicast && (self.all_unicast || *to == mac || self.unicast.holds(to))
    }

    /// Tagged with an identifier that is not wanted; 0 is no VLAN but a priority (IEEE 802.1Q §9.6).
    fn is_of_other_vlan(&self, frame: &[u8]) -> bool {
        let tagged = frame.get(TYPE_AT..TAG_AT) == Some(&TAGGED[..]);
        let tag = frame.get(TAG_AT..).and_then(|rest| rest.first_chunk());
        let vlan = tag.map_or(0, |tag| u16::from_be_bytes(*tag) & VLAN);
        tagged && vlan != 0 && !self.vlans.contains(&vlan)
    }

    /// Whether it is of a size that a driver can bring about.
    pub(super) fn is_bounded(&self) -> bool {
        let tables = [&self.unicast, &self.multicast];
        tables.iter().all(|table| table.addresses.len() <= TABLE)
            && self.vlans.last().is_none_or(|last| *last <= VLAN)
    }
}
