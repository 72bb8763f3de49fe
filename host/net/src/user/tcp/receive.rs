//! A segment arrives (RFC 9293 §3.10.7).

use super::*;
use std::ops::Range;

/// A segment with its frame and where its payload is.
pub(crate) struct Arrival {
    pub(crate) segment: Segment,
    pub(crate) frame: Vec<u8>,
    pub(crate) payload: Range<usize>,
}

impl Stream {
    /// Takes a segment of the guest's; `allowance` is the memory that the stream may use.
    pub(crate) fn arrives(&mut self, now: Duration, arrival: Arrival, allowance: usize) -> Answer {
        self.heard = now;
        self.keep_alives = 0;
        let segment = arrival.segment;
        match self.phase {
            Phase::Gone => Answer::Nothing,
            Phase::Dialling => {
                if segment.has(flag::RST) && segment.seq == self.receive.next {
                    self.abort();
                }
                Answer::Nothing
            }
            Phase::Calling => self.called(now, &segment),
            Phase::Answering | Phase::Open => self.synchronized(now, arrival, allowance),
            Phase::Waiting => {
                if segment.has(flag::RST) {
                    self.phase = Phase::Gone;
                } else {
                    // A FIN again: our last acknowledgement was lost.
                    self.receive.owed = 1;
                    self.timer = None;
                }
                Answer::Nothing
            }
        }
    }

    /// RFC 9293 §3.10.7.3.
    fn called(&mut self, now: Duration, segment: &Segment) -> Answer {
        let acknowledged = segment.has(flag::ACK) && segment.ack == self.send.next;
        match (segment.has(flag::RST), segment.has(flag::SYN)) {
            (true, _) if acknowledged => self.abort(),
            (false, true) if acknowledged => {
                self.meet(segment);
                self.establish(now, segment.ack);
                self.receive.owed = 1;
                self.news.room = true;
            }
            (false, _) if segment.has(flag::ACK) => return Answer::Reset,
            _ => {}
        }
        Answer::Nothing
    }

    fn establish(&mut self, now: Duration, ack: Seq) {
        self.phase = Phase::Open;
        self.send.first = ack;
        self.acknowledged(now, ack);
    }

    /// RFC 9293 §3.10.7.4.
    fn synchronized(&mut self, now: Duration, arrival: Arrival, allowance: usize) -> Answer {
        let segment = arrival.segment;
        let ahead = segment.seq.minus(self.receive.next);
        let window = self.receive.edge.minus(self.receive.next);
        if segment.has(flag::RST) {
            // RFC 5961 §3.2: the exact number resets, others in the window are asked back.
            match ahead {
                0 => self.abort(),
                _ if (0..=window).contains(&ahead) => self.owe(),
                _ => {}
            }
            return Answer::Nothing;
        }
        if segment.has(flag::SYN) {
            return self.again(&segment);
        }
        if ahead > window || !segment.has(flag::ACK) {
            if segment.has(flag::ACK) {
                self.owe();
            }
            return Answer::Nothing;
        }
        if self.phase == Phase::Answering {
            if segment.ack != self.send.next {
                return Answer::Reset;
            }
            self.send.window = usize::from(segment.window) << self.send.shift;
            self.establish(now, segment.ack);
        }
        if self.acknowledge(now, &segment, arrival.payload.len()) {
            self.take(arrival, allowance);
        }
        Answer::Nothing
    }

    /// A SYN on a connection that stands (RFC 5961 §4).
    fn again(&mut self, segment: &Segment) -> Answer {
        let same = segment.seq.plus(1) == self.receive.next;
        if self.phase == Phase::Answering && same {
            self.send.syn = true;
        } else {
            self.owe();
        }
        Answer::Nothing
    }

    /// Takes acknowledgement and window; whether the rest of the segment counts.
    fn acknowledge(&mut self, now: Duration, segment: &Segment, length: usize) -> bool {
        if segment.ack.is_after(self.send.next) {
            self.owe();
            return false;
        }
        let window = usize::from(segment.window) << self.send.shift;
        if segment.ack.is_after(self.send.first) {
            self.acknowledged(now, segment.ack);
        } else if segment.ack == self.send.first
            && length == 0
            && !segment.has(flag::FIN)
            && window == self.send.window
            && self.send.next != self.send.first
        {
            self.duplicate();
        }
        self.update_window(segment, window);
        true
    }

    /// RFC 9293 §3.10.7.4, "SND.WND".
    fn update_window(&mut self, segment: &Segment, window: usize) {
        let (seq, ack) = self.send.window_at;
        let newer = segment.seq.is_after(seq) || segment.seq == seq && !ack.is_after(segment.ack);
        if !newer {
            return;
        }
        self.send.window_at = (segment.seq, segment.ack);
        if self.send.window == 0 && window > 0 {
            self.send.rtt.forgive();
            self.timer = None;
        }
        if window == 0 {
            // It is there, and has no room.
            self.send.retries = 0;
        }
        self.send.window = window;
        self.send.largest_window = self.send.largest_window.max(window);
    }

