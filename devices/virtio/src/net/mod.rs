//! virtio-net (virtio 1.2 §5.1) on a network port.
//!
//! ```text
//!   transmitq ──► header, frame ──► check, Packet ──► Nic::transmit ── Full? ──► put back, tried at the next poll
//!   receiveq ◄── header, frame ◄── filter ◄───────── Nic::receive ◄── chassis: poll
//!   controlq ──► filter, Ethernet address, offloads, queue pairs
//! ```
//! # Queues
//! Pair *n* is the queues 2*n* (receive) and 2*n* + 1 (transmit), each pair with a port of its own; the control
//! queue comes behind the pairs that the driver may use: at 2 unless it agreed on several (§5.1.2).
//!
//! # Where work is done
//! Transmitting copies the frame out of guest memory and hands it to the port, which never waits; receiving is
//! done where the chassis polls. Both are done in a thread of the card's own where the chassis gives it one: a
//! vCPU that sends many small frames then pays neither for each copy nor with an interrupt for each. What finds no
//! room, in the guest or behind the port, stays where it is: a buffer is put back into its ring, a frame waits
//! in the pair.
//!
//! # What a frame may ask for
//! The header's numbers are the guest's. Offsets are checked against the frame, the length of the headers is
//! computed from the frame (§5.1.6.2: a device must not rely on it), and work that was not agreed upon drops
//! the frame. Towards the guest a frame with work that it does not take is dropped, as a network may.
//!
//! # Rejected
//! Announcing a move by the guest (GUEST_ANNOUNCE): the network behind the port learns addresses from any
//! frame. UDP segmentation and receive-side scaling: no back-end here gains by them.

mod control;
mod filter;
mod header;
mod receive;
#[cfg(test)]
mod tests;
mod transmit;

use crate::device::{Identity, Rings, VirtioDevice};
use crate::spec::{device_id, net as numbers};
use filter::Filter;
use kezhan_device::RestoreError;
use kezhan_ports::nic::{Nic, Offloads};
use receive::Receiver;
use serde::{Deserialize, Serialize};
use transmit::Transmitter;

/// Size of a receive queue: eight of the longest frames in buffers of 1500 bytes.
const RECEIVE_QUEUE: u16 = 512;
/// Size of a transmit queue.
const TRANSMIT_QUEUE: u16 = 256;
/// Size of the control queue.
const CONTROL_QUEUE: u16 = 64;
/// Queue pairs at most: with the control queue they are 63 queues.
const PAIRS: usize = 31;

/// A pair of queues and what is behind it.
struct Pair {
    nic: Box<dyn Nic>,
    receiver: Receiver,
    transmitter: Transmitter,
}

/// What a driver has set, beside the queues: saved state, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    mac: [u8; 6],
    filter: Filter,
    /// Offloads set by command, in place of those agreed upon.
    offloads: Option<u64>,
    /// Pairs in use.
    pairs: u16,
}

/// The network device.
pub struct Net {
    pairs: Vec<Pair>,
    mac: [u8; 6],
    settings: Settings,
    features: u64,
    link: bool,
    /// Which direction goes first where both share what one call may do.
    sends_first: bool,
}

impl Settings {
    fn power_on(mac: [u8; 6]) -> Settings {
        Settings { mac, filter: Filter::default(), offloads: None, pairs: 1 }
    }
}

impl Net {
    /// A card with the Ethernet address `mac` and a pair of queues for each port, whose wakers are set; at
    /// most 31 of them count.
    #[must_use]
    pub fn new(ports: Vec<Box<dyn Nic>>, mac: [u8; 6]) -> Net {
        let pair =
            |nic| Pair { nic, receiver: Receiver::default(), transmitter: Transmitter::default() };
        let pairs: Vec<Pair> = ports.into_iter().take(PAIRS).map(pair).collect();
        let settings = Settings::power_on(mac);
        let mut net = Net { pairs, mac, settings, features: 0, link: false, sends_first: false };
        net.link = net.link_up();
        net
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn link_up(&self) -> bool {
        self.pairs.iter().any(|pair| pair.nic.link_up())
    }

    /// Where the control queue is (§5.1.2).
    fn control_queue(&self) -> usize {
        if self.has(numbers::MQ) { 2 * self.pairs.len() } else { 2 }
    }

    /// What the guest does on receive.
    fn accepted(&self) -> Offloads {
        let bits = self.settings.offloads.unwrap_or(self.features);
        offloads(bits, [numbers::GUEST_CSUM, numbers::GUEST_TSO4, numbers::GUEST_TSO6])
    }

    /// Tells the ports what the guest takes.
    fn tell_ports(&mut self) {
        let accepted = self.accepted();
        for pair in &mut self.pairs {
            pair.nic.accept(accepted);
        }
    }

    fn look_at_link(&mut self, rings: &mut Rings<'_>) {
        let link = self.link_up();
        if std::mem::replace(&mut self.link, link) != link {
            rings.config_changed();
        }
    }

    /// The frames of a pair, and those of pairs that are not in use: the network knows nothing of which are.
    fn receive(&mut self, index: usize, rings: &mut Rings<'_>) {
        let in_use = usize::from(self.settings.pairs).min(self.pairs.len());
        let rules = receive::Rules {
            mac: self.settings.mac,
            filter: &self.settings.filter,
            vlans: self.has(numbers::CTRL_VLAN),
            accepted: self.accepted(),
            mergeable: self.has(numbers::MRG_RXBUF),
        };
        let (used, idle) = self.pairs.split_at_mut(in_use);
        let Some(pair) = used.get_mut(index) else { return };
        pair.receiver.run(&mut *pair.nic, 2 * index, rings, &rules);
        for idle in idle.iter_mut().skip(index).step_by(in_use) {
            pair.receiver.run(&mut *idle.nic, 2 * index, rings, &rules);
        }
    }

    fn transmit(&mut self, index: usize, rings: &mut Rings<'_>) {
        let wanted = [numbers::CSUM, numbers::HOST_TSO4, numbers::HOST_TSO6];
        let allowed = offloads(self.features, wanted);
        if let Some(pair) = self.pairs.get_mut(index) {
            pair.transmitter.run(&mut *pair.nic, 2 * index + 1, rings, allowed);
        }
    }

    /// The device's configuration (§5.1.4).
    fn config_bytes(&self) -> [u8; numbers::CONFIG_BYTES] {
        let [a, b, c, d, e, f] = self.settings.mac;
        let status = if self.link { numbers::LINK_UP } else { 0 };
        let [status, _] = status.to_le_bytes();
        let [pairs, _] = (self.pairs.len() as u16).to_le_bytes();
        let mtu = self.pairs.first().map_or(numbers::LEAST_MTU, |pair| pair.nic.info().mtu);
        let [mtu_low, mtu_high] = mtu.to_le_bytes();
        [a, b, c, d, e, f, status, 0, pairs, 0, mtu_low, mtu_high]
    }
}

/// The offloads among `bits`, given those of checksum, TCP over IPv4 and TCP over IPv6; the last two need the
/// first (§5.1.3.1).
fn offloads(bits: u64, [checksum, tcp4, tcp6]: [u64; 3]) -> Offloads {
    let checksum = bits & checksum != 0;
    Offloads { checksum, tcp4: checksum && bits & tcp4 != 0, tcp6: checksum && bits & tcp6 != 0 }
}

impl VirtioDevice for Net {
    fn identity(&self) -> Identity {
        // Network controller, Ethernet (PCI 3.0 appendix D).
        Identity { kind: "virtio-net", id: device_id::NETWORK, class: 0x02_0000 }
    }

