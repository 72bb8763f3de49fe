//! Files for a guest that starts from its network: TFTP (RFC 1350), reading only, with the options of RFC 2347,
//! 2348 (block size) and 2349 (size, time-out is ours).
//!
//! ```text
//!   guest ── RRQ, 69 ──► session n ── OACK or DATA 1, from 2070 + n ──►
//!         ◄─ DATA b ── ACK b ── DATA b+1 … the last is short; each is sent again after a second, five times
//! ```
//! The files are opened when the network starts, by whoever starts it: the thread itself cannot open any, and no
//! name that a guest sends is ever looked up in a file system. What is put into the folder later is not there.
//!
//! An acknowledgement of an older block is no reason to send anything, so that a doubled packet does not double
//! every later one (RFC 1123 §4.2.3.1).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port of requests, and the first of sessions.
pub(in super::super) const PORT: u16 = 69;
const FIRST: u16 = 2070;
/// Transfers at a time; the longest idle one gives way.
pub(in super::super) const SESSIONS: u16 = 16;

/// Files that are kept open, and how deep folders are looked into.
const FILES: usize = 1024;
const DEPTH: usize = 8;

/// How long an acknowledgement may take, and how often a block is sent.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;

/// Block sizes: without the option (RFC 1350), and with it (RFC 2348); UDP and IPv4 take 28 bytes, TFTP 4.
const USUAL: usize = 512;
const LEAST: usize = 8;
const HEADERS: usize = 32;

/// Opcodes (RFC 1350 §5, RFC 2347).
mod opcode {
    pub const READ: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const DATA: u16 = 3;
    pub const ACK: u16 = 4;
    pub const ERROR: u16 = 5;
    pub const OPTIONS: u16 = 6;
}

/// Error codes (RFC 1350 appendix).
mod error {
    pub const NOT_FOUND: u16 = 1;
    pub const DENIED: u16 = 2;
    pub const ILLEGAL: u16 = 4;
    pub const UNKNOWN_TRANSFER: u16 = 5;
}

/// What a guest that starts from its network is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootConfig {
    /// The folder whose files TFTP serves.
    pub folder: PathBuf,
    /// The file that DHCP names as the one to start.
    pub file: Option<String>,
}

/// One transfer.
#[derive(Debug)]
struct Session {
    guest: SocketAddr,
    name: String,
    size: usize,
    /// The block that waits to be acknowledged; 0 is that of the options.
    block: u64,
    last: Vec<u8>,
    at: Duration,
    tries: u32,
}

/// A datagram for the guest, from this port of ours.
pub(super) type Reply = (u16, SocketAddr, Vec<u8>);

/// The server.
#[derive(Debug)]
pub(super) struct Boot {
    files: BTreeMap<String, (File, u64)>,
    sessions: Vec<Option<Session>>,
    largest: usize,
}

/// Whether datagrams to this port of ours are the server's.
pub(in super::super) fn is_port(port: u16) -> bool {
    port == PORT || (FIRST..FIRST + SESSIONS).contains(&port)
}

impl Boot {
    /// Opens the files of a folder, for a network whose packets are at most so long.
    pub(super) fn open(folder: &Path, mtu: u16) -> io::Result<Boot> {
        let mut files = BTreeMap::new();
        let root = folder.canonicalize()?;
        collect(&root, &root, DEPTH, &mut files)?;
        let largest = usize::from(mtu).saturating_sub(HEADERS).max(USUAL);
        let sessions = (0..SESSIONS).map(|_| None).collect();
        Ok(Boot { files, sessions, largest })
    }

    /// Takes a datagram of the guest's to this port.
    pub(super) fn take(
        &mut self,
        now: Duration,
        (guest, port): (SocketAddr, u16),
        message: &[u8],
    ) -> Option<Reply> {
        let (code, rest) = message.split_first_chunk()?;
        let code = u16::from_be_bytes(*code);
        if port == PORT {
            return match code {
                opcode::READ => Some(self.begin(now, guest, rest)),
                opcode::WRITE => Some((PORT, guest, failure(error::DENIED, "files are read only"))),
                _ => Some((PORT, guest, failure(error::ILLEGAL, "not a request"))),
            };
        }
        let slot = self.sessions.get_mut(usize::from(port.checked_sub(FIRST)?))?;
        let Some(session) = slot.as_mut().filter(|session| session.guest == guest) else {
            let unknown = failure(error::UNKNOWN_TRANSFER, "no such transfer");
            return (code != opcode::ERROR).then_some((port, guest, unknown));
        };
        let number = rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
        if code != opcode::ACK {
            *slot = None;
            return None;
        }
        if number != session.block as u16 {
            return None;
        }
        let over = session.block > 0 && session.last.len() < session.size + 4;
        if over || !session.advance(now, &self.files) {
            *slot = None;
            return None;
        }
        Some((port, guest, session.last.clone()))
    }

