//! A machine's door, as its clients see it.

use super::*;
use crate::Guests;
use crate::events::EventQueue;
use kezhan_control::Client;
use kezhan_net::user::{UserConfig, UserNic, spawn};
use kezhan_ports::nic::{Nic, Packet, Transmit};
use kezhan_socks::{Outbound, Target};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;

struct Inn {
    folder: tempfile::TempDir,
    cards: Arc<Vec<Card>>,
    control: Control,
    orders: Arc<Orders>,
}

fn inn() -> Inn {
    let folder = tempfile::tempdir().unwrap();
    let (_nic, network) = spawn(UserConfig::usual([2, 0, 0, 0, 0, 1])).unwrap();
    let cards = Arc::new(vec![Card { index: 1, name: Some("lan".to_owned()), network }]);
    let door = Door::open(folder.path(), "web").unwrap();
    let orders = Arc::new(Orders::new(Arc::new(EventQueue::new().unwrap())));
    let asked = Asked { cards: Arc::downgrade(&cards), orders: Arc::downgrade(&orders) };
    let control = Control::open(door, asked).unwrap();
    Inn { folder, cards, control, orders }
}

fn refused(client: &mut Client, request: &Request) -> String {
    client.order(request).unwrap_err().to_string()
}

#[test]
fn forwards_come_and_go_while_the_machine_runs() {
    let inn = inn();
    let mut client = Client::find(inn.folder.path(), "web").unwrap();
    let cards = Reply::Cards {
        cards: vec![CardState {
            card: 1,
            network: Some("lan".to_owned()),
            guest: "10.0.2.15".parse().unwrap(),
        }],
    };
    assert_eq!(client.ask(&Request::Cards).unwrap(), cards);
    let forward: Forward = "tcp:127.0.0.1:0:80".parse().unwrap();
    let added = client.order(&Request::AddForward { card: 1, forward }).unwrap();
    let Reply::Forwards { forwards } = added else { panic!("{added:?}") };
    let [forward] = &forwards[..] else { panic!("one forward") };
    let ForwardFrom::Port(at) = forward.from else { panic!("a port") };
    TcpStream::connect(at).unwrap();
    let listed = client.order(&Request::Forwards { card: 1 }).unwrap();
    assert_eq!(listed, Reply::Forwards { forwards: forwards.clone() });
    let taken = Request::AddForward { card: 1, forward: forward.clone() };
    assert!(refused(&mut client, &taken).contains("cannot listen"));
    let remove = Request::RemoveForward { card: 1, forward: forward.clone() };
    assert_eq!(client.order(&remove).unwrap(), Reply::Done);
    TcpStream::connect(at).unwrap_err();
    assert!(refused(&mut client, &remove).contains("none like it"));
    assert!(refused(&mut client, &Request::Forwards { card: 0 }).contains("card 0: there is none"));
}

#[test]
fn the_cable_is_pulled_and_figures_are_told() {
    let inn = inn();
    let mut client = Client::find(inn.folder.path(), "web").unwrap();
    assert_eq!(client.ask(&Request::SetLink { card: 1, up: false }).unwrap(), Reply::Done);
    let reply = client.ask(&Request::Report { card: 1 }).unwrap();
    assert_eq!(reply, Reply::Report { report: Box::default() });
}

#[test]
fn a_machine_that_ends_waits_for_no_client() {
    let Inn { folder, cards, control, .. } = inn();
    let mut client = Client::find(folder.path(), "web").unwrap();
    drop(control);
    drop(Arc::into_inner(cards).unwrap());
    client.ask(&Request::Cards).unwrap_err();
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn what_is_no_message_ends_only_its_client() {
    let inn = inn();
    let path = inn.folder.path().join(format!("web.{}", std::process::id()));
    for junk in [&b"\xff\xff\xff\xffx"[..], b"\0\0\0\x02[]", b"GET / HTTP/1.0\r\n\r\n"] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(junk).unwrap();
        // The reset is what a socket with unread bytes ends with.
        let end = stream.read(&mut [0; 1]);
        assert!(
            end.map_or_else(|error| error.kind() == io::ErrorKind::ConnectionReset, |n| n == 0)
        );
    }
    Client::find(inn.folder.path(), "web").unwrap();
}

#[test]
fn a_command_is_the_drivers_and_its_outcome_the_reply() {
    let inn = inn();
    let orders = inn.orders.clone();
    let driver = std::thread::spawn(move || {
        loop {
            if let [order] = &orders.take()[..] {
                assert_eq!(order.command.to_string(), "balloon 256M");
                return order.answer(Ok("so be it".to_owned()));
            }
            std::thread::yield_now();
        }
    });
    let mut client = Client::find(inn.folder.path(), "web").unwrap();
    assert!(refused(&mut client, &Request::Command { line: "fly".to_owned() }).contains("no such"));
    let said = client.order(&Request::Command { line: "balloon 256M".to_owned() }).unwrap();
    assert_eq!(said, Reply::Said { text: "so be it".to_owned() });
    driver.join().unwrap();
}

/// A guest that sends each datagram back: with both ends exchanged the sums stay what they are.
fn echo(mut nic: UserNic, stop: &AtomicBool) {
    let mut frame = [0; 2048];
    while !stop.load(Ordering::SeqCst) {
        let Some(received) = nic.receive(&mut frame) else {
            std::thread::yield_now();
            continue;
        };
        // Ethernet, IPv4 and UDP addresses (RFC 791 §3.1, RFC 768).
        for (here, there, length) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
            for byte in 0..length {
                frame.swap(here + byte, there + byte);
            }
        }
        assert_eq!(nic.transmit(&frame[..received.length], Packet::default()), Transmit::Taken);
    }
}

#[test]
fn datagrams_reach_a_guest_by_its_name_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (nic, network) = spawn(UserConfig::usual([2, 0, 0, 0, 0, 1])).unwrap();
    let cards = Arc::new(vec![Card { index: 0, name: Some("lan".to_owned()), network }]);
    let door = Door::open(folder.path(), "web").unwrap();
    let asked = Asked { cards: Arc::downgrade(&cards), orders: Weak::new() };
    let control = Control::open(door, asked).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| echo(nic, &stop));
        let guests = Guests::of_network(folder.path().to_owned(), "lan");
        let mut datagrams = guests.associate().unwrap();
        let target = |host: &str| format!("{host}:7").parse::<Target>().unwrap();
        let mut buffer = [0; 64];
        datagrams.send(&target("nobody"), b"lost");
        assert!(datagrams.sources().is_empty() && datagrams.receive(&mut buffer).is_none());
        for (host, payload) in [("web", b"one"), ("web.kezhan.internal", b"two")] {
            datagrams.send(&target(host), payload);
            let (from, length) = loop {
                if let Some(received) = datagrams.receive(&mut buffer) {
                    break received;
                }
                std::thread::yield_now();
            };
            assert_eq!(&buffer[..length], payload);
            assert_eq!(from.socket_address(), Some("10.0.2.15:7".parse().unwrap()));
        }
        let forwards = || cards[0].network.forwards().unwrap();
        let all = forwards();
        let Listen::Udp(at) = all[0].1.listen else { panic!("{all:?}") };
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"in", at).unwrap();
        drop(datagrams);
        // They end with their client, whose end is heard a little later.
        while !forwards().is_empty() {
            std::thread::yield_now();
        }
        // The two that came in by the ways; the stranger's did not.
        assert_eq!(cards[0].network.report().unwrap().counts.received.0, 2);
        stop.store(true, Ordering::SeqCst);
    });
    drop(control);
}
