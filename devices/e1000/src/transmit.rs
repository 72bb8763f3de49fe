//! Frames from the guest (SDM §3.3, §3.4).
//!
//! ```text
//!   legacy or data descriptors ─► packet ── at its end ─► cut, sums, tag ─► segments ─► Nic
//!   context descriptor ─► remembered for the data descriptors that follow
//! ```
//! Segments that find no room behind the port wait here, and with them the ring.

use crate::offload::{self, Context, Sums};
use crate::registers::{Registers, Ring};
use crate::spec::{cause, control, register, tx};
use kezhan_device::GuestMemory;
use kezhan_ports::nic::{MAX_FRAME, Nic, Packet, Transmit};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use vm_memory::{Bytes, GuestAddress};

/// Descriptors in one call.
const SHARE: usize = 1024;

/// What is under way: saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transmitter {
    context: Context,
    /// The packet so far; longer than a frame when it is to be dropped.
    packet: Vec<u8>,
    sums: Sums,
    cut: bool,
    tag: Option<u16>,
    /// Frames that wait for the port.
    #[serde(skip)]
    waiting: VecDeque<Vec<u8>>,
}

/// A descriptor as it lies in memory.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    /// Length, type and command.
    command: u32,
    /// Status, options, tag.
    options: u32,
}

/// What became of a call.
pub(crate) struct Sent {
    pub(crate) causes: u32,
    pub(crate) unfinished: bool,
}

impl Transmitter {
    /// Whether a driver can have brought it about.
    pub(crate) fn is_bounded(&self) -> bool {
        self.packet.len() <= MAX_FRAME + 1
    }

    /// Sends what the guest has put into the ring.
    pub(crate) fn run(
        &mut self,
        nic: &mut dyn Nic,
        registers: &mut Registers,
        memory: &GuestMemory,
    ) -> Sent {
        let mut causes = 0;
        for _ in 0..SHARE {
            let mut ring = Ring::of(registers, register::TDBAL);
            let enabled = registers.get(register::TCTL) & crate::spec::TRANSMIT_ENABLE != 0;
            if !self.flush(nic) || !enabled || ring.owned() == 0 {
                return Sent { causes, unfinished: false };
            }
            let place = ring.place();
            if let Some(descriptor) = read(memory, place) {
                self.take(descriptor, registers, memory);
                if descriptor.command & tx::REPORT != 0 {
                    let order = std::sync::atomic::Ordering::Release;
                    memory.store(1_u8, GuestAddress(place.wrapping_add(12)), order).ok();
                    causes |= cause::TRANSMITTED;
                }
            }
            ring.advance();
            registers.set(register::TDH, ring.head);
            causes |= if ring.owned() == 0 { cause::TRANSMIT_EMPTY } else { 0 };
        }
        Sent { causes, unfinished: true }
    }

    /// Hands the port what waits; false when it has no room.
    fn flush(&mut self, nic: &mut dyn Nic) -> bool {
        while let Some(frame) = self.waiting.front() {
            if nic.transmit(frame, Packet::default()) == Transmit::Full {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    fn take(&mut self, descriptor: Descriptor, registers: &mut Registers, memory: &GuestMemory) {
        let Descriptor { command, options, .. } = descriptor;
        let extended = command & tx::EXTENDED != 0;
        if extended && command & tx::DATA == 0 {
            self.context = context(descriptor);
            return;
        }
        if self.packet.is_empty() {
            self.sums = Sums::default();
            (self.cut, self.tag) = (extended && command & tx::CUT != 0, None);
            if extended {
                self.sums.ip = options & tx::IP_CHECKSUM != 0;
                self.sums.tcp = options & tx::TCP_CHECKSUM != 0;
            }
        }
        let length = if extended { command & 0xf_ffff } else { command & 0xffff };
        self.append(descriptor.address, length as usize, memory);
        if command & tx::TAG != 0 && registers.get(register::CTRL) & control::VLAN != 0 {
            self.tag = Some((options >> 16) as u16);
        }
        if command & tx::END != 0 {
            if !extended && command & tx::CHECKSUM != 0 {
                // Start and place of the sum are in the descriptor (SDM §3.3.3).
                let (start, place) = (options as u16 >> 8, (command >> 16) as u16 & 0xff);
                offload::put_sum(&mut self.packet, [start, place, 0]);
            }
            self.finish(registers);
        }
    }

    /// Adds a part of the packet; one outside memory, or too much of them, spoils it.
    fn append(&mut self, address: u64, length: usize, memory: &GuestMemory) {
        let start = self.packet.len();
        if start > MAX_FRAME || length > MAX_FRAME - start {
            self.packet.resize(MAX_FRAME + 1, 0);
            return;
        }
        self.packet.resize(start + length, 0);
        let part = self.packet.get_mut(start..).unwrap_or_default();
        if memory.read_slice(part, GuestAddress(address)).is_err() {
            self.packet.resize(MAX_FRAME + 1, 0);
        }
    }

    fn finish(&mut self, registers: &mut Registers) {
        let mut packet = std::mem::take(&mut self.packet);
        if packet.len() > MAX_FRAME {
            return;
        }
        let segments = if self.cut {
            offload::cut(&packet, &self.context, self.sums).unwrap_or_default()
        } else {
            offload::fill(&mut packet, &self.context, self.sums);
            vec![packet]
        };
        registers.count(register::GPTC, segments.len() as u32);
        for mut segment in segments {
            if let Some(tag) = self.tag {
                offload::add_tag(&mut segment, tag);
            }
            self.waiting.push_back(segment);
        }
    }
}

fn read(memory: &GuestMemory, place: u64) -> Option<Descriptor> {
    let mut bytes = [0; 16];
    memory.read_slice(&mut bytes, GuestAddress(place)).ok()?;
    let value = u128::from_le_bytes(bytes);
    let (command, options) = ((value >> 64) as u32, (value >> 96) as u32);
    Some(Descriptor { address: value as u64, command, options })
}

/// A context descriptor (SDM §3.3.6).
fn context(descriptor: Descriptor) -> Context {
    let Descriptor { address, command, options } = descriptor;
    let part = |value: u64| [value as u8, (value >> 8) as u8].map(u16::from);
    let ([ip_start, ip_place], [tcp_start, tcp_place]) = (part(address), part(address >> 32));
    Context {
        ip: [ip_start, ip_place, (address >> 16) as u16],
        tcp: [tcp_start, tcp_place, (address >> 48) as u16],
        headers: (options >> 8 & 0xff) as u16,
        size: (options >> 16) as u16,
        is_tcp: command & tx::TCP != 0,
        is_ipv4: command & tx::IPV4 != 0,
    }
}
