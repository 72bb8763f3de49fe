//! Page walks: from linear to guest-physical addresses (Intel SDM vol. 3A chapter 4).
//!
//! ```text
//!   4-level   CR3 ─► PML4 ─► PDPT ─► PD ─► PT      9+9+9+9+12 bits, pages of 4 KiB, 2 MiB, 1 GiB
//!   PAE       PDPTR registers ─► PD ─► PT          2+9+9+12 bits,   pages of 4 KiB, 2 MiB
//!   32-bit    CR3 ─► PD ─► PT                      10+10+12 bits,   pages of 4 KiB, 4 MiB
//! ```
//!
//! The walk reads entries through [`PhysicalMemory`], checks every right for the access at hand, and sets
//! accessed and dirty bits atomically once it knows that the access is allowed. It keeps nothing;
//! translation caches are the engines'. An entry that another CPU changes under the walk makes it start
//! again.

use crate::flags;
use crate::memory::Intent;
use crate::state::{CpuState, cr0, cr4, efer};

/// Physical address width of our CPUs (CPUID 80000008H:EAX[7:0]).
pub const PHYSICAL_BITS: u32 = 46;

/// Bits of the page-fault error code (Intel SDM vol. 3A §4.7).
pub mod error {
    /// The page was present: a right was missing.
    pub const PRESENT: u32 = 1 << 0;
    /// The access was a write.
    pub const WRITE: u32 = 1 << 1;
    /// The access was made at CPL 3.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit was set in an entry.
    pub const RESERVED: u32 = 1 << 3;
    /// The access was an instruction fetch.
    pub const FETCH: u32 = 1 << 4;
    /// The page's protection key forbids it.
    pub const KEY: u32 = 1 << 5;
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = ((1 << PHYSICAL_BITS) - 1) & !0xfff;
/// Physical-address bits beyond our width: reserved in every entry.
const BEYOND: u64 = ((1 << 52) - 1) & !((1 << PHYSICAL_BITS) - 1);

/// Guest-physical memory as a page walk sees it.
pub trait PhysicalMemory {
    /// The 8 bytes at an aligned address; `None` where there is no RAM.
    fn read_entry(&self, address: u64) -> Option<u64>;
    /// The 4 bytes at an aligned address; `None` where there is no RAM.
    fn read_short_entry(&self, address: u64) -> Option<u32>;
    /// Atomically sets bits in the entry if it still is `old`; false when it is not.
    fn set_entry_bits(&self, address: u64, old: u64, bits: u64) -> bool;
    /// As [`PhysicalMemory::set_entry_bits`] for a 4-byte entry.
    fn set_short_entry_bits(&self, address: u64, old: u32, bits: u32) -> bool;
}

/// Who makes an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// CPL 3.
    User,
    /// CPL 0 to 2, by an instruction's own operand.
    Supervisor,
    /// Descriptor tables, TSS, gates' stack frames: supervisor whatever the CPL, and RFLAGS.AC does not count.
    Implicit,
}

/// The parts of the state that a walk depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    pdptr: [u64; 4],
    pkru: u32,
    pkrs: u32,
    access_allowed: bool,
}

/// Where a linear address leads, and what else may be done there with the same privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address.
    pub physical: u64,
    /// Log2 of the page size: 12, 21, 22 or 30.
    pub page_bits: u32,
    /// A write with this privilege needs no walk: allowed, and the page is dirty already.
    pub writable: bool,
    /// Kept when CR3 is loaded.
    pub global: bool,
}

/// An entry on the way, for the accessed bits.
#[derive(Clone, Copy, Default)]
struct Visited {
    address: u64,
    value: u64,
}

/// What the entries passed so far have granted.
struct Rights {
    writable: bool,
    user: bool,
    no_execute: bool,
    /// Protection key of the page (bits 62:59 of its entry).
    key: u8,
}

enum Fail {
    Fault(u32),
    Retry,
}

impl Paging {
    /// From the CPU's state.
    pub fn of(cpu: &CpuState) -> Paging {
        Paging {
            cr0: cpu.cr0,
            cr3: cpu.cr3,
            cr4: cpu.cr4,
            efer: cpu.efer,
            pdptr: cpu.pdptr,
            pkru: cpu.pkru,
            pkrs: cpu.msr.pkrs as u32,
            access_allowed: cpu.rflags & flags::AC != 0,
        }
    }

    /// Paging is on.
    pub fn enabled(&self) -> bool {
        self.cr0 & cr0::PG != 0
    }

