//! Guests on one named network.

use crate::guest::{Guest, PATIENCE};
use crate::udp::resolve;
use kezhan_net::user::{LanConfig, UserConfig, UserNetwork, UserNic, spawn};
use smoltcp::socket::tcp;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

fn machine(folder: &Path, name: &str, number: u8) -> (Guest<UserNic>, UserNetwork) {
    let mac = [2, 0, 0, 0, 1, number];
    let lan = LanConfig { socket: folder.join("office"), name: name.to_owned() };
    let (nic, network) = spawn(UserConfig { lan: Some(lan), ..UserConfig::usual(mac) }).unwrap();
    let [.., last] = network.guest_address().octets();
    (Guest::at(nic, 1500, (mac, last)), network)
}

fn serve(socket: &mut tcp::Socket<'_>) {
    if !socket.is_open() {
        socket.listen(7).unwrap();
    }
    if socket.can_recv() && socket.can_send() {
        let bytes = socket.recv(|part| (part.len(), part.to_vec())).unwrap();
        assert_eq!(socket.send_slice(&bytes).unwrap(), bytes.len());
    }
    if !socket.may_recv() && socket.may_send() {
        socket.close();
    }
}

/// A guest that sends back what it gets at port 7, one connection after the other, until it is told to stop.
fn echo(mut guest: Guest<UserNic>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let handles = [(); 4].map(|()| guest.add_tcp(64 * 1024));
        guest.until("the stop", |guest| {
            handles.iter().for_each(|handle| serve(guest.tcp(*handle)));
            stop.load(Ordering::SeqCst)
        });
    })
}

/// Asks for a name until it has an address.
fn find(guest: &mut Guest<UserNic>, name: &str) -> IpAddr {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(ip) = resolve(guest, name) {
            return ip;
        }
        assert!(Instant::now() < end, "{name} does not appear");
    }
}

fn talk(guest: &mut Guest<UserNic>, to: IpAddr) {
    let handle = guest.connect(SocketAddr::new(to, 7), 64 * 1024);
    let bytes: Vec<u8> = (0..50_000_u32).map(|index| (index / 3) as u8).collect();
    guest.send(handle, &bytes[..20_000]);
    assert!(guest.receive(handle, 20_000) == bytes[..20_000]);
    guest.tcp(handle).close();
    guest.until("the end", |guest| !guest.tcp(handle).may_recv());
}

#[test]
fn guests_find_each_other_by_name_also_when_the_switch_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut one, network_one) = machine(folder.path(), "one", 1);
    let (two, network_two) = machine(folder.path(), "two", 2);
    let (mut three, _network_three) = machine(folder.path(), "three", 3);
    let addresses = [&network_one, &network_two, &_network_three].map(UserNetwork::guest_address);
    assert_eq!(addresses.map(|ip| ip.octets()[3]), [15, 16, 17]);
    let server = echo(two, &stop);
    for guest in [&mut one, &mut three] {
        let to = find(guest, "two.kezhan.internal");
        assert_eq!(to, IpAddr::V4(addresses[1]));
        talk(guest, to);
    }
    // The first was the switch.
    network_one.stop();
    talk(&mut three, addresses[1].into());
    // A new one takes the place that is free, and the name of a machine that is gone is nobody's.
    let (mut four, network_four) = machine(folder.path(), "four", 4);
    assert_eq!(network_four.guest_address(), addresses[0]);
    let to = find(&mut four, "two");
    talk(&mut four, to);
    assert_eq!(resolve(&mut four, "one.kezhan.internal"), None);
    stop.store(true, Ordering::SeqCst);
    server.join().unwrap();
}
