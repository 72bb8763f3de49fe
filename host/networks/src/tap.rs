//! A tap interface as a machine's network port (tuntap in the kernel's documentation), or a macvtap.
//!
//! ```text
//!   device ── transmit ──► write ──► tap interface ──► bridge or host
//!          ◄── receive ─── read ◄──        │
//!          ◄──── wake ──── thread: epoll, once for each time that frames come
//! ```
//! Frames are read and written where the device is served: neither call waits. Only waiting for frames takes a
//! thread. Checksums and segments of TCP are left to whoever of kernel and guest comes last ([`offload`]).
//!
//! # Several queues
//! Each queue pair of a card is a descriptor of its own; the kernel spreads flows over them (IFF_MULTI_QUEUE).

use crate::link::{Link, Links};
use crate::macvtap::Macvtap;
use crate::{NetworkError, Store, network, offload};
use kezhan_ports::nic::{
    ETHERNET_HEADER, MAX_FRAME, Nic, NicInfo, Offloads, Packet, Received, Transmit,
};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{readv, writev};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tun_rs::{DeviceBuilder, Layer, SyncDevice, VirtioNetHdr};

/// Who is told that frames came.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Which of the thread's descriptors has something.
const FRAMES: u64 = 0;
const END: u64 = 1;

/// A queue's end at the kernel.
pub(crate) enum Queue {
    Tap(SyncDevice),
    Macvtap(Macvtap),
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Queue::Tap(device) => device.as_fd(),
            Queue::Macvtap(device) => device.as_fd(),
        }
    }
}

/// One queue pair of a tap interface. The interface goes, when it was made here, as soon as all of its queues are
/// dropped.
pub struct Tap {
    queue: Arc<Queue>,
    mtu: u16,
    accepted: Offloads,
    /// Plain frames that one of the kernel's has become.
    plain: VecDeque<Vec<u8>>,
    /// Where a frame is read that may be too large for the guest.
    scratch: Vec<u8>,
    wake: Arc<OnceLock<Wake>>,
    end: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// The queues of a tap interface that is there already.
    ///
    /// # Errors
    /// There is none of that name, it may not be used, or was not made for several queues.
    pub fn open(name: &str, queues: u16) -> Result<Vec<Tap>, NetworkError> {
        let Some(link) = Links::open()?.find(name)?.filter(|link| link.tap) else {
            let mend = "make one with: ip tuntap add dev NAME mode tap user USER";
            return Err(NetworkError::NoInterface(name.to_owned(), "tap interface", mend));
        };
        Tap::all(devices(Some(name), queues)?, &link)
    }

    /// A new tap interface in a bridge: that of a network, or another one of the host's.
    ///
    /// # Errors
    /// There is no such bridge, or the kernel refuses.
    pub fn join(store: &Store, bridge: &str, queues: u16) -> Result<Vec<Tap>, NetworkError> {
        let mut links = Links::open()?;
        let bridge = network::bridge(store, &mut links, bridge)?;
        let devices = devices(None, queues)?;
        let first = devices.first().map(|device| device.name()).transpose();
        let name = first.map_err(NetworkError::kernel("tap interface"))?.unwrap_or_default();
        let link = links.find(&name)?.unwrap_or_default();
        links.set_mtu(&link, bridge.mtu)?;
        links.join(&link, &bridge)?;
        links.set_up(&link)?;
        Tap::all(devices, &Link { mtu: bridge.mtu, ..link })
    }

