//! Frames to the guest (SDM §3.2).

use crate::registers::{Registers, Ring};
use crate::spec::{cause, control, receive, register, rx};
use crate::{filter, offload};
use kezhan_device::GuestMemory;
use kezhan_ports::nic::{MAX_FRAME, Nic};
use vm_memory::{Bytes, GuestAddress};

/// Frames in one call.
const SHARE: usize = 256;
/// The shortest frame without its check sequence (IEEE 802.3 §3.2.8).
const SHORTEST: usize = 60;

/// What became of a call: causes to raise, and whether frames may be left.
pub(crate) struct Received {
    pub(crate) causes: u32,
    pub(crate) unfinished: bool,
}

/// A frame and its tag.
struct Frame {
    bytes: Vec<u8>,
    tag: Option<u16>,
}

/// Fills the guest's buffers while there are frames. A frame that needs more buffers than there are is dropped;
/// one is taken from the port only when there is a buffer.
pub(crate) fn run(
    nic: &mut dyn Nic,
    registers: &mut Registers,
    memory: &GuestMemory,
    buffer: &mut Vec<u8>,
) -> Received {
    buffer.resize(MAX_FRAME, 0);
    let mut causes = 0;
    for _ in 0..SHARE {
        let mut ring = Ring::of(registers, register::RDBAL);
        let enabled = registers.get(register::RCTL) & receive::ENABLE != 0;
        if !enabled || ring.owned() == 0 {
            return Received { causes, unfinished: false };
        }
        let Some(received) = nic.receive(buffer) else {
            return Received { causes, unfinished: false };
        };
        let bytes = buffer.get(..received.length).unwrap_or_default();
        let plain = received.packet == kezhan_ports::nic::Packet::default();
        if let Some(frame) = prepare(registers, bytes).filter(|_| plain)
            && put(&frame, &mut ring, registers, memory)
        {
            causes |= cause::RECEIVED;
        }
        registers.set(register::RDH, ring.head);
        // RCTL's RDMTS: half, a quarter or an eighth are left (SDM §13.4.22).
        let least = ring.count >> (1 + (registers.get(register::RCTL) >> 8 & 3));
        causes |= if ring.owned() <= least { cause::RECEIVE_LOW } else { 0 };
    }
    Received { causes, unfinished: true }
}

/// The frame as the guest is to see it; `None` when it is not for the guest.
fn prepare(registers: &Registers, bytes: &[u8]) -> Option<Frame> {
    let control = registers.get(register::RCTL);
    let long = bytes.len() + receive::CHECK > receive::LONGEST;
    if !filter::passes(registers, bytes) || long && control & receive::LONG == 0 {
        return None;
    }
    let mut bytes = bytes.to_vec();
    let strips = registers.get(register::CTRL) & control::VLAN != 0;
    let tag = if strips { offload::take_tag(&mut bytes) } else { None };
    if bytes.len() < SHORTEST {
        bytes.resize(SHORTEST, 0);
    }
    if control & receive::STRIP == 0 {
        // Nobody looks at what a link without errors has in its check sequence.
        bytes.extend([0; receive::CHECK]);
    }
    Some(Frame { bytes, tag })
}

/// Bytes of a buffer (SDM §13.4.22: BSIZE, BSEX).
fn buffer_size(control: u32) -> usize {
    let size = 2048 >> (control >> 16 & 3);
    if control & receive::LONG_BUFFERS != 0 { size * 16 } else { size }
}

/// Puts a frame into the ring's buffers; false when they are too few or outside memory.
fn put(frame: &Frame, ring: &mut Ring, registers: &mut Registers, memory: &GuestMemory) -> bool {
    let size = buffer_size(registers.get(register::RCTL));
    let pieces: Vec<&[u8]> = frame.bytes.chunks(size).collect();
    if pieces.len() > ring.owned() as usize {
        return false;
    }
    for (index, piece) in pieces.iter().enumerate() {
        let last = index + 1 == pieces.len();
        let tag = frame.tag.filter(|_| last);
        let mut status = rx::DONE | rx::IGNORE;
        status |= if last { rx::END } else { 0 };
        status |= if tag.is_some() { rx::TAGGED } else { 0 };
        if write(memory, ring.place(), piece, status, tag.unwrap_or(0)).is_none() {
            return false;
        }
        ring.advance();
    }
    registers.count(register::GPRC, 1);
    true
}

/// A piece goes into the buffer of the descriptor at `place`, which is written back (SDM §3.2.3).
fn write(memory: &GuestMemory, place: u64, piece: &[u8], status: u8, tag: u16) -> Option<()> {
    let mut address = [0; 8];
    memory.read_slice(&mut address, GuestAddress(place)).ok()?;
    memory.write_slice(piece, GuestAddress(u64::from_le_bytes(address))).ok()?;
    let [low, high] = (piece.len() as u16).to_le_bytes();
    let [tag_low, tag_high] = tag.to_le_bytes();
    memory
        .write_slice(&[low, high, 0, 0, 0, 0, tag_low, tag_high], GuestAddress(place + 8))
        .ok()?;
    // The status comes last: the driver takes the rest once it is there.
    let order = std::sync::atomic::Ordering::Release;
    memory.store(status, GuestAddress(place + 12), order).ok()
}
