//! The control queue (virtio 1.2 §5.1.6.5): class, command, data; one byte back.

use super::Net;
use crate::chain::Chain;
use crate::device::Rings;
use crate::spec::net as numbers;

/// Bytes of a command's data that are looked at: two tables of 1000 addresses.
const DATA: u64 = 2 * (4 + 6 * 1000);

impl Net {
    /// Carries out what the driver has put into the control queue.
    pub(super) fn control(&mut self, queue: usize, rings: &mut Rings<'_>) {
        while let Some(chain) = rings.pop(queue) {
            let done = self.perform(&chain, rings);
            let ack = if done { numbers::ACK_OK } else { numbers::ACK_ERROR };
            let written = chain.write_at(rings.memory(), 0, &[ack]).map_or(0, |()| 1);
            rings.complete(queue, &chain, written);
        }
    }

    fn perform(&mut self, chain: &Chain, rings: &Rings<'_>) -> bool {
        let Some(length) = chain.readable_length().checked_sub(2).filter(|n| *n <= DATA) else {
            return false;
        };
        let (mut head, mut data) = ([0; 2], vec![0; length as usize]);
        let read = chain.read_at(rings.memory(), 0, &mut head).is_ok()
            && chain.read_at(rings.memory(), 2, &mut data).is_ok();
        let [class, command] = head;
        read && match class {
            numbers::CLASS_RX => self.set_mode(command, &data),
            numbers::CLASS_MAC => self.set_addresses(command, &data),
            numbers::CLASS_VLAN if self.has(numbers::CTRL_VLAN) => self.set_vlan(command, &data),
            numbers::CLASS_MQ if self.has(numbers::MQ) => self.set_pairs(command, &data),
            numbers::CLASS_OFFLOADS => self.set_offloads(command, &data),
            _ => false,
        }
    }

    /// §5.1.6.5.1.
    fn set_mode(&mut self, command: u8, data: &[u8]) -> bool {
        let extra = self.has(numbers::CTRL_RX_EXTRA);
        let filter = &mut self.settings.filter;
        let switch = match command {
            numbers::RX_PROMISC => &mut filter.promiscuous,
            numbers::RX_ALLMULTI => &mut filter.all_multicast,
            numbers::RX_ALLUNI if extra => &mut filter.all_unicast,
            numbers::RX_NOMULTI if extra => &mut filter.no_multicast,
            numbers::RX_NOUNI if extra => &mut filter.no_unicast,
            numbers::RX_NOBCAST if extra => &mut filter.no_broadcast,
            _ => return false,
        };
        let [value] = data else { return false };
        *switch = *value != 0;
        self.has(numbers::CTRL_RX)
    }

    /// §5.1.6.5.2.
    fn set_addresses(&mut self, command: u8, data: &[u8]) -> bool {
        match (command, <[u8; 6]>::try_from(data)) {
            (numbers::MAC_TABLE_SET, _) if self.has(numbers::CTRL_RX) => {
                self.settings.filter.set_tables(data)
            }
            (numbers::MAC_ADDR_SET, Ok(mac)) if self.has(numbers::CTRL_MAC_ADDR) => {
                self.settings.mac = mac;
                true
            }
            _ => false,
        }
    }

    /// §5.1.6.5.3.
    fn set_vlan(&mut self, command: u8, data: &[u8]) -> bool {
        let Ok(vlan) = <[u8; 2]>::try_from(data).map(u16::from_le_bytes) else { return false };
        match command {
            numbers::VLAN_ADD => self.settings.filter.set_vlan(vlan, true),
            numbers::VLAN_DEL => self.settings.filter.set_vlan(vlan, false),
            _ => false,
        }
    }

    /// §5.1.6.5.5.
    fn set_pairs(&mut self, command: u8, data: &[u8]) -> bool {
        let Ok(pairs) = <[u8; 2]>::try_from(data).map(u16::from_le_bytes) else { return false };
        let fits = command == numbers::MQ_PAIRS_SET
            && (1..=self.pairs.len()).contains(&usize::from(pairs));
        if fits {
            self.settings.pairs = pairs;
        }
        fits
    }

    /// §5.1.6.5.6: some of those that were agreed upon.
    fn set_offloads(&mut self, command: u8, data: &[u8]) -> bool {
        let Ok(wanted) = <[u8; 8]>::try_from(data).map(u64::from_le_bytes) else { return false };
        let fits = command == numbers::OFFLOADS_SET
            && self.has(numbers::CTRL_GUEST_OFFLOADS)
            && wanted & !self.features == 0;
        if fits {
            self.settings.offloads = Some(wanted);
            self.tell_ports();
        }
        fits
    }
}
