//! Sizes as people write and read them, in qemu-img's way.

use crate::error::{ImageError, Result};

const UNITS: [(char, u32); 6] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];

/// Reads `123`, `64k`, `1.5G`: a bare number is bytes, units are powers of 1024.
///
/// # Errors
/// What is not a size, or does not fit into 63 bits.
pub fn parse(text: &str) -> Result<u64> {
    let wrong = || {
        ImageError::usage(format!(
            "size '{text}': write a number and a unit, for example 512M or 20G"
        ))
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").unwrap_or(&unit);
    let shift = match unit {
        "" | "B" => 0,
        _ => {
            let known = UNITS.iter().find(|(letter, _)| unit == letter.to_string());
            known.map(|(_, shift)| *shift).ok_or_else(wrong)?
        }
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = whole.parse().map_err(|_error| wrong())?;
    let mut bytes = u128::from(whole) << shift;
    if !fraction.is_empty() {
        let value: f64 = format!("0.{fraction}").parse().map_err(|_error| wrong())?;
        bytes += (value * (1u64 << shift) as f64) as u128;
    }
    u64::try_from(bytes).ok().filter(|bytes| *bytes <= i64::MAX as u64).ok_or_else(wrong)
}

/// Writes `3 MiB`, `196 KiB`, `1.5 GiB`: three significant digits.
pub fn human(bytes: u64) -> String {
    let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 999.5 && unit + 1 < names.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", significant(value), names[unit])
}

/// Three significant digits without trailing zeroes; four where the whole part needs them.
fn significant(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units_and_fractions() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 65536),
            ("1.5M", 3 << 19),
            ("8T", 8 << 40),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "x", "12Q", "-1", "9E", "1..5M", "18446744073709551616"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_with_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (3 << 20, "3 MiB"),
            (200_704, "196 KiB"),
            (3 << 29, "1.5 GiB"),
            (999, "999 B"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
