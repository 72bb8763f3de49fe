//! Devices with a thread of their own.
//!
//! ```text
//!   vCPU ── write of a doorbell ──► Post: rung, Bell ──┐
//!   KVM ─── the same, by itself ─────────► Bell ───────┼──► thread of the device: Attendance::serve ─► Device::rung
//!   port's threads ── waker ──────► port_called, Bell ─┘                                │
//!                                                              MSI to the engine ◄──────┘
//! ```
//!
//! A device whose work is worth it (a disk, a network card) is not served by the vCPU that notifies it, nor by the thread that
//! serves all others: the vmm gives it a thread and a [`Bell`], the board gives that thread an [`Attendance`].
//! A doorbell then costs the vCPU no lock and no work: under KVM not even an exit to us, where the engine
//! signals the bell's descriptor itself.
//!
//! # Pause
//! A device is called only while the machine runs; that is looked at with the device's lock held, and the chassis
//! pauses a device with that lock too. A call that began before is over when the device is paused, one that comes
//! after does nothing. Nothing is lost by that: a device that resumes looks at everything.
//!
//! # What was rejected
//! One thread for all such devices (a disk that the host keeps waiting would hold up the others); a bell for
//! each queue (the thread looks at all of them in less time than it takes to wake up).

use crate::slot::{Attention, Slot};
use kezhan_device::{Doorbells, RegionIndex};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls the thread of one device.
pub trait Bell: Send + Sync {
    /// Rings. Does not block; several before the thread looks are one.
    fn ring(&self);

    /// An event descriptor (eventfd(2)) that rings when it is signalled: an engine may do so.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// Who gives devices threads.
pub trait Staff: Send + Sync {
    /// The bell of a thread for the device called `name`; without one the device is served as all others are. The
    /// thread begins when the board has told its [`Attendance`].
    fn bell(&self, name: &str) -> Option<Arc<dyn Bell>>;
}

/// What a slot keeps of its thread.
pub(crate) struct Post {
    pub bell: Arc<dyn Bell>,
    pub doorbells: Option<Doorbells>,
    rung: AtomicBool,
    /// Whether the machine runs.
    open: Arc<AtomicBool>,
}

impl Post {
    pub(crate) fn new(
        bell: Arc<dyn Bell>,
        doorbells: Option<Doorbells>,
        open: Arc<AtomicBool>,
    ) -> Post {
        Post { bell, doorbells, rung: AtomicBool::new(false), open }
    }

    /// The doorbells in a region, and whom they call.
    pub(crate) fn bells_in(&self, region: RegionIndex) -> Option<(Doorbells, &dyn Bell)> {
        let bells = self.doorbells.filter(|bells| bells.region == region)?;
        Some((bells, &*self.bell))
    }

    /// Takes a write that rings a doorbell; false when it is none.
    pub(crate) fn take(&self, region: RegionIndex, offset: u64) -> bool {
        let rings = self.doorbells.is_some_and(|bells| bells.contain(region, offset));
        if rings && !self.rung.swap(true, Ordering::SeqCst) {
            self.bell.ring();
        }
        rings
    }
}

/// The work of one device's thread.
pub struct Attendance {
    slot: Arc<Slot>,
    attention: Arc<Attention>,
}

impl Attendance {
    pub(crate) fn of(slot: &Arc<Slot>, attention: &Arc<Attention>) -> Option<Attendance> {
        slot.post()?;
        Some(Attendance { slot: slot.clone(), attention: attention.clone() })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// How much work the guest has announced, at a glance.
    pub fn waiting(&self) -> u32 {
        self.slot.call(&self.attention, |device| device.waiting())
    }

    /// To be called each time the bell has rung; and at no other time, but for once in vain.
    pub fn serve(&self) {
        let Some(post) = self.slot.post() else { return };
        loop {
            post.rung.store(false, Ordering::SeqCst);
            self.slot.take_port_call();
            let open = self.slot.call(&self.attention, |device| {
                let open = post.open.load(Ordering::SeqCst);
                if open {
                    device.rung();
                }
                open
            });
            if !open || !(post.rung.load(Ordering::SeqCst) || self.slot.is_due()) {
                return;
            }
        }
    }
}

impl std::fmt::Debug for Attendance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attendance({})", self.slot.name())
    }
}