    /// Translates, for an access that is about to be made.
    ///
    /// # Errors
    /// The error code of the page fault.
    pub fn walk(
        &self,
        memory: &impl PhysicalMemory,
        linear: u64,
        intent: Intent,
        privilege: Privilege,
    ) -> Result<Translation, u32> {
        if !self.enabled() {
            return Ok(Translation {
                physical: linear,
                page_bits: 12,
                writable: true,
                global: false,
            });
        }
        loop {
            let result = if self.cr4 & cr4::PAE == 0 {
                self.walk_short(memory, linear, intent, privilege)
            } else {
                self.walk_long(memory, linear, intent, privilege)
            };
            match result {
                Ok(translation) => return Ok(translation),
                Err(Fail::Fault(code)) => return Err(code | self.access_code(intent, privilege)),
                Err(Fail::Retry) => {}
            }
        }
    }

    fn access_code(&self, intent: Intent, privilege: Privilege) -> u32 {
        let reports_fetch =
            self.cr4 & cr4::SMEP != 0 || self.cr4 & cr4::PAE != 0 && self.efer & efer::NXE != 0;
        let mut code = 0;
        if intent == Intent::Write {
            code |= error::WRITE;
        }
        if intent == Intent::Execute && reports_fetch {
            code |= error::FETCH;
        }
        if privilege == Privilege::User {
            code |= error::USER;
        }
        code
    }

    /// PAE and 4-level paging: 8-byte entries.
    fn walk_long(
        &self,
        memory: &impl PhysicalMemory,
        linear: u64,
        intent: Intent,
        privilege: Privilege,
    ) -> Result<Translation, Fail> {
        let mut rights = Rights { writable: true, user: true, no_execute: false, key: 0 };
        let mut visited = [Visited::default(); 4];
        let (mut table, top) = self.root(linear)?;
        let mut level = top;
        loop {
            let address = table + (linear >> (9 * level) & 0xff8);
            let value = memory.read_entry(address).unwrap_or(0);
            visited[level as usize - 1] = Visited { address, value };
            self.check_entry(value, level)?;
            rights.writable &= value & WRITABLE != 0;
            rights.user &= value & USER != 0;
            rights.no_execute |= value & NO_EXECUTE != 0;
            if level == 1 || value & LARGE != 0 {
                rights.key = (value >> 59 & 15) as u8;
                break;
            }
            table = value & FRAME;
            level -= 1;
        }
        self.check_rights(&rights, intent, privilege)?;
        let leaf = visited[level as usize - 1];
        for entry in &visited[level as usize - 1..top as usize] {
            mark(memory, entry, entry.address == leaf.address && intent == Intent::Write)?;
        }
        let page_bits = 3 + 9 * level;
        let inside = (1_u64 << page_bits) - 1;
        Ok(Translation {
            physical: leaf.value & FRAME & !inside | linear & inside,
            page_bits,
            writable: self.may_write(&rights, privilege)
                && (leaf.value & DIRTY != 0 || intent == Intent::Write),
            global: leaf.value & GLOBAL != 0 && self.cr4 & cr4::PGE != 0,
        })
    }

    /// The first table and its level.
    fn root(&self, linear: u64) -> Result<(u64, u32), Fail> {
        if self.efer & efer::LMA != 0 {
            return Ok((self.cr3 & FRAME, 4));
        }
        let entry = self.pdptr[(linear >> 30 & 3) as usize];
        if entry & PRESENT == 0 {
            return Err(Fail::Fault(0));
        }
        Ok((entry & FRAME, 2))
    }

    fn check_entry(&self, value: u64, level: u32) -> Result<(), Fail> {
        if value & PRESENT == 0 {
            return Err(Fail::Fault(0));
        }
        let mut reserved = BEYOND;
        if self.efer & efer::NXE == 0 {
            reserved |= NO_EXECUTE;
        }
        if self.efer & efer::LMA == 0 {
            reserved |= 0x7ff << 52;
        }
        if value & LARGE != 0 {
            reserved |= match level {
                4 => LARGE,
                3 => 0x3fff_e000,
                2 => 0x1f_e000,
                _ => 0,
            };
        }
        if value & reserved != 0 {
            return Err(Fail::Fault(error::PRESENT | error::RESERVED));
        }
        Ok(())
    }

