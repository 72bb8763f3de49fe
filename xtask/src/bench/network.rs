//! A guest's way to the host and back: ours beside QEMU's user network and passt, and on a bridge beside QEMU's tap;
//! QEMU with its software CPU.
//!
//! ```text
//!   network namespace: iperf3 -s, answers serve ◄── user network │ bridge ◄── guest: scripts/iperf
//! ```
//! They run one after the other in each round, each in a namespace of its own with an interface that leads
//! nowhere: passt takes its addresses from one. The bridge is one of `kezhan net`, for both. Ratios are ours against
//! theirs: above 1 is more.

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

/// Starts the host's half, then what the guest's network needs: passt when a socket is named, or a bridge.
const SCRIPT: &str = r#"
    answers=$1 kezhan=$2 way=$3; shift 3
    started=
    trap 'kill $started' EXIT
    ip link set lo up && ip link add outside type bridge && ip link set outside up || exit
    ip addr add 192.0.2.1/24 dev outside && ip route add default via 192.0.2.254 || exit
    iperf3 --server >/dev/null 2>&1 &
    started="$started $!"
    "$answers" serve 5202 &
    started="$started $!"
    case $way in
    user) ;;
    bridge)
        "$kezhan" net create lan --subnet 10.99.0.1/24 >/dev/null || exit
        trap 'kill $started; "$kezhan" net delete lan >/dev/null' EXIT
        ip tuntap add dev theirs mode tap vnet_hdr && ip link set theirs master kz-lan up || exit
        ;;
    *)
        rm -f "$way"
        passt --foreground --quiet --runas 0:0 --socket "$way" --tcp-ports none --udp-ports none >/dev/null 2>&1 &
        started="$started $!"
        until [ -S "$way" ]; do sleep 0.05; done
        ;;
    esac
    "$@" </dev/null"#;

/// Who is measured on a network of its own, and who on the bridge.
const ALONE: [&str; 3] = ["kezhan", "QEMU", "passt"];
const BRIDGED: [&str; 2] = ["kezhan", "QEMU"];

/// A guest's figures, by part.
type Figures = BTreeMap<&'static str, f64>;

/// What a guest is started from.
struct Stage {
    kernel: PathBuf,
    userland: PathBuf,
    /// Where passt listens, and what `kezhan net` keeps.
    socket: PathBuf,
    runtime: PathBuf,
}

pub(super) fn measure(rounds: usize) -> Outcome {
    let stage = Stage {
        kernel: guests::ensure("cloud")?.join("vmlinuz"),
        userland: guests::ensure("iperf")?,
        socket: folder()?.join("passt"),
        runtime: folder()?.join("runtime"),
    };
    for (title, names, bridge) in [("network", &ALONE[..], false), ("bridge", &BRIDGED[..], true)] {
        let mut all = vec![Vec::new(); names.len()];
        for _ in 0..rounds {
            for (name, figures) in names.iter().zip(&mut all) {
                figures.push(stage.run(name, bridge)?);
            }
        }
        show(title, names, &all);
    }
    Ok(())
}

fn show(title: &str, names: &[&str], all: &[Vec<Figures>]) {
    for (part, unit) in PARTS {
        let figures: Vec<f64> = all.iter().map(|rounds| middle(rounds, part)).collect();
        let told: Vec<String> = names
            .iter()
            .zip(&figures)
            .map(|(name, figure)| format!("{name} {figure:.0}"))
            .collect();
        let ratios: Vec<String> =
            figures.iter().skip(1).map(|theirs| format!("{:.2}", figures[0] / theirs)).collect();
        println!("{title}, {part}: {} {unit}, ratio {}", told.join(", "), ratios.join(" and "));
    }
}

fn middle(rounds: &[Figures], part: &str) -> f64 {
    let mut all: Vec<f64> =
        rounds.iter().filter_map(|figures| figures.get(part).copied()).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Stage {
    fn run(&self, name: &str, bridge: bool) -> Outcome<Figures> {
        let mut guest = self.guest(name, bridge);
        let dashes = if name == "kezhan" { "--" } else { "-" };
        guest.arg(format!("{dashes}kernel")).arg(&self.kernel);
        guest.arg(format!("{dashes}initrd")).arg(self.userland.join("initrd"));
        guest.arg(format!("{dashes}append")).arg("console=ttyS0 quiet kezhan.run=iperf");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", SCRIPT, "sh"]);
        command.arg(self.userland.join("root/bin/answers")).arg(place::kezhan());
        command.arg(match (name, bridge) {
            (_, true) => "bridge".as_ref(),
            ("passt", false) => self.socket.as_os_str(),
            (_, false) => "user".as_ref(),
        });
        command.arg(guest.get_program()).args(guest.get_args());
        command.env("KEZHAN_RUNTIME_DIR", &self.runtime);
        let text = program::text(command.current_dir(place::root()))?;
        let figures = read(&text);
        if figures.len() < PARTS.len() {
            return Err(format!("{name}: not every part has a figure in\n{text}").into());
        }
        Ok(figures)
    }

    fn guest(&self, name: &str, bridge: bool) -> Command {
        const TAP: &str = "tap,id=n,ifname=theirs,script=no,downscript=no";
        let net = match (name, bridge) {
            ("kezhan", false) => "user,allow=127.0.0.1".to_owned(),
            ("kezhan", true) => "bridge=lan".to_owned(),
            ("QEMU", false) => "user,id=n".to_owned(),
            (_, true) => TAP.to_owned(),
            (_, false) => {
                let socket = self.socket.display();
                format!("stream,id=n,server=off,addr.type=unix,addr.path={socket}")
            }
        };
        let mut guest = match name {
            "kezhan" => kezhan("--engine soft --memory 256M --timeout 180 --net"),
            _ => qemu_for(180, "-accel tcg -m 256 -device virtio-net-pci,netdev=n -netdev"),
        };
        guest.arg(net);
        guest
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
