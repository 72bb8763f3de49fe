//! The gateway's TCP: which connections may be, and what passes between [`tcp`](super::tcp) and the driver.

use super::checksum::Sum;
use super::frame::{self, ETHERNET, Frame, Header, IPV4, IPV6, protocol};
use super::icmp::{Refusal, TooBig};
use super::inward::Inward;
use super::resolve::Session;
use super::tcp::header::CHECKSUM;
use super::tcp::table::Entry;
use super::tcp::{
    Answer, Arrival, Failure, Key, Phase, Planned, Reach, Segment, Seq, Stream, flag,
};
use super::{DNS_PORT, Gateway, Outward, StreamId};
use crate::policy::Protocol;
use kezhan_ports::nic::{Packet, PartialChecksum, Segmentation, SegmentationKind};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Ports that forwarded connections seem to come from (RFC 6335 §6).
const EPHEMERAL: std::ops::Range<u16> = 49_152..u16::MAX;

/// The longest IP packet.
const LONGEST: usize = 65_535;

impl Gateway {
    /// The host's connection of a stream stands.
    pub fn stream_connected(&mut self, now: Duration, id: StreamId) {
        let Some(entry) = self.streams.get_mut(id) else { return };
        entry.stream.connected();
        self.settle(now, id);
    }

    /// The host's side of a stream failed: the guest is told, and the driver has no more to do with it.
    pub fn stream_failed(&mut self, now: Duration, id: StreamId, failure: Failure) {
        let Some(entry) = self.streams.get_mut(id) else { return };
        entry.stream.attached = false;
        let (key, syn) = (entry.stream.key, entry.stream.syn());
        let dialling = entry.stream.phase == Phase::Dialling;
        match failure {
            Failure::NetworkUnreachable if dialling => self.refuse_syn(key, syn, Refusal::Network),
            Failure::HostUnreachable if dialling => self.refuse_syn(key, syn, Refusal::Host),
            _ => {
                let reset = entry.stream.reset();
                self.send_segment(key, reset);
            }
        }
        if let Some(entry) = self.streams.get_mut(id) {
            entry.stream.abort();
        }
        self.settle(now, id);
    }

    /// A connection from outside to a port of the guest's: it seems to come from us. `None` when there are
    /// too many.
    pub fn stream_open(&mut self, now: Duration, guest: SocketAddr) -> Option<StreamId> {
        if !self.streams.has_room(false) {
            self.counts.full += 1;
            return None;
        }
        let ours = self.config.ours_like(guest.ip());
        for _ in 0..EPHEMERAL.len() {
            let port = EPHEMERAL.start + self.ephemeral % (EPHEMERAL.end - EPHEMERAL.start);
            self.ephemeral = self.ephemeral.wrapping_add(1);
            let key = Key { guest, remote: SocketAddr::new(ours, port) };
            if self.streams.find(&key).is_none() {
                let id = self.streams.insert(Stream::calling(now, key, first_number(now, &key)));
                self.settle(now, id);
                return Some(id);
            }
        }
        None
    }

