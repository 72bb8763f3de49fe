use super::super::{VhdxDriver, current_header, regions, spec};
use super::*;
use crate::little::put;
use kezhan_block::storage::FileOptions;
use kezhan_block::testkit::qemu_img_ok as qemu_img;
use kezhan_block::{
    CreateRequest, DenyAll, FileStorage, FormatDriver, GuestOffset, Image, MemoryStorage,
    OpenOptions, open_chain,
};
use std::path::Path;

const ID: [u8; 16] = [7; 16];
const AT: u64 = 1 << 20;
const LENGTH: u64 = 1 << 20;

/// An entry that writes `byte` to the sector at `place`, and zeroes to the one behind it.
fn entry(sequence: u64, tail: u64, place: u64, byte: u8) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    put(&mut bytes, 0, ENTRY_SIGNATURE);
    put(&mut bytes, 8, &8192_u32.to_le_bytes());
    put(&mut bytes, 12, &(tail as u32).to_le_bytes());
    put(&mut bytes, 16, &sequence.to_le_bytes());
    put(&mut bytes, 24, &2_u32.to_le_bytes());
    put(&mut bytes, 32, &ID);
    put(&mut bytes, 48, &(4_u64 << 20).to_le_bytes());
    put(&mut bytes, 56, &(5_u64 << 20).to_le_bytes());
    put(&mut bytes, 64, DATA_SIGNATURE);
    put(&mut bytes, 68, &[byte; 12]);
    put(&mut bytes, 80, &place.to_le_bytes());
    put(&mut bytes, 88, &sequence.to_le_bytes());
    put(&mut bytes, 96, ZERO_SIGNATURE);
    put(&mut bytes, 104, &SECTOR.to_le_bytes());
    put(&mut bytes, 112, &(place + SECTOR).to_le_bytes());
    put(&mut bytes, 120, &sequence.to_le_bytes());
    bytes[4096..].fill(byte);
    put(&mut bytes, 4096, SECTOR_SIGNATURE);
    put(&mut bytes, 4100, &((sequence >> 32) as u32).to_le_bytes());
    put(&mut bytes, 8188, &(sequence as u32).to_le_bytes());
    seal(&mut bytes);
    bytes
}

fn seal(entry: &mut [u8]) {
    let sum = checksum(entry);
    put(entry, 4, &sum.to_le_bytes());
}

/// A file of ones whose log has these entries at these places.
fn file(entries: &[(u64, Vec<u8>)]) -> Arc<MemoryStorage> {
    let mut bytes = vec![1; 4 << 20];
    for (at, entry) in entries {
        for (index, byte) in entry.iter().enumerate() {
            bytes[(AT + (at + index as u64) % LENGTH) as usize] = *byte;
        }
    }
    Arc::new(MemoryStorage::new("disk", bytes))
}

fn changes(file: &MemoryStorage) -> Result<Changes> {
    Log { id: ID, at: AT, length: LENGTH }.changes(file)
}

/// The first byte of the sector at `place`, once what the log says is written; a reader must see the same before.
fn byte_after(file: &Arc<MemoryStorage>, place: u64) -> u8 {
    let todo = changes(file).unwrap();
    let over = todo.clone().laid_over(file.clone());
    let mut seen = vec![0; 12288];
    over.read_at(HostOffset(place - 2048), &mut seen).unwrap();
    todo.write(&**file).unwrap();
    let mut written = vec![0; 12288];
    file.read_at(HostOffset(place - 2048), &mut written).unwrap();
    assert!(seen == written, "the two differ");
    assert_eq!(written[2048 + 4096..][..4096], [0; 4096], "the zeroes behind it");
    assert_eq!((over.size().unwrap(), file.size().unwrap()), (5 << 20, 5 << 20));
    written[2048]
}

#[test]
fn the_entries_from_the_tail_on_are_done_in_order() {
    let place = 3 << 20;
    let file = file(&[
        (0, entry(7, 0, place, 70)),
        (8192, entry(8, 0, place, 80)),
        (16384, entry(9, 8192, place, 90)),
    ]);
    assert_eq!(changes(&file).unwrap().changes.len(), 4, "those of 8 and 9");
    assert_eq!(byte_after(&file, place), 90);
}

#[test]
fn a_run_over_the_end_of_the_ring_is_whole() {
    let place = 3 << 20;
    let at = LENGTH - 4096;
    let file =
        file(&[(at, entry(1 << 40, at, place, 5)), (4096, entry((1 << 40) + 1, at, place, 6))]);
    assert_eq!(changes(&file).unwrap().changes.len(), 4);
    assert_eq!(byte_after(&file, place), 6);
}

