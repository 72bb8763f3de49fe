//! A Debian system uses its network as a person would: it installs a package, and is reached by ssh.
//!
//! ```text
//!   test: packages by HTTP, names by DNS ◄── the machine's network ◄── apt in the guest
//!         ssh ── forward, or the bridge ──────────────────────────────► dropbear, just installed
//! ```
//! Half a minute each: apt starts many programs. No cheaper guest has apt.

use crate::desk::Desk;
use crate::guest::file;
use crate::namespace;
use crate::networks::answer_names;
use crate::systems::{folder, log_in, machine, overlay, power_off};
use libtest_mimic::{Failed, Trial};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// The card's address; the address that a guest makes of it (RFC 4291 appendix A).
const MAC: &str = "52:54:00:12:34:56";
const NAME: &str = "debian";
const LINK_LOCAL: &str = "fe80::5054:ff:fe12:3456";

pub fn trials() -> Vec<Trial> {
    let root = rustix::process::geteuid().is_root();
    vec![
        Trial::test(
            "a Debian system on a user network installs a package and answers ssh through a forward",
            on_a_user_network,
        ),
        // Bridges need root.
        Trial::test("a Debian system on a bridge installs a package and answers ssh", || {
            namespace::within(on_a_bridge)
        })
        .with_ignored_flag(!root),
    ]
}

/// Serves the mirror of the guests' cache at this address of the host; the port.
fn serve_packages(at: IpAddr) -> Result<u16, Failed> {
    let listener = TcpListener::bind((at, 0))?;
    let port = listener.local_addr()?.port();
    let mirror = file("mirror", "Packages")?.with_file_name("");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mirror = mirror.clone();
            thread::spawn(move || send_file(client, &mirror));
        }
    });
    Ok(port)
}

/// Answers one request with a file of the folder (RFC 1945).
fn send_file(client: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    // The rest of the head has to be read before the connection is closed.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let (status, body) = match fs::read(folder.join(name)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let mut client = client;
    write!(client, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    client.write_all(&body)
}

/// A key for ssh: its file, and the line that lets it in.
fn key(folder: &Path) -> Result<(PathBuf, String), Failed> {
    let file = folder.join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "guest", "-f"]).arg(&file);
    crate::systems::succeeds(keygen)?;
    let line = fs::read_to_string(file.with_extension("pub"))?;
    Ok((file, line.trim_end().to_owned()))
}