    /// What the guest sent and waits to be written, at most 64 pieces of it.
    #[must_use]
    pub fn stream_output(&self, id: StreamId) -> Vec<IoSlice<'_>> {
        self.streams.get(id).map(|entry| entry.stream.output()).unwrap_or_default()
    }

    /// So many bytes of the output were written. The driver goes on until there is none or the socket is
    /// full: it is told of output anew only after all was written.
    pub fn stream_written(&mut self, now: Duration, id: StreamId, count: usize) {
        let allowance = self.streams.allowance();
        let Some(entry) = self.streams.get_mut(id) else { return };
        entry.stream.written(count, allowance);
        entry.output_told = entry.stream.output_length() > 0;
        self.settle(now, id);
    }

    /// How many bytes from the host are welcome; after a 0 the driver waits for [`Outward::Room`].
    pub fn stream_room(&mut self, id: StreamId) -> usize {
        let allowance = self.streams.allowance();
        self.streams.get_mut(id).map_or(0, |entry| entry.stream.room(allowance))
    }

    /// Bytes from the host.
    pub fn stream_data(&mut self, now: Duration, id: StreamId, bytes: Vec<u8>) {
        if let Some(entry) = self.streams.get_mut(id) {
            entry.stream.push(bytes);
            self.settle(now, id);
        }
    }

    /// The host sends no more.
    pub fn stream_end(&mut self, now: Duration, id: StreamId) {
        if let Some(entry) = self.streams.get_mut(id) {
            entry.stream.close();
            self.settle(now, id);
        }
    }

    /// Takes a segment of the guest's.
    pub(super) fn tcp(
        &mut self,
        now: Duration,
        inward: &Inward,
        frame: Vec<u8>,
        packet: Packet,
    ) -> Option<()> {
        let (segment, header) = Segment::read(inward.bytes(&frame))?;
        if !inward.is_sound(&frame, packet, CHECKSUM) || !is_cut_right(inward, header, packet) {
            return None;
        }
        let key = Key {
            guest: SocketAddr::new(inward.from, segment.source),
            remote: SocketAddr::new(inward.to, segment.destination),
        };
        let payload = inward.payload.start + header..inward.payload.end;
        let opens = segment.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
        match self.streams.find(&key) {
            Some(id) if !(opens && self.may_replace(id, segment.seq)) => {
                let allowance = self.streams.allowance();
                let entry = self.streams.get_mut(id)?;
                let length = payload.len();
                let arrival = Arrival { segment, frame, payload };
                let answer = entry.stream.arrives(now, arrival, allowance);
                if entry.session.is_some() {
                    self.serve_names(now, id);
                }
                self.settle(now, id);
                if answer == Answer::Reset {
                    self.send_reset(key, &segment, length);
                }
            }
            _ if opens => self.dial(now, key, &segment),
            _ => self.send_reset(key, &segment, payload.len()),
        }
        Some(())
    }

    /// A segment of ours was too long for the way behind the guest.
    pub(super) fn shrink_stream(&mut self, now: Duration, hint: &TooBig) -> Option<()> {
        let id = self.streams.find(&Key { guest: hint.to, remote: hint.from })?;
        let network = if hint.to.is_ipv6() { IPV6 } else { IPV4 };
        let headers = (network + super::tcp::header::HEADER) as u16;
        let entry = self.streams.get_mut(id)?;
        entry.stream.shrink(Seq(hint.seq), hint.mtu.checked_sub(headers)?);
        self.streams.note(now, id);
        Some(())
    }

    /// A new connection may take the place of one that only waits (RFC 9293 §3.10.7.4, TIME-WAIT).
    fn may_replace(&mut self, id: StreamId, seq: Seq) -> bool {
        let Some(entry) = self.streams.get(id) else { return false };
        let replaces = entry.stream.phase == Phase::Waiting && entry.stream.is_past(seq);
        if replaces {
            self.streams.remove(id);
        }
        replaces
    }

    fn dial(&mut self, now: Duration, key: Key, syn: &Segment) {
        if key.remote.port() == DNS_PORT && self.config.is_ours(key.remote.ip()) {
            return self.open_session(now, key, syn);
        }
        if !self.may_begin(now) {
            return;
        }
        let Some(target) = self.target(now, key.remote, Protocol::Tcp) else {
            self.counts.denied += 1;
            self.send_reset(key, syn, 0);
            return;
        };
        if !self.streams.has_room(true) {
            // The guest asks again.
            self.counts.full += 1;
            return;
        }
        let stream = Stream::dialled(now, key, syn, first_number(now, &key));
        let id = self.streams.insert(stream);
        self.orders.push_back(Outward::Connect { stream: id, to: target });
        self.settle(now, id);
    }

    /// A connection to our name server.
    fn open_session(&mut self, now: Duration, key: Key, syn: &Segment) {
        if !self.streams.has_room(true) {
            self.counts.full += 1;
            return;
        }
        let mut stream = Stream::dialled(now, key, syn, first_number(now, &key));
        stream.attached = false;
        stream.connected();
        let id = self.streams.insert(stream);
        if let Some(entry) = self.streams.get_mut(id) {
            entry.session = Some(Session::default());
        }
        self.settle(now, id);
    }

    /// Tells the driver what is new about a stream, and puts it in its place.
    pub(super) fn settle(&mut self, now: Duration, id: StreamId) {
        let Some(entry) = self.streams.get_mut(id) else { return };
        let told = orders_of(entry, id);
        let phase = entry.stream.phase;
        self.orders.extend(told.orders);
        match phase {
            Phase::Gone => drop(self.streams.remove(id)),
            Phase::Waiting if told.dropped => {
                self.streams.waits(id);
                self.streams.note(now, id);
            }
            _ => self.streams.note(now, id),
        }
    }

    /// The next segment of any stream, each in its turn.
    pub(super) fn next_segment(&mut self, now: Duration) -> Option<Frame> {
        while let Some(id) = self.streams.next_ready() {
            let allowance = self.streams.allowance();
            let Some(entry) = self.streams.get_mut(id) else { continue };
            let key = entry.stream.key;
            let reach = reach(&self.config, self.offloads, key.guest, allowance);
            let planned = entry.stream.plan(now, reach);
            self.settle(now, id);
            if let Some(planned) = planned {
                return Some(self.framed(key, planned));
            }
        }
        None
    }

    /// Ends, resends or probes what time asks for.
    pub(super) fn expire_streams(&mut self, now: Duration) {
        while let Some(id) = self.streams.next_expired(now) {
            let Some(entry) = self.streams.get_mut(id) else { continue };
            if entry.stream.expired(now, self.held) {
                let (key, reset) = (entry.stream.key, entry.stream.reset());
                entry.stream.abort();
                self.send_segment(key, reset);
            }
            self.settle(now, id);
        }
    }

    pub(super) fn send_segment(&mut self, key: Key, header: Segment) {
        let planned = Planned { header, body: Vec::new(), length: 0, mss: u16::MAX };
        let frame = self.framed(key, planned);
        self.queue(frame);
    }

    /// RFC 9293 §3.5.2, group 1.
    fn send_reset(&mut self, key: Key, segment: &Segment, payload: usize) {
        if segment.has(flag::RST) {
            return;
        }
        let length =
            payload + usize::from(segment.has(flag::SYN)) + usize::from(segment.has(flag::FIN));
        let mut reset = Segment {
            source: key.remote.port(),
            destination: key.guest.port(),
            flags: flag::RST | flag::ACK,
            ack: segment.seq.plus(length),
            ..Segment::default()
        };
        if segment.has(flag::ACK) {
            reset = Segment { seq: segment.ack, ack: Seq(0), flags: flag::RST, ..reset };
        }
        self.send_segment(key, reset);
    }

    /// Tells the guest by ICMP that its SYN goes nowhere.
    fn refuse_syn(&mut self, key: Key, syn: Segment, refusal: Refusal) {
        let (from, to) = (key.guest.ip(), key.remote.ip());
        let header = Header { protocol: protocol::TCP, from, to, ident: 0 };
        let mut packet = frame::headers(&self.config, &header, syn.length(), syn.length());
        syn.write(&mut packet);
        self.refuse(from, to, packet.get(ETHERNET..).unwrap_or_default(), refusal);
    }

    fn framed(&mut self, key: Key, planned: Planned) -> Frame {
        let (from, to) = (key.remote.ip(), key.guest.ip());
        let length = planned.header.length() + planned.length;
        self.ident = self.ident.wrapping_add(1);
        let header = Header { protocol: protocol::TCP, from, to, ident: self.ident };
        let room = planned.header.length();
        let mut head = frame::headers(&self.config, &header, length, room);
        let start = head.len();
        planned.header.write(&mut head);
        let mut sum = Sum::pseudo(from, to, protocol::TCP, length);
        let mut packet = Packet::default();
        let sum = if self.offloads.checksum {
            packet.checksum = Some(PartialChecksum { start: start as u16, offset: CHECKSUM });
            sum.partial()
        } else {
            sum.add(head.get(start..).unwrap_or_default());
            planned.body.iter().for_each(|piece| sum.add(piece.as_slice()));
            sum.finish()
        };
        let at = start + usize::from(CHECKSUM);
        if let Some(field) = head.get_mut(at..at + 2) {
            field.copy_from_slice(&sum);
        }
        if planned.length > planned.mss.into() {
            let kind = match to {
                IpAddr::V4(_) => SegmentationKind::Tcp4,
                IpAddr::V6(_) => SegmentationKind::Tcp6,
            };
            let headers = head.len() as u16;
            packet.segmentation = Some(Segmentation { kind, headers, size: planned.mss });
        }
        Frame { head, body: planned.body, packet }
    }
}

