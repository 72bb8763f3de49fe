//! TCP towards the guest (RFC 9293): the guest's connection ends here, the host's kernel makes another.
//!
//! ```text
//!   guest ── segments ──► Receive ──► Output ──► driver ──► host's socket
//!         ◄── segments ── Send    ◄── Retained ◄ driver ◄── host's socket
//!
//!   Dialling ──host connected──► Answering ──ACK──► Open ──both FINs──► Waiting ──time──► gone
//!   Calling ──SYN+ACK of the guest──────────────────▲   └──RST, failure──────────────────► gone
//! ```
//! | phase | RFC 9293 §3.3.2 |
//! |---|---|
//! | Dialling | LISTEN: the SYN is held back until the host's connection stands |
//! | Answering | SYN-RECEIVED |
//! | Calling | SYN-SENT: a forward |
//! | Open | ESTABLISHED, FIN-WAIT-1 and -2, CLOSE-WAIT, CLOSING, LAST-ACK: told apart by the FINs |
//! | Waiting | TIME-WAIT, shortened: the link to the guest keeps nothing back |
//!
//! # What is done
//! The SYN is answered when the host's own connection stands, so that the guest sees a refusal as one.
//! Window scaling, segments of up to 64 KiB both ways, retransmission by time (RFC 6298) and by duplicate
//! acknowledgements with partial ones (RFC 6582), reassembly, zero-window probes (RFC 9293 §3.8.6.1),
//! keep-alives (§3.8.4), silly-window avoidance (§3.8.6.2), resets by exact number only (RFC 5961 §3).
//!
//! # What is left out, and why
//! *Congestion control*: the link to a guest is memory; the guest's window and the queue of frames bound
//! what is under way, and a frame is made only when there is room for it. *Selective acknowledgement and
//! time stamps*: a link without cable loses next to nothing; a hole costs one round trip each. *Urgent
//! data*: passed on as data.
//!
//! # Memory
//! A window is a promise, and what is promised or held is counted over all streams; when little is left,
//! windows open less and less is read from the host.
//!
//! Rejected: smoltcp's sockets, whose buffers are rings of a fixed size for each connection, which send
//! segments of the MTU only and are walked one by one at each poll.

mod buffer;
pub(super) mod header;
mod receive;
mod rtt;
mod send;
pub(super) mod seq;
pub(super) mod table;

pub(super) use header::{Segment, flag};
pub(super) use receive::Arrival;
pub(super) use send::{Planned, Reach};
pub(super) use seq::Seq;
pub(super) use table::Streams;

use buffer::{Chunk, Late, Output, Retained};
use rtt::Rtt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

/// A stream's number; it is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl StreamId {
    /// The number as one value.
    #[must_use]
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// Why the host's side of a stream is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there, or the peer reset the connection.
    Refused,
    /// No way to the network.
    NetworkUnreachable,
    /// No way to the host, or it does not answer.
    HostUnreachable,
}

/// The two ends of a stream, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) guest: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dialling,
    Answering,
    Calling,
    Open,
    Waiting,
    Gone,
}

/// What to tell the guest about a segment that belongs nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Reset,
}

/// The shift of our windows (RFC 7323 §2.2).
const SHIFT: u8 = 7;
/// The window of a new stream, and how far it may grow.
const FIRST_WINDOW: usize = 64 * 1024;
const LARGEST_WINDOW: usize = 4 * 1024 * 1024;
/// Bytes of the host's that a stream keeps at most.
const LARGEST_RETAINED: usize = 2 * 1024 * 1024;
/// The segment size of a peer that tells none (RFC 9293 §3.7.1), and the smallest that is honoured.
const DEFAULT_MSS: (u16, u16) = (536, 1220);
const SMALLEST_MSS: u16 = 48;
/// How long a closed stream answers a repeated FIN.
const WAIT: Duration = Duration::from_secs(5);
/// RFC 9293 §3.8.4: not less than two hours; then how often, how long apart.
const KEEP_ALIVE: Duration = Duration::from_secs(2 * 60 * 60);
const KEEP_ALIVE_GAP: Duration = Duration::from_secs(75);
const KEEP_ALIVE_PROBES: u32 = 9;
/// Acknowledgements that can be owed at a time.
const OWED: u32 = 64;
/// Retransmissions until a stream is given up: more than the 100 s of RFC 9293 §3.8.3.
const RETRIES: u32 = 10;

