//! Ticks of a fixed frequency against virtual nanoseconds, exact over any length of time.

use kezhan_device::{Nanoseconds, SECOND};

/// `value × numerator ÷ denominator`, rounded down, at most `u64::MAX`.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let wide = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// How many ticks of `frequency` hertz have passed at virtual time `now`.
pub(crate) fn ticks_at(now: Nanoseconds, frequency: u64) -> u64 {
    scale(now, frequency, SECOND)
}

/// The first virtual time at which `ticks` ticks of `frequency` hertz have passed.
pub(crate) fn time_of(ticks: u64, frequency: u64) -> Nanoseconds {
    let wide = (u128::from(ticks) * u128::from(SECOND)).div_ceil(u128::from(frequency.max(1)));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_tick_is_the_first_at_which_it_has_passed() {
        for frequency in [32_768, 1_193_182, 3_579_545] {
            for ticks in [1, 2, 65_536, 1 << 40] {
                let time = time_of(ticks, frequency);
                assert_eq!(ticks_at(time, frequency), ticks);
                assert_eq!(ticks_at(time - 1, frequency), ticks - 1);
            }
        }
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        assert_eq!(time_of(u64::MAX, 1), u64::MAX);
        assert!(ticks_at(u64::MAX, 3_579_545) > 0);
    }
}