struct Told {
    orders: Vec<Outward>,
    dropped: bool,
}

fn orders_of(entry: &mut Entry, id: StreamId) -> Told {
    let mut told = Told { orders: Vec::new(), dropped: false };
    let stream = &mut entry.stream;
    let news = std::mem::take(&mut stream.news);
    if !stream.attached {
        return told;
    }
    if news.output && !std::mem::replace(&mut entry.output_told, true) {
        told.orders.push(Outward::Output { stream: id });
    }
    if news.room && stream.is_open() {
        told.orders.push(Outward::Room { stream: id });
    }
    if news.shut {
        told.orders.push(Outward::Shut { stream: id });
    }
    if matches!(stream.phase, Phase::Waiting | Phase::Gone) {
        stream.attached = false;
        told.dropped = true;
        told.orders.push(Outward::Drop { stream: id, reset: stream.broken });
    }
    told
}

/// What one frame can carry to the guest.
fn reach(
    config: &super::GatewayConfig,
    offloads: kezhan_ports::nic::Offloads,
    guest: SocketAddr,
    allowance: usize,
) -> Reach {
    let (network, cut) =
        if guest.is_ipv6() { (IPV6, offloads.tcp6) } else { (IPV4, offloads.tcp4) };
    let headers = network + super::tcp::header::HEADER;
    let mss = config.mtu.saturating_sub(headers as u16).max(1);
    let payload = if cut && offloads.checksum { LONGEST - headers } else { mss.into() };
    Reach { mss, payload, allowance }
}

/// A segment that is still to be cut says where its headers end.
fn is_cut_right(inward: &Inward, header: usize, packet: Packet) -> bool {
    packet.segmentation.is_none_or(|cut| {
        let kind = match inward.to {
            IpAddr::V4(_) => SegmentationKind::Tcp4,
            IpAddr::V6(_) => SegmentationKind::Tcp6,
        };
        cut.kind == kind && usize::from(cut.headers) == inward.payload.start + header
    })
}

/// A first sequence number (RFC 9293 §3.4.1): a clock of 4 µs and a hash of the ends. The only peer is the
/// guest, so that no secret guards it (RFC 6528 §3).
fn first_number(now: Duration, key: &Key) -> Seq {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    Seq((hasher.finish() as u32).wrapping_add((now.as_micros() / 4) as u32))
}