    /// Everything before `ack` has arrived.
    fn acknowledged(&mut self, now: Duration, ack: Seq) {
        let count = ack.since(self.send.first);
        self.send.retained.advance(count.min(self.send.retained.length()));
        self.send.first = ack;
        self.send.fin_acknowledged = self.send.fin_sent && ack == self.send.next;
        self.send.retries = 0;
        self.send.duplicates = 0;
        self.send.rtt.forgive();
        if let Some((until, since)) = self.send.timed
            && !until.is_after(ack)
        {
            self.send.rtt.measured(now.saturating_sub(since));
            self.send.timed = None;
        }
        match self.send.recover {
            // A partial acknowledgement: the next hole (RFC 6582 §3.2 step 3).
            Some(recover) if recover.is_after(ack) && self.send.burst == 0 => {
                self.send.again = (ack, ack.plus(1));
            }
            Some(recover) if recover.is_after(ack) => {
                self.send.burst += count + usize::from(self.send.mss);
                let reach = self.send.burst.min(recover.since(ack));
                self.send.again = (self.send.again.0.later(ack), ack.plus(reach));
            }
            _ => {
                self.send.recover = None;
                self.send.burst = 0;
                self.send.again = (ack, ack);
            }
        }
        self.timer = None;
        self.news.room |= self.starved;
        self.settle_end();
    }

    /// RFC 5681 §3.2, with fewer to wait for when little is under way (RFC 5827 §3.1).
    fn duplicate(&mut self) {
        self.send.duplicates += 1;
        let flight = self.send.next.since(self.send.first);
        let segments = u32::try_from(flight / usize::from(self.send.mss)).unwrap_or(u32::MAX);
        let enough = match self.send.recover {
            None => segments.saturating_sub(1).clamp(1, 3),
            // As many as can have been under way when the first was sent again: that one was lost, too.
            Some(_) => segments.saturating_add(3),
        };
        if self.send.duplicates >= enough {
            self.send.duplicates = 0;
            self.send.recover = Some(self.send.next);
            self.send.burst = 0;
            self.send.again = (self.send.first, self.send.first.plus(1));
        }
    }

    /// Takes the payload and the FIN.
    fn take(&mut self, arrival: Arrival, allowance: usize) {
        let Arrival { segment, frame, mut payload } = arrival;
        let end = segment.seq.plus(payload.len());
        if segment.has(flag::FIN) && !self.receive.ended {
            self.receive.fin = Some(end);
        }
        let before = self.receive.next;
        let ahead = segment.seq.minus(before);
        // Old and new parts: what is before `next` was taken, what is behind the edge was not promised.
        let old = before.since(segment.seq).min(payload.len());
        payload.start += old;
        payload.end -= end.since(self.receive.edge).min(payload.len());
        let wanted = !payload.is_empty() && !self.receive.ended;
        if wanted && ahead > 0 {
            let at = self.receive.count + u64::from(ahead.unsigned_abs());
            self.receive.late.insert(at, Chunk::new(frame, payload));
        } else if wanted {
            self.accept(Chunk::new(frame, payload));
            while let Some(chunk) = self.receive.late.take(self.receive.count) {
                self.accept(chunk);
            }
            self.grow(before);
        }
        if self.receive.fin == Some(self.receive.next) && !self.receive.ended {
            self.receive.ended = true;
            self.closed_first = self.send.fin_sent;
            self.receive.next = self.receive.next.plus(1);
            self.receive.edge = self.receive.edge.later(self.receive.next);
        }
        if self.receive.next != before {
            self.receive.owed = self.receive.owed.max(1);
            self.news.output |= self.receive.output.length() > 0;
            self.open_window(allowance);
        } else if segment.has(flag::FIN) || end != segment.seq || ahead < 0 {
            // Out of order, old, or a probe.
            self.owe();
        }
        self.note_end();
    }

    fn accept(&mut self, chunk: Chunk) {
        let length = chunk.length();
        self.receive.output.push(chunk);
        self.receive.next = self.receive.next.plus(length);
        self.receive.count += length as u64;
    }

    /// A stream that keeps its window full earns a larger one.
    fn grow(&mut self, before: Seq) {
        self.receive.since_grown += self.receive.next.since(before);
        if self.receive.since_grown >= self.receive.window {
            self.receive.since_grown = 0;
            self.receive.window = (self.receive.window * 2).min(LARGEST_WINDOW);
        }
    }

    /// Moves the edge when that is worth a word, and says the word (RFC 9293 §3.8.6.2.2).
    pub(super) fn open_window(&mut self, allowance: usize) {
        if self.move_edge(allowance) && self.phase == Phase::Open {
            self.receive.owed = self.receive.owed.max(1);
        }
    }

    /// Moves the edge by a quarter of the window, or when nothing is left to the guest. Whether it moved.
    pub(super) fn move_edge(&mut self, allowance: usize) -> bool {
        let window = self.receive.window.min(allowance);
        let free = window.saturating_sub(self.receive.output.length());
        let edge = self.receive.next.plus(free);
        let gained = edge.since(self.receive.edge);
        let left = self.receive.edge.since(self.receive.next);
        let mss = usize::from(self.send.mss);
        let moves = gained * 4 >= window || left < mss && gained > mss;
        if moves {
            self.receive.edge = edge;
        }
        moves
    }
}
