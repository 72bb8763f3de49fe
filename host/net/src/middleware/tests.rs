use super::*;
use kezhan_ports::nic::{Nic, Offloads, Packet, Transmit};
use kezhan_ports::testkit::NicBuffer;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>, Option<usize>);

impl Write for File {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = self.0.lock().unwrap();
        if self.1.is_some_and(|limit| bytes.len() + data.len() > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.extend(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture(inner: NicBuffer, file: &File) -> Capture<NicBuffer> {
    let stamp = Box::new(|| Duration::new(7, 9));
    Capture::new(inner, Box::new(file.clone()), stamp).unwrap()
}

fn fields(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn a_capture_holds_both_directions_with_their_stamps() {
    let (network, file) = (NicBuffer::default(), File::default());
    let mut nic = capture(network.clone(), &file);
    assert_eq!(nic.transmit(&[1; 60], Packet::default()), Transmit::Taken);
    network.feed(&[2; 64]);
    let mut buffer = [0; 1514];
    assert_eq!(nic.receive(&mut buffer).unwrap().length, 64);
    assert_eq!(network.take_sent().len(), 1);
    let bytes = file.0.lock().unwrap();
    assert_eq!(fields(&bytes[..24])[0], 0xa1b2_3c4d);
    assert_eq!(fields(&bytes[..24])[2..], [0, 0, 65_549, 1]);
    assert_eq!(fields(&bytes[24..40]), [7, 9, 60, 60]);
    assert_eq!(bytes[40..100], [1; 60]);
    assert_eq!(fields(&bytes[100..116]), [7, 9, 64, 64]);
    assert_eq!(bytes[116..], [2; 64]);
}

#[test]
fn a_frame_without_room_is_captured_when_it_is_taken() {
    let (network, file) = (NicBuffer::default(), File::default());
    let mut nic = capture(network.clone(), &file);
    network.limit(Some(0));
    assert_eq!(nic.transmit(&[1; 60], Packet::default()), Transmit::Full);
    assert_eq!(file.0.lock().unwrap().len(), 24);
    network.limit(None);
    assert_eq!(nic.transmit(&[1; 60], Packet::default()), Transmit::Taken);
    assert_eq!(file.0.lock().unwrap().len(), 24 + 16 + 60);
}

#[test]
fn a_full_file_ends_the_capture_and_not_the_network() {
    let (network, file) = (NicBuffer::default(), File(Arc::default(), Some(24 + 76)));
    let mut nic = capture(network.clone(), &file);
    for _ in 0..3 {
        assert_eq!(nic.transmit(&[1; 60], Packet::default()), Transmit::Taken);
    }
    assert_eq!(network.take_sent().len(), 3);
    assert_eq!(file.0.lock().unwrap().len(), 100);
    assert_eq!(nic.failure().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
}

fn losses(seed: u64) -> Vec<usize> {
    let network = NicBuffer::default();
    let rates = LossRates { transmit: 50_000, receive: 0 };
    let mut nic = Lossy::new(network.clone(), rates, seed);
    (0..10_000)
        .filter(|_| {
            assert_eq!(nic.transmit(&[0; 60], Packet::default()), Transmit::Taken);
            network.take_sent().is_empty()
        })
        .collect()
}

#[test]
fn a_bad_line_loses_the_same_frames_with_the_same_seed() {
    let lost = losses(1);
    assert!((400..600).contains(&lost.len()), "5 % of 10000: {}", lost.len());
    assert_eq!(lost, losses(1));
    assert_ne!(lost, losses(2));
}

#[test]
fn loss_to_the_guest_skips_to_the_next_frame() {
    let network = NicBuffer::default();
    let rates = LossRates { transmit: 0, receive: 1_000_000 };
    let mut nic = Lossy::new(network.clone(), rates, 0);
    for _ in 0..3 {
        network.feed(&[0; 60]);
    }
    assert_eq!(nic.receive(&mut [0; 1514]), None);
    assert_eq!((nic.lost(), network.waiting()), (3, 0));
}

#[test]
fn layers_pass_the_link_the_offloads_and_the_waker_through() {
    let network = NicBuffer::default();
    let file = File::default();
    let mut nic = Lossy::new(capture(network.clone(), &file), LossRates::default(), 0);
    let wakes = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&wakes);
    nic.set_waker(Arc::new(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    network.set_link(false);
    assert!(!nic.link_up());
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    let offloads = Offloads { checksum: true, ..Offloads::default() };
    nic.accept(offloads);
    assert_eq!(network.accepted(), offloads);
    assert_eq!(nic.info(), network.info());
}