/// What the guest's ssh server says to `cat /etc/hostname`.
fn ssh(key: &Path, words: &[&str]) -> Result<String, Failed> {
    let mut ssh = Command::new("ssh");
    ssh.args("-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR".split(' '));
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=60", "-i"]).arg(key);
    ssh.args(words).arg("cat /etc/hostname");
    let done = ssh.output()?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!("{ssh:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// A Debian system with this card, logged in to, once its network has this name server.
fn debian(folder: &Path, net: &str, names: &str) -> Result<Desk, Failed> {
    let disk = format!("{},format=qcow2,backing=follow", overlay(folder)?);
    let mut command = machine(&disk, "")?;
    command
        .args(["--name", NAME, "--net", &format!("{net},mac={MAC}")])
        .env("KEZHAN_RUNTIME_DIR", folder);
    let mut desk = log_in(command)?;
    let known = format!("grep -qs 'nameserver {names}' /etc/resolv.conf");
    desk.enter(&format!("until {known}; do sleep 0.1; done; echo net''worked"))?;
    desk.wait_for("networked\r\n")?;
    Ok(desk)
}

/// Installs and starts the ssh server.
fn install_ssh(desk: &mut Desk, mirror: &str, key: &str) -> Result<(), Failed> {
    desk.enter(&format!("echo deb [trusted=yes] http://{mirror} ./ >/etc/apt/sources.list"))?;
    desk.enter("rm -f /etc/apt/sources.list.d/*; apt-get -qq update && echo up''dated")?;
    desk.wait_for("updated\r\n")?;
    desk.enter("apt-get -qq install --no-install-recommends dropbear-bin; echo in''stalled $?")?;
    desk.wait_for("installed 0\r\n")?;
    desk.enter(&format!("mkdir -p /etc/dropbear .ssh; echo {key} >.ssh/authorized_keys"))?;
    desk.enter("dropbear -R && echo ser''ving")?;
    desk.wait_for("serving\r\n")
}

fn on_a_user_network() -> Result<(), Failed> {
    let folder = folder()?;
    let (key, public) = key(folder.path())?;
    // The name that the guest asks for is its gateway's, which stands for this host.
    let names = UdpSocket::bind("127.0.0.1:0")?;
    let resolver = names.local_addr()?;
    thread::spawn(move || answer_names(&names, [10, 0, 2, 2]));
    let packages = serve_packages(Ipv4Addr::LOCALHOST.into())?;
    let six = serve_packages(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]))?;
    let ssh_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let rules =
        format!("default=deny,allow=mirror.test,allow=127.0.0.1:{packages},allow=[::1]:{six}");
    let net = format!("user,forward=tcp:{ssh_port}:22,resolver={resolver},{rules}");
    let mut desk = debian(folder.path(), &net, "10.0.2.2")?;
    desk.enter("ping -c 1 10.0.2.2")?;
    desk.wait_for("1 received")?;
    // The router is known, and the own address proved unique, some time after DHCP is done.
    desk.enter("until ping -6 -c 1 fd6b:7a68:616e::2; do sleep 0.1; done")?;
    desk.wait_for("1 received")?;
    // A busy host may answer later than a resolver waits.
    desk.enter("until getent hosts mirror.test; do sleep 0.1; done")?;
    desk.wait_for("10.0.2.2 ")?;
    desk.enter(&format!("exec 3<>/dev/tcp/fd6b:7a68:616e::2/{six}"))?;
    desk.enter("printf 'GET /Packages HTTP/1.0\\r\\n\\r\\n' >&3; head -n 4 <&3")?;
    desk.wait_for("Package: dropbear-bin")?;
    install_ssh(&mut desk, &format!("mirror.test:{packages}"), &public)?;
    let said = ssh(&key, &["-p", &ssh_port.to_string(), "root@127.0.0.1"])?;
    assert_eq!(said, "debian\n");
    is_denied(folder.path(), &mut desk)?;
    loses_its_cable(folder.path(), &mut desk)?;
    power_off(desk)
}

/// What no rule allows is reset, and the report says so.
fn is_denied(folder: &Path, desk: &mut Desk) -> Result<(), Failed> {
    desk.enter("(exec 3<>/dev/tcp/192.0.2.9/80) 2>&1 | grep -o 'Connection refused'")?;
    desk.wait_for("Connection refused\r\n")?;
    let report = namespace::net(folder, &format!("report {NAME}"))?;
    let known = report.lines().any(|line| line.contains("192.0.2.9:80") && line.contains("denied"));
    known.then_some(()).ok_or_else(|| format!("nothing of 192.0.2.9 in\n{report}").into())
}

/// The guest sees that its cable is pulled, and is back when it is plugged in.
fn loses_its_cable(folder: &Path, desk: &mut Desk) -> Result<(), Failed> {
    namespace::net(folder, &format!("link {NAME} down"))?;
    desk.enter("until grep -q 0 /sys/class/net/e*/carrier; do sleep 0.1; done; echo un''plugged")?;
    desk.wait_for("unplugged\r\n")?;
    namespace::net(folder, &format!("link {NAME} up"))?;
    desk.enter("until ping -c 1 10.0.2.2; do sleep 0.1; done; echo plugged''in")?;
    desk.wait_for("pluggedin\r\n")
}

fn on_a_bridge(runtime: &Path) -> Result<(), Failed> {
    let folder = folder()?;
    let (key, public) = key(folder.path())?;
    namespace::net(runtime, "create lan --subnet 10.99.0.1/24")?;
    let packages = serve_packages(Ipv4Addr::UNSPECIFIED.into())?;
    let mut desk = debian(folder.path(), "bridge=kz-lan", "10.99.0.1")?;
    desk.enter("ping -c 1 10.99.0.1")?;
    desk.wait_for("1 received")?;
    install_ssh(&mut desk, &format!("10.99.0.1:{packages}"), &public)?;
    assert_eq!(ssh(&key, &[&format!("root@{LINK_LOCAL}%kz-lan")])?, "debian\n");
    power_off(desk)?;
    namespace::net(runtime, "delete lan")?;
    let left = namespace::leavings()?;
    assert!(left.is_empty(), "{left:?} is left");
    Ok(())
}
