//! How fast one bulk flow is, in bytes a second:
//! `cargo test --release -p kezhan-net --test network bulk -- --ignored --nocapture`.
//!
//! A guest that costs next to nothing (it makes and takes large segments and looks at no payload) talks
//! through a running network to a socket of this process, so that what is measured is the network:
//! queues, gateway, and the host's loopback.

use kezhan_net::policy::{Policy, Rule, Verdict};
use kezhan_net::user::{UserConfig, UserNic, spawn};
use kezhan_ports::nic::{
    MAX_FRAME, Nic, Offloads, Packet, PartialChecksum, Segmentation, SegmentationKind, Transmit,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const HEADERS: usize = 14 + 20 + 20;
/// The guest's window: 4 MiB, in units of 128 bytes (RFC 7323 §2.2).
const WINDOW: u16 = 0x8000;
const SHIFT: u8 = 7;
/// Payload of a large segment.
const LARGE: usize = 44 * 1460;

/// A connection of the guest's.
struct Guest {
    nic: UserNic,
    frame: Vec<u8>,
    buffer: Vec<u8>,
    mac: [u8; 6],
    to: u16,
    next: u32,
    /// From the network: what is expected, what is acknowledged, up to where may be sent.
    expected: u32,
    acknowledged: u32,
    edge: u32,
    shift: u8,
    ended: bool,
    plain: bool,
}

fn sum(bytes: &[u8], mut total: u32) -> u32 {
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

impl Guest {
    /// Sends a segment whose checksum is left to the network.
    fn send(&mut self, flags: u8, payload: usize, options: &[u8]) -> Transmit {
        let length = HEADERS + options.len() + payload;
        self.frame.resize(length, 0x55);
        let frame = &mut self.frame[..];
        frame[..6].copy_from_slice(&self.mac);
        frame[6..12].copy_from_slice(&MAC);
        frame[12..14].copy_from_slice(&[8, 0]);
        let mut ip = vec![0x45, 0];
        ip.extend(u16::try_from(length - 14).unwrap().to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(GUEST.octets());
        ip.extend(GATEWAY.octets());
        let check = !u16::try_from(sum(&ip, 0)).unwrap();
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        frame[14..34].copy_from_slice(&ip);
        let mut tcp = 40_000_u16.to_be_bytes().to_vec();
        tcp.extend(self.to.to_be_bytes());
        tcp.extend(self.next.to_be_bytes());
        tcp.extend(self.expected.to_be_bytes());
        tcp.extend([u8::try_from((20 + options.len()) / 4 * 16).unwrap(), flags]);
        tcp.extend(WINDOW.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(options);
        frame[34..34 + tcp.len()].copy_from_slice(&tcp);
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        let cut = Segmentation { kind: SegmentationKind::Tcp4, headers: 54, size: 1460 };
        let segmentation = Some(cut).filter(|_| payload > 1460);
        self.nic.transmit(frame, Packet { checksum, segmentation })
    }

    /// Takes a frame; the length of its payload.
    fn receive(&mut self) -> Option<usize> {
        let received = self.nic.receive(&mut self.buffer)?;
        let frame = &self.buffer[..received.length];
        if frame[12..14] == [8, 6] {
            self.mac = frame[6..12].try_into().unwrap();
            return Some(0);
        }
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let (seq, ack, flags) = (word(38), word(42), frame[47]);
        let payload = received.length - 34 - usize::from(frame[46] >> 4) * 4;
        let window = u32::from(u16::from_be_bytes([frame[48], frame[49]]));
        self.acknowledged = ack;
        if flags & 2 != 0 {
            self.expected = seq.wrapping_add(1);
            self.edge = ack.wrapping_add(window);
            self.next = ack;
            self.shift = SHIFT;
            return Some(0);
        }
        self.edge = ack.wrapping_add(window << self.shift);
        if seq != self.expected && payload > 0 {
            // Sent again: the host was too busy to let us answer in time.
            return Some(0);
        }
        self.ended |= flags & 1 != 0;
        self.expected = seq.wrapping_add(u32::try_from(payload).unwrap() + u32::from(flags & 1));
        Some(payload)
    }

    /// Waits for a frame.
    fn wait(&mut self) -> usize {
        loop {
            if let Some(payload) = self.receive() {
                return payload;
            }
            thread::park_timeout(Duration::from_secs(1));
        }
    }

    fn connect(&mut self) {
        let mut arp = vec![0xff; 6];
        arp.extend(MAC);
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.extend(MAC);
        arp.extend(GUEST.octets());
        arp.extend([0; 6]);
        arp.extend(GATEWAY.octets());
        assert_eq!(self.nic.transmit(&arp, Packet::default()), Transmit::Taken);
        self.wait();
        _ = self.send(2, 0, &[2, 4, 5, 0xb4, 1, 3, 3, SHIFT]);
        self.wait();
        _ = self.send(0x10, 0, &[]);
    }

    /// Receives to the end; how much.
    fn drain(&mut self) -> usize {
        let mut total = 0;
        while !self.ended {
            total += self.wait();
            while let Some(payload) = self.receive() {
                total += payload;
            }
            _ = self.send(0x10, 0, &[]);
        }
        total
    }

    /// Sends so much, and waits until it is acknowledged.
    fn fill(&mut self, total: usize) {
        let size = if self.plain { 1460 } else { LARGE };
        let mut left = total;
        while left > 0 {
            let length = left.min(size);
            let room = self.edge.wrapping_sub(self.next) as usize;
            if room < length {
                self.wait();
                continue;
            }
            if self.send(0x10, length, &[]) == Transmit::Full {
                thread::park_timeout(Duration::from_secs(1));
                continue;
            }
            self.next = self.next.wrapping_add(u32::try_from(length).unwrap());
            left -= length;
            while self.receive().is_some() {}
        }
        _ = self.send(0x11, 0, &[]);
        self.next = self.next.wrapping_add(1);
        while self.acknowledged != self.next {
            self.wait();
        }
    }
}

fn guest(nic: UserNic, to: u16, plain: bool) -> Guest {
    let mut nic = nic;
    let me: Thread = thread::current();
    nic.set_waker(Arc::new(move || me.unpark()));
    let all = Offloads { checksum: true, tcp4: true, tcp6: true };
    nic.accept(if plain { Offloads { tcp4: false, tcp6: false, ..all } } else { all });
    Guest {
        nic,
        frame: Vec::with_capacity(MAX_FRAME),
        buffer: vec![0; MAX_FRAME],
        mac: [0xff; 6],
        to,
        next: 1000,
        expected: 0,
        acknowledged: 0,
        edge: 0,
        shift: 0,
        ended: false,
        plain,
    }
}

fn config() -> UserConfig {
    let rule = Rule::parse(Verdict::Allow, "127.0.0.0/8").unwrap();
    UserConfig { policy: Policy::new(vec![rule], Verdict::Allow), ..UserConfig::usual(MAC) }
}

fn serve(work: fn(TcpStream, usize), total: usize) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || work(listener.accept().unwrap().0, total));
    (port, server)
}

fn source(mut stream: TcpStream, total: usize) {
    let bytes = vec![0x55; 256 * 1024];
    let mut left = total;
    while left > 0 {
        let length = left.min(bytes.len());
        stream.write_all(&bytes[..length]).unwrap();
        left -= length;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}

fn sink(mut stream: TcpStream, _total: usize) {
    let mut bytes = vec![0; 256 * 1024];
    while stream.read(&mut bytes).unwrap() > 0 {}
}

fn report(what: &str, total: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:40} {:8.0} MB/s", total as f64 / seconds / 1e6);
}

fn run(what: &str, total: usize, (down, plain): (bool, bool)) {
    let (port, server) = serve(if down { source } else { sink }, total);
    let (nic, network) = spawn(config()).unwrap();
    let mut guest = guest(nic, port, plain);
    guest.connect();
    let started = Instant::now();
    if down {
        assert_eq!(guest.drain(), total);
    } else {
        guest.fill(total);
    }
    report(what, total, started);
    network.stop();
    server.join().unwrap();
}

/// Bytes of each run, in MiB.
const MIB: usize = 1024;

#[test]
#[ignore = "a measurement: by hand, with --release"]
fn one_bulk_flow_is_fast() {
    let total = MIB << 20;
    run("host to guest, large segments", total, (true, false));
    run("guest to host, large segments", total, (false, false));
    run("host to guest, 1460 bytes", total / 4, (true, true));
    run("guest to host, 1460 bytes", total / 4, (false, true));
}
