use super::*;

#[test]
fn a_card_reads_as_it_is_written() {
    for text in [
        "user",
        "none",
        "bridge=lan,queues=4",
        "macvtap=eth0",
        "tap=tap0,card=e1000,mac=52:54:00:12:34:56,mtu=9000,capture=a.pcap",
        "bridge=br0,loss=0.05%,delay=20ms,rate=100mbit",
        "user,forward=tcp:127.0.0.1:2222:22,forward=udp:[::1]:5300:53,forward=unix:/run/s:80",
        "user,forward=tcp:[::1]:2222:[fd6b:7a68:616e::15]:22,forward=unix:/s:[fe80::1]:80",
        "user,allow=deb.example:443,deny=10.0.0.0/8,default=deny,socks=127.0.0.1:1080",
        "user,resolver=9.9.9.9:53,resolver=[::1]:5353",
        "user,socks-listen=127.0.0.1:1081,network=lan",
        "user,tftp=/srv/tftp,bootfile=sub/pxelinux.0",
        "user,default=deny,flows=100",
    ] {
        assert_eq!(text.parse::<NetSpec>().unwrap().to_string(), text);
    }
}

#[test]
fn a_forward_without_an_address_listens_on_the_loopback_one() {
    let net: NetSpec = "user,forward=tcp:2222:22".parse().unwrap();
    let from = ForwardFrom::Port("127.0.0.1:2222".parse().unwrap());
    assert_eq!(
        net.forwards,
        [Forward { protocol: ForwardProtocol::Tcp, from, guest: None, to: 22 }]
    );
}

#[test]
fn what_is_wrong_is_named_with_the_option() {
    for text in [
        "",
        "usr",
        "tap=",
        "tap=a/b",
        "bridge=a-name-that-is-too-long",
        "user,mac=1:2:3:4:5:6",
        "user,mac=52:54:00:12:34:56:78",
        "user,mac=01:00:5e:00:00:01",
        "user,mtu=67",
        "user,mtu=65536",
        "user,loss=5",
        "user,loss=100.1%",
        "user,loss=.5%",
        "user,delay=11s",
        "user,delay=5",
        "user,rate=0mbit",
        "user,rate=10M",
        "user,forward=tcp:22",
        "user,forward=tcp:2222:0",
        "user,forward=sctp:1:2",
        "user,forward=tcp:nowhere:1:2",
        "user,forward=tcp:1:[10.0.2.15]:2",
        "user,default=maybe",
        "user,card=ne2000",
        "user,colour=red",
        "user,resolver=dns.example",
        "user,capture=",
        "user,socks-listen=here",
        "tap=t,forward=tcp:1:2",
        "tap=t,tftp=/srv",
        "tap=t,flows=1",
        "user,flows=many",
        "user,queues=2",
        "tap=t,queues=17",
        "tap=t,queues=0",
        "macvtap=eth0,queues=2",
        "bridge=b,card=e1000,queues=2",
        "bridge=b,capture=f,queues=2",
        "user,bootfile=a",
        "bridge=b,default=deny",
        "none,mtu=1500",
    ] {
        let error = text.parse::<NetSpec>().unwrap_err().to_string();
        assert!(error.starts_with("--net '"), "{text}: {error}");
    }
}

#[test]
fn values_are_what_they_say() {
    let net: NetSpec = "user,loss=0.05%,delay=1500us,rate=2gbit".parse().unwrap();
    assert_eq!(net.loss.of_a_million(), 500);
    assert_eq!(net.delay.time().as_micros(), 1500);
    assert_eq!(net.rate.map(BitRate::bits), Some(2_000_000_000));
    assert_eq!("100%".parse::<Loss>().unwrap().of_a_million(), 1_000_000);
}

#[test]
fn an_address_is_made_from_the_machines_name_and_is_a_stations_own() {
    let net = NetSpec::of(NetKind::User);
    let made = net.mac_of("web", 0);
    assert_eq!(made, net.mac_of("web", 0));
    assert_ne!(made, net.mac_of("web", 1));
    assert_ne!(made, net.mac_of("db", 0));
    assert_eq!(made.bytes()[0] & 3, 2, "a station's, locally administered");
    let given: NetSpec = "user,mac=52:54:00:12:34:56".parse().unwrap();
    assert_eq!(given.mac_of("web", 0).to_string(), "52:54:00:12:34:56");
}
