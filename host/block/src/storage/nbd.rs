//! A network block device: the client side of the NBD protocol.
//!
//! ```text
//!   connect ─ server: NBDMAGIC, IHAVEOPT ─ client: flags, GO(export) ─ server: size, flags, ack
//!   then      client: request ─ server: reply, data …
//! ```
//!
//! One request at a time on a connection. Where the server allows several connections to one export
//! (CAN_MULTI_CONN), one is opened for each thread that needs one; otherwise threads take turns.
//!
//! Source: "The NBD protocol", doc/proto.md of the reference implementation.

use super::Storage;
use crate::units::HostOffset;
use crate::{BlockError, Result};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Numbers of the protocol, section "Values".
mod spec {
    pub const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
    pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
    pub const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
    pub const FIXED_NEWSTYLE: u16 = 1;
    pub const NO_ZEROES: u16 = 2;
    pub const OPT_GO: u32 = 7;
    pub const REP_ACK: u32 = 1;
    pub const REP_INFO: u32 = 3;
    pub const INFO_EXPORT: u16 = 0;
    pub const REQUEST: u32 = 0x2560_9513;
    pub const REPLY: u32 = 0x6744_6698;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const CMD_READ: u16 = 0;
    pub const CMD_WRITE: u16 = 1;
    pub const CMD_DISCONNECT: u16 = 2;
    pub const CMD_FLUSH: u16 = 3;
    pub const CMD_WRITE_ZEROES: u16 = 6;
    pub const FLAG_NO_HOLE: u16 = 1 << 1;
    pub const ENOSPC: u32 = 28;
    /// Servers need not take more in one request.
    pub const PAYLOAD: usize = 32 << 20;
    pub const DEFAULT_PORT: u16 = 10809;
}

/// Longest wait for a server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most connections to one export.
const CONNECTIONS: usize = 8;

/// Most replies to one option, and the longest.
const OPTION_REPLIES: usize = 64;
const OPTION_REPLY_BYTES: u32 = 64 << 10;

/// Where an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdAddress {
    /// Host and port, or the path of a socket.
    pub server: NbdServer,
    /// The export's name; empty for the default one.
    pub export: String,
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NbdServer {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(String),
}

impl NbdAddress {
    /// Reads `nbd://HOST[:PORT]/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`, `nbd:HOST:PORT[:exportname=X]` and
    /// `nbd:unix:PATH[:exportname=X]`; `None` for other names.
    pub fn parse(text: &str) -> Option<NbdAddress> {
        if let Some(rest) = text.strip_prefix("nbd+unix://") {
            let (export, query) = rest.split_once('?')?;
            let path = query.strip_prefix("socket=")?.to_owned();
            let export = export.trim_start_matches('/').to_owned();
            return Some(NbdAddress { server: NbdServer::Unix(path), export });
        }
        if let Some(rest) = text.strip_prefix("nbd://") {
            let (place, export) = rest.split_once('/').unwrap_or((rest, ""));
            let (host, port) = match place.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (place, spec::DEFAULT_PORT),
            };
            let server = NbdServer::Tcp(host.to_owned(), port);
            return Some(NbdAddress { server, export: export.to_owned() });
        }
        let rest = text.strip_prefix("nbd:")?;
        let (place, export) = rest.split_once(":exportname=").unwrap_or((rest, ""));
        let server = match place.strip_prefix("unix:") {
            Some(path) => NbdServer::Unix(path.to_owned()),
            None => {
                let (host, port) = place.rsplit_once(':')?;
                NbdServer::Tcp(host.to_owned(), port.parse().ok()?)
            }
        };
        Some(NbdAddress { server, export: export.to_owned() })
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.server {
            NbdServer::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Box::new(stream))
            }
            NbdServer::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Box::new(stream))
            }
        }
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What the server says of an export.
#[derive(Clone, Copy, Debug)]
struct Export {
    size: u64,
    flags: u16,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Box<dyn Stream>>,
    open: usize,
}

/// An export of an NBD server.
pub struct NbdStorage {
    name: String,
    address: NbdAddress,
    export: Export,
    pool: Mutex<Pool>,
    returned: Condvar,
}

impl std::fmt::Debug for NbdStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NbdStorage({}, {:?})", self.name, self.export)
    }
}

