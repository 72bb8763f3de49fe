//! A bad line between the guest and its gateway: frames are lost, doubled and overtaken, in a time of our
//! own, so that each run is the same.

use crate::guest::MAC;
use kezhan_net::policy::Policy;
use kezhan_net::user::{Gateway, GatewayConfig, Outward, StreamId};
use kezhan_ports::nic::Packet;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Of a hundred frames: lost, doubled, late.
const LOST: u64 = 5;
const DOUBLED: u64 = 2;
const LATE: u64 = 3;
/// Microseconds of the way, and how much longer a late frame takes.
const WAY: u64 = 50;
const DELAY: u64 = 300;

/// One direction.
struct Line {
    frames: BTreeMap<(u64, u64), Vec<u8>>,
    dice: u64,
    count: u64,
}

impl Line {
    fn new(seed: u64) -> Line {
        Line { frames: BTreeMap::new(), dice: seed, count: 0 }
    }

    fn of_a_hundred(&mut self, rate: u64) -> bool {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 100 < rate
    }

    fn send(&mut self, now: u64, frame: &[u8]) {
        if self.of_a_hundred(LOST) {
            return;
        }
        for _ in 0..1 + u64::from(self.of_a_hundred(DOUBLED)) {
            let late = if self.of_a_hundred(LATE) { DELAY } else { 0 };
            self.count += 1;
            self.frames.insert((now + WAY + late, self.count), frame.to_vec());
        }
    }

    fn due(&mut self, now: u64) -> Option<Vec<u8>> {
        let first = self.frames.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn next(&self) -> Option<u64> {
        self.frames.first_key_value().map(|((at, _), _)| *at)
    }
}

/// The guest's card.
#[derive(Default)]
struct Card {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Sending<'_>)> {
        Some((Frame(self.received.pop_front()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// The byte at a place of every stream.
fn byte(at: usize) -> u8 {
    ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8
}

fn bytes(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(byte).collect()
}

fn check(from: usize, part: &[u8]) {
    let wrong = part.iter().enumerate().find(|(index, got)| **got != byte(from + index));
    assert_eq!(wrong, None, "from byte {from}");
}

/// The host's side of the one stream: sends and receives so many bytes each way.
#[derive(Default)]
struct Host {
    stream: Option<StreamId>,
    sent: usize,
    received: usize,
    shut: bool,
    total: usize,
}

struct World {
    now: u64,
    gateway: Gateway,
    host: Host,
    up: Line,
    down: Line,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    sent: usize,
    received: usize,
}

fn world(total: usize) -> World {
    let gateway = Gateway::new(GatewayConfig::usual(MAC), Policy::open());
    let mut card = Card::default();
    let config = Config::new(EthernetAddress(MAC).into());
    let mut interface = Interface::new(config, &mut card, Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24)).unwrap();
    });
    interface.routes_mut().add_default_ipv4_route([10, 0, 2, 2].into()).unwrap();
    let ring = || tcp::SocketBuffer::new(vec![0; 256 * 1024]);
    let mut socket = tcp::Socket::new(ring(), ring());
    let to = (IpAddress::v4(192, 0, 2, 1), 80);
    socket.connect(interface.context(), to, 40_000).unwrap();
    let mut sockets = SocketSet::new(Vec::new());
    let handle = sockets.add(socket);
    World {
        now: 0,
        gateway,
        host: Host { total, ..Host::default() },
        up: Line::new(1),
        down: Line::new(2),
        card,
        interface,
        sockets,
        handle,
        sent: 0,
        received: 0,
    }
}

impl World {
    fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// What the driver would do.
    fn drive(&mut self) {
        let now = self.time();
        while let Some(order) = self.gateway.take_outward() {
            match order {
                Outward::Connect { stream, .. } => {
                    self.host.stream = Some(stream);
                    self.gateway.stream_connected(now, stream);
                }
                Outward::Output { stream } => {
                    let part = self.gateway.stream_output(stream).concat_slices();
                    check(self.host.received, &part);
                    self.host.received += part.len();
                    self.gateway.stream_written(now, stream, part.len());
                }
                Outward::Shut { .. } => self.host.shut = true,
                Outward::Room { .. } | Outward::Drop { reset: false, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let Some(stream) = self.host.stream else { return };
        let left = self.host.total - self.host.sent;
        let length = self.gateway.stream_room(stream).min(left).min(100_000);
        if length > 0 {
            self.gateway.stream_data(now, stream, bytes(self.host.sent, length));
            self.host.sent += length;
            if self.host.sent == self.host.total {
                self.gateway.stream_end(now, stream);
            }
        }
    }

    /// What the guest's program does.
    fn work(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        while socket.can_recv() {
            let from = self.received;
            let taken = |part: &mut [u8]| {
                check(from, part);
                (part.len(), part.len())
            };
            self.received += socket.recv(taken).unwrap();
        }
        if socket.can_send() && self.sent < self.host.total {
            let length = (socket.send_capacity() - socket.send_queue()).min(16_384);
            let part = bytes(self.sent, length.min(self.host.total - self.sent));
            self.sent += socket.send_slice(&part).unwrap();
            if self.sent == self.host.total {
                socket.close();
            }
        }
    }

    fn step(&mut self) {
        while let Some(frame) = self.up.due(self.now) {
            self.gateway.receive(self.time(), frame, Packet::default());
        }
        self.drive();
        let expiry = self.gateway.expire(self.time());
        self.drive();
        while self.down.frames.len() < 128
            && let Some(frame) = self.gateway.take_frame(self.time())
        {
            self.down.send(self.now, &frame.to_vec());
        }
        while let Some(frame) = self.down.due(self.now) {
            self.card.received.push_back(frame);
        }
        let instant = Instant::from_micros(self.now as i64);
        self.interface.poll(instant, &mut self.card, &mut self.sockets);
        self.work();
        self.interface.poll(instant, &mut self.card, &mut self.sockets);
        for frame in self.card.sent.drain(..) {
            self.up.send(self.now, &frame);
        }
        let guest = self.interface.poll_at(instant, &self.sockets);
        let guest = guest.map(|at| at.total_micros() as u64);
        let expiry = expiry.map(|at| at.as_micros() as u64 + 1);
        let next = [self.up.next(), self.down.next(), guest, expiry].into_iter().flatten().min();
        self.now = next.unwrap_or(self.now + 1000).max(self.now + 1);
    }

    fn is_over(&self) -> bool {
        let host = &self.host;
        host.shut && host.received == host.total && self.received == host.total
    }
}

/// Slices in one piece.
trait Concat {
    fn concat_slices(&self) -> Vec<u8>;
}

impl Concat for Vec<std::io::IoSlice<'_>> {
    fn concat_slices(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

fn transfer(total: usize) {
    let mut world = world(total);
    while !world.is_over() {
        world.step();
        let (sent, received) = (world.host.received, world.received);
        assert!(world.now < 36_000 * 1_000_000, "stuck at {sent} up and {received} down");
    }
    let seconds = world.now / 1_000_000;
    let counts = world.gateway.counts();
    println!("{total} bytes each way in {seconds} virtual seconds; {counts:?}");
    assert!(counts.received.0 > (total / 1460) as u64);
}

#[test]
fn every_byte_arrives_over_a_bad_line() {
    transfer(32 << 20);
}

/// 1 GiB each way.
#[test]
#[ignore = "half a minute: by hand"]
fn a_gibibyte_arrives_over_a_bad_line() {
    transfer(1 << 30);
}
