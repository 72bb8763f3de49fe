//! Networks of machines that run: what is changed in them, what reaches into them, and what a killed one leaves.

use crate::desk::Desk;
use crate::guest::{Transcript, kezhan};
use crate::namespace;
use crate::networks::{command, fetch, has};
use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let root = rustix::process::geteuid().is_root();
    vec![
        Trial::test(
            "forwards come and go while a machine runs, and SOCKS reaches it by its name",
            reached_while_it_runs,
        ),
        Trial::test("a machine reaches another of its network by name", by_name),
        // Bridges need root.
        Trial::test("a machine reaches another of its bridge by name", || {
            namespace::within(by_name_on_a_bridge)
        })
        .with_ignored_flag(!root),
        Trial::test("machines that are killed leave nothing to the next command", || {
            namespace::within(killed)
        })
        .with_ignored_flag(!root),
    ]
}

/// A machine whose runtime folder is this one.
fn machine(folder: &Path, name: &str, words: &str, net: &str) -> Result<Command, Failed> {
    let words = format!("kezhan.name={name} {words}");
    let mut command = command(&words, &["--name", name, "--net", net])?;
    command.env("KEZHAN_RUNTIME_DIR", folder);
    Ok(command)
}

fn serving(folder: &Path, name: &str, net: &str) -> Result<Desk, Failed> {
    let mut desk = Desk::sit_down(machine(folder, name, "kezhan.serve=700", net)?)?;
    desk.wait_for("ready")?;
    Ok(desk)
}

/// `kezhan socks` on a port of its own, ended with this.
struct Socks(Child, String);

impl Socks {
    fn serve(folder: &Path, network: &str) -> Result<Socks, Failed> {
        let mut command = kezhan(&["socks", "--listen", "127.0.0.1:0", "--network", network])?;
        command.env("KEZHAN_RUNTIME_DIR", folder).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stderr.take().ok_or("no messages")?).read_line(&mut line)?;
        let address = line.trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
        Ok(Socks(child, address))
    }

    /// What curl gets through it; its status when that is not 0.
    fn get(&self, url: &str) -> Result<Result<String, i32>, Failed> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "60", "--socks5-hostname", &self.1, url]);
        let done = curl.output()?;
        Ok(match done.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            other => Err(other.unwrap_or(-1)),
        })
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reached_while_it_runs() -> Result<(), Failed> {
    /// curl could not connect through the proxy.
    const NO_PROXY_CONNECTION: i32 = 97;
    let folder = tempfile::tempdir()?;
    let mut desk = serving(folder.path(), "web", "user,network=inn")?;
    let added = namespace::net(folder.path(), "forward add web tcp:0:80")?;
    let port = added.split(':').nth(2).and_then(|port| port.parse().ok()).ok_or("no port")?;
    assert_eq!(fetch(port, "/bytes")?.len(), 700);
    assert_eq!(namespace::net(folder.path(), "forward list web")?, added);
    let remove = format!("forward remove web {}", added.trim_end());
    namespace::net(folder.path(), &remove)?;
    assert!(fetch(port, "/bytes").is_err(), "the forward is still there");
    let socks = Socks::serve(folder.path(), "inn")?;
    let bytes = "kezhan\n".repeat(100);
    for host in ["web", "web.kezhan.internal", "10.0.2.15"] {
        assert_eq!(socks.get(&format!("http://{host}/bytes"))?, Ok(bytes.clone()), "{host}");
    }
    for nobody in ["http://web:81/", "http://shop/", "http://127.0.0.1/"] {
        assert_eq!(socks.get(nobody)?, Err(NO_PROXY_CONNECTION), "{nobody}");
    }
    assert!(namespace::net(folder.path(), "report web")?.contains("from the guest"));
    is_jailed(desk.process(), "user-net0")?;
    socks.get("http://web/cgi-bin/end")?.map_err(|status| format!("curl: {status}"))?;
    desk.see_the_power_go_off()
}

/// The thread of this name has a filter of system calls (proc_pid_status(5)).
fn is_jailed(process: u32, name: &str) -> Result<(), Failed> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        if status.starts_with(&format!("Name:\t{name}\n")) {
            assert!(status.contains("Seccomp:\t2\n"), "{status}");
            return Ok(());
        }
    }
    Err(format!("no thread {name}").into())
}

/// The first machine serves, the second asks for it.
fn by_name() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let _web = serving(folder.path(), "web", "user,network=inn")?;
    let words = "kezhan.ask=web.kezhan.internal kezhan.fetch=web:80";
    let seen = Transcript::of(machine(folder.path(), "shop", words, "user,network=inn")?)?;
    seen.assert_clean("network")?;
    has(&seen, "lease", "address 10.0.2.16/24")?;
    has(&seen, "names", "10.0.2.15")?;
    has(&seen, "fetched", "404 Not Found")
}

fn by_name_on_a_bridge(folder: &Path) -> Result<(), Failed> {
    namespace::net(folder, "create lan --subnet 10.99.0.1/24")?;
    let web = serving(folder, "web", "bridge=lan")?;
    let words = "kezhan.ping=10.99.0.1 kezhan.ask=web kezhan.fetch=web:80";
    let seen = Transcript::of(machine(folder, "shop", words, "bridge=lan")?)?;
    seen.assert_clean("network")?;
    has(&seen, "ping", "3 packets received")?;
    has(&seen, "names", "Address: 10.99.0.")?;
    has(&seen, "fetched", "404 Not Found")?;
    drop(web);
    namespace::net(folder, "delete lan")?;
    nothing_is_left(folder)
}

fn nothing_is_left(folder: &Path) -> Result<(), Failed> {
    let left = namespace::leavings()?;
    if !left.is_empty() {
        return Err(format!("{left:?} is left").into());
    }
    for place in ["machines", "lan", "networks"] {
        for entry in fs::read_dir(folder.join(place)).into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".lock") {
                return Err(format!("{place}/{name} is left").into());
            }
        }
    }
    Ok(())
}

/// One machine on a network of its own, one on a bridge; both are killed as the kernel does it.
fn killed(folder: &Path) -> Result<(), Failed> {
    namespace::net(folder, "create lan --subnet 10.99.0.1/24")?;
    for (name, net) in [("web", "user,network=inn,forward=tcp:8080:80"), ("shop", "bridge=lan")] {
        let desk = serving(folder, name, net)?;
        let process = i32::try_from(desk.process()).ok().and_then(Pid::from_raw);
        kill_process(process.ok_or("no process")?, Signal::KILL)?;
        drop(desk);
    }
    let networks = namespace::net(folder, "list")?;
    assert!(networks.trim_end().ends_with("yes"), "the bridge has members:\n{networks}");
    let left = namespace::leavings()?;
    let ours =
        |name: &String| name == "kz-lan" || name.contains("kezhan-lan") || name == "kezhan-net";
    assert!(left.iter().all(ours), "{left:?}: more is left than the network");
    namespace::net(folder, "delete lan")?;
    nothing_is_left(folder)
}
