//! Walks over small page tables in a map.

use super::*;
use std::cell::RefCell;
use std::collections::HashMap;

#[derive(Default)]
struct Tables(RefCell<HashMap<u64, u64>>);

impl Tables {
    fn put(&self, address: u64, value: u64) {
        self.0.borrow_mut().insert(address, value);
    }

    fn get(&self, address: u64) -> u64 {
        *self.0.borrow().get(&address).unwrap_or(&0)
    }
}

impl PhysicalMemory for Tables {
    fn read_entry(&self, address: u64) -> Option<u64> {
        Some(self.get(address))
    }

    fn read_short_entry(&self, address: u64) -> Option<u32> {
        Some((self.get(address & !7) >> (address % 8 * 8)) as u32)
    }

    fn set_entry_bits(&self, address: u64, old: u64, bits: u64) -> bool {
        let same = self.get(address) == old;
        if same {
            self.put(address, old | bits);
        }
        same
    }

    fn set_short_entry_bits(&self, address: u64, old: u32, bits: u32) -> bool {
        let shift = address % 8 * 8;
        let whole = self.get(address & !7);
        let same = (whole >> shift) as u32 == old;
        if same {
            self.put(address & !7, whole | u64::from(bits) << shift);
        }
        same
    }
}

fn long_mode() -> CpuState {
    CpuState {
        cr0: cr0::PE | cr0::PG | cr0::WP,
        cr3: 0x1000,
        cr4: cr4::PAE | cr4::PGE,
        efer: efer::LME | efer::LMA | efer::NXE,
        ..CpuState::default()
    }
}

/// One 4 KiB page at linear 0x40_1000 → 0x9000, with the leaf's flags given.
fn tables(leaf: u64) -> Tables {
    let tables = Tables::default();
    tables.put(0x1000, 0x2007);
    tables.put(0x2000, 0x3007);
    tables.put(0x3010, 0x4007);
    tables.put(0x4008, 0x9000 | leaf);
    tables
}

fn walk(
    cpu: &CpuState,
    tables: &Tables,
    intent: Intent,
    who: Privilege,
) -> Result<Translation, u32> {
    Paging::of(cpu).walk(tables, 0x40_1234, intent, who)
}

#[test]
fn a_read_sets_the_accessed_bits_and_a_write_the_dirty_bit() {
    let (cpu, tables) = (long_mode(), tables(PRESENT | WRITABLE | USER));
    let found = walk(&cpu, &tables, Intent::Read, Privilege::User).unwrap();
    assert_eq!((found.physical, found.page_bits, found.writable), (0x9234, 12, false));
    assert_eq!(tables.get(0x4008) & (ACCESSED | DIRTY), ACCESSED);
    assert_eq!(tables.get(0x1000) & ACCESSED, ACCESSED);
    let found = walk(&cpu, &tables, Intent::Write, Privilege::User).unwrap();
    assert!(found.writable);
    assert_eq!(tables.get(0x4008) & DIRTY, DIRTY);
}

#[test]
fn each_missing_right_gives_its_error_code() {
    let mut cpu = long_mode();
    cpu.cr4 |= cr4::SMEP | cr4::SMAP;
    use Intent::{Execute, Read, Write};
    use Privilege::{Implicit, Supervisor, User};
    let user = PRESENT | WRITABLE | USER;
    for (leaf, intent, who, code) in [
        (0, Read, User, 4),
        (0, Write, Supervisor, 2),
        (PRESENT, Read, User, 5),
        (PRESENT | USER, Write, User, 7),
        (PRESENT, Write, Supervisor, 3),
        (PRESENT | NO_EXECUTE, Execute, Supervisor, 0x11),
        (user, Execute, Supervisor, 0x11),
        (user, Read, Supervisor, 1),
        (user, Read, Implicit, 1),
        (user | 1 << 50, Read, User, 0xd),
    ] {
        let tables = tables(leaf);
        assert_eq!(walk(&cpu, &tables, intent, who), Err(code), "{leaf:#x} {intent:?} {who:?}");
        assert_eq!(tables.get(0x4008), 0x9000 | leaf, "a fault leaves the entry alone");
    }
}

