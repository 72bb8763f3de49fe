//! Streams, segment by segment.

use super::super::checksum::Sum;
use super::super::tcp::{Segment, Seq, flag, table};
use super::*;
use kezhan_ports::nic::{PartialChecksum, Segmentation, SegmentationKind};

const SERVER: &str = "192.0.2.1:80";

/// What a segment for the guest says, and its payload.
fn segment_of(frame: &Frame) -> (Segment, Vec<u8>) {
    let bytes = frame.to_vec();
    let inward = Inward::ipv4(&bytes).unwrap();
    assert_eq!(inward.protocol, protocol::TCP);
    if frame.packet().checksum.is_none() {
        assert!(inward.is_sound(&bytes, Packet::default(), 16));
    }
    let (segment, header) = Segment::read(inward.bytes(&bytes)).unwrap();
    (segment, inward.bytes(&bytes)[header..].to_vec())
}

fn framed(to: &str, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let to: SocketAddr = to.parse().unwrap();
    let mut bytes = Vec::new();
    Segment { destination: to.port(), ..*segment }.write(&mut bytes);
    bytes.extend(payload);
    let mut sum = Sum::pseudo(GUEST.into(), to.ip(), protocol::TCP, bytes.len());
    sum.add(&bytes);
    bytes[16..18].copy_from_slice(&sum.finish());
    packet(protocol::TCP, GUEST, to.ip(), &bytes)
}

/// A guest with one connection, whose windows are not scaled.
struct Peer {
    gateway: Gateway,
    now: Duration,
    id: StreamId,
    next: Seq,
    expected: Seq,
    window: u16,
}