impl NbdStorage {
    /// Connects to an export. `name` is for messages.
    ///
    /// # Errors
    /// When the server cannot be reached, speaks another protocol, or does not have the export.
    pub fn connect(name: &str, address: NbdAddress, writable: bool) -> Result<NbdStorage> {
        let (stream, export) = negotiate(&address).map_err(BlockError::io(name, "connect to"))?;
        if writable && export.flags & spec::READ_ONLY != 0 {
            return Err(BlockError::ReadOnly { name: name.to_owned() });
        }
        let pool = Mutex::new(Pool { idle: vec![stream], open: 1 });
        Ok(NbdStorage { name: name.to_owned(), address, export, pool, returned: Condvar::new() })
    }

    fn take(&self) -> io::Result<Box<dyn Stream>> {
        let most = if self.export.flags & spec::CAN_MULTI_CONN != 0 { CONNECTIONS } else { 1 };
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(stream) = pool.idle.pop() {
                return Ok(stream);
            }
            if pool.open < most {
                pool.open += 1;
                drop(pool);
                return self.connect_again().inspect_err(|_| self.lost());
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn connect_again(&self) -> io::Result<Box<dyn Stream>> {
        let (stream, export) = negotiate(&self.address)?;
        if export.size != self.export.size {
            let what = format!("the export has {} bytes now", export.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(stream)
    }

    /// A connection broke; the next request opens another.
    fn lost(&self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
        self.returned.notify_one();
    }

    /// One request. `send` goes with it, `receive` is filled by the reply.
    fn request(
        &self,
        (kind, flags): (u16, u16),
        (offset, length): (u64, u32),
        send: &[u8],
        receive: &mut [u8],
    ) -> io::Result<()> {
        let mut stream = self.take()?;
        let mut head = Vec::with_capacity(28 + send.len().min(1 << 16));
        head.extend(spec::REQUEST.to_be_bytes());
        head.extend(flags.to_be_bytes());
        head.extend(kind.to_be_bytes());
        head.extend(0u64.to_be_bytes());
        head.extend(offset.to_be_bytes());
        head.extend(length.to_be_bytes());
        let mut exchange = |stream: &mut dyn Stream| {
            stream.write_all(&head)?;
            stream.write_all(send)?;
            let mut reply = [0; 16];
            stream.read_exact(&mut reply)?;
            if reply[..4] != spec::REPLY.to_be_bytes() || reply[8..] != [0; 8] {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is not valid"));
            }
            let error = u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]);
            if error == 0 {
                stream.read_exact(receive)?;
            }
            Ok(error)
        };
        match exchange(&mut *stream) {
            Ok(error) => {
                self.pool.lock().unwrap_or_else(PoisonError::into_inner).idle.push(stream);
                self.returned.notify_one();
                told(error)
            }
            Err(error) => {
                self.lost();
                Err(error)
            }
        }
    }

    fn has(&self, flag: u16) -> bool {
        self.export.flags & flag != 0
    }
}

/// An error number of the protocol ("Error values"), which are those of Linux.
fn told(error: u32) -> io::Result<()> {
    match error {
        0 => Ok(()),
        spec::ENOSPC => Err(io::ErrorKind::StorageFull.into()),
        other => Err(io::Error::from_raw_os_error(other as i32)),
    }
}

/// Connects and asks for the export ("Fixed newstyle negotiation").
fn negotiate(address: &NbdAddress) -> io::Result<(Box<dyn Stream>, Export)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut stream = address.connect()?;
    if read_u64(&mut *stream)? != spec::MAGIC || read_u64(&mut *stream)? != spec::OPTION_MAGIC {
        return Err(bad("it is not an NBD server of today"));
    }
    let flags = read_u16(&mut *stream)?;
    if flags & spec::FIXED_NEWSTYLE == 0 {
        return Err(bad("the NBD server is too old"));
    }
    let flags = flags & (spec::FIXED_NEWSTYLE | spec::NO_ZEROES);
    stream.write_all(&u32::from(flags).to_be_bytes())?;
    let name = address.export.as_bytes();
    let mut option = Vec::new();
    option.extend(spec::OPTION_MAGIC.to_be_bytes());
    option.extend(spec::OPT_GO.to_be_bytes());
    option.extend((name.len() as u32 + 6).to_be_bytes());
    option.extend((name.len() as u32).to_be_bytes());
    option.extend(name);
    option.extend(0u16.to_be_bytes());
    stream.write_all(&option)?;
    let mut export = None;
    for _ in 0..OPTION_REPLIES {
        let (kind, data) = option_reply(&mut *stream)?;
        match kind {
            spec::REP_ACK => {
                return export
                    .map(|export| (stream, export))
                    .ok_or_else(|| bad("no size was told"));
            }
            spec::REP_INFO if data.len() >= 12 && data[..2] == spec::INFO_EXPORT.to_be_bytes() => {
                let size = data[2..10].iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
                export = Some(Export { size, flags: u16::from_be_bytes([data[10], data[11]]) });
            }
            kind if kind & 1 << 31 != 0 => {
                let said = String::from_utf8_lossy(&data).into_owned();
                return Err(bad(&format!(
                    "the server refuses the export '{}': {said}",
                    address.export
                )));
            }
            _ => {}
        }
    }
    Err(bad("the server does not come to an end"))
}

fn option_reply(stream: &mut dyn Stream) -> io::Result<(u32, Vec<u8>)> {
    let magic = read_u64(stream)?;
    let (_option, kind, length) = (read_u32(stream)?, read_u32(stream)?, read_u32(stream)?);
    if magic != spec::OPTION_REPLY || length > OPTION_REPLY_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the option reply is not valid"));
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data)?;
    Ok((kind, data))
}

