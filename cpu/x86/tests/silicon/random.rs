//! Inputs: edge values and random ones, from a seed.

/// A generator (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

const EDGES: [u64; 20] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_8000_0000,
];

const SINGLES: [u32; 12] = [
    0,
    0x8000_0000,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x4f00_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0x7fc0_0000,
    0x7fa0_0000,
];

const DOUBLES: [u64; 12] = [
    0,
    0x8000_0000_0000_0000,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0x7ff4_0000_0000_0000,
];

/// Sign and exponent, significand.
const EXTENDED: [(u16, u64); 10] = [
    (0, 0),
    (0x8000, 0),
    (0x3fff, 1 << 63),
    (0xbfff, 1 << 63),
    (0x4000, 0xc90f_daa2_2168_c235),
    (0x7fff, 1 << 63),
    (0x7fff, 3 << 62),
    (0x7fff, 5 << 61),
    (0, 1),
    (0x7ffe, !0),
];

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() >> 33) as usize % from.len()]
    }

    fn chance(&mut self, of: u64) -> bool {
        (self.next() >> 33).is_multiple_of(of)
    }

    pub fn integer(&mut self) -> u64 {
        match self.next() >> 62 {
            0 => self.next(),
            1 => self.next() >> (self.next() & 63),
            _ => self.pick(&EDGES),
        }
    }

    fn single(&mut self) -> u32 {
        if self.chance(2) { self.pick(&SINGLES) } else { (self.next() as f32 / 1e18).to_bits() }
    }

    fn double(&mut self) -> u64 {
        if self.chance(2) { self.pick(&DOUBLES) } else { (self.next() as f64 / 1e18).to_bits() }
    }

    pub fn memory(&mut self) -> u64 {
        match self.next() >> 62 {
            0 => self.double(),
            1 => u64::from(self.single()) << 32 | u64::from(self.single()),
            _ => self.integer(),
        }
    }

    pub fn vector(&mut self) -> u128 {
        let kind = self.next() >> 62;
        (0..2).fold(0, |value, _| {
            let part = match kind {
                0 => self.double(),
                1 | 2 => u64::from(self.single()) << 32 | u64::from(self.single()),
                _ => self.integer(),
            };
            value << 64 | u128::from(part)
        })
    }

    pub fn x87(&mut self) -> u128 {
        let (exponent, significand) = if self.chance(2) {
            self.pick(&EXTENDED)
        } else {
            (0x3ff0 + (self.next() as u16 & 0x1f), self.next() | 1 << 63)
        };
        u128::from(exponent) << 64 | u128::from(significand)
    }

    /// Mostly all masked; any rounding and precision.
    pub fn control_word(&mut self) -> u16 {
        let masks = if self.chance(4) { self.next() as u16 & 0x3f } else { 0x3f };
        0x40 | self.next() as u16 & 0x0f00 | masks
    }

    /// Mostly all masked; any rounding, DAZ and FZ.
    pub fn mxcsr(&mut self) -> u32 {
        let masks = if self.chance(4) { self.next() as u32 & 0x1f80 } else { 0x1f80 };
        let control = if self.chance(2) { self.next() as u32 & 0xe040 } else { 0 };
        masks | control | if self.chance(4) { self.next() as u32 & 0x3f } else { 0 }
    }
}
