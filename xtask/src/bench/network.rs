//! A guest's way to the host and back: ours beside QEMU's user network and passt, both with QEMU's software CPU.
//!
//! ```text
//!   network namespace: iperf3 -s, answers serve ◄── user network ◄── guest: scripts/iperf
//! ```
//! The three run one after the other in each round, each in a namespace of its own with an interface that leads
//! nowhere: passt takes its addresses from one. Ratios are ours against theirs: above 1 is more.

use super::{folder, kezhan, qemu_for};
use crate::{Outcome, guests, place, program};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// What the guest's script names, and what is counted.
const PARTS: [(&str, &str); 5] = [
    ("up", "Mbits/sec"),
    ("down", "Mbits/sec"),
    ("udp-up", "Mbits/sec"),
    ("udp-down", "Mbits/sec"),
    ("answers", "answers/sec"),
];

/// Starts the host's half, then passt when a socket is named, then the guest.
const SCRIPT: &str = r#"
    answers=$1 socket=$2; shift 2
    started=
    trap 'kill $started' EXIT
    ip link set lo up && ip link add outside type bridge && ip link set outside up || exit
    ip addr add 192.0.2.1/24 dev outside && ip route add default via 192.0.2.254 || exit
    iperf3 --server >/dev/null 2>&1 &
    started="$started $!"
    "$answers" serve 5202 &
    started="$started $!"
    if [ -n "$socket" ]; then
        rm -f "$socket"
        passt --foreground --quiet --runas 0:0 --socket "$socket" --tcp-ports none --udp-ports none >/dev/null 2>&1 &
        started="$started $!"
        until [ -S "$socket" ]; do sleep 0.05; done
    fi
    "$@" </dev/null"#;

/// Who is measured.
const NAMES: [&str; 3] = ["kezhan", "QEMU", "passt"];

/// A guest's figures, by part.
type Figures = BTreeMap<&'static str, f64>;

/// What a guest is started from.
struct Stage {
    kernel: PathBuf,
    userland: PathBuf,
    socket: PathBuf,
}

pub(super) fn measure(rounds: usize) -> Outcome {
    let stage = Stage {
        kernel: guests::ensure("cloud")?.join("vmlinuz"),
        userland: guests::ensure("iperf")?,
        socket: folder()?.join("passt"),
    };
    let mut all: [Vec<Figures>; 3] = Default::default();
    for _ in 0..rounds {
        for (name, figures) in NAMES.into_iter().zip(&mut all) {
            figures.push(stage.run(name)?);
        }
    }
    for (part, unit) in PARTS {
        let [ours, qemu, passt] = all.each_ref().map(|rounds| middle(rounds, part));
        println!(
            "network, {part}: kezhan {ours:.0} {unit}, QEMU {qemu:.0}, passt {passt:.0}, ratios {:.2} and {:.2}",
            ours / qemu,
            ours / passt
        );
    }
    Ok(())
}

fn middle(rounds: &[Figures], part: &str) -> f64 {
    let mut all: Vec<f64> =
        rounds.iter().filter_map(|figures| figures.get(part).copied()).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Stage {
    fn run(&self, name: &str) -> Outcome<Figures> {
        let mut guest = match name {
            "kezhan" => {
                kezhan("--engine soft --memory 256M --timeout 180 --net user,allow=127.0.0.1")
            }
            "QEMU" => {
                qemu_for(180, "-accel tcg -m 256 -netdev user,id=n -device virtio-net-pci,netdev=n")
            }
            _ => {
                let mut qemu = qemu_for(180, "-accel tcg -m 256 -device virtio-net-pci,netdev=n");
                let socket = self.socket.display();
                let way = format!("stream,id=n,server=off,addr.type=unix,addr.path={socket}");
                qemu.args(["-netdev", &way]);
                qemu
            }
        };
        let option =
            |short: &str| if name == "kezhan" { format!("--{short}") } else { format!("-{short}") };
        guest.arg(option("kernel")).arg(&self.kernel);
        guest.arg(option("initrd")).arg(self.userland.join("initrd"));
        guest.arg(option("append")).arg("console=ttyS0 quiet kezhan.run=iperf");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", SCRIPT, "sh"]);
        command.arg(self.userland.join("root/bin/answers"));
        command.arg(if name == "passt" { self.socket.as_os_str() } else { "".as_ref() });
        command.arg(guest.get_program()).args(guest.get_args());
        let text = program::text(command.current_dir(place::root()))?;
        let figures = read(&text);
        if figures.len() < PARTS.len() {
            return Err(format!("{name}: not every part has a figure in\n{text}").into());
        }
        Ok(figures)
    }
}

/// The figures between the script's marks.
fn read(text: &str) -> Figures {
    let (mut figures, mut part) = (Figures::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("== ") {
            part = PARTS.iter().find(|(known, _)| *known == name);
        } else if let Some((name, unit)) = part
            && let Some(before) = line.split(unit).next().filter(|before| before.len() < line.len())
            && let Some(Ok(figure)) = before.split_whitespace().last().map(str::parse)
        {
            figures.insert(name, figure);
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_the_marks() {
        let text = "noise\n== up\r\n[  5]   0.00-4.00   sec   312 MBytes   654 Mbits/sec   receiver\r\n\
                    == udp-up\n[ 5] 0.00-4.00 sec 5 MBytes 10.5 Mbits/sec 0.1 ms 0/9 (0%) receiver\n\
                    == answers\n1234 answers/sec\n== end\n";
        let figures = read(text);
        let wanted = [("answers", 1234.0), ("udp-up", 10.5), ("up", 654.0)];
        assert_eq!(figures.into_iter().collect::<Vec<_>>(), wanted);
    }
}
