//! Sizes in bytes, as people write them.

use crate::SpecError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. `K M G T` and `KiB MiB GiB TiB` are powers of 1024; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

impl Size {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Size {
        Size(bytes)
    }

    /// So many MiB.
    pub const fn mebibytes(count: u64) -> Size {
        Size(count << 20)
    }

    /// So many GiB.
    pub const fn gibibytes(count: u64) -> Size {
        Size(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Size, SpecError> {
        let wrong = || SpecError::SizeSyntax(text.to_owned());
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].to_ascii_uppercase();
        let shift = match unit.as_str() {
            "" | "B" => 0,
            _ => UNITS
                .iter()
                .find(|(letter, _)| unit == letter.to_string() || unit == format!("{letter}IB"))
                .map(|(_, shift)| *shift)
                .ok_or_else(wrong)?,
        };
        let number: u64 = digits.trim().parse().ok().ok_or_else(wrong)?;
        number.checked_mul(1 << shift).map(Size).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |shift: u32| self.0 != 0 && self.0.is_multiple_of(1 << shift);
        match UNITS.iter().rev().find(|(_, shift)| fits(*shift)) {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Size, SpecError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}
