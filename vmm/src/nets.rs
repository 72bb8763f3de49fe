//! Networks: the back-ends behind `--net`, and the layers around them.
//!
//! ```text
//!   card ──► capture ──► loss ──► delay, rate ──► user network | tap
//! ```
//! The capture is what the guest sees; the network is what the bad line leaves of it.

use crate::{Guests, VmmError, control};
use kezhan_machine_spec::{Forward, ForwardFrom, ForwardProtocol, NetKind, NetSpec, NetVerdict};
use kezhan_net::middleware::{Capture, Line, LineRates, LossRates, Lossy};
use kezhan_net::policy::{Policy, Rule, Verdict};
use kezhan_net::user::{
    self, BootConfig, GatewayConfig, LanConfig, Limits, Listen, UserConfig, UserNetwork,
};
use kezhan_networks::{Store, Tap};
use kezhan_ports::Nic;
use kezhan_socks::{Access, ListenerConfig, ListenerHandle, Proxy, listen};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

/// A card's back-end.
pub(crate) struct Network {
    /// A port for each pair of the card's queues.
    pub(crate) ports: Vec<Box<dyn Nic>>,
    /// The user network, which ends when this is dropped.
    pub(crate) user: Option<UserNetwork>,
    /// The SOCKS server that reaches into it.
    pub(crate) socks: Option<ListenerHandle>,
}

/// Who the card belongs to, and which it is.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) machine: &'a str,
    pub(crate) index: usize,
    pub(crate) seed: Option<u64>,
    /// Its CPU is software.
    pub(crate) software: bool,
}

/// Datagrams in a second that a guest on a software CPU is given while it has other work: about as many as its programs
/// can take.
const DATAGRAMS: u32 = 12_000;

/// Opens what is behind a card.
///
/// # Errors
/// [`VmmError::Net`] that names the option.
pub(crate) fn open(spec: &NetSpec, owner: Owner<'_>) -> Result<Network, VmmError> {
    let failed = |reason: String| VmmError::Net { net: shown(spec), reason };
    let mut user = None;
    let ports = match &spec.kind {
        NetKind::User => {
            let (nic, network) =
                user::spawn(user_config(spec, owner).map_err(failed)?).map_err(told(spec))?;
            user = Some(network);
            vec![layers(Box::new(nic), spec, owner)?]
        }
        _ => taps(spec, owner)?
            .into_iter()
            .map(|tap| layers(Box::new(tap), spec, owner))
            .collect::<Result<_, _>>()?,
    };
    let socks =
        spec.socks_listen.map(|address| ingress(spec, address)).transpose().map_err(failed)?;
    Ok(Network { ports, user, socks })
}

/// The queues of the kernel's interface behind a card, none for one that has none.
fn taps(spec: &NetSpec, owner: Owner<'_>) -> Result<Vec<Tap>, VmmError> {
    let queues = spec.queues.unwrap_or(1);
    let opened = match &spec.kind {
        NetKind::Tap(name) => Tap::open(name, queues),
        NetKind::Bridge(name) => Tap::join(&Store::usual(), name, queues),
        NetKind::Macvtap(name) => {
            let mac = spec.mac_of(owner.machine, owner.index).bytes();
            Tap::macvtap(name, mac).map(|tap| vec![tap])
        }
        NetKind::User | NetKind::None => Ok(Vec::new()),
    };
    opened.map_err(told(spec))
}

/// A SOCKS server that reaches the machines of the card's network; without a network, this machine alone.
fn ingress(spec: &NetSpec, address: SocketAddr) -> Result<ListenerHandle, String> {
    if !address.ip().is_loopback() {
        return Err("socks-listen= serves without a password: give a loopback address".to_owned());
    }
    let folder = control::folder().map_err(|error| error.to_string())?;
    let guests = match &spec.network {
        Some(network) => Guests::of_network(folder, network),
        None => Guests::of_process(folder, std::process::id()),
    };
    TcpListener::bind(address)
        .and_then(|socket| listen(socket, ListenerConfig::new(Access::Open), Box::new(guests)))
        .map_err(|error| format!("socks-listen={address}: {error}; give another address or port"))
}

/// An error with the option before it.
fn told<E: std::fmt::Display>(spec: &NetSpec) -> impl FnOnce(E) -> VmmError {
    let net = shown(spec);
    move |error| VmmError::Net { net, reason: error.to_string() }
}

/// What a user network is made from.
fn user_config(spec: &NetSpec, owner: Owner<'_>) -> Result<UserConfig, String> {
    let lan = spec.network.as_deref().map(|network| lan(network, owner.machine)).transpose()?;
    let egress = spec.socks.as_deref().map(proxy).transpose()?;
    let mac = spec.mac_of(owner.machine, owner.index).bytes();
    let mut gateway = GatewayConfig::usual(mac);
    if let Some(mtu) = spec.mtu {
        gateway.mtu = mtu;
    }
    let verdict = |verdict| match verdict {
        NetVerdict::Allow => Verdict::Allow,
        NetVerdict::Deny => Verdict::Deny,
    };
    let mut rules = Vec::new();
    for rule in &spec.rules {
        let read = Rule::parse(verdict(rule.verdict), &rule.about);
        rules.push(read.map_err(|error| format!("{}={}: {error}", rule.verdict, rule.about))?);
    }
    Ok(UserConfig {
        name: format!("user-net{}", owner.index),
        gateway,
        policy: Policy::new(rules, verdict(spec.default)),
        egress,
        lan,
        boot: spec.tftp.clone().map(|folder| BootConfig { folder, file: spec.bootfile.clone() }),
        resolvers: spec.resolvers.clone(),
        forwards: spec.forwards.iter().map(forward).collect(),
        limits: Limits {
            flows: spec.flows,
            datagrams: owner.software.then_some(DATAGRAMS),
            ..Limits::default()
        },
    })
}

