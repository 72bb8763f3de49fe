//! Steps on network cards.
//!
//! ```text
//! "a free port of the host, "web", leads to port 80 of the machine" ---> --net user,forward=tcp:PORT:80
//! "port 80 of the machine answers" -------------------------------------> a connection to 127.0.0.1:PORT
//! "no packet left the machine except to:" ------------------------------> the capture of the first card
//! ```
//!
//! Every card of the kind `user` is captured into the scenario's folder, so that a check can be a witness after the
//! fact, and a failure's report has the packets. A network that several machines share is one of the host's, made by
//! `kezhan net`, which needs a privilege (`unshare -rn` gives it to anybody).

use super::guest_steps::run_line;
use super::network::Network;
use super::{Machines, current, frames};
use crate::process::Process;
use kezhan_steps::{Failure, StepDefinition, Table, World, check, step, steps};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// The family's steps.
pub(crate) fn steps() -> Vec<StepDefinition> {
    steps![
        has_card,
        has_card_with,
        has_no_card,
        shared_network,
        connected,
        not_connected,
        port_leads,
        free_port_leads,
        only_through_socks,
        unplug,
        plug,
        gets_address,
        port_answers,
        reaches,
        no_packet_left
    ]
}

/// Adds a card with a network of the machine's own.
#[step(en = "the machine has a network card", zh = "机器有一块网卡")]
fn has_card(world: &mut World) -> Result<(), Failure> {
    add(world, "")
}

/// Adds a card with a network of the machine's own and settings of `--net`, as a table of names and values.
#[step(en = "the machine has a network card with:", zh = "机器有一块网卡,设置如下:")]
fn has_card_with(world: &mut World, settings: Table) -> Result<(), Failure> {
    let mut text = String::new();
    for (name, value) in settings.pairs()? {
        text.push_str(&format!(",{name}={value}"));
    }
    add(world, &text)
}

fn add(world: &mut World, settings: &str) -> Result<(), Failure> {
    let folder = world.folder.display().to_string();
    let machine = current(world)?;
    let file = format!("{folder}/{}.pcap", machine.name());
    // One file for each machine: its first card's.
    let capture = match machine.capture() {
        Some(_) => String::new(),
        None => format!(",capture={file}"),
    };
    machine.add("net", &format!("user{settings}{capture}"));
    machine.captured_in(file.into());
    Ok(())
}

/// Leaves the machine without a card.
#[step(en = "the machine has no network card", zh = "机器没有网卡")]
fn has_no_card(world: &mut World) -> Result<(), Failure> {
    current(world)?.set("net", "none");
    Ok(())
}

/// Makes a network of the host for several machines: the subnet's first address is its router, which gives machines
/// theirs. Needs CAP_NET_ADMIN.
#[step(en = "a network {string} with subnet {cidr}", zh = "一个网络 {string},网段为 {cidr}")]
fn shared_network(world: &mut World, name: &str, subnet: &str) -> Result<(), Failure> {
    let network = Network::make(world, subnet)?;
    world.state::<Machines>().networks.insert(name.to_owned(), network);
    Ok(())
}

/// Adds a card that is connected to a network which a sentence made.
#[step(en = "the machine is connected to network {string}", zh = "机器接入网络 {string}")]
fn connected(world: &mut World, name: &str) -> Result<(), Failure> {
    let network = world.state::<Machines>().networks.get(name);
    let bridge = network.map(|network| network.name().to_owned()).ok_or_else(|| {
        Failure::Broken(format!(
            "there is no network \"{name}\"; make it first: `a network \"{name}\" with subnet 10.9.0.0/24`"
        ))
    })?;
    current(world)?.add("net", &format!("bridge={bridge}"));
    Ok(())
}

/// Leaves the machine without a card.
#[step(en = "the machine is connected to no network", zh = "机器不接网络")]
fn not_connected(world: &mut World) -> Result<(), Failure> {
    has_no_card(world)
}

fn lead(world: &mut World, from: u16, to: u16) -> Result<(), Failure> {
    let machine = current(world)?;
    if !machine.extend("net", &format!(",forward=tcp:{from}:{to}")) {
        return Err(Failure::Broken(format!(
            "machine \"{}\" has no network card; say `the machine has a network card` first",
            machine.name()
        )));
    }
    machine.led(from, to);
    Ok(())
}

/// Makes a port of the host lead to a port of the guest.
#[step(
    en = "host port {port} is forwarded to guest port {port}",
    zh = "宿主机端口 {port} 转发到客户机端口 {port}"
)]
fn port_leads(world: &mut World, from: u16, to: u16) -> Result<(), Failure> {
    lead(world, from, to)
}

/// Makes a port of the host that nobody uses lead to a port of the guest, and keeps its number under a name.
#[step(
    en = "a free host port {string} is forwarded to guest port {port}",
    zh = "宿主机的空闲端口 {string} 转发到客户机端口 {port}"
)]
fn free_port_leads(world: &mut World, name: &str, to: u16) -> Result<(), Failure> {
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let from = free.map_err(|error| Failure::broken("a free port", error))?.port();
    world.variables.set(name, from.to_string());
    lead(world, from, to)
}

