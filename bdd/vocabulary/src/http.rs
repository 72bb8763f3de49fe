//! A small HTTP client: one request, one connection, bounded answers.
//!
//! It speaks HTTP/1.1 to `http://host:port` and to Unix sockets (`unix:/run/kezhan.sock`), which is what tests talk
//! to; the answer of a server under test is never trusted with memory or time. TLS is left to a proxy.
//! (RFC 9112 §3 and §6, RFC 9110 §9)

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most of a body that is read, in bytes.
pub const MAX_BODY: u64 = 16 << 20;

/// The most of status line and headers that is read, in bytes.
const MAX_HEAD: u64 = 64 << 10;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Host and port.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Server {
    /// What the header `Host` says.
    fn name(&self) -> &str {
        match self {
            Server::Tcp(host) => host,
            Server::Unix(_) => "localhost",
        }
    }
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body, if there is one.
    pub body: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        let encoding = self.header("transfer-encoding");
        encoding.is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }
}

/// Takes a URL apart: server, and path with query. `http://` and `unix:PATH` are known.
pub fn split(url: &str) -> Option<(Server, String)> {
    if let Some(path) = url.strip_prefix("unix:") {
        let (socket, target) =
            path.split_once(":/").map_or((path, String::new()), |(s, t)| (s, format!("/{t}")));
        return Some((Server::Unix(PathBuf::from(socket)), target));
    }
    let rest = url.strip_prefix("http://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    let named = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some((
        Server::Tcp(if named { host.to_owned() } else { format!("{host}:80") }),
        target.to_owned(),
    ))
}

/// A connection to a server.
#[derive(Debug)]
pub enum Connection {
    /// To a host.
    Tcp(TcpStream),
    /// To a socket of this host.
    Unix(UnixStream),
}

impl Connection {
    /// Connects, and lets no read or write wait beyond the deadline.
    fn open(server: &Server, deadline: Instant) -> io::Result<Connection> {
        let connection = match server {
            Server::Tcp(host) => Connection::Tcp(connect(host, left(deadline)?)?),
            Server::Unix(path) => Connection::Unix(UnixStream::connect(path)?),
        };
        connection.patience(Some(left(deadline)?))?;
        Ok(connection)
    }

    fn patience(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Connection::Tcp(stream) => {
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
            Connection::Unix(stream) => {
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
        }
    }

    fn try_clone(&self) -> io::Result<Connection> {
        Ok(match self {
            Connection::Tcp(stream) => Connection::Tcp(stream.try_clone()?),
            Connection::Unix(stream) => Connection::Unix(stream.try_clone()?),
        })
    }

    /// Ends the connection, also for a thread that reads from a clone of it.
    pub fn hang_up(&self) {
        let _ = match self {
            Connection::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Connection::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.read(buffer),
            Connection::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.write(bytes),
            Connection::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a request and reads the answer, all before a deadline.
///
/// # Errors
/// What the network says, and answers that are no HTTP.
pub fn send(server: &Server, request: &Request, deadline: Instant) -> io::Result<Response> {
    exchange(Connection::open(server, deadline)?, server.name(), request, deadline)
}

/// An answer whose body comes bit by bit.
pub struct Streamed {
    /// Status and headers; the body is empty.
    pub response: Response,
    /// The body, without the framing of chunks.
    pub body: Box<dyn Read + Send>,
    /// To hang up with.
    pub connection: Connection,
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamed").field("response", &self.response).finish_non_exhaustive()
    }
}

/// Sends a request and reads the head of its answer before a deadline; the body may take for ever.
///
/// # Errors
/// What the network says, and answers that are no HTTP.
pub fn stream(server: &Server, request: &Request, deadline: Instant) -> io::Result<Streamed> {
    let mut stream = Connection::open(server, deadline)?;
    let connection = stream.try_clone()?;
    stream.write_all(&encode(server.name(), request)?)?;
    let mut reader = BufReader::new(stream);
    let (status, headers) = head(&mut reader)?;
    connection.patience(None)?;
    let response = Response { status, headers, body: Vec::new() };
    let body: Box<dyn Read + Send> = match response.is_chunked() {
        true => Box::new(Chunks { reader, left: 0, over: false }),
        false => Box::new(reader),
    };
    Ok(Streamed { response, body, connection })
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::Error::new(io::ErrorKind::TimedOut, "time is up"))
    } else {
        Ok(left)
    }
}

fn connect(host: &str, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange<S: Read + Write>(
    mut stream: S,
    host: &str,
    request: &Request,
    deadline: Instant,
) -> io::Result<Response> {
    stream.write_all(&encode(host, request)?)?;
    read_answer(Timed { stream, deadline }, request)
}

/// Reads the answer to a request.
///
/// # Errors
/// What the stream says, and answers that are no HTTP.
pub fn read_answer(stream: impl Read, request: &Request) -> io::Result<Response> {
    let mut reader = BufReader::new(stream);
    let (status, headers) = head(&mut reader)?;
    let mut response = Response { status, headers, body: Vec::new() };
    let empty = request.method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304);
    if !empty {
        response.body = body(&mut reader, &response)?;
    }
    Ok(response)
}

/// A stream whose every read keeps the deadline: a server that drips bytes gains nothing.
struct Timed<S> {
    stream: S,
    deadline: Instant,
}

impl<S: Read> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        left(self.deadline)?;
        self.stream.read(buffer)
    }
}