#[test]
fn a_torn_entry_ends_its_run_and_the_newest_whole_run_counts() {
    let place = 3 << 20;
    let mut torn = entry(21, 0, place, 21);
    torn[5000] ^= 1;
    let mut strange = entry(30, 65536, place, 30);
    put(&mut strange, 32, &[8; 16]);
    seal(&mut strange);
    let old = (32768, entry(4, 32768, place, 4));
    let file = file(&[(0, entry(20, 0, place, 20)), (8192, torn), old, (65536, strange)]);
    assert_eq!(byte_after(&file, place), 20);
}

#[test]
fn a_log_without_a_whole_run_is_damage() {
    let place = 3 << 20;
    // Its tail is an entry that is not there.
    let lost = file(&[(8192, entry(9, 0, place, 9))]);
    let mut short = entry(9, 0, place, 9);
    put(&mut short, 48, &(9_u64 << 30).to_le_bytes());
    seal(&mut short);
    let mut beyond = entry(9, 0, place, 9);
    put(&mut beyond, 80, &u64::MAX.to_le_bytes());
    seal(&mut beyond);
    for (file, part) in [
        (lost, "no whole entry"),
        (file(&[]), "no whole entry"),
        (file(&[(0, beyond)]), "no whole entry"),
        (file(&[(0, short)]), "has lost its end"),
    ] {
        let error = changes(&file).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let file = file(&[]);
    for length in [0, 5000, 1 << 31] {
        let error = Log { id: ID, at: AT, length }.changes(&*file).unwrap_err().to_string();
        assert!(error.contains("is none"), "{error}");
    }
}

#[test]
fn entries_that_claim_the_whole_log_each_are_refused_soon() {
    let mut claim = entry(9, 0, 0, 9);
    put(&mut claim, 8, &(LENGTH as u32).to_le_bytes());
    let all: Vec<(u64, Vec<u8>)> =
        (0..LENGTH / SECTOR).map(|n| (n * SECTOR, claim[..64].to_vec())).collect();
    let error = changes(&file(&all)).unwrap_err().to_string();
    assert!(error.contains("lie in each other"), "{error}");
}

fn open(path: &Path, writable: bool) -> Image {
    let file = if writable { FileOptions::WRITE } else { FileOptions::READ };
    let options = OpenOptions {
        drivers: &[&VhdxDriver],
        format: Some("vhdx"),
        writable,
        backing: true,
        gate: &DenyAll,
        probe_backing: false,
        passphrase: None,
        for_check: false,
    };
    open_chain(Arc::new(FileStorage::open(path, file).unwrap()), &options).unwrap()
}

/// Takes the table's first sector out of the image and puts it into the log, as if power had failed.
fn tear(path: &Path) {
    let file = FileStorage::open(path, FileOptions::WRITE).unwrap();
    let ((table, _), _) = regions(&file).unwrap();
    let mut sector = vec![0; 4096];
    file.read_at(HostOffset(table), &mut sector).unwrap();
    file.write_at(HostOffset(table), &[0; 4096]).unwrap();
    let mut bytes = entry(1, 0, table, 0);
    let size = file.size().unwrap().to_le_bytes();
    put(&mut bytes, 48, &size);
    put(&mut bytes, 56, &size);
    put(&mut bytes, 24, &1_u32.to_le_bytes());
    put(&mut bytes, 68, &sector[4092..]);
    put(&mut bytes, 72, &sector[..8]);
    put(&mut bytes, 4096 + 8, &sector[8..4092]);
    seal(&mut bytes);
    let (which, mut header) = current_header(&file).unwrap();
    file.write_at(HostOffset(u64_at(&header, spec::AT_LOG_OFFSET)), &bytes).unwrap();
    put(&mut header, spec::AT_LOG_ID, &ID);
    seal(&mut header);
    file.write_at(HostOffset(spec::HEADERS[which]), &header).unwrap();
}

#[test]
fn an_image_that_was_not_closed_reads_as_after_qemu_imgs_repair() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
    let file = Arc::new(FileStorage::open(&ours, FileOptions::CREATE).unwrap());
    let request = CreateRequest { size: 20 << 20, ..CreateRequest::default() };
    VhdxDriver.create(file, &request).unwrap();
    let text = b"kept by the log".repeat(1000);
    let image = open(&ours, true);
    image.write(GuestOffset(9 << 20), &text).unwrap();
    image.flush().unwrap();
    drop(image);
    tear(&ours);
    std::fs::copy(&ours, &theirs).unwrap();
    // To a reader, to a writer, and to one who finds the log empty.
    for writable in [false, true, false] {
        let mut seen = vec![0; text.len()];
        open(&ours, writable).read(GuestOffset(9 << 20), &mut seen).unwrap();
        assert!(seen == text, "writable: {writable}");
    }
    let (ours, theirs) = (ours.display().to_string(), theirs.display().to_string());
    if qemu_img(&["check", "-q", "-r", "all", "-f", "vhdx", &theirs]).is_some() {
        qemu_img(&["compare", "-q", "-f", "vhdx", "-F", "vhdx", &ours, &theirs]);
    }
}
