//! A small HTTP client: one request, one connection, bounded answers.
//!
//! It speaks HTTP/1.1 to `http://host:port` and to Unix sockets (`unix:/run/kezhan.sock`), which is what tests talk
//! to; the answer of a server under test is never trusted with memory or time. TLS is left to a proxy.
//! (RFC 9112 §3 and §6, RFC 9110 §9)

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
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

/// Sends a request and reads the answer, all before a deadline.
///
/// # Errors
/// What the network says, and answers that are no HTTP.
pub fn send(server: &Server, request: &Request, deadline: Instant) -> io::Result<Response> {
    match server {
        Server::Tcp(host) => {
            let stream = connect(host, left(deadline)?)?;
            let limit = left(deadline)?;
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
            exchange(stream, host, request, deadline)
        }
        Server::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            let limit = left(deadline)?;
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
            exchange(stream, "localhost", request, deadline)
        }
    }
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
    let chunked = response
        .header("transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    let mut body = Vec::new();
    if chunked {
        return chunks(reader);
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

/// (RFC 9112 §7.1)
fn chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut room = 1024;
        let size = line(reader, &mut room)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16)
            .map_err(|_error| bad(&format!("chunk size {digits:?}")))?;
        if size == 0 {
            return Ok(body);
        }
        if size > MAX_BODY.saturating_sub(body.len() as u64) {
            return Err(bad(&format!("a body beyond {MAX_BODY} bytes")));
        }
        let before = body.len() as u64;
        reader.take(size).read_to_end(&mut body)?;
        if body.len() as u64 - before != size || !line(reader, &mut room)?.is_empty() {
            return Err(bad("a chunk of another size than it says"));
        }
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
