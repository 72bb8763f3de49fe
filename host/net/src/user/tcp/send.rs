//! The next segment for the guest, and what the passing of time asks for.

use super::super::frame::Piece;
use super::*;

/// How far a segment may reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// The largest segment that the link carries uncut.
    pub(crate) mss: u16,
    /// Bytes of payload in one frame: more than `mss` when the guest takes segments that are not cut.
    pub(crate) payload: usize,
    /// The memory that the stream may use.
    pub(crate) allowance: usize,
}

/// A segment to be sent.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) header: Segment,
    pub(crate) body: Vec<Piece>,
    pub(crate) length: usize,
    /// Payload bytes of each segment when the guest cuts it.
    pub(crate) mss: u16,
}

impl Stream {
    /// Whether there is something to send: then [`Stream::plan`] gives it.
    pub(crate) fn is_ready(&self) -> bool {
        match self.phase {
            Phase::Gone | Phase::Dialling => false,
            Phase::Answering | Phase::Calling => self.send.syn,
            Phase::Waiting => self.receive.owed > 0,
            Phase::Open => {
                self.receive.owed > 0
                    || self.wants_again()
                    || self.send.probe
                    || self.sendable(usize::MAX) > 0
                    || self.wants_fin()
            }
        }
    }

    /// The next segment; `None` when there is nothing to say.
    pub(crate) fn plan(&mut self, now: Duration, reach: Reach) -> Option<Planned> {
        match self.phase {
            Phase::Gone | Phase::Dialling => None,
            Phase::Answering | Phase::Calling => self.plan_syn(now, reach),
            Phase::Waiting => self.plan_bare(reach, self.send.next),
            Phase::Open => {
                if self.wants_again() {
                    return self.plan_again(now, reach);
                }
                // Duplicates first: each counts (RFC 5681 §4.2).
                if self.receive.owed > 1 {
                    return self.plan_bare(reach, self.send.next);
                }
                let length = self.sendable(self.payload(reach));
                if length > 0 || self.wants_fin() {
                    return Some(self.plan_new(now, reach, length));
                }
                if self.send.probe {
                    self.send.probe = false;
                    self.receive.owed = 1;
                    return self.plan_bare(reach, Seq(self.send.first.0.wrapping_sub(1)));
                }
                self.plan_bare(reach, self.send.next)
            }
        }
    }

    fn header(&mut self, reach: Reach, seq: Seq, flags: u8) -> Segment {
        self.move_edge(reach.allowance);
        let window = self.receive.edge.since(self.receive.next);
        let syn = flags & flag::SYN != 0;
        let shift = if syn { 0 } else { self.receive.shift };
        // Rounded up: the edge never goes back.
        let field = u16::try_from(window.div_ceil(1 << shift)).unwrap_or(u16::MAX);
        let promised = self.receive.next.plus(usize::from(field) << shift);
        self.receive.edge = if syn { self.receive.edge } else { promised };
        Segment {
            source: self.key.remote.port(),
            destination: self.key.guest.port(),
            seq,
            ack: if flags & flag::ACK == 0 { Seq(0) } else { self.receive.next },
            flags,
            window: field,
            mss: None,
            shift: None,
        }
    }

    fn plan_syn(&mut self, now: Duration, reach: Reach) -> Option<Planned> {
        if !std::mem::take(&mut self.send.syn) {
            return None;
        }
        let ack = if self.phase == Phase::Answering { flag::ACK } else { 0 };
        let seq = self.send.first;
        let mut header = self.header(reach, seq, flag::SYN | ack);
        header.mss = Some(reach.mss);
        header.shift = Some(SHIFT).filter(|_| self.receive.shift > 0);
        if ack == 0 {
            header.window = u16::try_from(FIRST_WINDOW.min(65_535)).unwrap_or(u16::MAX);
        } else {
            self.receive.edge = self.receive.next.plus(header.window.into());
        }
        if self.send.next == seq {
            self.send.next = seq.plus(1);
            self.send.timed = Some((self.send.next, now));
        }
        self.timer = Some(now + self.send.rtt.timeout());
        Some(Planned { header, body: Vec::new(), length: 0, mss: reach.mss })
    }

    /// A segment without payload: acknowledgement or probe.
    fn plan_bare(&mut self, reach: Reach, seq: Seq) -> Option<Planned> {
        self.receive.owed = self.receive.owed.checked_sub(1)?;
        let header = self.header(reach, seq, flag::ACK);
        Some(Planned { header, body: Vec::new(), length: 0, mss: reach.mss })
    }

    fn wants_again(&self) -> bool {
        let (from, until) = self.send.again;
        until.is_after(from) && self.send.next.is_after(from)
    }

    /// What may have been lost, again.
    fn plan_again(&mut self, now: Duration, reach: Reach) -> Option<Planned> {
        // Karn's rule (RFC 6298 §3): nothing that was sent twice is timed.
        self.send.timed = None;
        let seq = self.send.again.0.later(self.send.first);
        let offset = seq.since(self.send.first);
        let sent = self.send.next.since(seq).saturating_sub(usize::from(self.send.fin_sent));
        let length = sent.min(self.payload(reach));
        let fin = self.send.fin_sent && length == sent;
        self.send.again.0 = seq.plus(length + usize::from(fin));
        if offset == 0 {
            self.timer = Some(now + self.send.rtt.timeout());
        }
        Some(self.planned(reach, (seq, offset), length, fin))
    }

