//! Seconds since 1970 against the bytes of the clock: decimal or binary, 12 or 24 hours.

use super::spec::{PM, b};

/// The time as the clock's registers hold it, in the order of `spec::TIME`.
pub(super) type TimeBytes = [u8; 8];

const DAY: i64 = 86_400;

/// Days from 1970-01-01 to a date of the Gregorian calendar (ISO 8601-1:2019 §4.2.1). Years are counted from
/// March, so that the leap day is a year's last.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 153 days in each five months from March; 719 468 days from 0000-03-01 to 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date of a day: the year is guessed too early, then corrected.
fn date_of_days(days: i64) -> (i64, i64, i64) {
    let mut year = 1970 + days.div_euclid(if days < 0 { 365 } else { 366 });
    while days_from_date(year + 1, 1, 1) <= days {
        year += 1 + (days - days_from_date(year + 1, 1, 1)) / 366;
    }
    let month = (2..=12).take_while(|month| days_from_date(year, *month, 1) <= days).count() as i64;
    let month = month + 1;
    (year, month, days - days_from_date(year, month, 1) + 1)
}

fn encode(value: i64, control: u8) -> u8 {
    let value = value.rem_euclid(100) as u8;
    if control & b::BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
}

fn decode(byte: u8, control: u8) -> i64 {
    if control & b::BINARY != 0 {
        byte.into()
    } else {
        i64::from(byte >> 4) * 10 + i64::from(byte & 0xf)
    }
}

fn encode_hour(hour: i64, control: u8) -> u8 {
    if control & b::HOURS_24 != 0 {
        return encode(hour, control);
    }
    let afternoon = if hour >= 12 { PM } else { 0 };
    encode((hour + 11) % 12 + 1, control) | afternoon
}

fn decode_hour(byte: u8, control: u8) -> i64 {
    if control & b::HOURS_24 != 0 {
        return decode(byte, control);
    }
    let afternoon = if byte & PM != 0 { 12 } else { 0 };
    decode(byte & !PM, control) % 12 + afternoon
}

/// The alarm's share of the time: seconds, minutes, hours.
pub(super) fn clock_bytes(seconds: i64, control: u8) -> [u8; 3] {
    let second = seconds.rem_euclid(DAY);
    [
        encode(second % 60, control),
        encode(second / 60 % 60, control),
        encode_hour(second / 3600, control),
    ]
}

/// The registers at a time.
pub(super) fn time_bytes(seconds: i64, control: u8) -> TimeBytes {
    let days = seconds.div_euclid(DAY);
    let (year, month, day) = date_of_days(days);
    let [second, minute, hour] = clock_bytes(seconds, control);
    // 1970-01-01 was a Thursday, the fifth day.
    let weekday = (days + 4).rem_euclid(7) + 1;
    let of = |value| encode(value, control);
    [second, minute, hour, of(weekday), of(day), of(month), of(year), of(year.div_euclid(100))]
}

/// The time of registers. What is out of range counts on: the 31st of June is the 1st of July. The
/// weekday follows from the date.
pub(super) fn seconds_of(bytes: &TimeBytes, control: u8) -> i64 {
    let [second, minute, hour, _, day, month, year, century] = *bytes;
    let of = |byte| decode(byte, control);
    let days = days_from_date(of(century) * 100 + of(year), of(month).clamp(1, 12), of(day));
    days * DAY + decode_hour(hour, control) * 3600 + of(minute) * 60 + of(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates_are_encoded() {
        assert_eq!(time_bytes(0, b::HOURS_24), [0, 0, 0, 5, 1, 1, 0x70, 0x19]);
        let leap_day = 951_827_696;
        assert_eq!(
            time_bytes(leap_day, b::HOURS_24 | b::BINARY),
            [56, 34, 12, 3, 29, 2, 0, 20],
            "2000-02-29 12:34:56, a Tuesday"
        );
    }

    #[test]
    fn every_day_of_six_hundred_years_comes_back() {
        for control in [0, b::HOURS_24, b::BINARY, b::BINARY | b::HOURS_24] {
            for day in (-100_000..130_000).step_by(7) {
                let seconds = day * DAY + day.rem_euclid(DAY);
                assert_eq!(seconds_of(&time_bytes(seconds, control), control), seconds);
            }
        }
    }

    #[test]
    fn midnight_and_noon_are_twelve_in_the_12_hour_format() {
        assert_eq!(encode_hour(0, 0), 0x12);
        assert_eq!(encode_hour(12, 0), 0x92);
        assert_eq!(encode_hour(23, 0), 0x91);
        assert_eq!(decode_hour(0x92, 0), 12);
    }
}
