//! Notes that other threads leave for a vCPU.
//!
//! A vCPU looks at one atomic, `attention`, between blocks; only when it is set does it take the lock and
//! read its notes. A halted vCPU sleeps on the condition variable.

use crate::ticker::NEVER;
use kezhan_jit::area::Bell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What has been asked of a vCPU since it last looked.
#[derive(Debug, Default)]
pub struct Notes {
    /// Fixed interrupts: vector, and whether level-triggered.
    pub interrupts: Vec<(u8, bool)>,
    /// How many non-maskable interrupts.
    pub nmis: u8,
    /// INIT.
    pub init: bool,
    /// SIPI, with its vector.
    pub sipi: Option<u8>,
    /// `run` is to return.
    pub kick: bool,
    /// Physical pages whose decoded blocks are to be dropped.
    pub stale: Vec<u64>,
    /// Write entries of the TLB are to be dropped.
    pub drops: Drops,
}

/// Which write entries are to be dropped; answered by [`Mailbox::acknowledge`].
#[derive(Debug, Default)]
pub struct Drops {
    /// All of them.
    pub all: bool,
    /// Those for physical pages that have come to hold code.
    pub pages: Vec<u64>,
    /// How many asks this answers, counted from the beginning; 0 when there is nothing to answer.
    pub ticket: u32,
}

/// What the lock guards.
#[derive(Debug, Default)]
struct Inside {
    notes: Notes,
    /// The vCPU waits on the condition variable.
    asleep: bool,
    /// Asks so far.
    asks: u32,
}

/// Pages after which all write entries are dropped.
const MANY_PAGES: usize = 16;

/// The mailbox of a vCPU. On cache lines of its own: others only come here to leave something.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Mailbox {
    attention: AtomicBool,
    inside: Mutex<Inside>,
    arrived: Condvar,
    /// The level of the PIC's INTR output, wired to LINT0.
    external: AtomicBool,
    /// The vCPU is in guest code, so that its TLB may be in use this moment.
    running: AtomicBool,
    /// [`NEVER`] less the time when the vCPU's timer fires: 0 is never.
    until_never: AtomicU64,
    /// The ticket of the last answer.
    acknowledged: AtomicU32,
    /// Rung as well when there is a note: translated code looks at nothing else.
    bell: OnceLock<Bell>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a note and wakes the vCPU.
    pub fn post(&self, write: impl FnOnce(&mut Notes)) {
        let mut inside = self.lock();
        write(&mut inside.notes);
        self.call_inside(inside);
    }

    fn call_inside(&self, inside: MutexGuard<'_, Inside>) {
        self.call();
        let asleep = inside.asleep;
        // The sleeper wants the lock at once.
        drop(inside);
        if asleep {
            self.arrived.notify_all();
        }
    }

    /// Makes the vCPU look at its notes and the clock soon. No lock is taken, and a sleeper sleeps on.
    pub fn call(&self) {
        self.attention.store(true, Ordering::SeqCst);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Translated code has come out, perhaps for the bell: whoever rang has set `attention` before, and the
    /// vCPU looks at that next.
    #[inline]
    pub fn silence(&self) {
        if let Some(bell) = self.bell.get() {
            bell.silence();
        }
    }

    /// From now on a call rings the bell of the vCPU's translated code too.
    pub fn hang(&self, bell: Bell) {
        let _first_only = self.bell.set(bell);
    }

    /// Whether there is anything to look at.
    #[inline(always)]
    pub fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    /// Takes all notes.
    pub fn take(&self) -> Notes {
        let mut inside = self.lock();
        self.attention.store(false, Ordering::SeqCst);
        std::mem::take(&mut inside.notes)
    }

    /// Sleeps until a note arrives or the time is over.
    pub fn sleep(&self, at_most: Option<Duration>) {
        let mut inside = self.lock();
        inside.asleep = true;
        let idle = |_: &mut Inside| !self.attention.load(Ordering::SeqCst);
        let mut inside = match at_most {
            Some(time) => {
                let waited = self.arrived.wait_timeout_while(inside, time, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.arrived.wait_while(inside, idle).unwrap_or_else(PoisonError::into_inner),
        };
        inside.asleep = false;
    }

    /// Sets the PIC's output.
    pub fn set_external(&self, high: bool) {
        self.external.store(high, Ordering::SeqCst);
        if high {
            self.post(|_| {});
        }
    }

    /// The PIC's output.
    #[inline]
    pub fn external(&self) -> bool {
        self.external.load(Ordering::Acquire)
    }

    /// When the vCPU's timer fires, in nanoseconds of guest time.
    pub fn set_deadline(&self, deadline: u64) {
        self.until_never.store(NEVER - deadline, Ordering::SeqCst);
    }

    /// What [`Mailbox::set_deadline`] has set; [`NEVER`] at first.
    pub fn deadline(&self) -> u64 {
        NEVER - self.until_never.load(Ordering::SeqCst)
    }

    /// The vCPU has been told that this deadline has come.
    pub fn forget_deadline(&self, deadline: u64) {
        let told = NEVER - deadline;
        let _another =
            self.until_never.compare_exchange(told, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The vCPU enters (`true`) or leaves guest code.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::SeqCst);
    }

    /// Whether the vCPU is in guest code.
    pub fn running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// Asks the vCPU to drop its write entries for a physical page, or all; the ticket is what
    /// [`Mailbox::has_dropped`] wants.
    pub fn ask_drop_writes(&self, page: Option<u64>) -> u32 {
        let mut inside = self.lock();
        // 0 is no ticket.
        inside.asks = inside.asks.wrapping_add(1).max(1);
        let ticket = inside.asks;
        let drops = &mut inside.notes.drops;
        drops.ticket = ticket;
        match page {
            Some(page) if drops.pages.len() < MANY_PAGES => drops.pages.push(page),
            _ => drops.all = true,
        }
        self.call_inside(inside);
        ticket
    }

    /// Whether the vCPU has dropped them, or is outside guest code and will before it enters.
    pub fn has_dropped(&self, ticket: u32) -> bool {
        let answered = self.acknowledged.load(Ordering::SeqCst);
        answered.wrapping_sub(ticket) as i32 >= 0 || !self.running.load(Ordering::SeqCst)
    }

    /// Takes the wish for dropped write entries alone, if there is one.
    pub fn take_drops(&self) -> Option<Drops> {
        let drops = std::mem::take(&mut self.lock().notes.drops);
        (drops.ticket != 0).then_some(drops)
    }

    /// The vCPU has dropped what was asked up to this ticket.
    pub fn acknowledge(&self, ticket: u32) {
        self.acknowledged.store(ticket, Ordering::SeqCst);
    }
}