fn encode(host: &str, request: &Request) -> io::Result<Vec<u8>> {
    let target = if request.target.is_empty() { "/" } else { &request.target };
    let mut head =
        format!("{} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", request.method);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let lines = head.matches('\n').count();
    if lines != 3 + request.headers.len() || target.contains(char::is_whitespace) {
        let message = "a line break or a space in the path or in a header";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if let Some(body) = &request.body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend(request.body.iter().flat_map(|body| body.bytes()));
    Ok(bytes)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is no HTTP: {what}"))
}

type Head = (u16, Vec<(String, String)>);

fn head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut room = MAX_HEAD;
    loop {
        let first = line(reader, &mut room)?;
        let mut words = first.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words
            .next()
            .and_then(|word| word.parse().ok())
            .filter(|status| (100..=599).contains(status));
        let status = status
            .filter(|_| version.starts_with("HTTP/1."))
            .ok_or_else(|| bad(&format!("{first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = line(reader, &mut room)?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| bad(&format!("header {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        // A provisional answer (100 Continue) comes before the real one. (RFC 9110 §15.2)
        if status >= 200 || status == 101 {
            return Ok((status, headers));
        }
    }
}

fn line(reader: &mut impl BufRead, room: &mut u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(*room).read_until(b'\n', &mut bytes)?;
    *room = room.saturating_sub(bytes.len() as u64);
    if bytes.pop() != Some(b'\n') {
        return Err(bad("it ends within its head, or the head is too long"));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned())
}

fn body(reader: &mut impl BufRead, response: &Response) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if response.is_chunked() {
        let chunks = Chunks { reader, left: 0, over: false };
        chunks.take(MAX_BODY + 1).read_to_end(&mut body)?;
        return match body.len() as u64 {
            0..=MAX_BODY => Ok(body),
            _ => Err(bad(&format!("a body beyond {MAX_BODY} bytes"))),
        };
    }
    match response.header("content-length").map(str::parse::<u64>) {
        Some(Ok(length)) if length <= MAX_BODY => {
            reader.take(length).read_to_end(&mut body)?;
            if body.len() as u64 != length {
                return Err(bad(&format!("{} bytes of {length}", body.len())));
            }
        }
        Some(Ok(length)) => {
            return Err(bad(&format!("a body of {length} bytes, the limit is {MAX_BODY}")));
        }
        Some(Err(_)) => return Err(bad("content-length is no number")),
        None => {
            reader.take(MAX_BODY).read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

/// A body in chunks, without their framing. (RFC 9112 §7.1)
struct Chunks<R> {
    reader: R,
    /// What is left of the chunk.
    left: u64,
    /// The last chunk was read.
    over: bool,
}

impl<R: BufRead> Chunks<R> {
    fn begin(&mut self) -> io::Result<()> {
        let size = line(&mut self.reader, &mut 1024)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(digits, 16)
            .map_err(|_error| bad(&format!("chunk size {digits:?}")))?;
        self.over = self.left == 0;
        Ok(())
    }
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.over {
            self.begin()?;
        }
        if self.over || buffer.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.reader.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.left = self.left.saturating_sub(count as u64);
        let misfit = count == 0 || (self.left == 0 && !line(&mut self.reader, &mut 2)?.is_empty());
        if misfit { Err(bad("a chunk of another size than it says")) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(bytes: &str) -> io::Result<Response> {
        let stream = Loop { answer: io::Cursor::new(bytes.as_bytes().to_vec()) };
        let request = Request { method: "GET".to_owned(), ..Request::default() };
        exchange(stream, "x", &request, Instant::now() + Duration::from_secs(5))
    }

    struct Loop {
        answer: io::Cursor<Vec<u8>>,
    }

    impl Read for Loop {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answer.read(buffer)
        }
    }

    impl Write for Loop {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bodies_are_read_by_length_by_chunks_and_to_the_end() {
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixx").unwrap().body, b"hi");
        let chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n";
        assert_eq!(answer(chunked).unwrap().body, b"hi!");
        assert_eq!(
            answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 No\r\n\r\ngone").unwrap().status,
            404
        );
    }

    #[test]
    fn answers_that_are_no_http_are_told_apart() {
        assert!(answer("hello\r\n\r\n").unwrap_err().to_string().contains("no HTTP: \"hello\""));
        assert!(
            answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")
                .unwrap_err()
                .to_string()
                .contains("2 bytes of 5")
        );
        answer(&format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000))).unwrap_err();
        answer("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").unwrap_err();
    }

    #[test]
    fn urls_name_hosts_and_sockets() {
        assert_eq!(
            split("http://a/b?c"),
            Some((Server::Tcp("a:80".to_owned()), "/b?c".to_owned()))
        );
        assert_eq!(split("http://a:81"), Some((Server::Tcp("a:81".to_owned()), String::new())));
        assert_eq!(
            split("unix:/run/k.sock:/v1"),
            Some((Server::Unix("/run/k.sock".into()), "/v1".to_owned()))
        );
        assert_eq!(split("ftp://a"), None);
    }

    #[test]
    fn a_line_break_cannot_be_smuggled_into_a_request() {
        let request =
            Request { method: "GET".into(), target: "/\r\nX: y".into(), ..Request::default() };
        encode("x", &request).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_answer_makes_us_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = answer(&format!("HTTP/1.1 200 OK\r\n{}", String::from_utf8_lossy(&bytes)));
            let _ = answer(&String::from_utf8_lossy(&bytes));
        }
    }
}
