//! The guest's UDP flows: one for each of its ports (RFC 4787 §4.1, endpoint-independent mapping).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a flow may be idle: not less than two minutes (RFC 4787 REQ-5).
pub(super) const IDLE: Duration = Duration::from_secs(120);

/// Flows at a time: each is a socket of the host's.
pub(super) const FLOWS: usize = 2048;

/// Targets that a flow remembers; the oldest makes room.
const TARGETS: usize = 64;

/// A flow's number; it is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub(super) u64);

impl FlowId {
    /// The number itself.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Flow {
    id: FlowId,
    last: Duration,
    targets: VecDeque<SocketAddr>,
}

/// Flows by the guest's address and port.
#[derive(Debug, Default)]
pub(super) struct Flows {
    by_guest: BTreeMap<SocketAddr, Flow>,
    guests: BTreeMap<FlowId, SocketAddr>,
    /// By the time of the last datagram, so that the oldest is found without a walk.
    by_age: BTreeMap<(Duration, FlowId), SocketAddr>,
    next: u64,
}

impl Flows {
    /// Whether the flow of a port has sent to this target and lives: then the target was allowed.
    pub(super) fn knows(&self, now: Duration, guest: SocketAddr, to: SocketAddr) -> bool {
        self.by_guest
            .get(&guest)
            .is_some_and(|flow| now < flow.last + IDLE && flow.targets.contains(&to))
    }

    pub(super) fn has(&self, guest: SocketAddr) -> bool {
        self.by_guest.contains_key(&guest)
    }

    /// Notes a datagram of the guest's; its flow, and one that had to end for it.
    pub(super) fn sent(
        &mut self,
        now: Duration,
        guest: SocketAddr,
        to: SocketAddr,
    ) -> (FlowId, Option<FlowId>) {
        let closed = match self.by_guest.contains_key(&guest) {
            false if self.by_guest.len() >= FLOWS => self.end_oldest(),
            _ => None,
        };
        let flow = self.by_guest.entry(guest).or_insert_with(|| {
            let id = FlowId(self.next);
            self.next += 1;
            self.guests.insert(id, guest);
            Flow { id, last: now, targets: VecDeque::new() }
        });
        self.by_age.remove(&(flow.last, flow.id));
        flow.last = now;
        self.by_age.insert((now, flow.id), guest);
        if !flow.targets.contains(&to) {
            if flow.targets.len() == TARGETS {
                flow.targets.pop_front();
            }
            flow.targets.push_back(to);
        }
        (flow.id, closed)
    }

    /// The guest's port for a datagram from outside, when the flow has sent to that address. What comes in
    /// does not keep a flow alive (RFC 4787 REQ-6).
    pub(super) fn heard(&self, now: Duration, id: FlowId, from: SocketAddr) -> Option<SocketAddr> {
        let guest = *self.guests.get(&id)?;
        let flow = self.by_guest.get(&guest)?;
        let known = flow.targets.iter().any(|target| target.ip() == from.ip());
        (known && now < flow.last + IDLE).then_some(guest)
    }

    /// Ends what has been idle for too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<FlowId> {
        let mut ended = Vec::new();
        while self.next_end().is_some_and(|end| now >= end) {
            ended.extend(self.end_oldest());
        }
        ended
    }

    /// When the next flow may end.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.by_age.first_key_value().map(|((last, _), _)| *last + IDLE)
    }

    pub(super) fn len(&self) -> usize {
        self.by_guest.len()
    }

    fn end_oldest(&mut self) -> Option<FlowId> {
        let ((_, id), guest) = self.by_age.pop_first()?;
        self.by_guest.remove(&guest);
        self.guests.remove(&id);
        Some(id)
    }
}
