//! The name server: questions by datagram and by stream (RFC 1035 §4.2, RFC 7766).

use super::dns::{self, Client};
use super::names::Known;
use super::tcp::Phase;
use super::{DNS_PORT, DecisionRecord, Gateway, Outward, QueryId, StreamId, Subject};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The longest question by a stream.
const LONGEST: usize = 4096;

/// Questions of one stream at a time (RFC 7766 §6.2.1.1 wants several).
const PENDING: usize = 32;

/// Seconds that an answer of ours holds: machines come and go.
const LIFETIME: u32 = 5;

/// A stream whose other end is our name server.
#[derive(Debug, Default)]
pub(super) struct Session {
    pending: usize,
    /// The guest asks no more.
    shut: bool,
}

impl Gateway {
    /// Sets the names of the machines on this network; the domain `kezhan.internal` goes by itself.
    pub fn set_names(&mut self, machines: Vec<(String, Vec<IpAddr>)>) {
        self.names.set(machines);
    }

    /// The name that an address stands for, when the proxy resolves names.
    #[must_use]
    pub fn name_behind(&self, ip: IpAddr) -> Option<&str> {
        self.names.behind(ip)
    }

    /// Takes the resolver's answer to a query.
    pub fn answer(&mut self, now: Duration, query: QueryId, message: &[u8]) {
        let Some(answered) = self.questions.answer(query, message) else {
            self.counts.dropped += 1;
            return;
        };
        for (ip, lifetime) in &answered.addresses {
            self.policy.learn(now, &answered.name, *ip, *lifetime);
        }
        self.send_answer(now, answered.client, &answered.message);
        if let Client::Stream(id) = answered.client {
            self.serve_names(now, id);
        }
    }

    /// Takes a question of the guest's.
    pub(super) fn resolve(&mut self, now: Duration, client: Client, message: &[u8]) -> Option<()> {
        let question = dns::question(message)?;
        match self.names.find(&question.name) {
            Known::Here(ips) => {
                let reply = dns::answer_with(message, &question, &ips, LIFETIME)?;
                self.send_answer(now, client, &reply);
                return Some(());
            }
            Known::Nobody => {
                self.send_answer(now, client, &dns::refusal(message, dns::NO_SUCH_NAME)?);
                return Some(());
            }
            Known::Elsewhere => {}
        }
        let allowed = self.policy.may_resolve(&question.name);
        let subject = Subject::Name(question.name.clone());
        self.decisions.note(DecisionRecord { at: now, subject, allowed, decision: None });
        if !allowed {
            self.counts.denied += 1;
            self.send_answer(now, client, &dns::refusal(message, dns::REFUSED)?);
        } else if self.config.stand_ins {
            let ip = IpAddr::from(self.names.stand_in(&question.name));
            self.policy.learn(now, &question.name, ip, Duration::ZERO);
            let reply = dns::answer_with(message, &question, &[ip], LIFETIME)?;
            self.send_answer(now, client, &reply);
        } else if self.may_order() {
            self.ask(now, client, message);
        }
        Some(())
    }

    fn ask(&mut self, now: Duration, client: Client, message: &[u8]) {
        let stream = matches!(client, Client::Stream(_));
        match self.questions.ask(now, client, message) {
            Some((query, message)) => {
                self.orders.push_back(Outward::Query { query, message, stream });
            }
            None => self.counts.full += 1,
        }
    }

    fn send_answer(&mut self, now: Duration, client: Client, message: &[u8]) {
        match client {
            Client::Datagram { guest, ours } => {
                self.send_udp(SocketAddr::new(ours, DNS_PORT), guest, message);
            }
            Client::Stream(id) => self.send_answer_on(now, id, message),
        }
    }

    fn send_answer_on(&mut self, now: Duration, id: StreamId, message: &[u8]) {
        let Some(entry) = self.streams.get_mut(id) else { return };
        let Some(session) = &mut entry.session else { return };
        let Ok(length) = u16::try_from(message.len()) else { return };
        session.pending = session.pending.saturating_sub(1);
        let over = session.shut && session.pending == 0;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(message);
        entry.stream.push(bytes);
        if over {
            entry.stream.close();
        }
        self.settle(now, id);
    }

    /// Reads the questions that came on a stream (RFC 1035 §4.2.2: each behind its length).
    pub(super) fn serve_names(&mut self, now: Duration, id: StreamId) {
        while let Some(message) = self.next_question(id) {
            let allowance = self.streams.allowance();
            let Some(entry) = self.streams.get_mut(id) else { return };
            entry.stream.written(2 + message.len(), allowance);
            if let Some(session) = &mut entry.session {
                session.pending += 1;
            }
            if self.resolve(now, Client::Stream(id), &message).is_none() {
                return self.break_off(now, id);
            }
        }
        let Some(entry) = self.streams.get_mut(id) else { return };
        let shut = entry.stream.is_shut();
        if let Some(session) = &mut entry.session
            && shut
            && !std::mem::replace(&mut session.shut, true)
            && session.pending == 0
        {
            entry.stream.close();
        }
    }

    /// The next whole question; one that is too long ends the stream.
    fn next_question(&mut self, id: StreamId) -> Option<Vec<u8>> {
        let entry = self.streams.get_mut(id)?;
        let session = entry.session.as_ref()?;
        if session.pending >= PENDING || entry.stream.phase != Phase::Open {
            return None;
        }
        let bytes: Vec<u8> =
            entry.stream.output().iter().flat_map(|slice| slice.iter().copied()).collect();
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > LONGEST {
            entry.stream.abort();
            return None;
        }
        rest.get(..length).map(<[u8]>::to_vec)
    }

    fn break_off(&mut self, now: Duration, id: StreamId) {
        if let Some(entry) = self.streams.get_mut(id) {
            let (key, reset) = (entry.stream.key, entry.stream.reset());
            entry.stream.abort();
            self.send_segment(key, reset);
            self.settle(now, id);
        }
    }
}
