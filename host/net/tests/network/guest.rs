//! A guest for tests: smoltcp's stack behind a card of ours, as a device would drive it.

use kezhan_net::user::{UserConfig, UserNetwork, UserNic, spawn};
use kezhan_ports::nic::{Nic, Packet, Transmit};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A waker that a thread can sleep on.
#[derive(Default)]
struct Bell(Mutex<bool>, Condvar);

impl Bell {
    fn ring(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self, timeout: Duration) {
        let rung = self.0.lock().unwrap();
        let (mut rung, _) = self.1.wait_timeout_while(rung, timeout, |rung| !*rung).unwrap();
        *rung = false;
    }
}

/// A card as smoltcp wants it.
pub struct Card<N> {
    pub nic: N,
    mtu: usize,
}

pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Sending<'a, N>(&'a mut N);

impl<N: Nic> TxToken for Sending<'_, N> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // As a card's ring does, it waits for room.
        let end = std::time::Instant::now() + PATIENCE;
        while self.0.transmit(&frame, Packet::default()) == Transmit::Full {
            assert!(std::time::Instant::now() < end, "there is no room");
            std::thread::yield_now();
        }
        result
    }
}

impl<N: Nic> Device for Card<N> {
    type RxToken<'a>
        = Received
    where
        N: 'a;
    type TxToken<'a>
        = Sending<'a, N>
    where
        N: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_, N>)> {
        let mut buffer = vec![0; 14 + self.mtu];
        let received = self.nic.receive(&mut buffer)?;
        buffer.truncate(received.length);
        Some((Received(buffer), Sending(&mut self.nic)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_, N>> {
        Some(Sending(&mut self.nic))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 14 + self.mtu;
        capabilities
    }
}

/// The guest.
pub struct Guest<N> {
    pub card: Card<N>,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    bell: Arc<Bell>,
    started: std::time::Instant,
    next_port: u16,
}

/// A guest on a network of its own.
pub fn guest(config: UserConfig) -> (Guest<UserNic>, UserNetwork) {
    let mtu = config.gateway.mtu;
    let (nic, network) = spawn(config).unwrap();
    (Guest::new(nic, mtu.into()), network)
}

impl<N: Nic> Guest<N> {
    pub fn new(nic: N, mtu: usize) -> Guest<N> {
        Guest::at(nic, mtu, (MAC, 15))
    }

    /// A guest with another station and another last part of its addresses.
    pub fn at(mut nic: N, mtu: usize, (mac, last): ([u8; 6], u8)) -> Guest<N> {
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        nic.set_waker(Arc::new(move || rung.ring()));
        let mut card = Card { nic, mtu };
        let config = Config::new(EthernetAddress(mac).into());
        let mut interface = Interface::new(config, &mut card, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 2, last), 24)).unwrap();
            let six = IpAddress::v6(0xfd6b, 0x7a68, 0x616e, 0, 0, 0, 0, last.into());
            addresses.push(IpCidr::new(six, 64)).unwrap();
        });
        let router = Ipv4Address::new(10, 0, 2, 2);
        interface.routes_mut().add_default_ipv4_route(router).unwrap();
        let router = "fd6b:7a68:616e::2".parse().unwrap();
        interface.routes_mut().add_default_ipv6_route(router).unwrap();
        let started = std::time::Instant::now();
        let sockets = SocketSet::new(Vec::new());
        Guest { card, interface, sockets, bell, started, next_port: 40_000 }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap())
    }

    pub fn poll(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    /// Works until something is so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            self.poll();
            if is_so(self) {
                // What the guest said last goes out, too.
                self.poll();
                return;
            }
            assert!(std::time::Instant::now() < end, "{what} does not happen");
            let now = self.now();
            let delay = self.interface.poll_delay(now, &self.sockets);
            let delay = delay.map_or(Duration::from_millis(200), Duration::from);
            self.bell.wait(delay.min(Duration::from_millis(200)));
        }
    }

    pub fn add_tcp(&mut self, buffer: usize) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; buffer]);
        self.sockets.add(tcp::Socket::new(ring(), ring()))
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Begins to connect.
    pub fn dial(&mut self, to: SocketAddr, buffer: usize) -> SocketHandle {
        let handle = self.add_tcp(buffer);
        self.next_port += 1;
        let port = self.next_port;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), to, port).unwrap();
        handle
    }

    /// Connects.
    pub fn connect(&mut self, to: SocketAddr, buffer: usize) -> SocketHandle {
        let handle = self.dial(to, buffer);
        self.until("the connection", |guest| guest.tcp(handle).may_send());
        handle
    }

    /// Sends all of it.
    pub fn send(&mut self, handle: SocketHandle, mut bytes: &[u8]) {
        self.until("the sending", |guest| {
            let count = guest.tcp(handle).send_slice(bytes).unwrap();
            bytes = &bytes[count..];
            bytes.is_empty()
        });
    }

    /// Receives until the end, or until there are so many bytes.
    pub fn receive(&mut self, handle: SocketHandle, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the receiving", |guest| {
            let socket = guest.tcp(handle);
            while socket.can_recv() {
                socket
                    .recv(|part| {
                        bytes.extend_from_slice(part);
                        (part.len(), ())
                    })
                    .unwrap();
            }
            bytes.len() >= most || !socket.may_recv()
        });
        bytes
    }

    pub fn add_udp(&mut self, port: u16) -> SocketHandle {
        let ring = || {
            let meta = vec![udp::PacketMetadata::EMPTY; 64];
            udp::PacketBuffer::new(meta, vec![0; 64 * 1024])
        };
        let mut socket = udp::Socket::new(ring(), ring());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn receive_udp(&mut self, handle: SocketHandle) -> (Vec<u8>, SocketAddr) {
        self.until("a datagram", |guest| guest.udp(handle).can_recv());
        let (bytes, meta) = self.udp(handle).recv().unwrap();
        let from = SocketAddr::new(meta.endpoint.addr.into(), meta.endpoint.port);
        (bytes.to_vec(), from)
    }
}
