//! The guest's UDP flows: one for each of its ports (RFC 4787 §4.1, endpoint-independent mapping).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

/// How long a flow may be idle: not less than two minutes (RFC 4787 REQ-5).
pub(super) const IDLE: Duration = Duration::from_secs(120);

/// Flows at a time: each is a socket of the host's.
pub(super) const FLOWS: usize = 512;

/// Targets that a flow remembers; the oldest makes room.
const TARGETS: usize = 64;

/// A flow's number; it is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(u64);

#[derive(Debug)]
struct Flow {
    id: FlowId,
    last: Duration,
    targets: VecDeque<SocketAddrV4>,
}

/// Flows by the guest's port.
#[derive(Debug, Default)]
pub(super) struct Flows {
    by_port: BTreeMap<u16, Flow>,
    ports: BTreeMap<FlowId, u16>,
    next: u64,
}

impl Flows {
    /// Whether the flow of a port has sent to this target and lives: then the target was allowed.
    pub(super) fn knows(&self, now: Duration, port: u16, to: SocketAddrV4) -> bool {
        self.by_port
            .get(&port)
            .is_some_and(|flow| now < flow.last + IDLE && flow.targets.contains(&to))
    }

    /// Notes a datagram of the guest's; its flow, and one that had to end for it.
    pub(super) fn sent(
        &mut self,
        now: Duration,
        port: u16,
        to: SocketAddrV4,
    ) -> (FlowId, Option<FlowId>) {
        let closed = match self.by_port.contains_key(&port) {
            false if self.by_port.len() >= FLOWS => self.end_oldest(),
            _ => None,
        };
        let flow = self.by_port.entry(port).or_insert_with(|| {
            let id = FlowId(self.next);
            self.next += 1;
            self.ports.insert(id, port);
            Flow { id, last: now, targets: VecDeque::new() }
        });
        flow.last = now;
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
    pub(super) fn heard(&self, now: Duration, id: FlowId, from: SocketAddrV4) -> Option<u16> {
        let port = *self.ports.get(&id)?;
        let flow = self.by_port.get(&port)?;
        let known = flow.targets.iter().any(|target| target.ip() == from.ip());
        (known && now < flow.last + IDLE).then_some(port)
    }

    /// Ends what has been idle for too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<FlowId> {
        let idle = |flow: &Flow| now >= flow.last + IDLE;
        let ended: Vec<FlowId> =
            self.by_port.values().filter(|flow| idle(flow)).map(|flow| flow.id).collect();
        self.by_port.retain(|_, flow| !idle(flow));
        for id in &ended {
            self.ports.remove(id);
        }
        ended
    }

    /// When the next flow may end.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.by_port.values().map(|flow| flow.last + IDLE).min()
    }

    fn end_oldest(&mut self) -> Option<FlowId> {
        let (&port, _) = self.by_port.iter().min_by_key(|(_, flow)| flow.last)?;
        let flow = self.by_port.remove(&port)?;
        self.ports.remove(&flow.id);
        Some(flow.id)
    }
}
