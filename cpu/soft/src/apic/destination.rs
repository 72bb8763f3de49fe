//! Whom an interrupt message or inter-processor interrupt is for (Intel SDM vol. 3A §11.6.2, §11.11).

use super::spec;
use kezhan_hypervisor::MsiMessage;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What senders need to know of a local APIC. The owner publishes it, everybody reads it. In a cache line of its
/// own, which is stored to when something has changed only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Identity {
    id: AtomicU32,
    ldr: AtomicU32,
    dfr: AtomicU32,
    base: AtomicU64,
}

impl Identity {
    /// Publishes.
    pub fn set(&self, id: u32, ldr: u32, dfr: u32, base: u64) {
        let now = [&self.id, &self.ldr, &self.dfr].map(|place| place.load(Ordering::Relaxed));
        if now == [id, ldr, dfr] && self.base.load(Ordering::Relaxed) == base {
            return;
        }
        self.id.store(id, Ordering::Release);
        self.ldr.store(ldr, Ordering::Release);
        self.dfr.store(dfr, Ordering::Release);
        self.base.store(base, Ordering::Release);
    }

    fn x2apic(&self) -> bool {
        self.base.load(Ordering::Acquire) & spec::BASE_MODE == spec::BASE_MODE
    }

    fn is_physical(&self, destination: u32) -> bool {
        destination == u32::MAX || destination == self.id.load(Ordering::Acquire)
    }

    fn is_logical(&self, destination: u32) -> bool {
        let ldr = self.ldr.load(Ordering::Acquire);
        if destination == u32::MAX {
            return true;
        }
        if self.x2apic() {
            return ldr >> 16 == destination >> 16 && ldr & destination & 0xffff != 0;
        }
        let (mine, wanted) = (ldr >> 24, destination & 0xff);
        if self.dfr.load(Ordering::Acquire) >> 28 == 0xf {
            return mine & wanted != 0;
        }
        mine >> 4 == wanted >> 4 && mine & wanted & 0xf != 0
    }
}

/// An interrupt on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Vector.
    pub vector: u8,
    /// Delivery mode.
    pub mode: u32,
    /// Level-triggered.
    pub level: bool,
    destination: u32,
    logical: bool,
    /// Shorthand of the ICR: none, self, all, others.
    shorthand: u32,
}

impl Message {
    /// Of an MSI. Bits 63:40 of the address hold destination bits 31:8, as x2APIC-aware senders put them.
    pub fn of_msi(message: MsiMessage) -> Message {
        let low = (message.address >> 12 & 0xff) as u32;
        let high = (message.address >> 32) as u32 & 0xffff_ff00;
        let destination = low | high;
        Message {
            vector: message.data as u8,
            mode: message.data >> 8 & 7,
            level: message.data >> 15 & 1 == 1,
            destination: if destination == 0xff { u32::MAX } else { destination },
            logical: message.address >> 2 & 1 == 1,
            shorthand: 0,
        }
    }

    /// Of an ICR, with the destination as x2APIC has it.
    pub fn of_icr(icr: u64) -> Message {
        Message {
            vector: icr as u8,
            mode: (icr >> 8 & 7) as u32,
            level: false,
            destination: (icr >> 32) as u32,
            logical: icr >> 11 & 1 == 1,
            shorthand: (icr >> 18 & 3) as u32,
        }
    }

    /// INIT level de-assert: nothing happens on processors of our day.
    pub fn is_deassert(icr: u64) -> bool {
        icr >> 8 & 7 == u64::from(spec::MODE_INIT) && icr >> 14 & 1 == 0 && icr >> 15 & 1 == 1
    }
}

/// The numbers of the vCPUs that a message of vCPU `from` (any number for an MSI) is for.
pub fn deliveries<'a>(
    message: Message,
    from: usize,
    identities: &'a [Identity],
) -> impl Iterator<Item = usize> + 'a {
    let one = message.mode == spec::MODE_LOWEST;
    let fits = move |number: usize| match message.shorthand {
        1 => number == from,
        2 => true,
        3 => number != from,
        _ if message.logical => identities[number].is_logical(message.destination),
        _ => identities[number].is_physical(message.destination),
    };
    (0..identities.len()).filter(move |number| fits(*number)).take(if one { 1 } else { usize::MAX })
}