/// Lets the machine's traffic out through a SOCKS server only: `[USER:PASSWORD@]HOST:PORT`.
#[step(
    en = "the machine reaches the outside only through the SOCKS proxy {string}",
    zh = "机器只能通过 SOCKS 代理 {string} 访问外部"
)]
fn only_through_socks(world: &mut World, proxy: &str) -> Result<(), Failure> {
    let machine = current(world)?;
    if !machine.extend("net", &format!(",socks={proxy}")) {
        machine.add("net", &format!("user,socks={proxy}"));
    }
    Ok(())
}

/// Pulls the cable of the first card of a machine that runs.
#[step(en = "I unplug the network cable", zh = "我拔掉网线")]
fn unplug(world: &mut World) -> Result<(), Failure> {
    link(world, "down")
}

/// Plugs the cable of the first card in again.
#[step(en = "I plug the network cable", zh = "我插上网线")]
fn plug(world: &mut World) -> Result<(), Failure> {
    link(world, "up")
}

fn link(world: &mut World, state: &str) -> Result<(), Failure> {
    let machine = current(world)?.address()?;
    let mut command = Command::new(&world.settings.kezhan);
    command.args(["net", "link", &machine, state]);
    let mut process = Process::start(world, command, "kezhan net link")?;
    if process.wait(world.deadline)?.success() {
        return Ok(());
    }
    Err(Failure::Broken(format!(
        "kezhan net link {machine} {state}: {}",
        process.output().trim_end()
    )))
}

/// Looks for an IPv4 address, other than the guest's own loopback, in the guest.
#[check(en = "the machine gets an address", zh = "机器获得地址", patience = "60 s")]
fn gets_address(world: &mut World) -> Result<(), Failure> {
    let last = run_line(world, "ip -4 addr | grep 'inet '")?;
    if last.output.lines().any(|line| line.contains("inet ") && !line.contains(" 127.")) {
        Ok(())
    } else {
        Err(Failure::mismatch("an address", crate::files::tail(&last.output)))
    }
}

/// How long a server may take to hang up on a connection that it did not want.
const HANGING_UP: Duration = Duration::from_millis(300);

/// Whether somebody in the guest answers at a port that the host leads to: takes a connection, and keeps it.
#[check(
    en = "port {port} of the machine answers",
    zh = "机器的端口 {port} 有应答",
    patience = "30 s"
)]
fn port_answers(world: &mut World, port: u16) -> Result<(), Failure> {
    let machine = current(world)?;
    machine.watch()?;
    let Some(from) = machine.leads_to(port) else {
        return Err(Failure::Broken(format!(
            "no host port leads to port {port} of the machine; say `a free host port \"p\" is forwarded to guest \
             port {port}`"
        )));
    };
    let refused = |seen: String| Failure::mismatch(format!("an answer at port {port}"), seen);
    let address = SocketAddr::from(([127, 0, 0, 1], from));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .map_err(|error| refused(error.to_string()))?;
    let set = stream.set_read_timeout(Some(HANGING_UP));
    set.map_err(|error| Failure::broken("connection", error))?;
    match stream.read(&mut [0; 64]) {
        Ok(1..) => Ok(()),
        // It waits for us to speak.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Ok(_) => Err(refused("the connection was closed at once".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Tries a TCP connection from the guest, with `nc` or with bash.
#[check(
    en = "the machine can reach {string} on port {port}",
    zh = "机器能访问 {string} 的端口 {port}"
)]
fn reaches(world: &mut World, host: &str, port: u16) -> Result<(), Failure> {
    if host.contains(['\'', '\n']) {
        return Err(Failure::Broken(format!("host {host:?} is none")));
    }
    let line = format!(
        "if command -v nc >/dev/null; then nc -w 5 '{host}' {port} </dev/null >/dev/null 2>&1; \
         else timeout 5 bash -c '</dev/tcp/{host}/{port}' 2>/dev/null; fi"
    );
    let last = run_line(world, &line)?;
    match last.status {
        Some(0) => Ok(()),
        _ => Err(Failure::mismatch(format!("a connection to {host}:{port}"), "none".to_owned())),
    }
}

/// Looks through all that the first card sent for other targets than those of the table: `ADDRESS` or `ADDRESS:PORT`.
/// What stays on the machine's own network (the router with its names and addresses, broadcasts) has not left.
#[check(en = "no packet left the machine except to:", zh = "除以下目标外机器没有发出任何数据包:")]
fn no_packet_left(world: &mut World, table: Table) -> Result<(), Failure> {
    let machine = current(world)?;
    let Some(file) = machine.capture() else {
        return Err(Failure::Broken("the machine's packets are not captured".to_owned()));
    };
    let bytes = std::fs::read(file).map_err(|error| Failure::broken(file.display(), error))?;
    let targets =
        frames::targets(&bytes).map_err(|error| Failure::broken(file.display(), error))?;
    let allowed: Vec<&str> = table.rows.iter().flatten().map(String::as_str).collect();
    let strange: Vec<String> = targets
        .iter()
        .filter(|target| !allowed.iter().any(|known| target.is(known)))
        .map(ToString::to_string)
        .collect();
    if strange.is_empty() {
        return Ok(());
    }
    Err(Failure::mismatch(
        format!("no packet except to {}", allowed.join(", ")),
        strange.join(", "),
    ))
}