    /// 32-bit paging: 4-byte entries (Intel SDM vol. 3A §4.3).
    fn walk_short(
        &self,
        memory: &impl PhysicalMemory,
        linear: u64,
        intent: Intent,
        privilege: Privilege,
    ) -> Result<Translation, Fail> {
        let upper_at = (self.cr3 & 0xffff_f000) + (linear >> 20 & 0xffc);
        let upper = short_entry(memory, upper_at)?;
        let mut rights = rights_of(u64::from(upper));
        let large = upper & LARGE as u32 != 0 && self.cr4 & cr4::PSE != 0;
        if large && upper & 1 << 21 != 0 {
            return Err(Fail::Fault(error::PRESENT | error::RESERVED));
        }
        let (leaf_at, leaf, page_bits) = if large {
            (upper_at, upper, 22)
        } else {
            let at = u64::from(upper & 0xffff_f000) + (linear >> 10 & 0xffc);
            let leaf = short_entry(memory, at)?;
            rights.writable &= leaf & WRITABLE as u32 != 0;
            rights.user &= leaf & USER as u32 != 0;
            (at, leaf, 12)
        };
        self.check_rights(&rights, intent, privilege)?;
        if !large {
            mark_short(memory, upper_at, upper, false)?;
        }
        mark_short(memory, leaf_at, leaf, intent == Intent::Write)?;
        let frame = if large {
            // PSE-36: bits 20:13 are address bits 39:32.
            u64::from(leaf & 0xffc0_0000) | u64::from(leaf >> 13 & 0xff) << 32
        } else {
            u64::from(leaf & 0xffff_f000)
        };
        Ok(Translation {
            physical: frame | linear & ((1 << page_bits) - 1),
            page_bits,
            writable: self.may_write(&rights, privilege)
                && (u64::from(leaf) & DIRTY != 0 || intent == Intent::Write),
            global: u64::from(leaf) & GLOBAL != 0 && self.cr4 & cr4::PGE != 0,
        })
    }

    /// What the page's key takes away: all data accesses, writes (Intel SDM vol. 3A §4.6.2). A supervisor
    /// writes in spite of it when CR0.WP is clear.
    fn key_denies(&self, rights: &Rights, privilege: Privilege) -> (bool, bool) {
        let (enable, register) =
            if rights.user { (cr4::PKE, self.pkru) } else { (cr4::PKS, self.pkrs) };
        if self.efer & efer::LMA == 0 || self.cr4 & enable == 0 {
            return (false, false);
        }
        let bits = register >> (2 * rights.key);
        let guarded = privilege == Privilege::User || self.cr0 & cr0::WP != 0;
        (bits & 1 != 0, bits & 1 != 0 || bits & 2 != 0 && guarded)
    }

    fn may_write(&self, rights: &Rights, privilege: Privilege) -> bool {
        if self.key_denies(rights, privilege).1 {
            return false;
        }
        match privilege {
            Privilege::User => rights.user && rights.writable,
            _ => rights.writable || self.cr0 & cr0::WP == 0,
        }
    }

    /// Access rights (Intel SDM vol. 3A §4.6).
    fn check_rights(
        &self,
        rights: &Rights,
        intent: Intent,
        privilege: Privilege,
    ) -> Result<(), Fail> {
        let supervisor = privilege != Privilege::User;
        let allowed = match intent {
            Intent::Execute if rights.no_execute => false,
            Intent::Execute if supervisor => !rights.user || self.cr4 & cr4::SMEP == 0,
            Intent::Execute => rights.user,
            _ if supervisor && rights.user && self.cr4 & cr4::SMAP != 0 => {
                privilege == Privilege::Supervisor
                    && self.access_allowed
                    && (intent == Intent::Read || self.may_write(rights, privilege))
            }
            Intent::Read => supervisor || rights.user,
            Intent::Write => self.may_write(rights, privilege),
        };
        let key_denies = match (intent, self.key_denies(rights, privilege)) {
            (Intent::Execute, _) => false,
            (Intent::Read, (all, _)) => all,
            (Intent::Write, (_, writes)) => writes,
        };
        match (allowed, key_denies) {
            (true, false) => Ok(()),
            (_, true) => Err(Fail::Fault(error::PRESENT | error::KEY)),
            (false, false) => Err(Fail::Fault(error::PRESENT)),
        }
    }
}

fn rights_of(entry: u64) -> Rights {
    Rights { writable: entry & WRITABLE != 0, user: entry & USER != 0, no_execute: false, key: 0 }
}

fn short_entry(memory: &impl PhysicalMemory, address: u64) -> Result<u32, Fail> {
    let value = memory.read_short_entry(address).unwrap_or(0);
    if value & PRESENT as u32 == 0 { Err(Fail::Fault(0)) } else { Ok(value) }
}

fn mark(memory: &impl PhysicalMemory, entry: &Visited, dirty: bool) -> Result<(), Fail> {
    let bits = if dirty { ACCESSED | DIRTY } else { ACCESSED };
    let done =
        entry.value & bits == bits || memory.set_entry_bits(entry.address, entry.value, bits);
    if done { Ok(()) } else { Err(Fail::Retry) }
}

fn mark_short(
    memory: &impl PhysicalMemory,
    address: u64,
    value: u32,
    dirty: bool,
) -> Result<(), Fail> {
    let bits = if dirty { ACCESSED | DIRTY } else { ACCESSED } as u32;
    let done = value & bits == bits || memory.set_short_entry_bits(address, value, bits);
    if done { Ok(()) } else { Err(Fail::Retry) }
}

#[cfg(test)]
mod tests;