/// How a machine joins a named network: by a socket in the person's own runtime folder.
fn lan(network: &str, machine: &str) -> Result<LanConfig, String> {
    let folder = Store::usual().own_folder(control::NETWORKS).map_err(|error| error.to_string())?;
    // A machine whose name is no label (RFC 1123 §2.1) is there without one.
    let label = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let name = if machine.len() < 64 && machine.chars().all(label) { machine } else { "" };
    Ok(LanConfig { socket: folder.join(network), name: name.to_owned() })
}

/// `[USER:PASSWORD@]HOST:PORT`, with or without `socks5://` in front.
fn proxy(text: &str) -> Result<Proxy, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("socks5://{text}") };
    url.parse().map_err(|error| format!("socks=: {error}"))
}

/// The description as it may be shown: without what may be a password.
fn shown(spec: &NetSpec) -> String {
    let without_user = |proxy: &String| match proxy.rsplit_once('@') {
        Some((_, server)) => server.to_owned(),
        None => proxy.clone(),
    };
    NetSpec { socks: spec.socks.as_ref().map(without_user), ..spec.clone() }.to_string()
}

/// A forward as the network takes it.
pub(crate) fn forward(given: &Forward) -> user::Forward {
    let listen = match (&given.from, given.protocol) {
        (ForwardFrom::Unix(path), _) => Listen::Unix(path.clone()),
        (ForwardFrom::Port(address), ForwardProtocol::Tcp) => Listen::Tcp(*address),
        (ForwardFrom::Port(address), ForwardProtocol::Udp) => Listen::Udp(*address),
    };
    user::Forward { listen, guest: given.guest, port: given.to }
}

/// Puts the layers that were asked for around a port.
fn layers(
    mut port: Box<dyn Nic>,
    spec: &NetSpec,
    owner: Owner<'_>,
) -> Result<Box<dyn Nic>, VmmError> {
    let rates = LineRates { delay: spec.delay.time(), rate: spec.rate.map(|rate| rate.bits()) };
    if rates != LineRates::default() {
        port = Box::new(Line::new(port, rates).map_err(told(spec))?);
    }
    let loss = spec.loss.of_a_million();
    if loss != 0 {
        let seed = owner.seed.unwrap_or_else(|| since_1970().as_nanos() as u64);
        let losses = LossRates { transmit: loss, receive: loss };
        port = Box::new(Lossy::new(port, losses, seed.wrapping_add(owner.index as u64)));
    }
    if let Some(path) = &spec.capture {
        let file = File::create(path).map_err(told(spec))?;
        let capture = Capture::new(port, Box::new(file), Box::new(since_1970));
        port = Box::new(capture.map_err(told(spec))?);
    }
    Ok(port)
}

fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(text: &str) -> Result<Network, VmmError> {
        open(&text.parse().unwrap(), Owner { machine: "m", index: 0, seed: None, software: true })
    }

    #[test]
    fn a_user_network_has_a_link_and_ends_with_its_machine() {
        let network = opened("user,mtu=9000,default=deny,allow=deb.example:443").unwrap();
        let [port] = &network.ports[..] else { panic!("one pair") };
        assert!(port.link_up());
        assert_eq!(port.info().mtu, 9000);
        network.user.unwrap().stop();
        assert!(!port.link_up());
    }

    #[test]
    fn what_is_wrong_is_named_with_the_option() {
        for text in [
            "user,allow=a..b",
            "user,capture=/no/folder/file",
            "user,forward=unix:/no/x:1",
            "user,socks=http://127.0.0.1:1",
            "user,tftp=/no/folder",
            "tap=no-such-tap",
            "bridge=no-such-bridge",
            "macvtap=no-such",
        ] {
            let error = opened(text).err().unwrap();
            assert!(error.to_string().starts_with(&format!("--net {text}")), "{error}");
            assert_eq!(error.status(), 2);
        }
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let error = opened("user,socks=me:secret@[::1").err().unwrap().to_string();
        assert!(error.starts_with("--net user,socks=[::1") && !error.contains("secret"), "{error}");
        opened("user,socks=me:secret@127.0.0.1:9").unwrap();
        opened("user,socks=socks5://127.0.0.1:9").unwrap();
    }

    #[test]
    fn layers_keep_what_the_network_is() {
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("all.pcap");
        let text = format!("user,loss=1%,delay=1ms,rate=1gbit,capture={}", capture.display());
        let network = opened(&text).unwrap();
        assert_eq!(network.ports[0].info().mtu, 1500);
        assert_eq!(std::fs::metadata(capture).unwrap().len(), 24);
    }
}
