//! Notes that other threads leave for a vCPU.
//!
//! A vCPU looks at one atomic, `attention`, between blocks; only when it is set does it take the lock and
//! read its notes. A halted vCPU sleeps on the condition variable.

use kezhan_jit::area::Bell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
    /// Write entries of the TLB are to be dropped, for a page has come to hold code; answered by [`Mailbox::acknowledge`].
    pub drop_writes: bool,
}

/// The mailbox of a vCPU.
#[derive(Debug, Default)]
pub struct Mailbox {
    attention: AtomicBool,
    notes: Mutex<Notes>,
    arrived: Condvar,
    /// The level of the PIC's INTR output, wired to LINT0.
    external: AtomicBool,
    /// The vCPU is in guest code, so that its TLB may be in use this moment.
    running: AtomicBool,
    /// Counts answers to `drop_writes`.
    acknowledged: AtomicU32,
    asked: AtomicU32,
    /// Rung as well when there is a note: translated code looks at nothing else.
    bell: OnceLock<Bell>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a note and wakes the vCPU.
    pub fn post(&self, write: impl FnOnce(&mut Notes)) {
        let mut notes = self.lock();
        write(&mut notes);
        self.call();
        self.arrived.notify_all();
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
        let mut notes = self.lock();
        self.attention.store(false, Ordering::SeqCst);
        std::mem::take(&mut notes)
    }

    /// Sleeps until a note arrives or the time is over.
    pub fn sleep(&self, at_most: Option<Duration>) {
        let notes = self.lock();
        let idle = |_: &mut Notes| !self.attention.load(Ordering::SeqCst);
        match at_most {
            Some(time) => drop(self.arrived.wait_timeout_while(notes, time, idle)),
            None => drop(self.arrived.wait_while(notes, idle)),
        }
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

    /// The vCPU enters (`true`) or leaves guest code.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::SeqCst);
    }

    /// Whether the vCPU is in guest code.
    pub fn running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Asks the vCPU to drop its write entries; the ticket is what [`Mailbox::has_dropped`] wants.
    pub fn ask_drop_writes(&self) -> u32 {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.post(|notes| notes.drop_writes = true);
        ticket
    }

    /// Whether the vCPU has dropped them, or is outside guest code and will before it enters.
    pub fn has_dropped(&self, ticket: u32) -> bool {
        let answered = self.acknowledged.load(Ordering::SeqCst);
        answered.wrapping_sub(ticket) as i32 >= 0 || !self.running.load(Ordering::SeqCst)
    }

    /// Takes the wish for dropped write entries alone: the number of asks it answers, if there is one.
    pub fn take_drop_request(&self) -> Option<u32> {
        let asked = self.asked();
        std::mem::take(&mut self.lock().drop_writes).then_some(asked)
    }

    /// The vCPU has dropped its write entries; called with the number of asks it saw before.
    pub fn acknowledge(&self, asked: u32) {
        self.acknowledged.store(asked, Ordering::SeqCst);
    }

    /// How often [`Mailbox::ask_drop_writes`] was called.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}
