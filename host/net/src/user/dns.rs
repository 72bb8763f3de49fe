//! The name forwarder (RFC 1035): which questions are open, and what an answer teaches.

use super::StreamId;
use smoltcp::wire::{DnsFlags, DnsOpcode, DnsPacket, DnsQuestion, DnsRecord, DnsRecordData};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Questions that may be open.
pub(super) const QUESTIONS: usize = 256;

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Records of an answer that are looked at.
const RECORDS: usize = 64;

/// RFC 1035 §4.1.1: bytes of the header, and codes of replies.
const HEADER: usize = 12;
const NO_ERROR: u8 = 0;
pub(super) const NO_SUCH_NAME: u8 = 3;
pub(super) const REFUSED: u8 = 5;

/// Types of records (RFC 1035 §3.2.2, RFC 3596 §2.1).
const A: u16 = 1;
const AAAA: u16 = 28;

/// A query's number; it is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(super) u64);

/// A question: the name in lower case without the root's dot, and the bytes of the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: String,
    kind: u16,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// By a datagram from this address to ours.
    Datagram { guest: SocketAddr, ours: IpAddr },
    /// On this connection.
    Stream(StreamId),
}

#[derive(Debug)]
struct Open {
    client: Client,
    id: u16,
    question: Question,
    end: Duration,
}

/// An answer for the guest.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) message: Vec<u8>,
    pub(super) addresses: Vec<(IpAddr, Duration)>,
}

/// Questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<QueryId, Open>,
    next: u64,
}

impl Questions {
    /// Opens a question; `None` when it is none, or when there are too many.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        client: Client,
        message: &[u8],
    ) -> Option<(QueryId, Vec<u8>)> {
        self.expire(now);
        if self.open.len() >= QUESTIONS {
            return None;
        }
        let question = question(message)?;
        let mut outward = message.to_vec();
        let id = DnsPacket::new_checked(message).ok()?.transaction_id();
        DnsPacket::new_checked(&mut outward[..]).ok()?.set_transaction_id(0);
        let query = QueryId(self.next);
        self.next += 1;
        self.open.insert(query, Open { client, id, question, end: now + PATIENCE });
        Some((query, outward))
    }

    /// Closes a question with its answer; `None`, and the question stays open, when the message is not one.
    pub(super) fn answer(&mut self, query: QueryId, message: &[u8]) -> Option<Answered> {
        let open = self.open.get(&query)?;
        let mut message = message.to_vec();
        let addresses = {
            let packet = DnsPacket::new_checked(&message[..]).ok()?;
            let same = packet.flags().contains(DnsFlags::RESPONSE)
                && first_question(&packet)? == open.question;
            addresses(&packet).filter(|_| same)?
        };
        DnsPacket::new_checked(&mut message[..]).ok()?.set_transaction_id(open.id);
        let open = self.open.remove(&query)?;
        Some(Answered { client: open.client, name: open.question.name, message, addresses })
    }

    pub(super) fn expire(&mut self, now: Duration) {
        self.open.retain(|_, open| now < open.end);
    }

    pub(super) fn next_end(&self) -> Option<Duration> {
        self.open.values().map(|open| open.end).min()
    }
}

/// The question of a query that asks one thing in the ordinary way.
pub(super) fn question(message: &[u8]) -> Option<Question> {
    let packet = DnsPacket::new_checked(message).ok()?;
    if packet.flags().contains(DnsFlags::RESPONSE) || packet.opcode() != DnsOpcode::Query {
        return None;
    }
    first_question(&packet)
}

fn first_question(packet: &DnsPacket<&[u8]>) -> Option<Question> {
    if packet.question_count() != 1 {
        return None;
    }
    let (_, question) = DnsQuestion::parse(packet.payload()).ok()?;
    let mut name = String::new();
    for label in packet.parse_name(question.name) {
        let label = label.ok()?;
        // A dot within a label could not be told from the one between labels.
        if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    Some(Question { name, kind: question.type_.into() })
}

/// The addresses of an answer's records, whatever name in a chain of aliases they belong to.
fn addresses(packet: &DnsPacket<&[u8]>) -> Option<Vec<(IpAddr, Duration)>> {
    let (mut rest, _) = DnsQuestion::parse(packet.payload()).ok()?;
    let mut found = Vec::new();
    for _ in 0..usize::from(packet.answer_record_count()).min(RECORDS) {
        // A truncated answer ends within a record.
        let Ok((behind, record)) = DnsRecord::parse(rest) else { break };
        rest = behind;
        let lifetime = Duration::from_secs(record.ttl.into());
        match record.data {
            DnsRecordData::A(ip) => found.push((IpAddr::V4(ip), lifetime)),
            DnsRecordData::Aaaa(ip) => found.push((IpAddr::V6(ip), lifetime)),
            _ => {}
        }
    }
    Some(found)
}

/// The query sent back with a code: header and question alone.
pub(super) fn refusal(message: &[u8], code: u8) -> Option<Vec<u8>> {
    let packet = DnsPacket::new_checked(message).ok()?;
    let (behind, _) = DnsQuestion::parse(packet.payload()).ok()?;
    let mut reply = message.get(..message.len() - behind.len())?.to_vec();
    let [_, _, high, low, _, _, counts @ ..] = reply.get_mut(..HEADER)? else { return None };
    // QR; opcode and RD stay. RA, and the code.
    *high |= 0x80;
    *low = 0x80 | code;
    counts.fill(0);
    Some(reply)
}

/// An answer of our own: those of the addresses that were asked for.
pub(super) fn answer_with(
    message: &[u8],
    question: &Question,
    addresses: &[IpAddr],
    lifetime: u32,
) -> Option<Vec<u8>> {
    let mut reply = refusal(message, NO_ERROR)?;
    let mut count = 0_u8;
    for ip in addresses.iter().take(RECORDS) {
        let data = match (ip, question.kind) {
            (IpAddr::V4(ip), A) => ip.octets().to_vec(),
            (IpAddr::V6(ip), AAAA) => ip.octets().to_vec(),
            _ => continue,
        };
        count += 1;
        // The name is the question's, behind the header (RFC 1035 §4.1.4); class IN.
        reply.extend([0xc0, HEADER as u8]);
        reply.extend(question.kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(lifetime.to_be_bytes());
        reply.extend([0, data.len() as u8]);
        reply.extend(data);
    }
    *reply.get_mut(7)? = count;
    Some(reply)
}