#[test]
fn access_control_lets_an_explicit_supervisor_access_through() {
    let mut cpu = long_mode();
    cpu.cr4 |= cr4::SMAP;
    cpu.rflags |= flags::AC;
    let tables = tables(PRESENT | WRITABLE | USER);
    walk(&cpu, &tables, Intent::Write, Privilege::Supervisor).unwrap();
    assert_eq!(walk(&cpu, &tables, Intent::Write, Privilege::Implicit), Err(3));
}

#[test]
fn large_pages_are_found_at_both_levels() {
    let cpu = long_mode();
    let tables = tables(0);
    tables.put(0x3010, 0x20_0000 | 0x1e7);
    let found = walk(&cpu, &tables, Intent::Read, Privilege::User).unwrap();
    assert_eq!((found.physical, found.page_bits, found.global), (0x20_1234, 21, true));
    tables.put(0x3010, 0x20_2000 | 0xe7);
    assert_eq!(walk(&cpu, &tables, Intent::Read, Privilege::User), Err(0xd));
    tables.put(0x2000, 0x4000_0000 | 0xe7);
    let found = walk(&cpu, &tables, Intent::Read, Privilege::User).unwrap();
    assert_eq!((found.physical, found.page_bits), (0x4040_1234, 30));
}

#[test]
fn short_entries_map_4_kib_and_4_mib() {
    let mut cpu = long_mode();
    cpu.efer = 0;
    cpu.cr4 = cr4::PSE;
    let tables = Tables::default();
    tables.put(0x1000, 0x3007 << 32);
    tables.put(0x3000, 0x9007 << 32);
    let found = walk(&cpu, &tables, Intent::Write, Privilege::User).unwrap();
    assert_eq!((found.physical, found.page_bits), (0x9234, 12));
    tables.put(0x1000, 0x0100_0087 << 32);
    let found = walk(&cpu, &tables, Intent::Read, Privilege::User).unwrap();
    assert_eq!((found.physical, found.page_bits), (0x0100_1234, 22));
}

#[test]
fn without_paging_linear_is_physical() {
    let cpu = CpuState::default();
    let found = walk(&cpu, &Tables::default(), Intent::Write, Privilege::User).unwrap();
    assert_eq!(found.physical, 0x40_1234);
}

#[test]
fn a_protection_key_takes_rights_away_from_the_pages_of_its_kind() {
    use Intent::{Execute, Read, Write};
    use Privilege::{Supervisor, User};
    let key_2 = PRESENT | WRITABLE | 2 << 59;
    let (no_access, no_write) = (0x10, 0x20);
    for (leaf, keys, wp, intent, who, code) in [
        (key_2 | USER, no_access, true, Read, User, Some(0x25)),
        (key_2 | USER, no_access, true, Read, Supervisor, Some(0x21)),
        (key_2 | USER, no_access, true, Execute, User, None),
        (key_2 | USER, no_write, true, Read, User, None),
        (key_2 | USER, no_write, false, Write, User, Some(0x27)),
        (key_2 | USER, no_write, true, Write, Supervisor, Some(0x23)),
        (key_2 | USER, no_write, false, Write, Supervisor, None),
        (key_2, no_access, true, Read, Supervisor, Some(0x21)),
        (key_2, no_write, false, Write, Supervisor, None),
        (PRESENT | WRITABLE | 3 << 59, no_access, true, Write, Supervisor, None),
    ] {
        let mut cpu = long_mode();
        cpu.cr4 |= cr4::PKE | cr4::PKS;
        (cpu.pkru, cpu.msr.pkrs) = (keys, keys.into());
        if !wp {
            cpu.cr0 &= !cr0::WP;
        }
        let found = walk(&cpu, &tables(leaf), intent, who).err();
        assert_eq!(found, code, "{leaf:#x} {keys:#x} {intent:?} {who:?}");
        cpu.cr4 &= !(cr4::PKE | cr4::PKS);
        assert_eq!(walk(&cpu, &tables(leaf), intent, who).err(), None, "keys are off");
    }
}

#[test]
fn a_read_of_a_page_whose_key_forbids_writes_does_not_admit_them() {
    let mut cpu = long_mode();
    cpu.cr4 |= cr4::PKE;
    cpu.pkru = 0x20;
    let tables = tables(PRESENT | WRITABLE | USER | DIRTY | 2 << 59);
    assert!(!walk(&cpu, &tables, Intent::Read, Privilege::User).unwrap().writable);
}
