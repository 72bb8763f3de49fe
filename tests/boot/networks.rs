//! Network cards: what a guest makes of them, and what the host sees of the guest.

use crate::desk::Desk;
use crate::guest::{Guest, PLAIN, Transcript, kezhan};
use libtest_mimic::{Failed, Trial};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

const NETWORK: Guest = Guest { userland: "network", memory: "256M", ..PLAIN };

/// The bytes that a guest serves.
const SERVED: usize = 4 << 20;
/// The address that the test's name server has for every name.
const ANSWER: [u8; 4] = [192, 0, 2, 7];

pub fn trials() -> Vec<Trial> {
    let root = rustix::process::geteuid().is_root();
    vec![
        Trial::test(
            "a guest gets an address and names from its user network, and its frames are captured",
            addresses_and_names,
        ),
        Trial::test("four megabytes come out of a guest through a forwarded port", through_a_port),
        Trial::test("a guest fetches by TFTP the file that DHCP tells it to start", boot_files),
        Trial::test("an e1000 is driven by the kernel for real machines", by_e1000),
        Trial::test(
            "a guest behind a SOCKS server reaches what that server reaches",
            behind_a_proxy,
        ),
        // A network of the kernel needs root.
        Trial::test(
            "a guest on a bridge of the host is heard, and nothing stays behind",
            on_a_bridge,
        )
        .with_ignored_flag(!root),
        Trial::test(
            "a guest on top of an interface of the host is heard, and nothing stays behind",
            on_top_of_an_interface,
        )
        .with_ignored_flag(!root),
    ]
}

/// The command of a guest that runs the script `network`, with these further words and options.
pub fn command(words: &str, options: &[&str]) -> Result<Command, Failed> {
    let mut command = NETWORK.command(&format!("kezhan.run=network {words}"))?;
    command.args(options);
    Ok(command)
}

pub fn has(seen: &Transcript, part: &str, wanted: &str) -> Result<(), Failed> {
    match seen.part(part).iter().any(|line| line.contains(wanted)) {
        true => Ok(()),
        false => Err(seen.failed(&format!("part `{part}` has no line with `{wanted}`"))),
    }
}

fn addresses_and_names() -> Result<(), Failed> {
    let names = UdpSocket::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("frames.pcap");
    let net = format!(
        "user,mac=52:54:00:12:34:56,mtu=65535,capture={},resolver={}",
        capture.display(),
        names.local_addr()?
    );
    thread::spawn(move || answer_names(&names, ANSWER));
    // The longest packet that there is: 20 bytes of IPv4 and 8 of ICMP are not the ping's own.
    let words = "kezhan.ask=inn.test kezhan.bytes=65507";
    let seen = Transcript::of(command(words, &["--net", &net])?)?;
    seen.assert_clean("network")?;
    has(&seen, "lease", "address 10.0.2.15/24 router 10.0.2.2 dns 10.0.2.2 mtu 65535")?;
    has(&seen, "card", "52:54:00:12:34:56")?;
    has(&seen, "card", "65535")?;
    has(&seen, "ping", "3 packets received")?;
    has(&seen, "names", "192.0.2.7")?;
    let captured = fs::read(&capture)?;
    // The name as a DNS message carries it (RFC 1035 §3.1).
    match captured.windows(10).any(|bytes| bytes == b"\x03inn\x04test\x00") {
        true => Ok(()),
        false => Err(seen.failed("the capture has no question for inn.test")),
    }
}

/// Answers every question for an IPv4 address with this one, and others with nothing (RFC 1035 §4).
pub fn answer_names(socket: &UdpSocket, address: [u8; 4]) {
    let mut message = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut message) {
        let Some(name) = message[12..length].iter().position(|byte| *byte == 0) else { continue };
        let question = &message[12..(12 + name + 5).min(length)];
        let four = question.ends_with(&[0, 1, 0, 1]);
        let mut reply = message[..2].to_vec();
        // An answer, recursion available; one question, one record or none.
        reply.extend([0x81, 0x80, 0, 1, 0, four.into(), 0, 0, 0, 0]);
        reply.extend(question);
        if !four {
            _ = socket.send_to(&reply, from);
            continue;
        }
        // The name of the question, type A, class IN, a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(address);
        if socket.send_to(&reply, from).is_err() {
            return;
        }
    }
}

fn through_a_port() -> Result<(), Failed> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let net = format!("user,forward=tcp:{port}:80");
    let words = format!("kezhan.serve={SERVED}");
    let mut desk = Desk::sit_down(command(&words, &["--net", &net])?)?;
    desk.wait_for("ready")?;
    let bytes = fetch(port, "/bytes")?;
    let wanted = b"kezhan\n".iter().copied().cycle().take(SERVED);
    if bytes.len() != SERVED || !bytes.iter().copied().eq(wanted) {
        return Err(format!("{} bytes came, or not the right ones", bytes.len()).into());
    }
    fetch(port, "/cgi-bin/end")?;
    desk.see_the_power_go_off()
}

/// What a server has at a path (RFC 1945).
pub fn fetch(port: u16, path: &str) -> Result<Vec<u8>, Failed> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    write!(server, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    let head = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let head = head.ok_or_else(|| format!("{path}: no HTTP answer in {} bytes", reply.len()))?;
    Ok(reply.split_off(head + 4))
}

