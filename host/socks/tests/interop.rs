//! Other people's clients against our server, and our client against other people's servers, on the
//! loopback.
//!
//! They come from `cargo xtask peers`, which unpacks Debian's packages, or else from this host.

mod kit;

use kezhan_socks::{Access, Credentials, Datagrams, HandshakeError, Proxy, ProxyError, Reply};
use kit::{PATIENCE, closed_port, exchange, free_port, host, proxy, server, tcp_server, until};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What `cargo xtask peers` has unpacked.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/peers/debian")
}

/// The program, with the libraries that were unpacked beside it.
fn program(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["usr/bin", "usr/sbin"].map(|folder| unpacked().join(folder));
    let found = folders
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    let Some(file) = found else { panic!("no {name}: `cargo xtask peers` brings it") };
    let mut command = Command::new(file);
    command.env_clear();
    command.env("LD_LIBRARY_PATH", unpacked().join("usr/lib/x86_64-linux-gnu"));
    command
}

/// A server of somebody else's; killed when dropped.
struct Server(Child, SocketAddr);

impl Server {
    fn start(mut command: Command, address: SocketAddr) -> Server {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server(quiet.spawn().unwrap(), address);
        until("the server listens", || {
            assert!(server.0.try_wait().unwrap().is_none(), "it ended at once");
            TcpStream::connect(address).is_ok()
        });
        server
    }

    fn proxy(&self) -> Proxy {
        proxy(self.1)
    }

