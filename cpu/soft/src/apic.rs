//! The local APIC (Intel SDM vol. 3A chapter 11): xAPIC and x2APIC, with its timer.
//!
//! A plain state machine: the vCPU's thread owns it, time comes in as nanoseconds, what goes out (an
//! inter-processor interrupt, an end of interrupt) is the result of the write that caused it.
//!
//! ```text
//!   notes, timer ─► accept ─► IRR ──(priority above PPR)──► next() ─► begin() ─► ISR ─► EOI
//! ```

mod clock;
mod destination;
pub mod spec;
mod timer;

pub use clock::Clock;
pub use destination::{Identity, Message, deliveries};
pub use timer::CRYSTAL_KHZ;

use kezhan_hypervisor::ApicState;
use spec::register as r;
use timer::Timer;

/// A register write's consequence outside this APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// None.
    None,
    /// An inter-processor interrupt is to be sent: ICR, with the destination in the upper half as x2APIC has it.
    Send(u64),
    /// A level-triggered vector has ended.
    End(u8),
}

/// A value that IA32_APIC_BASE does not take: the guest gets #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// A local APIC.
#[derive(Clone, Debug)]
pub struct Apic {
    id: u32,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    irr: [u32; 8],
    isr: [u32; 8],
    tmr: [u32; 8],
    esr: u32,
    pending_esr: u32,
    icr: u64,
    lvt: [u32; 6],
    timer: Timer,
    /// Some bit of the IRR is set.
    requested: bool,
}

fn highest(bits: &[u32; 8]) -> Option<u8> {
    let word = (0..8).rev().find(|word| bits[*word] != 0)?;
    Some((word as u32 * 32 + 31 - bits[word].leading_zeros()) as u8)
}

fn put(bits: &mut [u32; 8], vector: u8, on: bool) {
    let mask = 1 << (vector % 32);
    let word = &mut bits[usize::from(vector / 32)];
    *word = if on { *word | mask } else { *word & !mask };
}

impl Apic {
    /// After power-on; the bootstrap processor has id 0.
    pub fn new(id: u32) -> Apic {
        let bootstrap = if id == 0 { spec::BASE_BOOTSTRAP } else { 0 };
        Apic {
            id,
            base: spec::BASE_ADDRESS | spec::BASE_ENABLED | bootstrap,
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: 0xff,
            irr: [0; 8],
            isr: [0; 8],
            tmr: [0; 8],
            esr: 0,
            pending_esr: 0,
            icr: 0,
            lvt: [spec::LVT_MASKED; 6],
            timer: Timer::default(),
            requested: false,
        }
    }

    /// INIT: everything but the id and IA32_APIC_BASE as after power-on.
    pub fn init(&mut self) {
        *self = Apic { base: self.base, ..Apic::new(self.id) };
        self.base &= !spec::BASE_X2APIC;
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Globally enabled.
    pub fn enabled(&self) -> bool {
        self.base & spec::BASE_ENABLED != 0
    }

    /// In x2APIC mode.
    pub fn x2apic(&self) -> bool {
        self.base & spec::BASE_X2APIC != 0
    }

    /// The guest-physical page of the registers, in xAPIC mode.
    pub fn page(&self) -> Option<u64> {
        (self.enabled() && !self.x2apic()).then_some(self.base & spec::BASE_PAGE)
    }

    /// Writes IA32_APIC_BASE (Intel SDM vol. 3A §11.12.5 gives the legal changes).
    ///
    /// # Errors
    /// [`Refused`]
    pub fn set_base(&mut self, value: u64) -> Result<(), Refused> {
        let (old, new) = (self.base & spec::BASE_MODE, value & spec::BASE_MODE);
        let reserved = value & !(spec::BASE_PAGE | spec::BASE_MODE | spec::BASE_BOOTSTRAP) != 0;
        let illegal = new == spec::BASE_X2APIC
            || old == spec::BASE_MODE && new == spec::BASE_ENABLED
            || old == 0 && new == spec::BASE_MODE;
        if reserved || illegal {
            return Err(Refused);
        }
        if new == 0 {
            *self = Apic { base: self.base, ..Apic::new(self.id) };
        }
        if old != spec::BASE_MODE && new == spec::BASE_MODE {
            self.ldr = (self.id >> 4) << 16 | 1 << (self.id & 15);
        }
        self.base = value & (spec::BASE_PAGE | spec::BASE_MODE) | self.base & spec::BASE_BOOTSTRAP;
        Ok(())
    }

    /// What others need to know to address this APIC.
    pub fn publish(&self, identity: &Identity) {
        identity.set(self.id, self.ldr, self.dfr, self.base);
    }

    /// Takes a fixed interrupt into the IRR.
    pub fn accept(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            self.pending_esr |= spec::ESR_RECEIVE_ILLEGAL;
            return;
        }
        if self.svr & spec::SVR_ENABLED == 0 || !self.enabled() {
            return;
        }
        put(&mut self.irr, vector, true);
        put(&mut self.tmr, vector, level);
        self.requested = true;
    }

