//! Network interfaces: Ethernet frames, both ways.
//!
//! ```text
//!   guest ── device ── transmit(frame) ──► back-end ──► tap, user-mode network, socket
//!                 ◄── receive(buffer) ───     │
//!   chassis ◄───────────── wake ──────────────┘   a frame has come, there is room again, the link changed
//! ```
//!
//! # Life
//! 1. `vmm/` makes the back-end and hands it to the device's constructor.
//! 2. The chassis calls [`Nic::set_waker`] once. From then on the back-end wakes it when a frame can be
//!    received, when transmitting becomes possible again after [`Transmit::Full`], and when the link goes
//!    up or down.
//! 3. When the driver has chosen its features, the device tells with [`Nic::accept`] which offloads the
//!    guest takes; until then frames come plain.
//! 4. The chassis answers a wake by calling the device's `poll`, which asks [`Nic::link_up`], takes frames
//!    while it has buffers of the guest's, and transmits what waits.
//! 5. At reset, save and unplug the device stops calling. Nothing of it is in flight, since no call leaves
//!    anything behind; frames that have come in wait or are dropped, as a network may. After a reset the
//!    device calls `accept` with no offloads.
//!
//! A card with several queue pairs is given one [`Nic`] for each pair; their frames have no order between
//! them.
//!
//! # Buffers
//! The device owns every buffer. A frame is valid during the call only, and is whole: from the destination
//! address to the end of the payload, without preamble and frame check sequence (IEEE 802.3 §3.1.1). The
//! device copies frames out of guest memory first, so that the guest cannot change what has been checked.
//!
//! # Offloads
//! [`Packet`] says what is left to do for a frame: a checksum to fill in, a segment to cut. Who hands a
//! frame over with work left must have been told that the other side does it ([`NicInfo::offloads`] towards
//! the back-end, [`Nic::accept`] towards the guest). The guest wrote the numbers in a [`Packet`]: a back-end
//! checks them against the frame and drops what does not fit.
//!
//! # Errors
//! There are none: a network loses frames. A back-end whose host side fails for good takes its link down,
//! once, and accepts and drops everything; it tells the machine by its own means.
//!
//! # Implementations
//! | back-end | where | frames go |
//! |---|---|---|
//! | [`NullNic`] | here | nowhere; the link is down |
//! | [`crate::testkit::NicBuffer`] | here | to the test |
//! | middleware (capture, loss) | `host/net` | on to another `Nic` |
//! | user-mode network, tap | `host/net` | to the host's network |

use std::sync::Arc;

/// The bytes of an Ethernet header (IEEE 802.3 §3.1.1): two addresses and the type.
pub const ETHERNET_HEADER: usize = 14;

/// The longest frame that either side hands over: an IP packet of 65535 bytes with its header, as a
/// segmentation offload makes it.
pub const MAX_FRAME: usize = ETHERNET_HEADER + 65_535;

/// Work that one side does for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Filling in TCP and UDP checksums.
    pub checksum: bool,
    /// Cutting TCP over IPv4 into segments; needs `checksum`.
    pub tcp4: bool,
    /// Cutting TCP over IPv6 into segments; needs `checksum`.
    pub tcp6: bool,
}

/// What a back-end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicInfo {
    /// The largest IP packet that it carries uncut, in bytes (68 to 65535).
    pub mtu: u16,
    /// What it does for the guest on transmit.
    pub offloads: Offloads,
}

/// A checksum that is still to be made: the ones' complement sum of everything from `start` goes, folded
/// and inverted, to `start + offset`, where the pseudo-header's sum stands (virtio 1.2 §5.1.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Bytes from the start of the frame.
    pub start: u16,
    /// Bytes from `start`.
    pub offset: u16,
}

/// A TCP segment that is still to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// The protocol.
    pub kind: SegmentationKind,
    /// Bytes of headers from the start of the frame, repeated before each segment.
    pub headers: u16,
    /// Payload bytes of each segment but the last.
    pub size: u16,
}

/// The protocols whose segments can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

/// What is left to do for a frame; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// A checksum to fill in.
    pub checksum: Option<PartialChecksum>,
    /// A segment to cut.
    pub segmentation: Option<Segmentation>,
}

impl Packet {
    /// Whether somebody with these offloads does the work that is left.
    pub fn fits(self, offloads: Offloads) -> bool {
        let cut = self.segmentation.is_none_or(|segmentation| match segmentation.kind {
            SegmentationKind::Tcp4 => offloads.tcp4,
            SegmentationKind::Tcp6 => offloads.tcp6,
        });
        cut && (offloads.checksum || self.checksum.is_none())
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transmit {
    /// It is the back-end's: sent, queued or dropped.
    Taken,
    /// There is no room; the device keeps it until woken.
    Full,
}

/// A frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the buffer that are the frame.
    pub length: usize,
    /// What is left to do.
    pub packet: Packet,
}

/// A network interface of the host's side. See the module for the contract.
pub trait Nic: Send {
    /// What this back-end is; constant.
    fn info(&self) -> NicInfo;

    /// Whether there is a link now.
    fn link_up(&self) -> bool;

    /// Takes a frame of at most [`MAX_FRAME`] bytes from the guest. One that is malformed, or that asks for
    /// an offload which [`NicInfo::offloads`] lacks, is taken and dropped.
    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit;

    /// Puts the next frame for the guest into `buffer`; `None` when there is none now. The buffer has room
    /// for [`MAX_FRAME`] bytes when an offload was accepted, otherwise for [`ETHERNET_HEADER`] + MTU; a
    /// frame that does not fit is dropped.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received>;

    /// Which work the guest does on receive. Frames that already wait are made plain, or dropped, when they
    /// no longer fit.
    fn accept(&mut self, offloads: Offloads);

    /// Whom to wake; called once, before the machine runs.
    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>);
}

impl<N: Nic + ?Sized> Nic for Box<N> {
    fn info(&self) -> NicInfo {
        (**self).info()
    }

    fn link_up(&self) -> bool {
        (**self).link_up()
    }

    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        (**self).transmit(frame, packet)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        (**self).receive(buffer)
    }

    fn accept(&mut self, offloads: Offloads) {
        (**self).accept(offloads);
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        (**self).set_waker(wake);
    }
}

/// An interface with nothing behind it: the link is down, what is sent is dropped.
#[derive(Debug, Default)]
pub struct NullNic;

impl Nic for NullNic {
    fn info(&self) -> NicInfo {
        NicInfo { mtu: 1500, offloads: Offloads::default() }
    }

    fn link_up(&self) -> bool {
        false
    }

    fn transmit(&mut self, _frame: &[u8], _packet: Packet) -> Transmit {
        Transmit::Taken
    }

    fn receive(&mut self, _buffer: &mut [u8]) -> Option<Received> {
        None
    }

    fn accept(&mut self, _offloads: Offloads) {}

    fn set_waker(&mut self, _wake: Arc<dyn Fn() + Send + Sync>) {}
}