/// What a start from the network needs: DHCP names the file, TFTP has it.
fn boot_files() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let bytes: Vec<u8> = (0..300_000_u32).map(|index| (index / 7) as u8).collect();
    fs::create_dir(folder.path().join("pxe"))?;
    fs::write(folder.path().join("pxe/loader"), bytes)?;
    let sum = Command::new("sha256sum").arg(folder.path().join("pxe/loader")).output()?;
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap_or_default().to_owned();
    let net = format!("user,tftp={},bootfile=pxe/loader", folder.path().display());
    let seen = Transcript::of(command("kezhan.tftp=pxe/loader", &["--net", &net])?)?;
    seen.assert_clean("network")?;
    has(&seen, "lease", "boot pxe/loader")?;
    has(&seen, "tftp", &sum)
}

fn by_e1000() -> Result<(), Failed> {
    let guest = Guest { kernel: "full", ..NETWORK };
    let mut command = guest.command("kezhan.run=network")?;
    command.args(["--net", "user,card=e1000,mac=52:54:00:12:34:56"]);
    let seen = Transcript::of(command)?;
    seen.assert_clean("network")?;
    has(&seen, "lease", "address 10.0.2.15/24")?;
    has(&seen, "card", "52:54:00:12:34:56")?;
    has(&seen, "ping", "3 packets received")
}

/// The server is the test itself; it knows 192.0.2.7 and nothing else.
fn behind_a_proxy() -> Result<(), Failed> {
    let proxy = TcpListener::bind("127.0.0.1:0")?;
    let net = format!("user,socks={}", proxy.local_addr()?);
    thread::spawn(move || {
        for client in proxy.incoming() {
            thread::spawn(move || client.map(serve_as_proxy));
        }
    });
    let words = format!("kezhan.fetch={}:80", Ipv4Addr::from(ANSWER));
    let seen = Transcript::of(command(&words, &["--net", &net])?)?;
    seen.assert_clean("network")?;
    has(&seen, "fetched", "by way of the proxy")?;
    let words = "kezhan.fetch=192.0.2.8:80";
    let seen = Transcript::of(command(words, &["--net", &net])?)?;
    has(&seen, "fetched", "no answer")
}

/// A SOCKS5 server without passwords (RFC 1928 §3 to §6) in front of a web server. Whether it granted what was
/// asked for.
pub fn serve_as_proxy(mut client: TcpStream) -> std::io::Result<bool> {
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting)?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    if request[..4] != [5, 1, 0, 1] || request[4..8] != ANSWER {
        client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return Ok(false);
    }
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])?;
    let mut asked = [0; 1024];
    if client.read(&mut asked)? != 0 {
        client.write_all(b"HTTP/1.0 200 OK\r\n\r\nby way of the proxy\n")?;
    }
    Ok(true)
}

/// In a network namespace of its own, which the host's networks are not in. The guest gets its address and
/// the answer for its own name from the network; afterwards no interface and no process is left.
fn on_a_bridge() -> Result<(), Failed> {
    on_a_network("bridge=lan,queues=2", "")
}

/// The same, by an interface that leads to the bridge and that the guest's own is on top of.
fn on_top_of_an_interface() -> Result<(), Failed> {
    const LEG: &str = "ip link add leg type veth peer name end && ip link set leg up && \
                       ip link set end master kz-lan && ip link set end up";
    on_a_network("macvtap=leg", LEG)
}

fn on_a_network(net: &str, more: &str) -> Result<(), Failed> {
    const SCRIPT: &str = r#"
        kezhan=$1 more=$2; shift 2
        $kezhan net create lan --subnet 10.99.0.1/24 >/dev/null || exit
        eval "$more" || exit
        "$@"; status=$?
        [ -z "$more" ] || ip link del leg
        $kezhan net delete lan >/dev/null || exit
        sed -n 's/^ *\([^ :]*\):.*/left: \1/p' /proc/self/net/dev
        for process in /proc/[0-9]*; do
            [ "$(readlink $process/ns/net)" = "$(readlink /proc/self/ns/net)" ] || continue
            read -r name <$process/comm && [ "$name" = kezhan-net ] && echo "left: $name"
        done
        exit $status"#;
    let folder = tempfile::tempdir()?;
    let words = "kezhan.ping=10.99.0.1 kezhan.ask=inn";
    let guest = command(words, &["--net", net])?;
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", SCRIPT, "sh"]).arg(kezhan(&[])?.get_program());
    command.arg(more).arg(guest.get_program()).args(guest.get_args());
    command.env("KEZHAN_RUNTIME_DIR", folder.path());
    let seen = Transcript::of(command)?;
    seen.assert_clean("network")?;
    has(&seen, "lease", "router 10.99.0.1 dns 10.99.0.1")?;
    has(&seen, "ping", "3 packets received")?;
    has(&seen, "names", "Address: 10.99.0.")?;
    let left: Vec<&str> =
        seen.lines.iter().filter_map(|(_, line)| line.strip_prefix("left: ")).collect();
    match left[..] {
        ["lo"] => Ok(()),
        _ => Err(seen.failed(&format!("{left:?} is left"))),
    }
}
