//! In network namespaces that the tests make: each test's thread has one of its own.

use super::*;
use crate::command::{NetCommand, Output, perform};
use crate::link::Links;
use kezhan_ports::nic::{Nic, Offloads, Packet, PartialChecksum, Segmentation, SegmentationKind};
use std::time::{Duration, Instant};

/// A namespace of this thread's own, and a runtime folder; `None`, and why, where that is not allowed.
fn namespace() -> Option<(tempfile::TempDir, Store)> {
    use nix::sched::{CloneFlags, unshare};
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("skipped: a network namespace cannot be made here: {error}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    Some((folder, store))
}

fn request(name: &str, subnet: Option<&str>) -> Request {
    let subnet = subnet.map(|text| text.parse().unwrap());
    Request { name: name.to_owned(), subnet, nat: true, dhcp: false }
}

fn names() -> Vec<String> {
    Links::open().unwrap().all().unwrap().into_iter().map(|link| link.name).collect()
}

#[test]
fn a_network_is_made_listed_and_deleted_without_a_trace() {
    let Some((_folder, store)) = namespace() else { return };
    let before = (names(), sysctl::forwards().unwrap());
    let made = create(&store, &request("lan", None)).unwrap();
    assert_eq!(made.subnet, "10.77.0.1/24".parse().unwrap());
    assert_eq!(made.bridge, "kz-lan");
    assert!(made.up && made.nat && sysctl::forwards().unwrap());
    assert_eq!(list(&store).unwrap(), [made]);
    let addresses = Links::open().unwrap().subnets().unwrap();
    assert!(addresses.iter().any(|(subnet, _)| subnet.to_string() == "10.77.0.1/24"));
    delete(&store, "lan").unwrap();
    assert_eq!((names(), sysctl::forwards().unwrap()), before);
    assert_eq!(list(&store).unwrap(), []);
    nft::add("lan", "10.77.0.1/24".parse().unwrap(), "kz-lan").expect("its rules are gone too");
}

#[test]
fn a_second_network_takes_the_next_subnet_and_inherits_forwarding() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("one", None)).unwrap();
    let two = create(&store, &request("two", None)).unwrap();
    assert_eq!(two.subnet.to_string(), "10.77.1.1/24");
    delete(&store, "one").unwrap();
    assert!(sysctl::forwards().unwrap());
    delete(&store, "two").unwrap();
    assert!(!sysctl::forwards().unwrap());
}

#[test]
fn what_is_in_the_way_is_named_and_left_alone() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", Some("10.5.0.1/16"))).unwrap();
    let error = create(&store, &request("lan", None)).unwrap_err().to_string();
    assert!(error.contains("it exists"), "{error}");
    let error = create(&store, &request("other", Some("10.5.7.1/24"))).unwrap_err().to_string();
    assert!(error.contains("10.5.0.1/16 on kz-lan"), "{error}");
    Links::open().unwrap().add_bridge("kz-mine", "by hand").unwrap();
    let error = create(&store, &request("mine", None)).unwrap_err().to_string();
    assert!(error.contains("not ours"), "{error}");
    assert!(names().contains(&"kz-mine".to_owned()));
    for name in ["", "a-name-too-long", "1st", "a/b"] {
        assert!(matches!(create(&store, &request(name, None)), Err(NetworkError::Name(_))));
    }
    assert!(matches!(delete(&store, "none"), Err(NetworkError::Unknown(_))));
}

#[test]
fn what_a_killed_maker_left_is_undone_by_the_next_command() {
    let Some((_folder, store)) = namespace() else { return };
    for stage in [store::Stage::Making, store::Stage::Removing] {
        create(&store, &request("lan", None)).unwrap();
        let record = store.find("lan").unwrap().unwrap();
        store.write(&store::Record { stage, ..record }).unwrap();
        assert_eq!(list(&store).unwrap(), []);
        assert_eq!(names(), ["lo"]);
    }
}

