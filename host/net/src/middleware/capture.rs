//! Writing what passes to a capture file (draft-ietf-opsawg-pcap, sections 4 and 5).
//!
//! The file is in the byte order of the host with nanosecond stamps; every reader knows both by the magic
//! number. A frame with work left ([`Packet`]) is written as it is, so that its checksum may look wrong.

use kezhan_ports::nic::{MAX_FRAME, Nic, NicInfo, Offloads, Packet, Received, Transmit};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// Magic number of a file with nanosecond stamps (§4).
const MAGIC: u32 = 0xa1b2_3c4d;
/// Major and minor version (§4).
const VERSION: [u16; 2] = [2, 4];
/// LINKTYPE_ETHERNET (§4, "LinkType").
const ETHERNET: u32 = 1;

/// Tells the time since 1970-01-01 UTC for the stamps.
pub type Stamp = Box<dyn FnMut() -> Duration + Send>;

/// An interface whose frames are written to a file. When the file cannot be written, capturing ends and
/// the frames go on; [`Capture::failure`] says why.
pub struct Capture<N> {
    inner: N,
    file: Box<dyn Write + Send>,
    stamp: Stamp,
    failure: Option<io::Error>,
}

impl<N> Capture<N> {
    /// Writes the file's header and captures from now on.
    ///
    /// # Errors
    /// The header could not be written.
    pub fn new(inner: N, mut file: Box<dyn Write + Send>, stamp: Stamp) -> io::Result<Capture<N>> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC.to_ne_bytes());
        header.extend(VERSION.map(u16::to_ne_bytes).concat());
        // Two reserved fields, the longest frame, the link type.
        for field in [0, 0, MAX_FRAME as u32, ETHERNET] {
            header.extend(field.to_ne_bytes());
        }
        file.write_all(&header)?;
        Ok(Capture { inner, file, stamp, failure: None })
    }

    /// What ended the capture.
    #[must_use]
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    fn record(&mut self, frame: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        if let Err(error) = write_record(&mut self.file, (self.stamp)(), frame) {
            self.failure = Some(error);
        }
    }
}

fn write_record(file: &mut dyn Write, stamp: Duration, frame: &[u8]) -> io::Result<()> {
    // The format's seconds and lengths have 32 bits (§5).
    let seconds = stamp.as_secs() as u32;
    let length = frame.len() as u32;
    let mut record = Vec::with_capacity(16 + frame.len());
    for field in [seconds, stamp.subsec_nanos(), length, length] {
        record.extend(field.to_ne_bytes());
    }
    record.extend(frame);
    file.write_all(&record)
}

impl<N> std::fmt::Debug for Capture<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capture(failure: {:?})", self.failure)
    }
}

impl<N: Nic> Nic for Capture<N> {
    fn info(&self) -> NicInfo {
        self.inner.info()
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        let outcome = self.inner.transmit(frame, packet);
        // A frame that found no room comes again.
        if outcome == Transmit::Taken {
            self.record(frame);
        }
        outcome
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let received = self.inner.receive(buffer)?;
        self.record(buffer.get(..received.length).unwrap_or_default());
        Some(received)
    }

    fn accept(&mut self, offloads: Offloads) {
        self.inner.accept(offloads);
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.inner.set_waker(wake);
    }
}
