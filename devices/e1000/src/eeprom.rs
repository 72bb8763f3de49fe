//! The EEPROM: 64 words in a Microwire memory (93C46), read bit by bit through EECD or at once through EERD
//! (SDM §5.3, §5.6, §13.4.3, §13.4.4).
//!
//! ```text
//!   CS high ─► start bit, opcode (2), address (6) on rising clocks ─► a 0, then 16 bits on rising clocks
//! ```

use serde::{Deserialize, Serialize};

const CLOCK: u32 = 1 << 0;
const SELECT: u32 = 1 << 1;
const INPUT: u32 = 1 << 2;
const OUTPUT: u32 = 1 << 3;
const REQUEST: u32 = 1 << 6;
const GRANT: u32 = 1 << 7;
const PRESENT: u32 = 1 << 8;
/// What software drives.
const DRIVEN: u32 = CLOCK | SELECT | INPUT | 1 << 4 | 1 << 5 | REQUEST;

/// EERD: begins, is done, where the address is (82540EM).
const START: u32 = 1 << 0;
const DONE: u32 = 1 << 4;

/// Start bit, opcode and address in front of a read.
const COMMAND_BITS: u8 = 9;
const READ: u16 = 0b110;

const WORDS: usize = 64;
/// What all words add up to (SDM §5.6.35).
const SUM: u16 = 0xbaba;

/// The pins: saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pins {
    driven: u32,
    /// Bits that came in since the chip was selected, and how many.
    input: u16,
    count: u8,
    /// Bits that go out, the next one highest.
    output: u32,
}

/// The words for a card with this address.
pub(crate) fn words(mac: [u8; 6]) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    let [a, b, c, d, e, f] = mac;
    let address = [[a, b], [c, d], [e, f]].map(u16::from_le_bytes);
    // Address; initialization control 1; subsystem, its vendor, device, vendor; control 2.
    let places = [(0, address[0]), (1, address[1]), (2, address[2]), (0xa, 0x4408), (0xb, 0x100e)];
    let more = [(0xc, 0x8086), (0xd, 0x100e), (0xe, 0x8086), (0xf, 0x3040)];
    for (place, word) in places.into_iter().chain(more) {
        words[place] = word;
    }
    let sum = words.iter().fold(0_u16, |sum, word| sum.wrapping_add(*word));
    words[WORDS - 1] = SUM.wrapping_sub(sum);
    words
}

impl Pins {
    /// Software drives the pins.
    pub(crate) fn drive(&mut self, value: u32, words: &[u16; WORDS]) {
        let rising = value & !self.driven;
        let was_selected = self.driven & SELECT != 0;
        self.driven = value & DRIVEN;
        if value & SELECT == 0 || !was_selected {
            (self.input, self.count, self.output) = (0, 0, 0);
            return;
        }
        if rising & CLOCK == 0 {
            return;
        }
        if self.count >= COMMAND_BITS {
            self.output <<= 1;
            return;
        }
        // A start bit comes before anything counts.
        let bit = u16::from(value & INPUT != 0);
        if self.count > 0 || bit == 1 {
            self.input = self.input << 1 | bit;
            self.count += 1;
        }
        if self.count == COMMAND_BITS && self.input >> 6 == READ {
            let word = words.get(usize::from(self.input) % WORDS).copied().unwrap_or(0);
            // A 0 comes before the word: the next clock brings its first bit.
            self.output = u32::from(word) << 15;
        }
    }

    /// What software reads. The chip is ready whenever it does not send.
    pub(crate) fn read(&self) -> u32 {
        let granted = if self.driven & REQUEST != 0 { GRANT } else { 0 };
        let sends = self.count >= COMMAND_BITS;
        let output = if !sends || self.output >> 31 != 0 { OUTPUT } else { 0 };
        self.driven | PRESENT | granted | output
    }
}

/// What EERD reads after `value` was written.
pub(crate) fn read_register(value: u32, words: &[u16; WORDS]) -> u32 {
    if value & START == 0 {
        return value;
    }
    let address = value >> 8 & 0xff;
    let word = words.get(address as usize).copied().unwrap_or(0);
    u32::from(word) << 16 | address << 8 | DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    /// Reads a word as a driver does.
    fn read(pins: &mut Pins, words: &[u16; WORDS], address: u16) -> u16 {
        pins.drive(REQUEST, words);
        pins.drive(REQUEST | SELECT, words);
        let command = READ << 6 | address;
        for bit in (0..9).rev() {
            let input = if command >> bit & 1 == 1 { INPUT } else { 0 };
            pins.drive(REQUEST | SELECT | input, words);
            pins.drive(REQUEST | SELECT | input | CLOCK, words);
            pins.drive(REQUEST | SELECT | input, words);
        }
        let mut word = 0;
        for _ in 0..16 {
            pins.drive(REQUEST | SELECT | CLOCK, words);
            word = word << 1 | u16::from(pins.read() & OUTPUT != 0);
            pins.drive(REQUEST | SELECT, words);
        }
        pins.drive(0, words);
        word
    }

    #[test]
    fn every_word_is_read_bit_by_bit_and_at_once() {
        let words = words(MAC);
        let mut pins = Pins::default();
        for (address, word) in (0..).zip(words) {
            assert_eq!(read(&mut pins, &words, address), word, "word {address}");
            let register = read_register(u32::from(address) << 8 | START, &words);
            assert_eq!(register, u32::from(word) << 16 | u32::from(address) << 8 | DONE);
        }
    }

    #[test]
    fn the_words_hold_the_address_and_add_up() {
        let words = words(MAC);
        assert_eq!(words[..3], [0x5452, 0x1200, 0x5634]);
        assert_eq!(words.iter().fold(0_u16, |sum, word| sum.wrapping_add(*word)), SUM);
    }
}
