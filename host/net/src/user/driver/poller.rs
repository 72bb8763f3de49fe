//! What the thread waits for, each source with a token.

use super::super::{FlowId, QueryId, StreamId};
use super::ForwardId;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Events that are taken at a time.
const EVENTS: usize = 256;

/// Who is meant by an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Bell,
    Stream(StreamId),
    Flow(FlowId),
    Query(QueryId),
    Forward(ForwardId),
    /// The socket of a named network, and a member's of our switch.
    Lan,
    Neighbour(u64),
}

/// Numbers are counted up from 0 and stay far below this; a stream's index has 24 bits.
const NUMBER: u64 = (1 << 56) - 1;

impl Token {
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Token::Bell => (0, 0),
            Token::Stream(id) => (1, u64::from(id.generation) << 24 | u64::from(id.index)),
            Token::Flow(id) => (2, id.number()),
            Token::Query(id) => (3, id.0),
            Token::Forward(id) => (4, id.0),
            Token::Lan => (5, 0),
            Token::Neighbour(id) => (6, id),
        };
        kind << 56 | number & NUMBER
    }

    fn unpack(data: u64) -> Option<Token> {
        let number = data & NUMBER;
        Some(match data >> 56 {
            0 => Token::Bell,
            1 => Token::Stream(StreamId {
                index: (number & 0xff_ffff) as u32,
                generation: (number >> 24) as u32,
            }),
            2 => Token::Flow(FlowId(number)),
            3 => Token::Query(QueryId(number)),
            4 => Token::Forward(ForwardId(number)),
            5 => Token::Lan,
            6 => Token::Neighbour(number),
            _ => return None,
        })
    }
}

/// What a source is ready for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) read: bool,
    pub(super) write: bool,
    /// The peer sends no more.
    pub(super) ended: bool,
}

/// How a source is watched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Watch {
    /// While there is something to read.
    Reading,
    /// For changes, both ways: who is told reads and writes until it would block.
    Changes,
}

/// An epoll descriptor.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll })
    }

    /// Watches a descriptor until it is closed.
    pub(super) fn add(&self, source: impl AsFd, token: Token, watch: Watch) -> io::Result<()> {
        let flags = match watch {
            Watch::Reading => EventFlags::IN,
            Watch::Changes => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        };
        epoll::add(&self.epoll, source, EventData::new_u64(token.pack()), flags)?;
        Ok(())
    }

    /// Watches a descriptor no longer.
    pub(super) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until something is ready, at most so long.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Token, Ready)>> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut room = [MaybeUninit::uninit(); EVENTS];
        match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Ok((events, _)) => Ok(events.iter().filter_map(told).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn told(event: &Event) -> Option<(Token, Ready)> {
    let data = event.data;
    let flags = event.flags;
    let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
    let ended = broken || flags.contains(EventFlags::RDHUP);
    let ready = Ready {
        read: ended || flags.contains(EventFlags::IN),
        write: broken || flags.contains(EventFlags::OUT),
        ended,
    };
    Some((Token::unpack(data.u64())?, ready))
}
