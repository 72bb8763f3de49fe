//! virtio-rng: one queue of buffers to be filled with random bytes (virtio 1.2 §5.4).

use crate::device::{Identity, Rings, VirtioDevice};
use crate::spec::device_id;
use kezhan_ports::Entropy;

/// Bytes given to one buffer at most: the driver asks again for more.
const PORTION: usize = 4096;

/// The entropy device.
pub struct Rng {
    source: Box<dyn Entropy>,
}

impl Rng {
    /// A device that takes its bytes from `source`.
    pub fn new(source: Box<dyn Entropy>) -> Rng {
        Rng { source }
    }
}

impl VirtioDevice for Rng {
    fn identity(&self) -> Identity {
        // Class: unassigned (PCI 3.0 appendix D); drivers go by the device ID.
        Identity { kind: "virtio-rng", id: device_id::ENTROPY, class: 0xff_0000 }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> Vec<u16> {
        vec![64]
    }

    fn process(&mut self, queue: usize, rings: &mut Rings<'_>) {
        let mut bytes = [0; PORTION];
        while let Some(chain) = rings.pop(queue) {
            let length = chain.writable_length().min(PORTION as u64) as usize;
            let portion = bytes.get_mut(..length).unwrap_or_default();
            self.source.fill(portion);
            let written = chain.write_at(rings.memory(), 0, portion).map_or(0, |()| length as u32);
            rings.complete(queue, &chain, written);
        }
    }
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}
