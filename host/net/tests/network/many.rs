//! Ten thousand connections of one guest at a time, each with a socket of the host's.
//!
//! The guest is a table of sequence numbers. The servers accept a few of the connections only: the kernel keeps
//! the others in its queue, so that half of the descriptors are enough.

use crate::guest::MAC;
use kezhan_net::policy::{Policy, Rule, Verdict};
use kezhan_net::user::{UserConfig, UserNetwork, UserNic, spawn};
use kezhan_ports::nic::{MAX_FRAME, Nic, Packet, PartialChecksum, Transmit};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const FLOWS: u16 = 10_000;
/// The guest's first port.
const FIRST: u16 = 20_000;
/// What a listening socket's queue takes (tcp(7): somaxconn, 4096).
const QUEUE: u16 = 2500;
/// Connections that are accepted of each listening socket.
const ACCEPTED: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// Flags of TCP (RFC 9293 §3.1).
const SYN: u8 = 2;
const ACK: u8 = 0x10;
const PSH: u8 = 8;

/// A connection as the guest knows it.
#[derive(Clone, Default)]
struct Flow {
    /// What is expected next; 0 until the answer to the SYN.
    expected: u32,
    received: Vec<u8>,
}

struct Guest {
    nic: UserNic,
    buffer: Vec<u8>,
    ports: Vec<u16>,
    flows: Vec<Flow>,
}

fn sum(bytes: &[u8]) -> u16 {
    let pair = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    let total: u32 = bytes.chunks(2).map(pair).sum();
    ((total & 0xffff) + (total >> 16)) as u16
}

impl Guest {
    /// Sends a segment of a flow, its TCP checksum left to the network.
    fn send(&mut self, flow: u16, (seq, flags): (u32, u8), payload: &[u8]) {
        let mut frame = vec![0x02, 0x6b, 0x7a, 0, 0, 2];
        frame.extend(MAC);
        frame.extend([8, 0]);
        let mut ip = vec![0x45, 0];
        ip.extend((40 + payload.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
        let check = !sum(&ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        frame.extend(ip);
        frame.extend((FIRST + flow).to_be_bytes());
        frame.extend(self.ports[usize::from(flow / QUEUE)].to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(self.flows[usize::from(flow)].expected.to_be_bytes());
        frame.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        let packet = Packet { checksum, segmentation: None };
        while self.nic.transmit(&frame, packet) == Transmit::Full {
            thread::park_timeout(Duration::from_millis(10));
            self.receive();
        }
    }

    /// Takes every frame that is there, and answers it.
    fn receive(&mut self) {
        while let Some(received) = self.nic.receive(&mut self.buffer) {
            let frame = self.buffer[..received.length].to_vec();
            if frame[12..14] != [8, 0] || frame[23] != 6 {
                continue;
            }
            let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let flow = u16::from_be_bytes([frame[36], frame[37]]) - FIRST;
            let payload = &frame[34 + usize::from(frame[46] >> 4) * 4..];
            let state = &mut self.flows[usize::from(flow)];
            match (frame[47] & SYN != 0, state.expected == 0) {
                (true, true) => {
                    state.expected = word(38).wrapping_add(1);
                    self.send(flow, (1, ACK | PSH), &flow.to_be_bytes());
                }
                (false, false) if word(38) == state.expected && !payload.is_empty() => {
                    state.expected = state.expected.wrapping_add(payload.len() as u32);
                    state.received.extend(payload);
                    self.send(flow, (3, ACK), &[]);
                }
                _ => {}
            }
        }
    }

    /// Asks for every connection; again, as a guest does, for those that found too many half open.
    fn connect(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.flows.iter().any(|flow| flow.expected == 0) {
            assert!(Instant::now() < end, "not every connection stands");
            for flow in 0..FLOWS {
                if self.flows[usize::from(flow)].expected == 0 {
                    self.send(flow, (0, SYN), &[]);
                    self.receive();
                }
            }
            thread::park_timeout(Duration::from_millis(10));
            self.receive();
        }
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Guest) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "{what} does not come");
            thread::park_timeout(Duration::from_millis(10));
            self.receive();
        }
    }
}

fn start(ports: Vec<u16>) -> (Guest, UserNetwork) {
    let rule = Rule::parse(Verdict::Allow, "127.0.0.0/8").unwrap();
    let policy = Policy::new(vec![rule], Verdict::Deny);
    let (mut nic, network) = spawn(UserConfig { policy, ..UserConfig::usual(MAC) }).unwrap();
    let me = thread::current();
    nic.set_waker(Arc::new(move || me.unpark()));
    let flows = vec![Flow::default(); FLOWS.into()];
    (Guest { nic, buffer: vec![0; MAX_FRAME], ports, flows }, network)
}

/// A socket whose queue takes a quarter of the connections.
fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 4096).unwrap();
    listener
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn ten_thousand_connections_have_ten_thousand_sockets_and_give_them_back() {
    let listeners: Vec<TcpListener> = (0..FLOWS / QUEUE).map(|_| listen()).collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (mut guest, network) = start(listeners.iter().map(port).collect());
    guest.connect();
    assert_eq!(network.report().unwrap().streams, usize::from(FLOWS));
    assert!(descriptors() > usize::from(FLOWS));
    for listener in &listeners {
        for _ in 0..ACCEPTED {
            let (mut stream, _) = listener.accept().unwrap();
            let mut number = [0; 2];
            stream.read_exact(&mut number).unwrap();
            stream.write_all(b"heard").unwrap();
            let flow = usize::from(u16::from_be_bytes(number));
            guest.until("the answer", |guest| guest.flows[flow].received == b"heard");
        }
    }
    network.stop();
    drop(listeners);
    assert!(descriptors() < usize::from(FLOWS), "descriptors are left");
}
