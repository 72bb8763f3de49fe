//! Which frames the card takes (SDM §3.2.1, §13.5).

use crate::registers::Registers;
use crate::spec::{receive, register};

/// Pairs of receive addresses.
const ADDRESSES: u32 = 16;
/// High half of a pair: it counts.
const VALID: u32 = 1 << 31;

/// Whether a frame passes.
pub(crate) fn passes(registers: &Registers, frame: &[u8]) -> bool {
    let Some((to, _)) = frame.split_first_chunk::<6>() else { return false };
    passes_address(registers, *to) && passes_vlan(registers, frame)
}

fn passes_address(registers: &Registers, to: [u8; 6]) -> bool {
    let control = registers.get(register::RCTL);
    let [first, _, _, _, fifth, sixth] = to;
    if to == [0xff; 6] {
        return control & receive::BROADCAST != 0 || control & receive::ALL_MULTICAST != 0;
    }
    if is_listed(registers, to) {
        return true;
    }
    if first & 1 == 0 {
        return control & receive::ALL_UNICAST != 0;
    }
    if control & receive::ALL_MULTICAST != 0 {
        return true;
    }
    // Twelve of the last sixteen bits, which RCTL's MO chooses (§13.5.1).
    let shift = [4, 3, 2, 0][(control >> 12 & 3) as usize];
    let hash = u32::from(u16::from_le_bytes([fifth, sixth])) >> shift & 0xfff;
    bit(registers, register::MTA, hash)
}

fn is_listed(registers: &Registers, to: [u8; 6]) -> bool {
    let [a, b, c, d, e, f] = to;
    let low = u32::from_le_bytes([a, b, c, d]);
    let high = u32::from_le_bytes([e, f, 0, 0]) | VALID;
    (0..ADDRESSES).any(|pair| {
        let at = register::RAL + 8 * pair;
        registers.get(at) == low && registers.get(at + 4) & (VALID | 0xffff) == high
    })
}

fn passes_vlan(registers: &Registers, frame: &[u8]) -> bool {
    let Some(&[0x81, 0, high, low]) = frame.get(12..16) else { return true };
    let filtered = registers.get(register::RCTL) & receive::VLAN_FILTER != 0;
    let vlan = u32::from(u16::from_be_bytes([high, low]) & 0xfff);
    !filtered || bit(registers, register::VFTA, vlan)
}

/// Bit `number` of a table of 4096.
fn bit(registers: &Registers, table: u32, number: u32) -> bool {
    registers.get(table + number / 32 * 4) >> (number % 32) & 1 == 1
}
