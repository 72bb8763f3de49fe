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
//! # Idle vCPUs
//! To wake a thread, and to be woken by its interrupt, takes longer than to read a page of a disk that the host has in
//! its memory. A guest that waits for a disk halts; that vCPU then serves the first part itself ([`serve_idly`]), where
//! the device allows it. What is left rings the bell. So that a guest does not pay for a bell that nobody needs, a
//! thread that has been rung goes on looking by itself for a while ([`Attendance::watch`]): then a doorbell is a
//! flag, and the thread is there for guests that do not halt.
//!
//! ```text
//!   vCPU ── doorbell ─► rung ──┬── vCPU halts ─► serve_idly ─┬─► interrupt, the vCPU goes on
//!                              │                             └─► more: Bell
//!                              └── thread looks, or Bell ─► serve
//! ```
//! A call that took longer than [`SLOW`] had to do with a device of the host: then vCPUs leave it to the thread for
//! a while, so that their timers are not late.
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
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A vCPU must not be kept longer.
const SLOW: Duration = Duration::from_millis(1);

/// Halts in which the thread is called instead, after a slow call.
const REST: u32 = 1000;

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
    /// The thread looks by itself: a doorbell need not call it.
    watched: AtomicBool,
    /// Doorbells were taken here, not by the engine.
    taken: AtomicBool,
    /// How often vCPUs have served it, and how often there were several requests.
    served: [AtomicU32; 2],
    /// Halts for which vCPUs leave it to the thread.
    rest: AtomicU32,
}

impl Post {
    pub(crate) fn new(
        bell: Arc<dyn Bell>,
        doorbells: Option<Doorbells>,
        open: Arc<AtomicBool>,
    ) -> Post {
        Post {
            bell,
            doorbells,
            rung: AtomicBool::new(false),
            open,
            watched: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            served: [AtomicU32::new(0), AtomicU32::new(0)],
            rest: AtomicU32::new(0),
        }
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
            self.taken.store(true, Ordering::Relaxed);
            if !self.watched.load(Ordering::SeqCst) {
                self.bell.ring();
            }
        }
        rings
    }

    fn is_brief(&self) -> bool {
        self.doorbells.is_some_and(|bells| bells.brief)
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    fn note_service(&self, requests: u32) {
        let [all, several] = &self.served;
        all.fetch_add(1, Ordering::Relaxed);
        several.fetch_add(u32::from(requests > 1), Ordering::Relaxed);
    }

    /// Whether a vCPU is to leave it to the thread this time.
    fn rests(&self) -> bool {
        let one_less = |rest: u32| rest.checked_sub(1);
        self.rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// A vCPU has nothing to do: it serves a part of what doorbells have announced, unless somebody is at it.
pub(crate) fn serve_idly(slot: &Slot, attention: &Attention) {
    let Some(post) = slot.post().filter(|post| post.is_brief() && post.is_rung()) else { return };
    if post.rests() {
        return post.bell.ring();
    }
    let start = Instant::now();
    let more = slot.try_call(attention, |device| {
        if !post.open.load(Ordering::SeqCst) || !post.rung.swap(false, Ordering::SeqCst) {
            return false;
        }
        post.note_service(device.waiting());
        device.rung_briefly()
    });
    if more == Some(true) {
        post.rung.store(true, Ordering::SeqCst);
        post.bell.ring();
    }
    if more.is_some() && start.elapsed() > SLOW {
        post.rest.store(REST, Ordering::Relaxed);
    }
}

/// How often vCPUs have served a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedIdly {
    /// In all; it wraps.
    pub all: u32,
    /// When there were several requests; it wraps.
    pub several: u32,
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

    /// Says whether the thread looks by itself, by [`Attendance::is_called`], so that doorbells need not call it: false
    /// when that serves nothing, since the engine takes them or vCPUs do not serve the device. When it ends, it is to
    /// look once more.
    pub fn watch(&self, on: bool) -> bool {
        let Some(post) = self.slot.post().filter(|post| post.is_brief()) else { return false };
        if on && !post.taken.swap(false, Ordering::Relaxed) {
            return false;
        }
        post.watched.store(on, Ordering::SeqCst);
        true
    }

    /// Whether a doorbell or a port has announced something that nobody has served.
    pub fn is_called(&self) -> bool {
        self.slot.is_port_called() || self.slot.post().is_some_and(Post::is_rung)
    }

    /// How often vCPUs have served the device, from which one sees whether they do.
    pub fn served_idly(&self) -> ServedIdly {
        let post = self.slot.post();
        let count =
            |index: usize| post.map_or(0, |post| post.served[index].load(Ordering::Relaxed));
        ServedIdly { all: count(0), several: count(1) }
    }

    /// What a request costs, in small ones.
    pub fn weight(&self) -> u32 {
        self.slot.call(&self.attention, |device| device.weight())
    }

    /// How many requests the guest has announced, at a glance.
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