    /// Begins a transfer.
    fn begin(&mut self, now: Duration, guest: SocketAddr, request: &[u8]) -> Reply {
        let refuse = |code, why| (PORT, guest, failure(code, why));
        let mut words = request.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let (Some(name), Some(_mode)) = (words.next(), words.next()) else {
            return refuse(error::ILLEGAL, "a request without a mode");
        };
        let name = name.trim_start_matches('/').to_owned();
        let Some((_, length)) = self.files.get(&name) else {
            return refuse(error::NOT_FOUND, "no such file");
        };
        let (mut size, mut agreed) = (USUAL, Vec::new());
        while let (Some(option), Some(value)) = (words.next(), words.next()) {
            match (option.to_ascii_lowercase().as_str(), value.parse::<usize>()) {
                ("blksize", Ok(wanted)) if wanted >= LEAST => {
                    size = wanted.min(self.largest);
                    agreed.push(("blksize", size as u64));
                }
                ("tsize", Ok(_)) => agreed.push(("tsize", *length)),
                _ => {}
            }
        }
        let mut session =
            Session { guest, name, size, block: 0, last: options(&agreed), at: now, tries: 1 };
        if agreed.is_empty() && !session.advance(now, &self.files) {
            return refuse(error::NOT_FOUND, "the file cannot be read");
        }
        let (port, reply) = (self.place(guest), session.last.clone());
        if let Some(slot) = self.sessions.get_mut(usize::from(port - FIRST)) {
            *slot = Some(session);
        }
        (port, guest, reply)
    }

    /// The port of a new session: that of the same asker, a free one, or that of the longest idle.
    fn place(&self, guest: SocketAddr) -> u16 {
        let rank = |(_, slot): &(u16, &Option<Session>)| match slot {
            Some(session) if session.guest == guest => (0, Duration::ZERO),
            None => (1, Duration::ZERO),
            Some(session) => (2, session.at),
        };
        (FIRST..).zip(&self.sessions).min_by_key(rank).map_or(FIRST, |(port, _)| port)
    }

    /// What is to be sent again; sessions that nobody answers end.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Reply> {
        let mut again = Vec::new();
        for (port, slot) in (FIRST..).zip(&mut self.sessions) {
            let Some(session) = slot.as_mut().filter(|session| session.at + PATIENCE <= now) else {
                continue;
            };
            if session.tries == TRIES {
                *slot = None;
                continue;
            }
            (session.tries, session.at) = (session.tries + 1, now);
            again.push((port, session.guest, session.last.clone()));
        }
        again
    }

    /// When to come again.
    pub(super) fn next(&self) -> Option<Duration> {
        self.sessions.iter().flatten().map(|session| session.at + PATIENCE).min()
    }
}

impl Session {
    /// Makes the next block; false when the file cannot be read.
    fn advance(&mut self, now: Duration, files: &BTreeMap<String, (File, u64)>) -> bool {
        let mut packet = vec![0; 4 + self.size];
        let (header, room) = packet.split_at_mut(4);
        let from = self.block * self.size as u64;
        let Some(Ok(length)) = files.get(&self.name).map(|(file, _)| read(file, room, from)) else {
            return false;
        };
        self.block += 1;
        let numbers = [opcode::DATA.to_be_bytes(), (self.block as u16).to_be_bytes()];
        header.copy_from_slice(numbers.as_flattened());
        packet.truncate(4 + length);
        (self.last, self.at, self.tries) = (packet, now, 1);
        true
    }
}

