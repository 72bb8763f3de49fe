//! Frames from the guest (virtio 1.2 §5.1.6.2).

use super::header;
use crate::chain::Chain;
use crate::device::Rings;
use kezhan_ports::nic::{MAX_FRAME, Nic, Offloads, Transmit};

/// The transmitting half of a pair.
#[derive(Default)]
pub(super) struct Transmitter {
    frame: Vec<u8>,
}

impl Transmitter {
    /// Hands the port what the guest has made available, until there is no room.
    pub(super) fn run(
        &mut self,
        nic: &mut dyn Nic,
        queue: usize,
        rings: &mut Rings<'_>,
        allowed: Offloads,
    ) {
        while let Some(chain) = rings.pop(queue) {
            match self.send(nic, &chain, rings, allowed) {
                Some(Transmit::Full) => {
                    rings.unpop(queue, &chain);
                    return;
                }
                // Sent, or of no use.
                Some(Transmit::Taken) | None => rings.complete(queue, &chain, 0),
            }
        }
    }

    fn send(
        &mut self,
        nic: &mut dyn Nic,
        chain: &Chain,
        rings: &Rings<'_>,
        allowed: Offloads,
    ) -> Option<Transmit> {
        let length = usize::try_from(chain.readable_length()).ok()?.checked_sub(header::BYTES)?;
        if length > MAX_FRAME {
            return None;
        }
        let mut header = [0; header::BYTES];
        chain.read_at(rings.memory(), 0, &mut header).ok()?;
        self.frame.resize(MAX_FRAME, 0);
        let frame = self.frame.get_mut(..length)?;
        chain.read_at(rings.memory(), header::BYTES as u64, frame).ok()?;
        let packet = header::parse(&header, frame, allowed)?;
        Some(nic.transmit(frame, packet))
    }
}
