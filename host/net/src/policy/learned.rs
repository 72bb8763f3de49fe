//! Which names an address has, as our resolver told the guest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long an answer holds at least: a guest opens its connection a while after it has asked, and answers
/// with a lifetime of 0 are usual.
const SHORTEST: Duration = Duration::from_secs(60);

/// How long an answer holds at most.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How many pairs of address and name are kept; the one that ends first makes room.
pub(super) const CAPACITY: usize = 4096;

/// Pairs of address and name with the time when they end.
#[derive(Debug, Default)]
pub(super) struct Learned(BTreeMap<(IpAddr, String), Duration>);

impl Learned {
    pub(super) fn insert(&mut self, now: Duration, name: String, ip: IpAddr, lifetime: Duration) {
        let end = now + lifetime.clamp(SHORTEST, LONGEST);
        let slot = (ip, name);
        if !self.0.contains_key(&slot) && self.0.len() >= CAPACITY {
            self.make_room(now);
        }
        let known = self.0.entry(slot).or_insert(end);
        *known = end.max(*known);
    }

    fn make_room(&mut self, now: Duration) {
        self.0.retain(|_, end| *end > now);
        if self.0.len() >= CAPACITY
            && let Some(first) =
                self.0.iter().min_by_key(|(_, end)| **end).map(|(key, _)| key.clone())
        {
            self.0.remove(&first);
        }
    }

    /// The names that an address has now.
    pub(super) fn names(&self, now: Duration, ip: IpAddr) -> Vec<&str> {
        self.0
            .range((ip, String::new())..)
            .take_while(|((of, _), _)| *of == ip)
            .filter(|(_, end)| **end > now)
            .map(|((_, name), _)| name.as_str())
            .collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