#[test]
fn a_bridge_without_our_mark_is_not_deleted_with_its_network() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", None)).unwrap();
    let mut links = Links::open().unwrap();
    let ours = links.find("kz-lan").unwrap().unwrap();
    links.remove(&ours).unwrap();
    links.add_bridge("kz-lan", "by hand").unwrap();
    delete(&store, "lan").unwrap();
    assert!(names().contains(&"kz-lan".to_owned()));
}

#[test]
fn the_commands_answer_for_people_and_for_programs() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", None)).unwrap();
    let table = perform(NetCommand::List { output: Output::Table }, &store).unwrap();
    assert!(table.contains("lan          10.77.0.1/24       kz-lan"), "{table}");
    let show = NetCommand::Show { name: "lan".to_owned(), output: Output::Json };
    let json: serde_json::Value = serde_json::from_str(&perform(show, &store).unwrap()).unwrap();
    assert_eq!(json[0]["subnet"], "10.77.0.1/24");
    let deleted = perform(NetCommand::Delete { name: "lan".to_owned() }, &store).unwrap();
    assert_eq!(deleted, "network lan: deleted\n");
}

/// A broadcast frame of an experimental type (IEEE 802).
fn frame() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x52, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(60, 7);
    frame
}

#[test]
fn machines_in_a_network_hear_each_other_and_their_taps_go_with_them() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", None)).unwrap();
    let mut one = Tap::join(&store, "lan", 1).unwrap().remove(0);
    let mut two = Tap::join(&store, "kz-lan", 1).unwrap().remove(0);
    assert_eq!(list(&store).unwrap()[0].members.len(), 2);
    let (woken, wakes) = std::sync::mpsc::channel();
    two.set_waker(std::sync::Arc::new(move || {
        woken.send(()).ok();
    }));
    let until = Instant::now() + Duration::from_secs(20);
    let mut buffer = [0; 65_549];
    // A port of a bridge listens for a while before it forwards.
    'heard: loop {
        assert!(Instant::now() < until, "nothing is heard");
        let _ = one.transmit(&frame(), Packet::default());
        wakes.recv_timeout(Duration::from_millis(100)).ok();
        while let Some(received) = two.receive(&mut buffer) {
            if buffer[..received.length] == frame() {
                break 'heard;
            }
        }
    }
    drop((one, two));
    assert_eq!(list(&store).unwrap()[0].members, [""; 0]);
}

#[test]
fn a_tap_that_is_not_there_is_named_with_what_makes_one() {
    let Some((_folder, store)) = namespace() else { return };
    let error = Tap::open("tap9", 1).unwrap_err().to_string();
    assert!(error.contains("ip tuntap add"), "{error}");
    let error = Tap::join(&store, "lo", 1).unwrap_err().to_string();
    assert!(error.contains("kezhan net create"), "{error}");
}

#[test]
fn a_tap_that_an_administrator_made_is_used_and_stays() {
    let Some((_folder, _store)) = namespace() else { return };
    let made = tun_rs::DeviceBuilder::new().layer(tun_rs::Layer::L2).name("made").build_sync();
    let made = made.unwrap();
    made.persist().unwrap();
    drop(made);
    let taps = Tap::open("made", 1).unwrap();
    assert_eq!(taps[0].info().mtu, 1500);
    drop(taps);
    let error = Tap::open("made", 2).unwrap_err().to_string();
    assert!(error.contains("made"), "it has one queue: {error}");
    assert!(names().contains(&"made".to_owned()));
}

#[test]
fn an_interface_with_several_queues_is_one_interface() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", None)).unwrap();
    let taps = Tap::join(&store, "lan", 4).unwrap();
    assert_eq!(taps.len(), 4);
    assert_eq!(list(&store).unwrap()[0].members.len(), 1);
    drop(taps);
    assert_eq!(list(&store).unwrap()[0].members, [""; 0]);
}

