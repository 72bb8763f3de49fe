//! A tap interface as a machine's network port (tuntap in the kernel's documentation).
//!
//! ```text
//!   device ── transmit ──► write ──► tap interface ──► bridge or host
//!          ◄── receive ─── read ◄──        │
//!          ◄──── wake ──── thread: epoll, once for each time that frames come
//! ```
//! Frames are read and written where the device is served: neither call waits. Only waiting for frames takes a
//! thread. No offloads are taken: the kernel cuts and sums for the guest, and the guest for the kernel.

use crate::link::{Link, Links};
use crate::{NetworkError, Store, network};
use kezhan_ports::nic::{ETHERNET_HEADER, Nic, NicInfo, Offloads, Packet, Received, Transmit};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Who is told that frames came.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Which of the thread's descriptors has something.
const FRAMES: u64 = 0;
const END: u64 = 1;

/// A tap interface. It goes, when it was made here, as soon as this is dropped.
pub struct Tap {
    device: Arc<SyncDevice>,
    mtu: u16,
    wake: Arc<OnceLock<Wake>>,
    end: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// A tap interface that is there already.
    ///
    /// # Errors
    /// There is none of that name, or it may not be used.
    pub fn open(name: &str) -> Result<Tap, NetworkError> {
        let Some(link) = Links::open()?.find(name)?.filter(|link| link.tap) else {
            let mend = "make one with: ip tuntap add dev NAME mode tap user USER";
            return Err(NetworkError::NoInterface(name.to_owned(), "tap interface", mend));
        };
        Tap::new(device(Some(name))?, &link)
    }

    /// A new tap interface in a bridge: that of a network, or another one of the host's.
    ///
    /// # Errors
    /// There is no such bridge, or the kernel refuses.
    pub fn join(store: &Store, bridge: &str) -> Result<Tap, NetworkError> {
        let mut links = Links::open()?;
        let bridge = network::bridge(store, &mut links, bridge)?;
        let device = device(None)?;
        let name = device.name().map_err(NetworkError::kernel("tap interface"))?;
        let link = links.find(&name)?.unwrap_or_default();
        links.set_mtu(&link, bridge.mtu)?;
        links.join(&link, &bridge)?;
        links.set_up(&link)?;
        Tap::new(device, &Link { mtu: bridge.mtu, ..link })
    }

    fn new(device: SyncDevice, link: &Link) -> Result<Tap, NetworkError> {
        let failed = || NetworkError::kernel(format!("tap interface {}", link.name));
        device.set_nonblocking(true).map_err(failed())?;
        let (device, wake) = (Arc::new(device), Arc::new(OnceLock::new()));
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let end = end.map_err(io::Error::from).map_err(failed())?;
        let poller = poller(&device, end.as_fd()).map_err(failed())?;
        let (reader, waker) = (Arc::clone(&device), Arc::clone(&wake));
        let thread = std::thread::Builder::new()
            .name(link.name.clone())
            .spawn(move || watch(&poller, &waker, &reader))
            .map_err(failed())?;
        let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
        Ok(Tap { device, mtu, wake, end, thread: Some(thread) })
    }
}

fn device(name: Option<&str>) -> Result<SyncDevice, NetworkError> {
    let builder = DeviceBuilder::new().layer(Layer::L2).inherit_enable_state();
    let builder = match name {
        Some(name) => builder.name(name),
        None => builder,
    };
    let what = format!("tap interface {}", name.unwrap_or("(new)"));
    builder.build_sync().map_err(NetworkError::kernel(what))
}

/// Each time that frames come, once: a device that does not take them costs nothing.
fn poller(device: &SyncDevice, end: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    let frames = EventFlags::IN | EventFlags::ET;
    epoll::add(&poller, device.as_fd(), EventData::new_u64(FRAMES), frames)?;
    epoll::add(&poller, end, EventData::new_u64(END), EventFlags::IN)?;
    Ok(poller)
}

/// The thread: wakes until it is to end. It holds the device, so that its descriptor stays what it is.
fn watch(poller: &OwnedFd, wake: &OnceLock<Wake>, _device: &SyncDevice) {
    let mut events = Vec::with_capacity(2);
    loop {
        events.clear();
        let waited = epoll::wait(poller, rustix::buffer::spare_capacity(&mut events), None);
        if waited.is_err_and(|error| error != rustix::io::Errno::INTR) {
            return;
        }
        for event in &events {
            match event.data.u64() {
                END => return,
                _ => wake.get().into_iter().for_each(|wake| wake()),
            }
        }
    }
}

impl Nic for Tap {
    fn info(&self) -> NicInfo {
        NicInfo { mtu: self.mtu, offloads: Offloads::default() }
    }

    fn link_up(&self) -> bool {
        true
    }

    /// What the kernel does not take now is lost, as on any network.
    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        if packet == Packet::default() && frame.len() >= ETHERNET_HEADER {
            self.device.send(frame).ok();
        }
        Transmit::Taken
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let length = self.device.recv(buffer).ok().filter(|length| *length >= ETHERNET_HEADER)?;
        Some(Received { length, packet: Packet::default() })
    }

    fn accept(&mut self, _offloads: Offloads) {}

    fn set_waker(&mut self, wake: Wake) {
        self.wake.set(wake).ok();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        rustix::io::write(&self.end, &1_u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tap({}, MTU {})", self.device.as_raw_fd(), self.mtu)
    }
}