/// From the guest.
#[derive(Debug, Default)]
struct Receive {
    /// RCV.NXT.
    next: Seq,
    /// Up to where the guest may send: it never goes back.
    edge: Seq,
    /// Bytes in order so far: the place of `next` in the stream.
    count: u64,
    shift: u8,
    output: Output,
    late: Late,
    fin: Option<Seq>,
    /// The FIN was reached.
    ended: bool,
    /// Acknowledgements to send: one for each segment out of order (RFC 5681 §4.2).
    owed: u32,
    /// The window that the stream has earned, and bytes since it grew last.
    window: usize,
    since_grown: usize,
}

/// To the guest.
#[derive(Debug)]
struct Send {
    /// SND.UNA and SND.NXT.
    first: Seq,
    next: Seq,
    window: usize,
    largest_window: usize,
    /// SND.WL1 and SND.WL2.
    window_at: (Seq, Seq),
    shift: u8,
    mss: u16,
    retained: Retained,
    /// The host sends no more.
    closing: bool,
    fin_sent: bool,
    fin_acknowledged: bool,
    duplicates: u32,
    /// Up to where everything must be acknowledged to end a recovery (RFC 6582 §3.2).
    recover: Option<Seq>,
    /// What is sent again, from and up to where: the hole alone, or after a time-out as much more for each
    /// acknowledgement as `burst` grows (RFC 5681 §3.1, slow start).
    again: (Seq, Seq),
    burst: usize,
    /// The SYN is to be sent, again perhaps.
    syn: bool,
    probe: bool,
    retries: u32,
    rtt: Rtt,
    timed: Option<(Seq, Duration)>,
}

/// What the driver has to be told of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// There is output.
    pub(super) output: bool,
    /// There is room again.
    pub(super) room: bool,
    /// The guest's last byte has been taken.
    pub(super) shut: bool,
}

/// One connection of the guest's.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: Key,
    pub(super) phase: Phase,
    /// The host's socket is to be reset rather than closed.
    pub(super) broken: bool,
    /// The driver has a socket for it.
    pub(super) attached: bool,
    pub(super) news: News,
    /// Whether the guest's FIN was passed on.
    shut_told: bool,
    /// Our FIN was sent when the guest's came.
    closed_first: bool,
    /// The driver found no room and waits.
    starved: bool,
    receive: Receive,
    send: Send,
    heard: Duration,
    keep_alives: u32,
    /// Retransmission, probe, or end of waiting.
    timer: Option<Duration>,
}

fn mss_of(segment: &Segment, key: &Key) -> u16 {
    let default = if key.guest.is_ipv6() { DEFAULT_MSS.1 } else { DEFAULT_MSS.0 };
    segment.mss.unwrap_or(default).max(SMALLEST_MSS)
}

impl Stream {
    fn new(now: Duration, key: Key, phase: Phase, first: Seq) -> Stream {
        Stream {
            key,
            phase,
            broken: false,
            attached: true,
            news: News::default(),
            shut_told: false,
            closed_first: false,
            starved: false,
            receive: Receive { window: FIRST_WINDOW, ..Receive::default() },
            send: Send {
                first,
                next: first,
                window: 0,
                largest_window: 0,
                window_at: (Seq(0), Seq(0)),
                shift: 0,
                mss: SMALLEST_MSS,
                retained: Retained::default(),
                closing: false,
                fin_sent: false,
                fin_acknowledged: false,
                duplicates: 0,
                recover: None,
                again: (first, first),
                burst: 0,
                syn: false,
                probe: false,
                retries: 0,
                rtt: Rtt::new(),
                timed: None,
            },
            heard: now,
            keep_alives: 0,
            timer: None,
        }
    }

    /// A connection that the guest opens by this SYN.
    pub(super) fn dialled(now: Duration, key: Key, syn: &Segment, first: Seq) -> Stream {
        let mut stream = Stream::new(now, key, Phase::Dialling, first);
        stream.meet(syn);
        stream
    }