/// Fills the room from this place on, as far as the file goes.
fn read(file: &File, room: &mut [u8], from: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

fn failure(code: u16, why: &str) -> Vec<u8> {
    let numbers = [opcode::ERROR.to_be_bytes(), code.to_be_bytes()];
    [numbers.as_flattened(), why.as_bytes(), &[0]].concat()
}

fn options(agreed: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = opcode::OPTIONS.to_be_bytes().to_vec();
    for (name, value) in agreed {
        packet.extend(format!("{name}\0{value}\0").bytes());
    }
    packet
}

/// Opens what is in a folder, by its path below the root. Links that lead out of it are left out.
fn collect(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut BTreeMap<String, (File, u64)>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let inside = path.canonicalize().is_ok_and(|real| real.starts_with(root));
        let (Ok(data), true) = (fs::metadata(&path), inside && files.len() < FILES) else {
            continue;
        };
        if data.is_dir() && depth > 0 {
            collect(root, &path, depth - 1, files)?;
        } else if data.is_file()
            && let Ok(name) = path.strip_prefix(root)
        {
            let name = name.to_string_lossy().into_owned();
            files.insert(name, (File::open(&path)?, data.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> SocketAddr {
        ([10, 0, 2, 15], 3000).into()
    }

    fn boot() -> (tempfile::TempDir, Boot) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/kernel"), [7; 1024]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("out")).unwrap();
        let boot = Boot::open(folder.path(), 1500).unwrap();
        (folder, boot)
    }

    fn ask(boot: &mut Boot, words: &str) -> Reply {
        let request = [&[0, 1], words.replace(' ', "\0").as_bytes(), &[0]].concat();
        boot.take(Duration::ZERO, (guest(), PORT), &request).unwrap()
    }

    fn acknowledge(boot: &mut Boot, port: u16, block: u16) -> Option<Vec<u8>> {
        let [high, low] = block.to_be_bytes();
        let reply = boot.take(Duration::ZERO, (guest(), port), &[0, 4, high, low]);
        reply.map(|(_, _, bytes)| bytes)
    }

    #[test]
    fn a_file_comes_in_blocks_and_its_end_is_a_short_one() {
        let (_folder, mut boot) = boot();
        let (port, _, first) = ask(&mut boot, "/sub/kernel octet");
        assert_eq!((&first[..4], first.len()), (&[0, 3, 0, 1][..], 516));
        assert_eq!(acknowledge(&mut boot, port, 1).unwrap()[..4], [0, 3, 0, 2]);
        // The same once more is no reason to send anything.
        assert_eq!(acknowledge(&mut boot, port, 1), None);
        assert_eq!(acknowledge(&mut boot, port, 2).unwrap(), [0, 3, 0, 3]);
        assert_eq!(acknowledge(&mut boot, port, 3), None);
        assert_eq!(acknowledge(&mut boot, port, 3).unwrap()[..4], [0, 5, 0, 5]);
    }

    #[test]
    fn options_are_agreed_upon_before_the_first_block() {
        let (_folder, mut boot) = boot();
        let (port, _, agreed) = ask(&mut boot, "sub/kernel octet tsize 0 blksize 9000 odd 1");
        assert_eq!(agreed, b"\0\x06tsize\x001024\0blksize\x001468\0");
        let only = acknowledge(&mut boot, port, 0).unwrap();
        assert_eq!((&only[..4], only.len()), (&[0, 3, 0, 1][..], 1028));
    }

    #[test]
    fn what_is_not_in_the_folder_is_not_there() {
        let (_folder, mut boot) = boot();
        for name in ["out", "../etc/passwd", "sub/../sub/kernel", "sub", "", "/etc/passwd"] {
            let (_, _, reply) = ask(&mut boot, &format!("{name} octet"));
            assert_eq!(reply[..4], [0, 5, 0, 1], "{name}");
        }
        let write = boot.take(Duration::ZERO, (guest(), PORT), b"\0\x02a\0octet\0").unwrap();
        assert_eq!(write.2[..4], [0, 5, 0, 2]);
        for junk in [&b""[..], b"\0", b"\0\x01", b"\0\x01a", b"\0\x09", &[0xff; 600]] {
            boot.take(Duration::ZERO, (guest(), PORT), junk);
            boot.take(Duration::ZERO, (guest(), FIRST), junk);
        }
    }

    #[test]
    fn a_block_is_sent_again_for_a_while_and_sessions_are_bounded() {
        let (_folder, mut boot) = boot();
        ask(&mut boot, "sub/kernel octet");
        for second in 1..u64::from(TRIES) {
            let again = boot.expire(Duration::from_secs(second));
            assert_eq!(again.len(), 1, "{second}");
        }
        assert!(boot.expire(Duration::from_secs(60)).is_empty() && boot.next().is_none());
        for port in 0..100 {
            let request = b"\0\x01sub/kernel\0octet\0";
            boot.take(Duration::ZERO, (([10, 0, 2, 15], port).into(), PORT), request).unwrap();
        }
        assert_eq!(boot.sessions.iter().flatten().count(), usize::from(SESSIONS));
    }
}
