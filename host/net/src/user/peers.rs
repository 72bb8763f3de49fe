//! Datagrams that came in by a forward: each peer gets a port of ours, which the guest answers to.

use super::{ForwardId, Gateway, Outward};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a peer may be silent (RFC 4787 REQ-5).
const IDLE: Duration = Duration::from_secs(120);

/// Ports that peers seem to come from (RFC 6335 §6), and so the peers at a time.
const FIRST: u16 = 49_152;
const PEERS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Peer {
    at: SocketAddr,
    forward: ForwardId,
    guest: SocketAddr,
    last: Duration,
}

/// Peers by our port.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_port: BTreeMap<u16, Peer>,
    ports: BTreeMap<(ForwardId, SocketAddr), u16>,
    next: u16,
}

impl Peers {
    fn port_of(
        &mut self,
        now: Duration,
        forward: ForwardId,
        (at, guest): (SocketAddr, SocketAddr),
    ) -> u16 {
        let known = self.ports.get(&(forward, at)).copied();
        let ours = known.unwrap_or_else(|| {
            let ours = FIRST + self.next % PEERS as u16;
            self.next = self.next.wrapping_add(1);
            ours
        });
        if known.is_none()
            && let Some(old) = self.by_port.get(&ours)
        {
            self.ports.remove(&(old.forward, old.at));
        }
        self.by_port.insert(ours, Peer { at, forward, guest, last: now });
        self.ports.insert((forward, at), ours);
        ours
    }

    fn answer(
        &self,
        now: Duration,
        ours: u16,
        guest: SocketAddr,
    ) -> Option<(ForwardId, SocketAddr)> {
        let peer = self.by_port.get(&ours)?;
        (peer.guest == guest && now < peer.last + IDLE).then_some((peer.forward, peer.at))
    }

    fn end(&mut self, forward: ForwardId) {
        self.by_port.retain(|_, peer| peer.forward != forward);
        self.ports.retain(|(of, _), _| *of != forward);
    }
}

impl Gateway {
    /// A datagram came to a forward, from a peer and for an address and port of the guest's.
    pub fn forwarded(
        &mut self,
        now: Duration,
        forward: ForwardId,
        (from, guest): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) {
        let ours = self.peers.port_of(now, forward, (from, guest));
        let gateway = self.config.ours_like(guest.ip());
        self.send_udp(SocketAddr::new(gateway, ours), guest, payload);
    }

    /// A forward is no more.
    pub fn forward_ended(&mut self, forward: ForwardId) {
        self.peers.end(forward);
    }

    /// The guest answers a peer; `None` when there is no such one.
    pub(super) fn reply(
        &mut self,
        now: Duration,
        (guest, to): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) -> Option<()> {
        if !self.config.is_ours(to.ip()) {
            return None;
        }
        let (forward, to) = self.peers.answer(now, to.port(), guest)?;
        if self.may_order() {
            self.orders.push_back(Outward::Reply { forward, to, payload: payload.to_vec() });
        }
        Some(())
    }
}
