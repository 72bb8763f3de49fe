//! A guest that is to leave through a SOCKS server leaves through it or not at all.
//!
//! ```text
//!   guest ── names, TCP, UDP, ICMP ──► network ──► SOCKS server 127.0.0.1 (the test)
//!                                         └──► anything else that leaves: counted by the kernel
//! ```
//! In a network namespace whose only way out leads nowhere. A netfilter table sees every packet that any process
//! in there sends by any interface, and counts those that are neither to nor from the SOCKS server.

use crate::guest::Transcript;
use crate::namespace;
use crate::networks::{command, has, serve_as_proxy};
use crate::systems::succeeds;
use libtest_mimic::{Failed, Trial};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};

/// What the guest asks for: a name, another resolver, what the proxy knows, and that again.
const WORDS: &str = "kezhan.ask=inn.test kezhan.resolver=192.0.2.53 kezhan.ping=192.0.2.9 \
                     kezhan.fetch=192.0.2.7:80,192.0.2.7:80";

pub fn trials() -> Vec<Trial> {
    let root = rustix::process::geteuid().is_root();
    vec![
        // Namespaces need root.
        Trial::test(
            "a guest behind a SOCKS server leaks nothing, also when the server dies",
            || namespace::within(nothing_leaks),
        )
        .with_ignored_flag(!root),
    ]
}

/// Serves one connection that is granted, then is gone.
fn serve_once(proxy: TcpListener) -> JoinHandle<()> {
    thread::spawn(move || {
        for client in proxy.incoming().flatten() {
            if serve_as_proxy(client).unwrap_or(false) {
                return;
            }
        }
    })
}

fn run(program: &str, words: &str) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.args(words.split(' '));
    succeeds(command)
}

/// Counts what is sent, but for the proxy's connection.
fn watch(proxy: SocketAddr) -> Result<(), Failed> {
    let port = proxy.port();
    run("ip", "link add outside type bridge")?;
    run("ip", "addr add 192.0.2.1/24 dev outside")?;
    run("ip", "link set outside up")?;
    run("ip", "route add default via 192.0.2.254")?;
    run("nft", "add table inet watch")?;
    run("nft", "add chain inet watch out { type filter hook output priority 0 ; }")?;
    run("nft", &format!("add rule inet watch out ip daddr 127.0.0.1 tcp dport {port} accept"))?;
    run("nft", &format!("add rule inet watch out ip saddr 127.0.0.1 tcp sport {port} accept"))?;
    // The kernel's own are others: the groups that it joins when an interface comes up.
    run("nft", "add rule inet watch out meta l4proto { tcp, udp, icmp } counter")?;
    run("nft", "add rule inet watch out meta l4proto ipv6-icmp accept")?;
    run("nft", "add rule inet watch out meta l4proto igmp accept")?;
    run("nft", "add rule inet watch out counter")
}

/// How many packets were sent past the proxy.
fn counted() -> Result<u64, Failed> {
    let done = Command::new("nft").args(["list", "chain", "inet", "watch", "out"]).output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let figures = text.split("counter packets ").skip(1);
    let figures = figures.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    match figures.collect::<Vec<_>>()[..] {
        [known, other] => Ok(known + other),
        _ => Err(format!("no two counters in\n{text}").into()),
    }
}

fn guest(folder: &Path, words: &str, net: &str) -> Result<Transcript, Failed> {
    let mut command = command(words, &["--net", net])?;
    command.env("KEZHAN_RUNTIME_DIR", folder);
    Transcript::of(command)
}

fn nothing_leaks(folder: &Path) -> Result<(), Failed> {
    let proxy = TcpListener::bind("127.0.0.1:0")?;
    let address = proxy.local_addr()?;
    watch(address)?;
    let server = serve_once(proxy);
    let seen = guest(folder, WORDS, &format!("user,socks={address}"))?;
    seen.assert_clean("network")?;
    has(&seen, "fetched", "by way of the proxy")?;
    // The second time nobody was there.
    let (fetched, failed) = (seen.all("by way of the proxy"), seen.all("no answer"));
    assert_eq!((fetched, failed), (1, 2), "{seen:?}");
    assert!(server.is_finished(), "the proxy is still there");
    assert_eq!(counted()?, 0, "packets left past the proxy");
    // The watch sees what leaves when nothing holds it back.
    let seen = guest(folder, "kezhan.resolver=192.0.2.53", "user")?;
    seen.assert_clean("network")?;
    assert!(counted()? > 0, "the watch sees nothing");
    Ok(())
}
