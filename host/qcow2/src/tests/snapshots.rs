//! Snapshots, bitmaps, resize and compression, one behaviour at a time.

use super::{assert_clean, bytes_of, check, made, open, qcow2};
use crate::{Bitmap, SnapshotTime};
use kezhan_block::{Format, GuestOffset, Span, Storage};

#[test]
fn applying_a_snapshot_brings_back_the_disk_and_deleting_it_frees_its_clusters() {
    let (_, image) = made(1 << 20, &[("cluster_size", "4096")]);
    image.write(GuestOffset(0), &[1; 20_000]).unwrap();
    let used = {
        assert_clean(&image);
        check(&image).allocated_clusters
    };
    let format = qcow2(&image);
    let first = format.create_snapshot("first", SnapshotTime::default()).unwrap();
    image.write(GuestOffset(0), &[2; 20_000]).unwrap();
    assert_clean(&image);
    format.apply_snapshot(&first).unwrap();
    assert_eq!(bytes_of(&image)[..20_001], [&[1; 20_000][..], &[0]].concat());
    format.delete_snapshot(&first).unwrap();
    assert_clean(&image);
    assert_eq!(check(&image).allocated_clusters, used);
    assert!(format.find_snapshot("first").unwrap_err().to_string().contains("no snapshot"));
}

#[test]
fn a_snapshot_can_be_read_while_the_disk_goes_on() {
    let (_, image) = made(1 << 20, &[]);
    image.write(GuestOffset(5), &[1; 10]).unwrap();
    let snapshot = qcow2(&image).create_snapshot("s", SnapshotTime::default()).unwrap();
    image.write(GuestOffset(5), &[2; 10]).unwrap();
    image.flush().unwrap();
    let old = qcow2(&image).at_snapshot(&snapshot).unwrap();
    let mapping = old.locate(GuestOffset(5), 1).unwrap();
    let kezhan_block::MappingKind::Data { storage, offset } = mapping.kind else {
        panic!("no data")
    };
    let mut byte = [0];
    storage.read_at(offset, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn bitmaps_are_kept_merged_and_freed() {
    let (file, image) = made(1 << 20, &[]);
    let mut fine = Bitmap::new("fine", 512, image.size()).unwrap();
    fine.mark(70_000, 1);
    let mut coarse = Bitmap::new("coarse", 65536, image.size()).unwrap();
    coarse.merge(&fine);
    assert!(coarse.is_set(1) && !coarse.is_set(0) && !coarse.is_set(2));
    qcow2(&image).store_bitmaps(&[fine.clone(), coarse.clone()]).unwrap();
    assert_clean(&image);
    let again = open(file);
    assert_eq!(qcow2(&again).load_bitmaps().unwrap(), [fine, coarse]);
    qcow2(&again).store_bitmaps(&[]).unwrap();
    assert_clean(&again);
    assert!(qcow2(&again).bitmap_list().unwrap().is_empty());
}

#[test]
fn compressed_clusters_are_packed_read_back_and_overwritten() {
    for kind in ["zlib", "zstd"] {
        let (file, image) = made(1 << 20, &[("compression_type", kind)]);
        for cluster in 0..16u64 {
            let data: Vec<u8> = (0..65536u64).map(|i| (i / 64 * (cluster + 3)) as u8).collect();
            let packed = image.format().compress(&data).unwrap();
            image.write_compressed(GuestOffset(cluster << 16), packed).unwrap();
        }
        assert_clean(&image);
        let packed_size = file.size().unwrap();
        assert!(packed_size <= 6 * 65536, "{packed_size}");
        let before = bytes_of(&image);
        assert_eq!(before[65536 * 2 + 640], 50);
        image.write(GuestOffset(65536 * 2 + 5), &[9; 10]).unwrap();
        assert_clean(&image);
        let after = bytes_of(&image);
        assert_eq!(after[65536 * 2..65536 * 2 + 5], before[65536 * 2..65536 * 2 + 5]);
        assert_eq!(after[65536 * 2 + 15..], before[65536 * 2 + 15..]);
    }
}

#[test]
fn noise_does_not_compress() {
    let (_, image) = made(1 << 20, &[]);
    let mut random = kezhan_block::testkit::Random::new(1);
    let noise: Vec<u8> = (0..8192).flat_map(|_| random.number().to_le_bytes()).collect();
    assert!(image.format().compress(&noise).is_none());
}

#[test]
fn a_disk_grows_past_its_l1_table_and_shrinks_again() {
    let (file, image) = made(100_000, &[("cluster_size", "512")]);
    image.write(GuestOffset(99_000), &[7; 1000]).unwrap();
    image.resize(80 << 20).unwrap();
    image.write(GuestOffset((80 << 20) - 10), &[8; 10]).unwrap();
    assert_clean(&image);
    let again = open(file);
    let mut data = [0; 10];
    again.read(GuestOffset((80 << 20) - 10), &mut data).unwrap();
    assert_eq!(data, [8; 10]);
    again.resize(99_328).unwrap();
    assert_clean(&again);
    assert_eq!(bytes_of(&again)[99_000..], [7; 328]);
}

#[test]
fn discarded_space_is_used_again() {
    let (file, image) = made(1 << 20, &[]);
    let all = Span { start: GuestOffset(0), length: 1 << 20 };
    for round in 1..5 {
        image.write(GuestOffset(0), &vec![round; 1 << 20]).unwrap();
        image.flush().unwrap();
        image.discard(all).unwrap();
        image.flush().unwrap();
    }
    assert_clean(&image);
    assert!(file.size().unwrap() < 22 * 65536, "{}", file.size().unwrap());
}

#[test]
fn a_bitmap_records_writes_and_is_in_use_until_the_image_is_closed() {
    let (file, image) = made(1 << 20, &[]);
    let bitmap = Bitmap::new("record", 65536, image.size()).unwrap();
    let mut still = Bitmap::new("still", 65536, image.size()).unwrap();
    still.flags = 0;
    qcow2(&image).store_bitmaps(&[bitmap, still]).unwrap();
    image.write(GuestOffset(70_000), &[1; 10]).unwrap();
    image.write_zeroes(Span { start: GuestOffset(1 << 19), length: 1 << 18 }, true).unwrap();
    let flags = |file: &std::sync::Arc<kezhan_block::MemoryStorage>| {
        let now = open(std::sync::Arc::new(kezhan_block::MemoryStorage::new("now", file.bytes())));
        let list = qcow2(&now).bitmap_list().unwrap();
        list.iter().map(|info| info.flags).collect::<Vec<u32>>()
    };
    assert_eq!(flags(&file), [3, 0], "in use and recording; neither");
    image.close().unwrap();
    assert_eq!(flags(&file), [2, 0]);
    let again = open(file);
    assert_clean(&again);
    let bitmaps = qcow2(&again).load_bitmaps().unwrap();
    assert_eq!(bitmaps[0].bits, [0b10, 0b1111]);
    assert_eq!(bitmaps[1].bits, [0, 0]);
    again.resize(3 << 20).unwrap();
    assert_clean(&again);
    assert_eq!(qcow2(&again).load_bitmaps().unwrap()[0].bits, [0b10, 0b1111, 0, 0, 0, 0]);
}
