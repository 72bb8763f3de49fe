//! Requests that are done at once, out of guest memory and into it.

use super::{assert_clean, bytes_of, open, request};
use kezhan_block::testkit::Random;
use kezhan_block::{FileStorage, GuestOffset, Image, Span};
use kezhan_ports::LentMemory;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const DISK: u64 = 1 << 20;
const MEMORY: usize = 1 << 17;

fn image() -> (tempfile::TempDir, Image) {
    let folder = tempfile::tempdir().unwrap();
    let options = kezhan_block::storage::FileOptions::CREATE;
    let file = FileStorage::open(&folder.path().join("disk.qcow2"), options).unwrap();
    let file = Arc::new(file);
    let options = [("cluster_size", "4096")];
    crate::create::create(file.clone(), &request(DISK, &options)).unwrap();
    (folder, open(file))
}

/// `length` bytes of guest memory in parts of random lengths.
fn lend<'a>(memory: &'a GuestMemoryMmap, random: &mut Random, length: usize) -> LentMemory<'a> {
    let mut lent = LentMemory::default();
    while lent.len() < length {
        let part = (1 + random.below(9000) as usize).min(length - lent.len());
        let at = GuestAddress(lent.len() as u64);
        lent.push(&memory.get_slice(at, part).unwrap());
    }
    lent
}

#[test]
fn random_transfers_of_guest_memory_are_those_of_a_flat_disk() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let (_folder, image) = image();
    let (mut random, mut flat) = (Random::new(4), vec![0; DISK as usize]);
    let mut at_once = 0;
    for turn in 0..2000_u32 {
        let length = 1 + random.below(MEMORY as u64 / 4) as usize;
        let start = random.below(DISK - length as u64);
        let range = start as usize..start as usize + length;
        let (offset, bytes) = (GuestOffset(start), vec![turn as u8; length]);
        match random.below(8) {
            0 => {
                let span = Span { start: offset, length: length as u64 };
                image.write_zeroes(span, true).unwrap();
                flat[range].fill(0);
            }
            1 => image.flush().unwrap(),
            2..=4 => {
                memory.write_slice(&bytes, GuestAddress(0)).unwrap();
                let lent = lend(&memory, &mut random, length);
                if !image.write_lent_now(offset, &lent).unwrap() {
                    image.write(offset, &bytes).unwrap();
                }
                flat[range].copy_from_slice(&bytes);
            }
            _ => {
                memory.write_slice(&bytes, GuestAddress(0)).unwrap();
                let lent = lend(&memory, &mut random, length);
                if image.read_lent_now(offset, &lent).unwrap() {
                    at_once += 1;
                    let mut read = vec![0; length];
                    memory.read_slice(&mut read, GuestAddress(0)).unwrap();
                    assert!(read == flat[range], "turn {turn}");
                }
            }
        }
    }
    assert!(at_once > 0, "not one read was done at once");
    assert!(bytes_of(&image) == flat);
    assert_clean(&image);
}

#[test]
fn a_range_outside_the_disk_is_refused_as_for_every_request() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let (_folder, image) = image();
    let lent = lend(&memory, &mut Random::new(1), 512);
    image.read_lent_now(GuestOffset(DISK), &lent).unwrap_err();
    image.write_lent_now(GuestOffset(DISK - 1), &lent).unwrap_err();
}
