//! Values of a network card's settings, each read as it is written.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const MAC: &str = "mac is six bytes in hexadecimal: 52:54:00:12:34:56";
const LOSS: &str = "loss is a share in percent, at most four digits behind the point: 5%, 0.1%";
const DELAY: &str = "delay is a time up to 10 s: 20ms, 500us, 1s";
const RATE: &str = "rate is in bits a second: 64kbit, 100mbit, 1gbit";

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(10);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// How many frames get lost, in parts of a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Loss(u32);

/// How long a frame takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineDelay(Duration);

/// Bits in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BitRate(u64);

impl MacAddress {
    /// The address of these bytes, in the order in which they are sent.
    pub fn new(bytes: [u8; 6]) -> MacAddress {
        MacAddress(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Whether it is a group's and no station's (IEEE 802-2014 §8.2.2).
    pub(crate) fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The same address for the same machine and card, locally administered (IEEE 802-2014 §8.4): three fixed
    /// bytes, then 24 bits of an FNV-1a hash.
    pub(crate) fn made_for(machine: &str, index: usize) -> MacAddress {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in machine.bytes().chain((index as u64).to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        let [a, b, c, ..] = (hash ^ (hash >> 32)).to_le_bytes();
        MacAddress([0x52, 0x6b, 0x7a, a, b, c])
    }
}

impl Loss {
    /// Parts of a million.
    pub fn of_a_million(self) -> u32 {
        self.0
    }
}

impl LineDelay {
    /// The time.
    pub fn time(self) -> Duration {
        self.0
    }
}

impl BitRate {
    /// Bits in a second; not 0.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<MacAddress, &'static str> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(MAC)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_digits| MAC)?;
        }
        if parts.next().is_some() || text.contains('+') { Err(MAC) } else { Ok(MacAddress(bytes)) }
    }
}

impl FromStr for Loss {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Loss, &'static str> {
        let number = text.strip_suffix('%').ok_or(LOSS)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 4 {
            return Err(LOSS);
        }
        let parts: u32 = format!("{whole}{part:0<4}").parse().map_err(|_large| LOSS)?;
        if parts > 1_000_000 { Err(LOSS) } else { Ok(Loss(parts)) }
    }
}

/// Makes a time of a number.
type Unit = fn(u64) -> Duration;

impl FromStr for LineDelay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LineDelay, &'static str> {
        let units: [(&str, Unit); 3] = [
            ("us", Duration::from_micros),
            ("ms", Duration::from_millis),
            ("s", Duration::from_secs),
        ];
        let (number, unit) = units
            .into_iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
            .ok_or(DELAY)?;
        let number = number.parse().ok().filter(|_| !number.starts_with('+')).ok_or(DELAY)?;
        Some(unit(number)).filter(|delay| *delay <= LONGEST).map(LineDelay).ok_or(DELAY)
    }
}

impl FromStr for BitRate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<BitRate, &'static str> {
        let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000), ("bit", 1)];
        let (number, unit) = units
            .into_iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
            .ok_or(RATE)?;
        let number: u64 = number.parse().ok().filter(|n| *n != 0).ok_or(RATE)?;
        number.checked_mul(unit).map(BitRate).ok_or(RATE)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        let text = format!("{whole}.{part:04}");
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for LineDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros.is_multiple_of(1000) {
            write!(f, "{}ms", micros / 1000)
        } else {
            write!(f, "{micros}us")
        }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000)];
        let (name, unit) =
            units.into_iter().find(|(_, unit)| self.0.is_multiple_of(*unit)).unwrap_or(("bit", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = &'static str;

            fn try_from(text: String) -> Result<$type, &'static str> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    )*};
}

pub(super) use serde_as_text;

serde_as_text!(MacAddress, Loss, LineDelay, BitRate);