    /// A new macvtap interface on an interface of the host, with the card's Ethernet address: the machine is in the
    /// network that the host's interface is in.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn macvtap(parent: &str, mac: [u8; 6]) -> Result<Tap, NetworkError> {
        let (device, link) = Macvtap::make(parent, mac)?;
        Tap::new(Queue::Macvtap(device), &link)
    }

    fn all(devices: Vec<SyncDevice>, link: &Link) -> Result<Vec<Tap>, NetworkError> {
        devices.into_iter().map(|device| Tap::new(Queue::Tap(device), link)).collect()
    }

    fn new(queue: Queue, link: &Link) -> Result<Tap, NetworkError> {
        let failed = || NetworkError::kernel(format!("interface {}", link.name));
        let flags = fcntl_getfl(&queue).map_err(io::Error::from).map_err(failed())?;
        fcntl_setfl(&queue, flags | OFlags::NONBLOCK).map_err(io::Error::from).map_err(failed())?;
        let (queue, wake) = (Arc::new(queue), Arc::new(OnceLock::new()));
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let end = end.map_err(io::Error::from).map_err(failed())?;
        let poller = poller(&queue, end.as_fd()).map_err(failed())?;
        let (reader, waker) = (Arc::clone(&queue), Arc::clone(&wake));
        let thread = std::thread::Builder::new()
            .name(link.name.clone())
            .spawn(move || watch(&poller, &waker, &reader))
            .map_err(failed())?;
        Ok(Tap {
            queue,
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            accepted: Offloads::default(),
            plain: VecDeque::new(),
            scratch: vec![0; MAX_FRAME],
            wake,
            end,
            thread: Some(thread),
        })
    }

    /// Reads a frame into `buffer`, or, when it has no room for what the kernel may have, into the scratch: its header
    /// and length.
    fn read(&mut self, buffer: &mut [u8]) -> Option<(VirtioNetHdr, usize)> {
        let mut header = [0; offload::HEADER];
        let frame = if buffer.len() < MAX_FRAME { &mut self.scratch[..] } else { buffer };
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(frame)];
        let length = readv(&*self.queue, &mut parts).ok()?.checked_sub(offload::HEADER)?;
        Some((VirtioNetHdr::decode(&header).ok()?, length))
    }

    /// A plain frame that waits.
    fn next_plain(&mut self, buffer: &mut [u8]) -> Option<Received> {
        while let Some(frame) = self.plain.pop_front() {
            if let Some(place) = buffer.get_mut(..frame.len()) {
                place.copy_from_slice(&frame);
                return Some(Received { length: frame.len(), packet: Packet::default() });
            }
        }
        None
    }
}

/// The queues of a tap interface; a new one without a name.
fn devices(name: Option<&str>, queues: u16) -> Result<Vec<SyncDevice>, NetworkError> {
    let builder = DeviceBuilder::new().layer(Layer::L2).inherit_enable_state();
    let builder = match name {
        Some(name) => builder.name(name),
        None => builder,
    };
    let several = queues > 1;
    let builder = builder.with(|linux| {
        linux.offload(true).multi_queue(several);
    });
    let what = format!("tap interface {}", name.unwrap_or("(new)"));
    let first = builder.build_sync().map_err(NetworkError::kernel(&what))?;
    let mut all = vec![first];
    for _ in 1..queues {
        let next = all.first().map(SyncDevice::try_clone).transpose();
        all.extend(next.map_err(NetworkError::kernel(&what))?);
    }
    Ok(all)
}

/// Each time that frames come, once: a device that does not take them costs nothing.
fn poller(queue: &Queue, end: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    let frames = EventFlags::IN | EventFlags::ET;
    epoll::add(&poller, queue.as_fd(), EventData::new_u64(FRAMES), frames)?;
    epoll::add(&poller, end, EventData::new_u64(END), EventFlags::IN)?;
    Ok(poller)
}

/// The thread: wakes until it is to end. It holds the queue, so that its descriptor stays what it is.
fn watch(poller: &OwnedFd, wake: &OnceLock<Wake>, _queue: &Queue) {
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
        NicInfo { mtu: self.mtu, offloads: offload::OFFLOADS }
    }

    fn link_up(&self) -> bool {
        true
    }

    /// What the kernel does not take now is lost, as on any network.
    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        if frame.len() >= ETHERNET_HEADER {
            let header = offload::header(packet);
            writev(&*self.queue, &[IoSlice::new(&header), IoSlice::new(frame)]).ok();
        }
        Transmit::Taken
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        loop {
            if let Some(received) = self.next_plain(buffer) {
                return Some(received);
            }
            let (header, length) = self.read(buffer)?;
            let direct = buffer.len() >= MAX_FRAME;
            let frame = if direct { &mut *buffer } else { &mut self.scratch[..] };
            let Some(frame) = frame.get_mut(..length).filter(|_| length >= ETHERNET_HEADER) else {
                continue;
            };
            match offload::packet(&header, frame) {
                Some(packet) if direct && packet.fits(self.accepted) => {
                    return Some(Received { length, packet });
                }
                _ => self.plain = offload::plain(header, frame),
            }
        }
    }

    fn accept(&mut self, offloads: Offloads) {
        self.accepted = offloads;
    }

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
        write!(f, "Tap({}, MTU {})", self.queue.as_fd().as_raw_fd(), self.mtu)
    }
}