impl Peer {
    fn syn(gateway: &mut Gateway, port: u16) -> Option<StreamId> {
        let mss = Some(1460);
        let syn =
            Segment { source: port, seq: Seq(100), flags: flag::SYN, mss, ..Segment::default() };
        give(gateway, NOW, &framed(SERVER, &syn, b""));
        match gateway.take_outward() {
            Some(Outward::Connect { stream, .. }) => Some(stream),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    }

    fn open_at(mut gateway: Gateway, window: u16) -> Peer {
        let id = Peer::syn(&mut gateway, 5000).unwrap();
        assert!(gateway.take_frame(NOW).is_none(), "not before the host's connection stands");
        gateway.stream_connected(NOW, id);
        let (segment, _) = segment_of(&gateway.take_frame(NOW).unwrap());
        assert_eq!((segment.flags, segment.ack), (flag::SYN | flag::ACK, Seq(101)));
        assert_eq!(segment.shift, None, "the guest offered no scale");
        let expected = segment.seq.plus(1);
        let mut peer = Peer { gateway, now: NOW, id, next: Seq(101), expected, window };
        peer.send(flag::ACK, b"");
        peer
    }

    fn open(window: u16) -> Peer {
        Peer::open_at(open(), window)
    }

    fn segment(&self, flags: u8) -> Segment {
        Segment {
            source: 5000,
            seq: self.next,
            ack: self.expected,
            flags,
            window: self.window,
            ..Segment::default()
        }
    }

    fn send(&mut self, flags: u8, payload: &[u8]) {
        let segment = self.segment(flags);
        give(&mut self.gateway, self.now, &framed(SERVER, &segment, payload));
        self.next = self.next.plus(payload.len() + usize::from(flags & flag::FIN != 0));
    }

    fn take(&mut self) -> Option<(Segment, Vec<u8>)> {
        self.gateway.take_frame(self.now).map(|frame| segment_of(&frame))
    }

    /// Lets time pass until the gateway has something to say.
    fn wait(&mut self) -> Duration {
        let before = self.now;
        while let Some(next) = self.gateway.expire(self.now) {
            assert!(next > self.now);
            self.now = next;
            self.gateway.expire(next);
            if !self.gateway.frames.is_empty() || self.now > before + Duration::from_secs(60) {
                break;
            }
            if self.gateway.streams.has_ready() {
                break;
            }
        }
        self.now - before
    }

    fn hear(&mut self, bytes: &[u8]) {
        assert!(self.gateway.stream_room(self.id) >= bytes.len());
        self.gateway.stream_data(self.now, self.id, bytes.to_vec());
    }
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let mut peer = Peer::open(0);
    peer.hear(b"data");
    assert!(peer.take().is_none());
    let mut waits = Vec::new();
    for _ in 0..4 {
        waits.push(peer.wait());
        let (segment, payload) = peer.take().unwrap();
        assert_eq!((segment.seq.plus(1), &payload[..]), (peer.expected, &b""[..]));
        peer.send(flag::ACK, b"");
    }
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
    peer.window = 2;
    peer.send(flag::ACK, b"");
    assert_eq!(peer.take().unwrap().1, b"da");
    peer.expected = peer.expected.plus(2);
    peer.window = 1000;
    peer.send(flag::ACK, b"");
    assert_eq!(peer.take().unwrap().1, b"ta");
}

#[test]
fn our_window_closes_while_the_host_takes_nothing_and_opens_again() {
    let mut peer = Peer::open(1000);
    let mut sent = 0;
    let last = loop {
        peer.send(flag::ACK | flag::PSH, &[7; 1460]);
        sent += 1460;
        let (segment, _) = peer.take().unwrap();
        assert_eq!(segment.ack, peer.next);
        if segment.window < 1460 {
            break segment;
        }
        assert!(sent < 1 << 20);
    };
    assert!(sent <= 65_535);
    // What was not promised is not taken.
    let before = peer.next;
    peer.send(flag::ACK, &[7; 1460]);
    let taken = peer.take().unwrap().0.ack.minus(before);
    assert_eq!(taken, i32::from(last.window));
    peer.next = before.plus(usize::from(last.window));
    let held: usize = peer.gateway.stream_output(peer.id).iter().map(|slice| slice.len()).sum();
    assert_eq!(held, sent + usize::from(last.window));
    peer.gateway.stream_written(peer.now, peer.id, held);
    assert!(peer.take().unwrap().0.window > 30_000, "told without being asked");
}

#[test]
fn an_idle_guest_is_asked_after_and_given_up() {
    let mut peer = Peer::open(1000);
    peer.now += Duration::from_secs(2 * 60 * 60 - 1);
    let mut probes = 0;
    while peer.gateway.take_outward() != Some(Outward::Drop { stream: peer.id, reset: true }) {
        peer.wait();
        let (segment, _) = peer.take().unwrap();
        if segment.has(flag::RST) {
            continue;
        }
        assert_eq!(segment.seq.plus(1), peer.expected);
        probes += 1;
    }
    assert_eq!((probes, peer.gateway.load().0), (9, 0));
}

#[test]
fn a_probe_of_the_guests_is_answered() {
    let mut peer = Peer::open(1000);
    let segment = Segment { seq: Seq(peer.next.0 - 1), ..peer.segment(flag::ACK) };
    give(&mut peer.gateway, peer.now, &framed(SERVER, &segment, b""));
    assert_eq!(peer.take().unwrap().0.ack, peer.next);
}

#[test]
fn only_the_exact_number_resets() {
    let mut peer = Peer::open(1000);
    let near = Segment { seq: peer.next.plus(10), ..peer.segment(flag::RST) };
    give(&mut peer.gateway, peer.now, &framed(SERVER, &near, b""));
    assert_eq!(peer.take().unwrap().0.flags, flag::ACK);
    assert_eq!(peer.gateway.take_outward(), None);
    peer.send(flag::RST, b"");
    let dropped = Outward::Drop { stream: peer.id, reset: true };
    assert_eq!(peer.gateway.take_outward(), Some(dropped));
    peer.send(flag::ACK, b"after");
    assert_eq!(peer.take().unwrap().0.flags, flag::RST, "nobody is there");
}

#[test]
fn a_narrow_way_behind_the_guest_makes_segments_smaller() {
    let mut peer = Peer::open(8000);
    peer.hear(&[7; 4000]);
    let frame = peer.gateway.take_frame(peer.now).unwrap().to_vec();
    assert_eq!(frame.len(), 1514);
    while peer.take().is_some() {}
    let hint = icmp::error(icmp::Refusal::TooBig(576), GUEST.into(), GUEST.into(), &frame[14..]);
    give(
        &mut peer.gateway,
        peer.now,
        &packet(protocol::ICMP, GUEST, Ipv4Addr::new(192, 0, 2, 1), &hint),
    );
    let (segment, payload) = peer.take().unwrap();
    assert_eq!((segment.seq, payload.len()), (peer.expected, 536));
}

#[test]
fn a_guest_that_cuts_gets_large_segments_with_the_rest_of_the_work() {
    let mut gateway = open();
    gateway.accept(Offloads { checksum: true, tcp4: true, tcp6: false });
    let mut peer = Peer::open_at(gateway, 65_535);
    peer.hear(&[7; 65_535]);
    let frame = peer.gateway.take_frame(peer.now).unwrap();
    let cut = Segmentation { kind: SegmentationKind::Tcp4, headers: 54, size: 1460 };
    let checksum = PartialChecksum { start: 34, offset: 16 };
    let packet = Packet { checksum: Some(checksum), segmentation: Some(cut) };
    assert_eq!((frame.packet(), frame.length()), (packet, 54 + 44 * 1460));
    let bytes = frame.to_vec();
    let sum = Sum::pseudo([192, 0, 2, 1].into(), GUEST.into(), protocol::TCP, frame.length() - 34);
    assert_eq!(bytes[50..52], sum.partial());
}

#[test]
fn a_large_segment_of_the_guests_is_taken_whole_and_a_wrong_cut_is_not() {
    let mut peer = Peer::open(1000);
    let frame = framed(SERVER, &peer.segment(flag::ACK), &[7; 20_000]);
    for (headers, start, taken) in [(50, 34, 0), (54, 30, 0), (54, 34, 20_000)] {
        let cut = Segmentation { kind: SegmentationKind::Tcp4, headers, size: 1460 };
        let checksum = Some(PartialChecksum { start, offset: 16 });
        let packet = Packet { checksum, segmentation: Some(cut) };
        peer.gateway.receive(peer.now, frame.clone(), packet);
        let output = peer.gateway.stream_output(peer.id);
        assert_eq!(output.iter().map(|slice| slice.len()).sum::<usize>(), taken);
    }
}

#[test]
fn a_denied_connection_is_reset_with_its_reason() {
    let mut gateway = allowing("deb.example:443");
    assert_eq!(Peer::syn(&mut gateway, 5000), None);
    let (segment, _) = segment_of(&gateway.take_frame(NOW).unwrap());
    assert_eq!((segment.flags, segment.ack), (flag::RST | flag::ACK, Seq(101)));
    let record = gateway.decisions().last().unwrap().to_string();
    assert_eq!(record, "denied: 192.0.2.1:80/Tcp known as []: Default");
}

#[test]
fn a_host_that_cannot_be_reached_is_told_by_icmp() {
    let mut gateway = open();
    let id = Peer::syn(&mut gateway, 5000).unwrap();
    gateway.stream_failed(NOW, id, Failure::HostUnreachable);
    let reason = refusal_of(&take(&mut gateway).unwrap());
    assert_eq!(reason, Icmpv4DstUnreachable::HostUnreachable);
    assert_eq!(gateway.load(), (0, 0, 0));
}

#[test]
fn a_paused_guest_keeps_its_connection() {
    let mut peer = Peer::open(1000);
    peer.hear(b"data");
    assert_eq!(peer.take().unwrap().1, b"data");
    peer.gateway.hold(true);
    for _ in 0..1000 {
        peer.now += Duration::from_secs(10);
        peer.gateway.expire(peer.now);
        assert!(peer.take().is_none());
    }
    peer.gateway.hold(false);
    peer.wait();
    assert_eq!(peer.take().unwrap().1, b"data");
}

#[test]
fn a_guest_that_is_gone_is_given_up() {
    let mut peer = Peer::open(1000);
    peer.hear(b"data");
    let dropped = Outward::Drop { stream: peer.id, reset: true };
    for _ in 0..20 {
        peer.take();
        peer.wait();
        if peer.gateway.take_outward() == Some(dropped.clone()) {
            assert!(peer.take().unwrap().0.has(flag::RST));
            assert!(peer.now - NOW > Duration::from_secs(100), "RFC 9293 §3.8.3");
            return;
        }
    }
    panic!("it is not given up");
}

// Floods

#[test]
fn ten_thousand_connections_are_held() {
    let mut gateway = open();
    let mut ids = Vec::new();
    for port in 0..10_000_u16 {
        let id = Peer::syn(&mut gateway, 10_000 + port).unwrap();
        gateway.stream_connected(NOW, id);
        let (segment, _) = segment_of(&gateway.take_frame(NOW).unwrap());
        ids.push((id, segment.seq.plus(1)));
    }
    for (port, (id, expected)) in (10_000_u16..).zip(&ids) {
        let segment = Segment {
            source: port,
            seq: Seq(101),
            ack: *expected,
            flags: flag::ACK,
            window: 1000,
            ..Segment::default()
        };
        give(&mut gateway, NOW, &framed(SERVER, &segment, b"ping"));
        assert_eq!(gateway.take_outward(), Some(Outward::Output { stream: *id }));
        gateway.stream_written(NOW, *id, 4);
        gateway.stream_data(NOW, *id, b"pong".to_vec());
        let (segment, payload) = segment_of(&gateway.take_frame(NOW).unwrap());
        assert_eq!((segment.ack, &payload[..]), (Seq(105), &b"pong"[..]));
    }
    let (streams, _, held) = gateway.load();
    assert_eq!(streams, 10_000);
    assert!(held < 512 << 20, "{held} bytes are held or promised");
}

#[test]
fn a_flood_of_connections_is_bounded() {
    let mut gateway = open();
    let mut dialled = 0;
    for port in 1..40_000 {
        dialled += usize::from(Peer::syn(&mut gateway, port).is_some());
    }
    assert_eq!((dialled, gateway.load().0), (table::DIALLING, table::DIALLING));
    assert!(gateway.load().2 < 1 << 20);
    assert!(gateway.frames.is_empty());
}

#[test]
fn a_flood_of_stray_segments_fills_one_queue_only() {
    let mut gateway = open();
    for port in 1..5000 {
        let stray = Segment { source: port, flags: flag::ACK, ..Segment::default() };
        give(&mut gateway, NOW, &framed(SERVER, &stray, b""));
    }
    assert_eq!((gateway.frames.len(), gateway.load().0), (QUEUE, 0));
    assert!(gateway.counts().full > 0);
}

#[test]
fn pieces_behind_a_gap_are_bounded() {
    let mut peer = Peer::open(1000);
    for index in 0..60_000_usize {
        let segment = Segment { seq: peer.next.plus(1 + index), ..peer.segment(flag::ACK) };
        give(&mut peer.gateway, peer.now, &framed(SERVER, &segment, b"x"));
    }
    let mut acknowledgements = 0;
    while peer.take().is_some() {
        acknowledgements += 1;
    }
    assert!(acknowledgements <= 64, "{acknowledgements}");
    peer.send(flag::ACK, b"x");
    let (segment, _) = peer.take().unwrap();
    assert_eq!(segment.ack, Seq(101 + 1 + 1024));
}
