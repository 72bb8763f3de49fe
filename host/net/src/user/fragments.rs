//! Packets of the guest's that come in fragments (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! Few are put together at a time, each for a while; one whose parts overlap is dropped whole, as nobody
//! honest makes such (RFC 5722 §3).

use super::inward::{Fragment, Inward};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Packets at a time, the parts of one, and how long they are waited for (RFC 791 §3.2 begins with 15 s).
const PACKETS: usize = 32;
const PARTS: usize = 128;
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest packet.
const LONGEST: usize = 65_535;

type Key = (IpAddr, IpAddr, u8, u32);

#[derive(Debug, Default)]
struct Partial {
    parts: BTreeMap<usize, Vec<u8>>,
    held: usize,
    total: Option<usize>,
}

/// Packets that are not whole yet.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: BTreeMap<Key, Partial>,
    /// The oldest first.
    since: VecDeque<(Duration, Key)>,
}

impl Fragments {
    /// Takes a part; the payload of the packet when that makes it whole.
    pub(super) fn take(
        &mut self,
        now: Duration,
        (inward, fragment): (&Inward, Fragment),
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        self.expire(now);
        let key = (inward.from, inward.to, inward.protocol, fragment.ident);
        if !self.open.contains_key(&key) {
            if self.open.len() >= PACKETS
                && let Some((_, oldest)) = self.since.pop_front()
            {
                self.open.remove(&oldest);
            }
            self.since.push_back((now, key));
        }
        let partial = self.open.entry(key).or_default();
        if partial.insert(fragment, bytes).is_none() {
            self.remove(&key);
            return None;
        }
        if !partial.is_whole() {
            return None;
        }
        let whole = self.open.remove(&key)?;
        self.remove(&key);
        Some(whole.parts.into_values().flatten().collect())
    }

    fn remove(&mut self, key: &Key) {
        self.open.remove(key);
        self.since.retain(|(_, known)| known != key);
    }

    fn expire(&mut self, now: Duration) {
        while let Some((since, key)) = self.since.front().copied()
            && now >= since + PATIENCE
        {
            self.remove(&key);
        }
    }
}

impl Partial {
    /// `None` when the part cannot be: then the packet is dropped.
    fn insert(&mut self, fragment: Fragment, bytes: &[u8]) -> Option<()> {
        let end = fragment.offset + bytes.len();
        if self.parts.get(&fragment.offset).is_some_and(|known| known == bytes) {
            return Some(());
        }
        let before = self.parts.range(..=fragment.offset).next_back();
        let overlaps = before.is_some_and(|(at, part)| at + part.len() > fragment.offset)
            || self.parts.range(fragment.offset..end).next().is_some();
        let uneven = fragment.more && !bytes.len().is_multiple_of(8);
        let beyond = end > LONGEST || self.total.is_some_and(|total| end > total || !fragment.more);
        let last = self.parts.last_key_value().map_or(0, |(at, part)| at + part.len());
        let beyond = beyond || !fragment.more && last > end;
        if overlaps || uneven || beyond || bytes.is_empty() || self.parts.len() >= PARTS {
            return None;
        }
        if !fragment.more {
            self.total = Some(end);
        }
        self.held += bytes.len();
        self.parts.insert(fragment.offset, bytes.to_vec());
        Some(())
    }

    fn is_whole(&self) -> bool {
        // No parts overlap and none lies beyond the end: as many bytes as there are to be are all of them.
        self.total == Some(self.held)
    }
}