fn read_u16(stream: &mut dyn Stream) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn read_u32(stream: &mut dyn Stream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(stream: &mut dyn Stream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

impl Storage for NbdStorage {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Result<u64> {
        Ok(self.export.size)
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        let have = self.export.size.saturating_sub(offset.get()).min(data.len() as u64) as usize;
        let (inside, past) = data.split_at_mut(have);
        past.fill(0);
        let mut at = offset.get();
        for piece in inside.chunks_mut(spec::PAYLOAD) {
            let range = (at, piece.len() as u32);
            self.request((spec::CMD_READ, 0), range, &[], piece)
                .map_err(BlockError::io(&self.name, "read"))?;
            at += u64::from(range.1);
        }
        Ok(())
    }

    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()> {
        let mut at = offset.get();
        for piece in data.chunks(spec::PAYLOAD) {
            let range = (at, piece.len() as u32);
            self.request((spec::CMD_WRITE, 0), range, piece, &mut [])
                .map_err(BlockError::io(&self.name, "write"))?;
            at += u64::from(range.1);
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: HostOffset, length: u64, unmap: bool) -> Result<()> {
        let flags = if unmap { 0 } else { spec::FLAG_NO_HOLE };
        let mut done = 0;
        while done < length {
            let count = (length - done).min(spec::PAYLOAD as u64);
            let at = offset.plus(done);
            if self.has(spec::SEND_WRITE_ZEROES) {
                let range = (at.get(), count as u32);
                self.request((spec::CMD_WRITE_ZEROES, flags), range, &[], &mut [])
                    .map_err(BlockError::io(&self.name, "zero a range of"))?;
            } else {
                self.write_at(at, &vec![0; count as usize])?;
            }
            done += count;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        if !self.has(spec::SEND_FLUSH) {
            return Ok(());
        }
        self.request((spec::CMD_FLUSH, 0), (0, 0), &[], &mut [])
            .map_err(BlockError::io(&self.name, "flush"))
    }

    fn set_size(&self, size: u64) -> Result<()> {
        if size <= self.export.size {
            return Ok(());
        }
        Err(BlockError::unsupported(
            &self.name,
            "an NBD export cannot grow; resize it at the server",
        ))
    }

    fn grows_with_zeroes(&self) -> bool {
        false
    }
}

impl Drop for NbdStorage {
    fn drop(&mut self) {
        let mut goodbye = spec::REQUEST.to_be_bytes().to_vec();
        goodbye.extend(0u16.to_be_bytes());
        goodbye.extend(spec::CMD_DISCONNECT.to_be_bytes());
        goodbye.extend([0; 20]);
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        for mut stream in pool.idle.drain(..) {
            // The server may be gone already; that is what we want.
            let _ = stream.write_all(&goodbye);
        }
    }
}

#[cfg(test)]
mod tests;
