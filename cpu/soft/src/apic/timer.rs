//! The local APIC timer (Intel SDM vol. 3A §11.5.4): one-shot, periodic, TSC-deadline.

/// Frequency of the crystal, which CPUID leaf 15H gives and the timer counts by.
pub const CRYSTAL_KHZ: u32 = kezhan_hypervisor::APIC_TIMER_KHZ;

const NANOSECONDS_A_TICK: u64 = 1_000_000 / CRYSTAL_KHZ as u64;
const PERIODIC: u32 = 1;
const TSC_DEADLINE: u32 = 2;

/// A timer.
#[derive(Clone, Debug, Default)]
pub struct Timer {
    mode: u32,
    divide: u32,
    initial: u32,
    /// When the count was `initial`, in nanoseconds.
    since: u64,
    deadline: Option<u64>,
    tsc: u64,
}

impl Timer {
    /// Nanoseconds in one count.
    fn period(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        NANOSECONDS_A_TICK << ((code + 1) & 7)
    }

    fn arm(&mut self, now: u64) {
        self.since = now;
        self.deadline = (self.initial != 0 && self.mode != TSC_DEADLINE)
            .then(|| now + u64::from(self.initial) * self.period());
    }

    pub fn initial(&self) -> u32 {
        self.initial
    }

    pub fn divide(&self) -> u32 {
        self.divide
    }

    pub fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    pub fn tsc_deadline(&self) -> u64 {
        self.tsc
    }

    /// The current count.
    pub fn current(&self, now: u64) -> u32 {
        let Some(deadline) = self.deadline.filter(|_| self.mode != TSC_DEADLINE) else { return 0 };
        let left = deadline.saturating_sub(now).div_ceil(self.period());
        left.min(u64::from(self.initial)) as u32
    }

    pub fn set_initial(&mut self, value: u32, now: u64) {
        if self.mode != TSC_DEADLINE {
            self.initial = value;
            self.arm(now);
        }
    }

    pub fn set_divide(&mut self, value: u32, now: u64) {
        let left = self.current(now);
        self.divide = value & 0xb;
        if self.deadline.is_some() && self.mode != TSC_DEADLINE {
            self.deadline = Some(now + u64::from(left) * self.period());
        }
    }

    /// A change between TSC-deadline and the other modes disarms. One between the others lets a count go
    /// on, and a count that has ended stays ended.
    pub fn set_mode(&mut self, mode: u32) {
        if (mode == TSC_DEADLINE) != (self.mode == TSC_DEADLINE) {
            self.deadline = None;
            self.tsc = 0;
            self.initial = 0;
        }
        self.mode = mode;
    }

    pub fn set_tsc_deadline(&mut self, tsc: u64, at: u64) {
        if self.mode == TSC_DEADLINE {
            self.tsc = tsc;
            self.deadline = (tsc != 0).then_some(at);
        }
    }

    /// True when the deadline has come: one-shot and TSC-deadline disarm, periodic goes on. Periods that
    /// were missed are left out, their phase kept.
    pub fn fire(&mut self, now: u64) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) else {
            return false;
        };
        match self.mode {
            PERIODIC => {
                let whole = u64::from(self.initial).max(1) * self.period();
                self.since = deadline + (now - deadline) / whole * whole;
                self.deadline = Some(self.since + whole);
            }
            _ => {
                self.deadline = None;
                self.tsc = 0;
            }
        }
        true
    }

    /// Goes on from a saved count.
    pub fn restore(&mut self, initial: u32, current: u32, now: u64) {
        self.initial = initial;
        if self.mode != TSC_DEADLINE && current != 0 {
            self.since = now;
            self.deadline = Some(now + u64::from(current) * self.period());
        }
    }
}