    fn plan_new(&mut self, now: Duration, reach: Reach, length: usize) -> Planned {
        let offset = self.send.next.since(self.send.first);
        let seq = self.send.next;
        let last = offset + length == self.send.retained.length();
        let fin = self.send.closing && last && !self.send.fin_sent;
        self.send.next = seq.plus(length + usize::from(fin));
        self.send.fin_sent |= fin;
        if self.send.timed.is_none() {
            self.send.timed = Some((self.send.next, now));
        }
        if self.timer.is_none() || offset == 0 {
            self.timer = Some(now + self.send.rtt.timeout());
        }
        self.planned(reach, (seq, offset), length, fin)
    }

    fn planned(
        &mut self,
        reach: Reach,
        (seq, offset): (Seq, usize),
        length: usize,
        fin: bool,
    ) -> Planned {
        let last = offset + length == self.send.retained.length();
        let push = if last && length > 0 { flag::PSH } else { 0 };
        let header = self.header(reach, seq, flag::ACK | push | if fin { flag::FIN } else { 0 });
        self.receive.owed = 0;
        let body = self.send.retained.share(offset, length);
        Planned { header, body, length, mss: self.mss(reach) }
    }

    /// The largest segment on the link.
    fn mss(&self, reach: Reach) -> u16 {
        self.send.mss.min(reach.mss)
    }

    /// Payload bytes of one frame.
    fn payload(&self, reach: Reach) -> usize {
        let mss = self.mss(reach).into();
        if reach.payload > reach.mss.into() { reach.payload / mss * mss } else { mss }
    }

    /// New bytes that may be sent now, in a frame of this payload (RFC 9293 §3.8.6.2.1).
    fn sendable(&self, payload: usize) -> usize {
        if self.send.fin_sent {
            return 0;
        }
        let flight = self.send.next.since(self.send.first);
        let unsent = self.send.retained.length().saturating_sub(flight);
        let usable = self.send.window.saturating_sub(flight);
        let length = unsent.min(usable);
        let whole = length == unsent || length >= usize::from(self.send.mss);
        if whole || length * 2 >= self.send.largest_window || flight == 0 {
            length.min(payload)
        } else {
            0
        }
    }

    fn wants_fin(&self) -> bool {
        let flight = self.send.next.since(self.send.first);
        self.send.closing && !self.send.fin_sent && flight == self.send.retained.length()
    }

    /// When time has something to say; sets the timer when nothing has yet.
    pub(crate) fn deadline(&mut self, now: Duration) -> Option<Duration> {
        match self.phase {
            Phase::Gone | Phase::Dialling => None,
            Phase::Waiting => Some(*self.timer.get_or_insert(now + WAIT)),
            Phase::Answering | Phase::Calling => self.timer,
            Phase::Open => {
                let flight = self.send.next != self.send.first;
                let stuck = self.send.retained.length() > 0 && self.sendable(usize::MAX) == 0;
                if flight || stuck {
                    let timeout = self.send.rtt.timeout();
                    Some(*self.timer.get_or_insert(now + timeout))
                } else {
                    self.timer = None;
                    Some(self.heard + KEEP_ALIVE + KEEP_ALIVE_GAP * self.keep_alives)
                }
            }
        }
    }

    /// The deadline has come; `held` when the guest does not come for its frames. Whether the stream is given
    /// up, and the guest is to be told.
    pub(crate) fn expired(&mut self, now: Duration, held: bool) -> bool {
        let Some(deadline) = self.deadline(now) else { return false };
        if now < deadline {
            return false;
        }
        self.timer = None;
        match self.phase {
            _ if held && self.phase != Phase::Waiting => {
                self.timer = Some(now + self.send.rtt.timeout());
                self.heard = now;
            }
            Phase::Waiting => self.phase = Phase::Gone,
            Phase::Answering | Phase::Calling => return self.retry(),
            _ if self.send.next != self.send.first => return self.retry(),
            _ if self.send.retained.length() > 0 => {
                self.send.probe = true;
                self.send.rtt.back_off();
            }
            _ => {
                self.keep_alives += 1;
                self.send.probe = true;
                return self.keep_alives > KEEP_ALIVE_PROBES;
            }
        }
        false
    }

    fn retry(&mut self) -> bool {
        self.send.retries += 1;
        self.send.rtt.back_off();
        self.send.syn = self.phase != Phase::Open;
        self.send.duplicates = 0;
        self.send.recover = Some(self.send.next);
        self.send.burst = self.send.mss.into();
        self.send.again = (self.send.first, self.send.first.plus(1));
        self.send.retries > RETRIES
    }

    /// The path to the guest carries less (RFC 1191 §3): a hint that is believed when it is about bytes
    /// under way.
    pub(crate) fn shrink(&mut self, seq: Seq, mss: u16) {
        let ours = !self.send.first.is_after(seq) && self.send.next.is_after(seq);
        if ours && mss < self.send.mss {
            self.send.mss = mss.max(SMALLEST_MSS);
            self.send.again = (self.send.first, self.send.first.plus(1));
        }
    }
}
