//! The name server of a network (RFC 1035): machines' own names are answered here, others by the host's servers.

use super::dhcp::Leases;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};

/// Questions that may be open, and how long, in seconds.
const OPEN: usize = 1024;
const PATIENCE: u64 = 10;
/// Bytes of a header (§4.1.1).
const HEADER: usize = 12;
/// Type A, class IN (§3.2.2, §3.2.4).
const ADDRESS: [u8; 4] = [0, 1, 0, 1];
/// How long a machine's address may be kept, in seconds.
const LIFETIME: [u8; 4] = [0, 0, 0, 60];
/// Response; recursion desired and available; the codes "no error" and "refused" (§4.1.1).
const RESPONSE: u8 = 0x80;
const DESIRED: u8 = 0x01;
const AVAILABLE: u8 = 0x80;
const REFUSED: u8 = 5;
/// The domain under which machines are known too (RFC 6762 Appendix G lists it as private).
const DOMAIN: &str = ".internal";

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Answer(Vec<u8>),
    Forward(Vec<u8>, SocketAddr),
    Nothing,
}

/// Who asked, by what number, of whom, and until when.
#[derive(Debug)]
struct Open {
    client: SocketAddr,
    id: [u8; 2],
    asked: SocketAddr,
    question: Vec<u8>,
    end: u64,
}

/// Questions that are open.
#[derive(Debug)]
pub(super) struct Names {
    resolvers: Vec<SocketAddr>,
    open: BTreeMap<[u8; 2], Open>,
    random: RandomState,
    count: u64,
}

impl Names {
    pub(super) fn new(resolvers: Vec<SocketAddr>) -> Names {
        Names { resolvers, open: BTreeMap::new(), random: RandomState::new(), count: 0 }
    }

    /// Takes a machine's question.
    pub(super) fn ask(
        &mut self,
        now: u64,
        message: &[u8],
        client: SocketAddr,
        leases: &Leases,
    ) -> Step {
        let Some((name, question)) = question(message) else { return Step::Nothing };
        let own = leases.of_name(name.strip_suffix(DOMAIN).unwrap_or(&name));
        if own.is_some() || !name.contains('.') {
            // A name without a dot is nobody's business outside.
            return Step::Answer(answer(message, question, own));
        }
        let Some(asked) =
            self.resolvers.get(self.count as usize % self.resolvers.len().max(1)).copied()
        else {
            return Step::Answer(refusal(message, question));
        };
        self.open.retain(|_, open| now < open.end);
        let number = self.number();
        let [a, b, rest @ ..] = message else { return Step::Nothing };
        if self.open.len() >= OPEN || self.open.contains_key(&number) {
            return Step::Nothing;
        }
        let (id, question) = ([*a, *b], question.to_vec());
        self.open.insert(number, Open { client, id, asked, question, end: now + PATIENCE });
        Step::Forward([&number[..], rest].concat(), asked)
    }

    /// A number that nobody outside can guess (RFC 5452 §9.2).
    fn number(&mut self) -> [u8; 2] {
        self.count += 1;
        let [a, b, ..] = self.random.hash_one(self.count).to_le_bytes();
        [a, b]
    }

    /// Takes a server's answer; gives it as the machine expects it, and the machine.
    pub(super) fn answer(
        &mut self,
        message: &[u8],
        from: SocketAddr,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        let (number, rest) = message.split_first_chunk::<2>()?;
        let open = self.open.get(number)?;
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let same = message
            .get(HEADER..)?
            .to_ascii_lowercase()
            .starts_with(&open.question.to_ascii_lowercase());
        if open.asked != from || !same || rest.first()? & RESPONSE == 0 {
            return None;
        }
        let open = self.open.remove(number)?;
        Some(([&open.id[..], rest].concat(), open.client))
    }
}

/// The name that a message asks for, in lower case, and the bytes of its one question.
fn question(message: &[u8]) -> Option<(String, &[u8])> {
    let [_, _, flags, _, 0, 1, ..] = message else { return None };
    if flags & 0xf8 != 0 {
        // A response, or not an ordinary query.
        return None;
    }
    let questions = message.get(HEADER..)?;
    let (mut name, mut at) = (String::new(), 0);
    loop {
        let length = usize::from(*questions.get(at)?);
        if length == 0 {
            let end = at + 1 + 4;
            return Some((name, questions.get(..end)?));
        }
        let label = questions.get(at + 1..at + 1 + length).filter(|_| length < 64)?;
        if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += 1 + length;
    }
}

/// A message with the question, a code, and so many records to follow.
fn reply(message: &[u8], question: &[u8], code: u8, records: u8) -> Vec<u8> {
    let id = message.get(..2).unwrap_or_default();
    let desired = message.get(2).copied().unwrap_or(0) & DESIRED;
    let rest = [RESPONSE | desired, AVAILABLE | code, 0, 1, 0, records, 0, 0, 0, 0];
    [id, &rest, question].concat()
}

/// The machine's address; no record when something else is asked for, or nobody has the name.
fn answer(message: &[u8], question: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    let wanted = question.last_chunk() == Some(&ADDRESS);
    let Some(address) = address else {
        // Name error.
        return reply(message, question, 3, 0);
    };
    let mut bytes = reply(message, question, 0, u8::from(wanted));
    if wanted {
        // The name of the question (§4.1.4), what it is, four bytes.
        bytes.extend([0xc0, HEADER as u8]);
        bytes.extend(ADDRESS);
        bytes.extend(LIFETIME);
        bytes.extend([0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}

fn refusal(message: &[u8], question: &[u8]) -> Vec<u8> {
    reply(message, question, REFUSED, 0)
}
