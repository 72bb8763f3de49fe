//! Frames to the guest (virtio 1.2 §5.1.6.3, §5.1.6.4).
//!
//! ```text
//!   pop a buffer ─► take a frame ─► filter ─► as many buffers as it needs ─► header, frame ─► used together
//!        │               │ none                     │ not there yet
//!        ▼               ▼                          ▼
//!      leave        put the buffer back     put all back, the frame waits
//! ```
//! A frame is taken from the port only when there is a buffer, so that the port sees the guest's pace. Buffers
//! that are not used go back into their ring: nothing is held between two calls but one frame, which a reset
//! or a save may lose, as a network may.

use super::filter::Filter;
use super::header;
use crate::chain::Chain;
use crate::device::Rings;
use crate::queue::Used;
use kezhan_ports::nic::{MAX_FRAME, Nic, Offloads, Received};

/// Frames that may be skipped in one call: what the filter keeps out must not keep the thread.
const SKIPS: u32 = 1024;

/// What holds for every frame of a call.
pub(super) struct Rules<'a> {
    pub(super) mac: [u8; 6],
    pub(super) filter: &'a Filter,
    /// Whether the filter looks at VLANs.
    pub(super) vlans: bool,
    pub(super) accepted: Offloads,
    /// Whether a frame may take several buffers.
    pub(super) mergeable: bool,
}

/// The receiving half of a pair.
#[derive(Default)]
pub(super) struct Receiver {
    /// Room for a header and the longest frame.
    bytes: Vec<u8>,
    /// A frame in `bytes` that found too few buffers.
    waiting: Option<Received>,
    /// The guest has given all its buffers' worth: more are wanted.
    starved: bool,
}

/// The buffers of a frame.
enum Gathered {
    Enough(Vec<Chain>),
    /// More may come.
    TooFew(Vec<Chain>),
    /// Not in this ring, or not in one buffer where it has to be.
    Never(Vec<Chain>),
}

impl Receiver {
    /// Fills the guest's buffers while there are frames.
    pub(super) fn run(
        &mut self,
        nic: &mut dyn Nic,
        queue: usize,
        rings: &mut Rings<'_>,
        rules: &Rules<'_>,
    ) {
        self.bytes.resize(header::BYTES + MAX_FRAME, 0);
        self.starved = false;
        while let Some(first) = rings.pop(queue) {
            let Some(received) = self.next(nic, rings, rules) else {
                rings.unpop(queue, &first);
                return;
            };
            let needed = (header::BYTES + received.length) as u64;
            match gather(first, needed, queue, rings, rules.mergeable) {
                Gathered::Enough(chains) => self.fill(received, &chains, queue, rings),
                Gathered::Never(chains) => put_back(&chains, queue, rings),
                Gathered::TooFew(chains) => {
                    put_back(&chains, queue, rings);
                    self.waiting = Some(received);
                    self.starved = true;
                    return;
                }
            }
        }
        self.starved = true;
    }

    /// Whether it came to an end for want of buffers.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The next frame that passes, in `bytes` behind the place for its header.
    fn next(
        &mut self,
        nic: &mut dyn Nic,
        rings: &mut Rings<'_>,
        rules: &Rules<'_>,
    ) -> Option<Received> {
        let waiting = self.waiting.take();
        if waiting.is_some() {
            return waiting;
        }
        let room = self.bytes.get_mut(header::BYTES..)?;
        for _ in 0..SKIPS {
            let received = nic.receive(room)?;
            let frame = room.get(..received.length)?;
            if received.packet.fits(rules.accepted)
                && rules.filter.passes(frame, rules.mac, rules.vlans)
            {
                return Some(received);
            }
        }
        rings.leave_the_rest();
        None
    }

    fn fill(&mut self, received: Received, chains: &[Chain], queue: usize, rings: &mut Rings<'_>) {
        let header = header::build(received.packet, chains.len() as u16);
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = header;
        }
        let end = header::BYTES + received.length;
        let mut rest = self.bytes.get(..end).unwrap_or_default();
        let mut used = Vec::with_capacity(chains.len());
        for chain in chains {
            let room = usize::try_from(chain.writable_length()).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            // A buffer outside memory is the driver's fault: it gets it back with nothing in it.
            let written = chain.write_at(rings.memory(), 0, now).map_or(0, |()| now.len() as u32);
            used.push(Used { chain, written });
            rest = later;
        }
        rings.complete_together(queue, &used);
    }
}

/// Takes buffers until they hold `needed` bytes.
fn gather(
    first: Chain,
    needed: u64,
    queue: usize,
    rings: &mut Rings<'_>,
    mergeable: bool,
) -> Gathered {
    let (mut room, mut segments) = (first.writable_length(), first.segments());
    let mut chains = vec![first];
    while room < needed {
        if !mergeable || segments >= usize::from(rings.size(queue)) {
            return Gathered::Never(chains);
        }
        let Some(chain) = rings.pop(queue) else { return Gathered::TooFew(chains) };
        room += chain.writable_length();
        segments += chain.segments();
        chains.push(chain);
    }
    Gathered::Enough(chains)
}

fn put_back(chains: &[Chain], queue: usize, rings: &mut Rings<'_>) {
    for chain in chains.iter().rev() {
        rings.unpop(queue, chain);
    }
}