    fn features(&self) -> u64 {
        let mut features = numbers::ALWAYS;
        let all = |wanted: fn(Offloads) -> bool| {
            !self.pairs.is_empty() && self.pairs.iter().all(|pair| wanted(pair.nic.info().offloads))
        };
        if all(|offloads| offloads.checksum) {
            features |= numbers::CSUM;
            features |= if all(|offloads| offloads.tcp4) { numbers::HOST_TSO4 } else { 0 };
            features |= if all(|offloads| offloads.tcp6) { numbers::HOST_TSO6 } else { 0 };
        }
        if self.pairs.len() > 1 {
            features |= numbers::MQ;
        }
        features
    }

    fn queues(&self) -> Vec<u16> {
        let mut queues = [RECEIVE_QUEUE, TRANSMIT_QUEUE].repeat(self.pairs.len().max(1));
        queues.push(CONTROL_QUEUE);
        queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let bytes = self.config_bytes();
        for (byte, value) in data.iter_mut().zip(bytes.iter().skip(offset as usize)) {
            *byte = *value;
        }
    }

    fn start(&mut self, features: u64) {
        self.features = features;
        self.link = self.link_up();
        self.tell_ports();
    }

    fn process(&mut self, queue: usize, rings: &mut Rings<'_>) {
        if queue == self.control_queue() {
            self.control(queue, rings);
        } else if queue.is_multiple_of(2) {
            self.receive(queue / 2, rings);
        } else {
            self.transmit(queue / 2, rings);
        }
    }

    /// Room for frames is work when one waits for it.
    fn is_work(&self, queue: usize) -> bool {
        let receives = queue.is_multiple_of(2) && queue != self.control_queue();
        !receives || self.pairs.get(queue / 2).is_none_or(|pair| pair.receiver.is_starved())
    }

    /// The longest frame takes 44 buffers of the usual size.
    fn slice(&self) -> u32 {
        128
    }

    fn rung(&mut self, rings: &mut Rings<'_>) {
        self.look_at_link(rings);
        self.control(self.control_queue(), rings);
        self.sends_first = !self.sends_first;
        for index in 0..usize::from(self.settings.pairs) {
            if self.sends_first {
                self.transmit(index, rings);
                self.receive(index, rings);
            } else {
                self.receive(index, rings);
                self.transmit(index, rings);
            }
        }
    }

    fn poll(&mut self, rings: &mut Rings<'_>) {
        self.look_at_link(rings);
        for index in 0..usize::from(self.settings.pairs) {
            self.receive(index, rings);
            self.transmit(index, rings);
        }
    }

    fn forget(&mut self) -> bool {
        self.features = 0;
        self.settings = Settings::power_on(self.mac);
        for pair in &mut self.pairs {
            pair.receiver = Receiver::default();
        }
        self.tell_ports();
        true
    }

    fn save(&self) -> serde_json::Value {
        serde_json::to_value(&self.settings).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let invalid = |reason: &str| RestoreError::invalid(self.identity().kind, reason);
        let settings: Settings = serde_json::from_value(state.clone())
            .map_err(|error| invalid(&format!("its settings: {error}")))?;
        if settings.pairs == 0 || usize::from(settings.pairs) > self.pairs.len().max(1) {
            return Err(invalid("it uses queue pairs that this device does not have"));
        }
        if !settings.filter.is_bounded() {
            return Err(invalid("its filter is longer than a driver can make it"));
        }
        self.settings = settings;
        Ok(())
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Net({} pairs, link {})", self.pairs.len(), self.link)
    }
}
