//! Images that lie. None may make us panic, hang, or use memory without bounds.

use super::{made, request};
use crate::{Header, Qcow2, Repair, spec};
use kezhan_block::testkit::Random;
use kezhan_block::{
    BlockError, DenyAll, FormatDriver, GuestOffset, Image, MemoryStorage, OpenContext, Result,
    Span, Storage,
};
use std::sync::Arc;

/// A small image with data, zeroes, a compressed cluster, a snapshot and a bitmap.
fn rich() -> Vec<u8> {
    let (file, image) = made(1 << 20, &[("cluster_size", "4096")]);
    image.write(GuestOffset(0), &[1; 30_000]).unwrap();
    image.write_zeroes(Span { start: GuestOffset(8192), length: 4096 }, true).unwrap();
    let packed = image.format().compress(&[5; 4096]).unwrap();
    image.write_compressed(GuestOffset(1 << 19), packed).unwrap();
    let qcow2 = super::qcow2(&image);
    qcow2.create_snapshot("s", crate::SnapshotTime::default()).unwrap();
    let mut bitmap = crate::Bitmap::new("b", 65536, image.size()).unwrap();
    bitmap.mark(0, 1);
    qcow2.store_bitmaps(&[bitmap]).unwrap();
    image.write(GuestOffset(4096), &[2; 4096]).unwrap();
    super::settle(&image);
    file.bytes()
}

fn try_open(bytes: Vec<u8>, for_check: bool) -> Result<Image> {
    let file = Arc::new(MemoryStorage::new("hostile", bytes));
    let context = OpenContext { writable: true, gate: &DenyAll, passphrase: None, for_check };
    let opened = crate::Qcow2Driver.open(file.clone(), &context)?;
    Ok(Image::new("hostile".to_owned(), file, opened.format, true))
}

/// Does everything that one can do to an image; errors are fine.
fn exercise(image: &Image) {
    let size = image.size();
    let mut data = vec![0; 8192];
    for at in [0, 4096, 1 << 19, size.saturating_sub(8192)] {
        let _ = image.read(GuestOffset(at), &mut data);
        let _ = image.map(GuestOffset(at), 4096);
        let _ = image.write(GuestOffset(at), &data[..3000]);
    }
    let some = Span { start: GuestOffset(0), length: size.min(100_000) };
    let _ = image.write_zeroes(some, true);
    let _ = image.discard(some);
    let qcow2: &Qcow2 = super::qcow2(image);
    let _ = qcow2.load_bitmaps();
    if let Ok(snapshots) = qcow2.snapshots() {
        for snapshot in snapshots.iter().take(3) {
            let _ = qcow2.apply_snapshot(snapshot);
            let _ = qcow2.delete_snapshot(snapshot);
        }
    }
    let _ = image.flush();
    let _ = qcow2.check(Repair::All);
}

#[test]
fn an_image_with_any_bytes_changed_is_refused_or_survived() {
    let rich = rich();
    let mut random = Random::new(7);
    for _ in 0..3000 {
        let mut bytes = rich.clone();
        for _ in 0..=random.below(4) {
            // Half of the changes hit the header, the rest any table or data.
            let within = if random.one_in(2) { 256 } else { bytes.len() as u64 / 8 * 8 };
            let at = random.below(within) as usize;
            let word = [0, 0xff, 0x80, 1, random.below(256) as u8][random.below(5) as usize];
            let count = [1, 4, 8][random.below(3) as usize].min(bytes.len() - at);
            bytes[at..at + count].fill(word);
        }
        if random.one_in(4) {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        if let Ok(image) = try_open(bytes, random.one_in(2)) {
            exercise(&image);
        }
    }
}

fn patched(at: usize, field: &[u8]) -> Result<Image> {
    let mut bytes = rich();
    bytes[at..at + field.len()].copy_from_slice(field);
    try_open(bytes, false)
}

#[test]
fn gigantic_counts_in_the_header_are_refused_by_name() {
    for (at, field, word) in [
        (spec::AT_L1_SIZE, &[0xff; 4][..], "L1 table"),
        (spec::AT_REFCOUNT_CLUSTERS, &[0xff; 4], "refcount table"),
        (spec::AT_CLUSTER_BITS, &[0, 0, 0, 40], "cluster_bits"),
        (spec::AT_REFCOUNT_ORDER, &[0, 0, 0, 9], "refcount_order"),
        (spec::AT_BACKING_SIZE, &[0, 1, 0, 0], ""),
        (spec::AT_SIZE, &[0x7f; 8], "too short"),
        (spec::AT_INCOMPATIBLE, &[0x80, 0, 0, 0], "features not known"),
        (spec::AT_VERSION, &[0, 0, 0, 9], "version 9"),
    ] {
        match patched(at, field) {
            Err(error) => assert!(error.to_string().contains(word), "{error}"),
            Ok(_) => assert!(word.is_empty(), "{word} was accepted"),
        }
    }
}

#[test]
fn a_guest_cluster_on_the_header_is_not_written_to() {
    let bytes = rich();
    let header = Header::read(&MemoryStorage::new("h", bytes.clone())).unwrap();
    let at = header.l1_offset as usize;
    let l2 = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) & spec::OFFSET_MASK;
    let mut bytes = bytes;
    // Guest offset 0 is said to lie in the refcount table's cluster.
    let bad = header.reftable_offset | spec::COPIED;
    bytes[l2 as usize..l2 as usize + 8].copy_from_slice(&bad.to_be_bytes());
    let image = try_open(bytes, false).unwrap();
    let error = image.write(GuestOffset(0), &[0; 512]).unwrap_err();
    assert!(matches!(error, BlockError::Corrupt { .. }), "{error}");
}

#[test]
fn compressed_data_that_gives_more_or_less_than_a_cluster_is_an_error() {
    let (file, image) = made(1 << 20, &[("cluster_size", "65536")]);
    let packed = image.format().compress(&[5; 65536]).unwrap();
    image.write_compressed(GuestOffset(0), packed).unwrap();
    image.flush().unwrap();
    let mut bytes = file.bytes();
    // After header, refcount table, refcount block and L1 table comes what was allocated first.
    bytes[4 * 65536..4 * 65536 + 512].fill(0xff);
    let broken = try_open(bytes, false).unwrap();
    let error = broken.read(GuestOffset(0), &mut [0; 512]).unwrap_err();
    assert!(error.to_string().contains("compressed data"), "{error}");
}

#[test]
fn files_that_an_image_names_are_not_opened_unless_the_gate_allows() {
    let file = Arc::new(MemoryStorage::new("sly.qcow2", Vec::new()));
    let mut sly = request(1 << 20, &[("data_file", "/etc/passwd")]);
    sly.data_file = Some(Arc::new(MemoryStorage::new("d", Vec::new())));
    crate::create::create(file.clone(), &sly).unwrap();
    let context =
        OpenContext { writable: false, gate: &DenyAll, passphrase: None, for_check: false };
    let error = crate::Qcow2Driver.open(file as Arc<dyn Storage>, &context).unwrap_err();
    assert!(matches!(error, BlockError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("/etc/passwd"));
}