    /// Processor priority (Intel SDM vol. 3A §11.8.3.1).
    fn ppr(&self) -> u8 {
        let serving = highest(&self.isr).unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= serving { self.tpr } else { serving }
    }

    /// The interrupt that is to be delivered next.
    #[inline]
    pub fn next(&self) -> Option<u8> {
        let vector = highest(&self.irr)?;
        (vector & 0xf0 > self.ppr() & 0xf0).then_some(vector)
    }

    /// Whether any interrupt waits, deliverable or not.
    #[inline(always)]
    pub fn requested(&self) -> bool {
        self.requested
    }

    /// Its delivery begins: from IRR to ISR.
    pub fn begin(&mut self, vector: u8) {
        put(&mut self.irr, vector, false);
        self.requested = highest(&self.irr).is_some();
        put(&mut self.isr, vector, true);
    }

    /// Whether LINT0 passes the PIC's interrupts on to the processor.
    pub fn passes_external(&self) -> bool {
        if !self.enabled() {
            return true;
        }
        let lint0 = self.lvt[spec::LVT_LINT0];
        lint0 & spec::LVT_MASKED == 0 && lint0 >> 8 & 7 == spec::MODE_EXTINT
    }

    /// CR8.
    pub fn task_priority(&self) -> u8 {
        self.tpr >> 4
    }

    /// Sets CR8.
    pub fn set_task_priority(&mut self, priority: u8) {
        self.tpr = priority << 4;
    }

    fn end(&mut self) -> Effect {
        let Some(vector) = highest(&self.isr) else { return Effect::None };
        put(&mut self.isr, vector, false);
        let level = self.tmr[usize::from(vector / 32)] >> (vector % 32) & 1 == 1;
        if level { Effect::End(vector) } else { Effect::None }
    }

    /// Reads register `offset` (as in the xAPIC page).
    pub fn read(&self, offset: u32, now: u64) -> u32 {
        let bank = |bits: &[u32; 8], first: u32| bits[((offset - first) / 16 % 8) as usize];
        match offset {
            r::ID if self.x2apic() => self.id,
            r::ID => self.id << 24,
            r::VERSION => spec::VERSION,
            r::TPR => u32::from(self.tpr),
            r::PPR => u32::from(self.ppr()),
            r::LDR => self.ldr,
            r::DFR => self.dfr,
            r::SVR => self.svr,
            r::ISR..=0x17f => bank(&self.isr, r::ISR),
            r::TMR..=0x1ff => bank(&self.tmr, r::TMR),
            r::IRR..=0x27f => bank(&self.irr, r::IRR),
            r::ESR => self.esr,
            r::ICR_LOW => self.icr as u32,
            r::ICR_HIGH => (self.icr >> 32) as u32,
            r::LVT_TIMER..=r::LVT_ERROR => self.lvt[((offset - r::LVT_TIMER) / 16) as usize],
            r::INITIAL_COUNT => self.timer.initial(),
            r::CURRENT_COUNT => self.timer.current(now),
            r::DIVIDE => self.timer.divide(),
            _ => 0,
        }
    }

    /// Writes register `offset`.
    pub fn write(&mut self, offset: u32, value: u32, now: u64) -> Effect {
        match offset {
            r::TPR => self.tpr = value as u8,
            r::EOI => return self.end(),
            r::LDR if !self.x2apic() => self.ldr = value & 0xff00_0000,
            r::DFR if !self.x2apic() => self.dfr = value | 0x0fff_ffff,
            r::SVR => self.set_spurious(value),
            r::ESR => self.esr = std::mem::take(&mut self.pending_esr),
            r::ICR_LOW => {
                self.icr = self.icr & !0xffff_ffff | u64::from(value & !spec::ICR_PENDING);
                return Effect::Send(self.icr_to_send());
            }
            r::ICR_HIGH => self.icr = self.icr & 0xffff_ffff | u64::from(value) << 32,
            r::LVT_TIMER..=r::LVT_ERROR => self.set_lvt(offset, value),
            r::INITIAL_COUNT => self.timer.set_initial(value, now),
            r::DIVIDE => self.timer.set_divide(value, now),
            _ => {}
        }
        Effect::None
    }