    /// A connection to the guest.
    pub(super) fn calling(now: Duration, key: Key, first: Seq) -> Stream {
        let mut stream = Stream::new(now, key, Phase::Calling, first);
        stream.receive.shift = SHIFT;
        stream.send.syn = true;
        stream
    }

    /// Takes the guest's first number and options.
    fn meet(&mut self, syn: &Segment) {
        self.receive.next = syn.seq.plus(1);
        self.receive.edge = self.receive.next;
        self.send.mss = mss_of(syn, &self.key);
        // RFC 7323 §2.2: both or none. The window of a SYN is never scaled.
        (self.send.shift, self.receive.shift) = syn.shift.map_or((0, 0), |shift| (shift, SHIFT));
        self.send.window = syn.window.into();
        self.send.window_at = (syn.seq, syn.ack);
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the guest sends no more, and everything was taken.
    pub(super) fn is_shut(&self) -> bool {
        self.shut_told
    }

    /// Whether a number is past everything that was received.
    pub(super) fn is_past(&self, seq: Seq) -> bool {
        !self.receive.next.is_after(seq)
    }

    /// The host's connection stands.
    pub(super) fn connected(&mut self) {
        if self.phase == Phase::Dialling {
            self.phase = Phase::Answering;
            self.send.syn = true;
        }
    }

    /// The guest's SYN, to quote in an error.
    pub(super) fn syn(&self) -> Segment {
        Segment {
            source: self.key.guest.port(),
            destination: self.key.remote.port(),
            seq: Seq(self.receive.next.0.wrapping_sub(1)),
            flags: flag::SYN,
            ..Segment::default()
        }
    }

    /// The segment that resets the guest's side.
    pub(super) fn reset(&self) -> Segment {
        Segment {
            source: self.key.remote.port(),
            destination: self.key.guest.port(),
            seq: self.send.next,
            ack: self.receive.next,
            flags: flag::RST | flag::ACK,
            ..Segment::default()
        }
    }

    /// Bytes of memory that it holds or has promised to hold.
    pub(super) fn charge(&self) -> usize {
        let promised = self.receive.edge.since(self.receive.next);
        self.receive.output.length() + promised + self.send.retained.length()
    }

    pub(super) fn output(&self) -> Vec<IoSlice<'_>> {
        self.receive.output.slices()
    }

    pub(super) fn output_length(&self) -> usize {
        self.receive.output.length()
    }

    /// The driver wrote so many bytes of the output.
    pub(super) fn written(&mut self, count: usize, allowance: usize) {
        self.receive.output.advance(count);
        self.note_end();
        self.open_window(allowance);
    }

    /// How many bytes of the host's are welcome.
    pub(super) fn room(&mut self, allowance: usize) -> usize {
        if !matches!(self.phase, Phase::Open | Phase::Answering) || self.send.closing {
            return 0;
        }
        let most = LARGEST_RETAINED.min(allowance);
        let room = most.saturating_sub(self.send.retained.length());
        self.starved = room == 0;
        room
    }

    /// Takes bytes from the host.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if !self.send.closing {
            self.send.retained.push(bytes);
        }
    }

    /// The host sends no more.
    pub(super) fn close(&mut self) {
        self.send.closing = true;
    }

    /// Tells the driver of the guest's end once everything before it was taken.
    fn note_end(&mut self) {
        let drained = self.receive.ended && self.receive.output.length() == 0;
        if drained && !self.shut_told {
            self.shut_told = true;
            self.news.shut = true;
        }
        self.settle_end();
    }

    /// Both directions are over (RFC 9293 §3.6): who closed first answers for a while yet.
    fn settle_end(&mut self) {
        if self.phase == Phase::Open && self.shut_told && self.send.fin_acknowledged {
            self.phase = if self.closed_first { Phase::Waiting } else { Phase::Gone };
            self.timer = None;
        }
    }

    fn owe(&mut self) {
        self.receive.owed = (self.receive.owed + 1).min(OWED);
    }

    /// Ends it at once; the host's side is reset.
    pub(super) fn abort(&mut self) {
        self.phase = Phase::Gone;
        self.broken = true;
    }
}

#[cfg(test)]
mod tests;