/// A segment of TCP that is left to the other side of a bridge to cut: whoever reads it plain gets its parts.
#[test]
fn a_large_segment_passes_a_bridge_whole_or_in_parts() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", None)).unwrap();
    let [mut one, mut two] =
        [1, 1].map(|queues| Tap::join(&store, "lan", queues).unwrap().remove(0));
    let mut large = frame();
    large[12..14].copy_from_slice(&[8, 0]);
    large.truncate(14);
    large.extend([0x45, 0, 0x0f, 0xc8, 0, 1, 0, 0, 64, 6, 0x56, 0x85, 10, 77, 0, 9, 10, 77, 0, 8]);
    large.extend([0, 80, 0, 90, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0x23, 0x9d, 0, 0]);
    large.resize(14 + 4040, 7);
    let checksum = Some(PartialChecksum { start: 34, offset: 16 });
    let cut = Segmentation { kind: SegmentationKind::Tcp4, headers: 54, size: 1000 };
    let packet = Packet { checksum, segmentation: Some(cut) };
    for accepted in [offload::OFFLOADS, Offloads::default()] {
        two.accept(accepted);
        let sizes = hear(&mut one, &mut two, (&large, packet));
        let whole = accepted == offload::OFFLOADS;
        assert_eq!(sizes, if whole { vec![4054] } else { vec![1054; 4] }, "{accepted:?}");
    }
}

/// Sends until it is heard; the lengths of the frames of TCP that come of it.
fn hear(one: &mut Tap, two: &mut Tap, (frame, packet): (&[u8], Packet)) -> Vec<usize> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut buffer = vec![0; 65_549];
    loop {
        assert!(Instant::now() < until, "nothing is heard");
        let _ = one.transmit(frame, packet);
        std::thread::sleep(Duration::from_millis(20));
        let frames =
            std::iter::from_fn(|| two.receive(&mut buffer).map(|got| (got.length, buffer[23])));
        let sizes: Vec<usize> =
            frames.filter(|(length, kind)| *length > 1000 && *kind == 6).map(|(n, _)| n).collect();
        if !sizes.is_empty() {
            return sizes;
        }
    }
}

#[test]
fn a_macvtap_goes_with_its_machine_and_that_of_a_killed_one_with_the_next_command() {
    let Some((_folder, store)) = namespace() else { return };
    create(&store, &request("lan", None)).unwrap();
    let mac = [0x52, 0x54, 0, 1, 2, 3];
    let tap = match Tap::macvtap("kz-lan", mac) {
        Ok(tap) => tap,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    assert!(names().contains(&"kzmv0".to_owned()));
    assert_eq!(tap.info().mtu, 1500);
    remove_dead().unwrap();
    assert!(names().contains(&"kzmv0".to_owned()), "its process lives");
    drop(tap);
    assert!(!names().contains(&"kzmv0".to_owned()));
    let mut links = Links::open().unwrap();
    let parent = links.find("kz-lan").unwrap().unwrap();
    for (name, alias) in [("left", "kezhan macvtap 4194305 7"), ("foreign", "somebody's")] {
        links.add_macvtap(name, &parent, mac).unwrap();
        let link = links.find(name).unwrap().unwrap();
        links.set_alias(&link, alias).unwrap();
    }
    remove_dead().unwrap();
    let names = names();
    assert!(!names.contains(&"left".to_owned()) && names.contains(&"foreign".to_owned()));
    let error = Tap::macvtap("eth77", mac).unwrap_err().to_string();
    assert!(error.contains("eth77") && error.contains("ip link"), "{error}");
}

#[test]
fn a_runtime_folder_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("run"));
    assert_eq!(store.own_folder("lan").unwrap(), folder.path().join("run/lan"));
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path().join("run"), open).unwrap();
    let error = store.own_folder("lan").unwrap_err().to_string();
    assert!(error.contains("others own it"), "{error}");
}