    /// Writes the whole ICR, as x2APIC does.
    pub fn write_icr(&mut self, value: u64) -> Effect {
        self.icr = value & !u64::from(spec::ICR_PENDING);
        Effect::Send(self.icr)
    }

    /// The whole ICR.
    pub fn icr(&self) -> u64 {
        self.icr
    }

    fn icr_to_send(&self) -> u64 {
        let destination = self.icr >> 56;
        // The xAPIC's broadcast is 0xff, the x2APIC's all ones.
        let destination = if destination == 0xff { 0xffff_ffff } else { destination };
        self.icr & 0xffff_ffff | destination << 32
    }

    fn set_spurious(&mut self, value: u32) {
        self.svr = value & 0x1ff;
        if value & spec::SVR_ENABLED == 0 {
            for entry in &mut self.lvt {
                *entry |= spec::LVT_MASKED;
            }
        }
    }

    fn set_lvt(&mut self, offset: u32, value: u32) {
        let number = ((offset - r::LVT_TIMER) / 16) as usize;
        let mut value = value & spec::LVT_WRITABLE[number];
        if self.svr & spec::SVR_ENABLED == 0 {
            value |= spec::LVT_MASKED;
        }
        self.lvt[number] = value;
        if number == spec::LVT_TIMER {
            self.timer.set_mode(value >> 17 & 3);
        }
    }

    /// When the timer fires next, in nanoseconds, or `None`.
    pub fn deadline(&self) -> Option<u64> {
        self.timer.deadline()
    }

    /// Lets the timer fire if it is due. True when an interrupt was accepted.
    pub fn tick(&mut self, now: u64) -> bool {
        if !self.timer.fire(now) {
            return false;
        }
        let entry = self.lvt[spec::LVT_TIMER];
        if entry & spec::LVT_MASKED != 0 {
            return false;
        }
        self.accept(entry as u8, false);
        true
    }

    /// IA32_TSC_DEADLINE as written.
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    /// Writes IA32_TSC_DEADLINE; `at` is the same time in nanoseconds.
    pub fn set_tsc_deadline(&mut self, tsc: u64, at: u64) {
        self.timer.set_tsc_deadline(tsc, at);
    }

    /// The register page.
    pub fn save(&self, now: u64) -> ApicState {
        let mut state = ApicState::default();
        for offset in (0..0x400).step_by(16) {
            let value = if offset == r::EOI { 0 } else { self.read(offset, now) };
            let at = offset as usize;
            state.registers[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        state
    }

    /// Takes a register page and IA32_APIC_BASE over.
    pub fn restore(&mut self, state: &ApicState, base: u64, now: u64) {
        let word = |offset: u32| {
            let at = offset as usize;
            let bytes = state.registers.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        let bank = |first: u32| std::array::from_fn(|n| word(first + 16 * n as u32));
        self.base = base;
        self.svr = word(r::SVR);
        self.tpr = word(r::TPR) as u8;
        self.ldr = word(r::LDR);
        self.dfr = word(r::DFR);
        (self.isr, self.tmr, self.irr) = (bank(r::ISR), bank(r::TMR), bank(r::IRR));
        self.requested = highest(&self.irr).is_some();
        self.esr = word(r::ESR);
        self.icr = u64::from(word(r::ICR_HIGH)) << 32 | u64::from(word(r::ICR_LOW));
        self.lvt = std::array::from_fn(|n| word(r::LVT_TIMER + 16 * n as u32));
        self.timer = Timer::default();
        self.timer.set_mode(self.lvt[spec::LVT_TIMER] >> 17 & 3);
        self.timer.set_divide(word(r::DIVIDE), now);
        self.timer.restore(word(r::INITIAL_COUNT), word(r::CURRENT_COUNT), now);
    }
}

#[cfg(test)]
mod tests;