    fn proxy_as(&self, user: &str) -> Proxy {
        format!("socks5://{user}@{}", self.1).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Answers one HTTP request.
fn http(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello").ok();
}

fn refused(proxy: &Proxy) -> Reply {
    match proxy.tunnel(&closed_port().into()) {
        Err(ProxyError::Handshake { error: HandshakeError::Refused(reply), .. }) => reply,
        other => panic!("{other:?}"),
    }
}

fn ask_udp(proxy: &Proxy) {
    let echo = kit::udp_echo("127.0.0.1:0");
    let mut datagrams = proxy.datagrams().unwrap();
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 2048];
    loop {
        datagrams.send(&echo.into(), b"ping");
        thread::sleep(Duration::from_millis(20));
        if let Some((from, length)) = datagrams.receive(&mut buffer) {
            assert_eq!((from, &buffer[..length]), (echo.into(), b"ping".as_slice()));
            return;
        }
        assert!(Instant::now() < end, "no datagram came back");
    }
}

// Clients

fn curl(arguments: &[&str]) -> Output {
    let common = ["--silent", "--show-error", "--max-time", "20", "--noproxy", ""];
    program("curl").args(common).args(arguments).output().unwrap()
}

#[test]
fn curl_uses_our_server_by_every_dialect() {
    let http = tcp_server("127.0.0.1:0", http);
    let handle = server(Access::Open, host());
    for scheme in ["socks5", "socks5h", "socks4", "socks4a"] {
        let through = format!("{scheme}://{}", handle.address());
        for name in ["127.0.0.1", "localhost"] {
            let url = format!("http://{name}:{}/", http.port());
            let output = curl(&["--ipv4", "--proxy", &through, &url]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{scheme} {output:?}");
        }
    }
}

#[test]
fn curl_logs_in_and_is_told_of_failures() {
    let http = format!("http://{}/", tcp_server("127.0.0.1:0", http));
    let secret = Credentials::new("user", "pass").unwrap();
    let handle = server(Access::Password(secret), host());
    let known = format!("socks5h://user:pass@{}", handle.address());
    assert_eq!(curl(&["--proxy", &known, &http]).stdout, b"hello");
    // 97 is curl's status for a failed proxy hand-shake.
    let wrong = format!("socks5h://user:other@{}", handle.address());
    assert_eq!(curl(&["--proxy", &wrong, &http]).status.code(), Some(97));
    let closed = format!("http://{}/", closed_port());
    let output = curl(&["--proxy", &known, &closed]);
    assert_eq!(output.status.code(), Some(97));
    assert!(String::from_utf8_lossy(&output.stderr).contains("(5)"), "{output:?}");
}

#[test]
fn ncat_uses_our_server() {
    let echo = tcp_server("127.0.0.1:0", kit::echo);
    let open = server(Access::Open, host());
    let guarded = server(Access::Password(Credentials::new("u", "p").unwrap()), host());
    for (handle, kind, login) in
        [(&open, "socks5", None), (&open, "socks4", None), (&guarded, "socks5", Some("u:p"))]
    {
        let mut command = program("ncat");
        command.args(["--proxy", &handle.address().to_string(), "--proxy-type", kind]);
        command.args(login.map(|login| ["--proxy-auth", login]).into_iter().flatten());
        command.args(["127.0.0.1", &echo.port().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"through ncat\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"through ncat\n", "{kind} {login:?}");
    }
}

// Servers

#[test]
fn our_client_uses_microsocks() {
    let echo = tcp_server("127.0.0.1:0", kit::echo);
    let address = free_port();
    let mut command = program("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &address.port().to_string(), "-u", "u", "-P", "p"]);
    let server = Server::start(command, address);
    let known = server.proxy_as("u:p");
    exchange(&mut known.tunnel(&echo.into()).unwrap().stream, b"hello", b"hello");
    assert_eq!(refused(&known), Reply::CONNECTION_REFUSED);
    assert!(matches!(
        server.proxy_as("u:wrong").tunnel(&echo.into()),
        Err(ProxyError::Handshake { error: HandshakeError::Password(_), .. })
    ));
    assert!(matches!(
        known.datagrams(),
        Err(ProxyError::Handshake {
            error: HandshakeError::Refused(Reply::COMMAND_NOT_SUPPORTED),
            ..
        })
    ));
}

#[test]
fn our_client_uses_dante() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("danted.conf");
    let address = free_port();
    let text = format!(
        "internal: 127.0.0.1 port = {}\nexternal: lo\nsocksmethod: none\nclientmethod: none\n\
         user.privileged: {user}\nuser.unprivileged: {user}\n\
         client pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\n",
        address.port(),
        user = if rustix::process::getuid().is_root() { "root" } else { "nobody" },
    );
    std::fs::write(&file, text).unwrap();
    let mut command = program("danted");
    command.arg("-f").arg(&file).arg("-p").arg(folder.path().join("pid"));
    let server = DanteServer(Server::start(command, address));
    let echo = tcp_server("127.0.0.1:0", kit::echo);
    let through = server.0.proxy();
    exchange(&mut through.tunnel(&echo.into()).unwrap().stream, b"hello", b"hello");
    assert_eq!(refused(&through), Reply::CONNECTION_REFUSED);
    ask_udp(&through);
}

/// Dante ends its children itself when it is told to end, and not when it is killed.
struct DanteServer(Server);

impl Drop for DanteServer {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).ok();
        let end = Instant::now() + Duration::from_secs(5);
        while self.0.0.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts v2ray with a SOCKS server on a port of the loopback and the given way out.
fn v2ray(folder: &Path, outbound: &str) -> Server {
    let address = free_port();
    let text = format!(
        r#"{{"log": {{"loglevel": "none"}},
            "inbounds": [{{"listen": "127.0.0.1", "port": {}, "protocol": "socks",
                "settings": {{"auth": "noauth", "udp": true, "ip": "127.0.0.1"}}}}],
            "outbounds": [{outbound}]}}"#,
        address.port()
    );
    let file = folder.join("config.json");
    std::fs::write(&file, text).unwrap();
    let mut command = program("v2ray");
    command.arg("-config").arg(&file);
    Server::start(command, address)
}

#[test]
fn our_client_uses_v2ray() {
    let folder = tempfile::tempdir().unwrap();
    let server = v2ray(folder.path(), r#"{"protocol": "freedom"}"#);
    let echo = tcp_server("127.0.0.1:0", kit::echo);
    let mut tunnel = server.proxy().tunnel(&echo.into()).unwrap();
    exchange(&mut tunnel.stream, b"hello", b"hello");
    ask_udp(&server.proxy());
    // It answers before it connects: a refusal shows as an end without a byte.
    let mut tunnel = server.proxy().tunnel(&closed_port().into()).unwrap();
    tunnel.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0; 1];
    let count = std::io::Read::read(&mut tunnel.stream, &mut byte).unwrap_or(0);
    assert_eq!(count, 0);
}

#[test]
fn v2ray_uses_our_server() {
    let folder = tempfile::tempdir().unwrap();
    let ours = server(Access::Password(Credentials::new("u", "p").unwrap()), host());
    let outbound = format!(
        r#"{{"protocol": "socks", "settings": {{"servers": [{{"address": "127.0.0.1",
            "port": {}, "users": [{{"user": "u", "pass": "p"}}]}}]}}}}"#,
        ours.address().port()
    );
    let between = v2ray(folder.path(), &outbound);
    let echo = tcp_server("127.0.0.1:0", kit::echo);
    let mut tunnel = between.proxy().tunnel(&echo.into()).unwrap();
    exchange(&mut tunnel.stream, b"hello", b"hello");
    ask_udp(&between.proxy());
}
