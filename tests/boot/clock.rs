//! The guest's clock goes as fast as the host's.
//!
//! The guest writes its time every 20 ms. A line may arrive late, never early; so in each window the
//! smallest difference between arrival and written time is the true one but for the shortest delay. How
//! that changes from the first window to the last is how far the clock strayed.

use crate::guest::{Guest, PLAIN, Transcript};
use libtest_mimic::{Failed, Trial};
use std::time::Duration;

/// 0.1 %, and a millisecond for the shortest delay not being the same in both windows.
const TOLERANCE: f64 = 0.001;
const DELAY: f64 = 0.001;
/// Parts of the whole time that are compared.
const WINDOWS: usize = 4;

pub fn trials() -> Vec<Trial> {
    [1, 2]
        .map(|cpus| {
            let name =
                format!("the clock of a guest with {cpus} CPUs is within 0.1 % of the host's");
            Trial::test(name, move || keeps_time(Guest { cpus, ..PLAIN }))
        })
        .into()
}

fn keeps_time(guest: Guest) -> Result<(), Failed> {
    let seen = guest.run("clock")?;
    seen.assert_clean("clock")?;
    let points: Vec<(f64, f64)> = seen.of_script().filter_map(point).collect();
    let (elapsed, strayed) = stray(&seen, &points)?;
    match strayed.abs() <= elapsed * TOLERANCE + DELAY {
        true => Ok(()),
        false => Err(seen.failed(&format!("strayed {strayed:.6} s in {elapsed:.1} s"))),
    }
}

/// Host's and guest's seconds.
fn point((arrival, line): &(Duration, String)) -> Option<(f64, f64)> {
    let nanoseconds: u64 = line.strip_prefix("clock ")?.parse().ok()?;
    Some((arrival.as_secs_f64(), Duration::from_nanos(nanoseconds).as_secs_f64()))
}

/// Seconds from the first window to the last, and how far the clocks came apart.
fn stray(seen: &Transcript, points: &[(f64, f64)]) -> Result<(f64, f64), Failed> {
    let size = points.len() / WINDOWS;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Err(seen.failed("the guest told no time"));
    };
    if size < 100 || last.1 - first.1 < 55.0 {
        return Err(seen.failed(&format!("the guest told its time only {} times", points.len())));
    }
    let offset = |window: &[(f64, f64)]| {
        window.iter().map(|(host, guest)| host - guest).fold(f64::INFINITY, f64::min)
    };
    let strayed = offset(&points[points.len() - size..]) - offset(&points[..size]);
    Ok((last.0 - first.0, strayed))
}
