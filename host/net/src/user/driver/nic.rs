//! The device's half: two queues of frames between the device and the network's thread.

use super::super::frame::Frame;
use kezhan_ports::nic::{MAX_FRAME, Nic, NicInfo, Offloads, Packet, Received, Transmit};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that wait in one direction.
const BYTES: usize = 2 * 1024 * 1024;

/// Frames that wait for the guest; and for us, where they are few: a guest that must wait loses nothing, and the
/// receiver of a long burst does.
const FRAMES: usize = 1024;
const INWARD: usize = 128;

/// A device that took nothing for so long is not at work.
const STUCK: Duration = Duration::from_millis(20);

/// A signal that only says "look".
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Frames from the guest.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) frames: Vec<(Vec<u8>, Packet)>,
    bytes: usize,
    /// The device found no room.
    refused: bool,
    /// News for the gateway.
    pub(super) offloads: Option<Offloads>,
}

/// Frames for the guest.
#[derive(Debug, Default)]
struct Outbox {
    frames: VecDeque<Frame>,
    bytes: usize,
    accepted: Offloads,
    /// The thread has more than there was room for.
    waits: bool,
    /// When the device took a frame last.
    taken: Option<Instant>,
}

/// Whether the guest has done what it was given.
#[derive(Debug, Default)]
struct Idle {
    /// Frames were given that the device has not taken.
    given: AtomicBool,
    /// The guest has had nothing to do since it took the last one.
    is: AtomicBool,
    /// The thread waits for that.
    wanted: AtomicBool,
}

/// What the two sides share.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    bell: OwnedFd,
    wake: OnceLock<Wake>,
    idle: Idle,
    link: AtomicBool,
    ended: AtomicBool,
    mtu: u16,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared(link: {:?})", self.link)
    }
}

/// A lock whose holder died still guards a queue.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(mtu: u16) -> io::Result<Shared> {
        Ok(Shared {
            inbox: Mutex::default(),
            outbox: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            wake: OnceLock::new(),
            idle: Idle::default(),
            link: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            mtu,
        })
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Makes the thread look.
    pub(super) fn ring(&self) {
        rustix::io::write(&self.bell, &1u64.to_ne_bytes()).ok();
    }

    /// Silences the bell.
    pub(super) fn hush(&self) {
        rustix::io::read(&self.bell, &mut [0; 8]).ok();
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    pub(super) fn set_link(&self, up: bool) {
        if self.link.swap(up, Ordering::SeqCst) != up {
            self.wake();
        }
    }

    /// Whether the guest has done all that it was given. With `wanted` the bell rings once it has; asked again after
    /// that, nothing is missed.
    pub(super) fn is_idle(&self, wanted: bool) -> bool {
        self.idle.wanted.store(wanted, Ordering::SeqCst);
        self.idle.is.load(Ordering::SeqCst)
    }

    /// The thread is no more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.set_link(false);
        self.wake();
    }

    /// Takes everything that the guest sent.
    pub(super) fn take(&self) -> Inbox {
        let taken = std::mem::take(&mut *lock(&self.inbox));
        if taken.refused {
            self.wake();
        }
        taken
    }

    /// Whether another frame for the guest has room; when it has not, the bell is rung once it has.
    pub(super) fn has_room(&self) -> bool {
        let mut outbox = lock(&self.outbox);
        outbox.waits = outbox.bytes >= BYTES || outbox.frames.len() >= FRAMES;
        !outbox.waits
    }

    /// Whether frames wait that the device does not come for: the guest is paused, or busy.
    pub(super) fn is_stuck(&self) -> bool {
        let outbox = lock(&self.outbox);
        let idle = outbox.taken.is_none_or(|taken| taken.elapsed() > STUCK);
        idle && !outbox.frames.is_empty()
    }

    /// Hands frames to the guest.
    pub(super) fn give(&self, frames: &mut Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let was_empty = {
            let mut outbox = lock(&self.outbox);
            self.idle.given.store(true, Ordering::SeqCst);
            self.idle.is.store(false, Ordering::SeqCst);
            let was_empty = outbox.frames.is_empty();
            outbox.bytes += frames.iter().map(Frame::length).sum::<usize>();
            outbox.frames.extend(frames.drain(..));
            was_empty
        };
        if was_empty {
            self.wake();
        }
    }
}

/// Tells a network that its guest has nothing to do.
#[derive(Clone, Debug)]
pub struct GuestIdle(pub(super) Arc<Shared>);

impl GuestIdle {
    /// No CPU of the guest's has anything to do. Cheap unless datagrams wait for this.
    pub fn tell(&self) {
        let idle = &self.0.idle;
        if !idle.given.load(Ordering::SeqCst) {
            idle.is.store(true, Ordering::SeqCst);
            if idle.wanted.swap(false, Ordering::SeqCst) {
                self.0.ring();
            }
        }
    }
}

/// A network interface whose network is [`UserNetwork`](super::UserNetwork).
#[derive(Debug)]
pub struct UserNic(Arc<Shared>);

impl UserNic {
    pub(super) fn new(shared: Arc<Shared>) -> UserNic {
        UserNic(shared)
    }
}

/// Whether a guest that does this work can take the frame.
fn suits(packet: Packet, accepted: Offloads) -> bool {
    use kezhan_ports::nic::SegmentationKind;
    let cuts = match packet.segmentation.map(|cut| cut.kind) {
        None => true,
        Some(SegmentationKind::Tcp4) => accepted.tcp4,
        Some(SegmentationKind::Tcp6) => accepted.tcp6,
    };
    cuts && (packet.checksum.is_none() || accepted.checksum)
}

impl Nic for UserNic {
    fn info(&self) -> NicInfo {
        let all = Offloads { checksum: true, tcp4: true, tcp6: true };
        NicInfo { mtu: self.0.mtu, offloads: all }
    }

    fn link_up(&self) -> bool {
        self.0.link.load(Ordering::SeqCst)
    }

    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        if frame.len() > MAX_FRAME || !self.link_up() || self.0.ended.load(Ordering::SeqCst) {
            return Transmit::Taken;
        }
        let first = {
            let mut inbox = lock(&self.0.inbox);
            if inbox.bytes >= BYTES || inbox.frames.len() >= INWARD {
                inbox.refused = true;
                return Transmit::Full;
            }
            inbox.bytes += frame.len();
            inbox.frames.push((frame.to_vec(), packet));
            inbox.frames.len() == 1
        };
        if first {
            self.0.ring();
        }
        Transmit::Taken
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        loop {
            let (frame, accepted, relieved) = {
                let mut outbox = lock(&self.0.outbox);
                let Some(frame) = outbox.frames.pop_front() else {
                    self.0.idle.given.store(false, Ordering::SeqCst);
                    return None;
                };
                outbox.bytes -= frame.length();
                outbox.taken = Some(Instant::now());
                let relieved =
                    outbox.waits && outbox.bytes < BYTES / 2 && outbox.frames.len() < FRAMES / 2;
                outbox.waits &= !relieved;
                (frame, outbox.accepted, relieved)
            };
            if relieved {
                self.0.ring();
            }
            if suits(frame.packet(), accepted)
                && self.link_up()
                && let Some(length) = frame.write(buffer)
            {
                return Some(Received { length, packet: frame.packet() });
            }
        }
    }

    fn accept(&mut self, offloads: Offloads) {
        lock(&self.0.outbox).accepted = offloads;
        lock(&self.0.inbox).offloads = Some(offloads);
        self.0.ring();
    }

    fn set_waker(&mut self, wake: Wake) {
        self.0.wake.set(wake).ok();
    }
}
