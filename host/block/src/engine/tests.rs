use super::*;
use crate::raw::Raw;
use crate::storage::{FileOptions, FileStorage, MemoryStorage};
use crate::units::Span;
use crate::{MapEntry, testkit::FaultStorage};

fn raw(bytes: Vec<u8>) -> (Arc<MemoryStorage>, Image) {
    let file = Arc::new(MemoryStorage::new("disk", bytes));
    let format = Box::new(Raw::open(file.clone(), true).unwrap());
    (file.clone(), Image::new("disk".to_owned(), file, format, true))
}

#[test]
fn what_is_written_is_read_back_and_stays_within_its_range() {
    let (file, image) = raw(vec![7; 1000]);
    image.write(GuestOffset(100), &[1; 50]).unwrap();
    let mut data = [0; 52];
    image.read(GuestOffset(99), &mut data).unwrap();
    assert_eq!((data[0], data[1], data[50], data[51]), (7, 1, 1, 7));
    assert_eq!(file.bytes().iter().filter(|byte| **byte == 1).count(), 50);
}

#[test]
fn a_range_outside_the_disk_is_refused_even_when_it_wraps() {
    let (_, image) = raw(vec![0; 1000]);
    let mut data = [0; 8];
    for offset in [993, 1000, u64::MAX - 3] {
        let error = image.read(GuestOffset(offset), &mut data).unwrap_err();
        assert!(matches!(error, BlockError::OutOfRange { .. }), "{error}");
    }
    image.read(GuestOffset(992), &mut data).unwrap();
    image.read(GuestOffset(1000), &mut []).unwrap();
}

#[test]
fn zeroing_and_discarding_a_raw_disk_leave_zeroes() {
    let (file, image) = raw(vec![7; 4096]);
    image.write_zeroes(Span { start: GuestOffset(1), length: 10 }, false).unwrap();
    image.discard(Span { start: GuestOffset(4000), length: 96 }).unwrap();
    assert_eq!(file.bytes().iter().filter(|byte| **byte == 0).count(), 106);
}

#[test]
fn the_map_of_a_raw_disk_is_data_up_to_the_end_of_its_file() {
    let (_, image) = raw(vec![7; 4096]);
    let MapEntry { length, present, data, zero, .. } = image.map(GuestOffset(96), 4000).unwrap();
    assert_eq!((length, present, data, zero), (4000, true, true, false));
}

#[test]
fn an_error_of_the_host_is_reported_with_the_files_name_and_the_disk_goes_on() {
    let memory = Arc::new(MemoryStorage::new("vm.img", vec![0; 4096]));
    let file = Arc::new(FaultStorage::new(memory, std::io::ErrorKind::StorageFull));
    let image = Image::new(
        "vm.img".to_owned(),
        file.clone(),
        Box::new(Raw::open(file.clone(), true).unwrap()),
        true,
    );
    file.fail_after(0);
    let error = image.write(GuestOffset(0), &[1]).unwrap_err();
    assert!(error.is_no_space() && error.to_string().starts_with("vm.img: "), "{error}");
    file.heal();
    image.write(GuestOffset(0), &[1]).unwrap();
}

#[test]
fn a_read_only_image_refuses_every_change() {
    let file = Arc::new(MemoryStorage::new("disk", vec![0; 512]));
    let format = Box::new(Raw::open(file.clone(), false).unwrap());
    let image = Image::new("disk".to_owned(), file, format, false);
    let all = Span { start: GuestOffset(0), length: 512 };
    for result in [
        image.write(all.start, &[1]),
        image.write_zeroes(all, true),
        image.discard(all),
        image.resize(1024),
    ] {
        assert!(matches!(result, Err(BlockError::ReadOnly { .. })));
    }
}

#[test]
fn a_file_that_somebody_else_makes_shorter_is_an_error_and_not_zeroes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    std::fs::write(&path, [7; 8192]).unwrap();
    let file = Arc::new(FileStorage::open(&path, FileOptions::WRITE).unwrap());
    let format = Box::new(Raw::open(file.clone(), true).unwrap());
    let image = Image::new("disk".to_owned(), file.clone(), format, true);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let mut data = [0; 4096];
    image.read(GuestOffset(0), &mut data).unwrap();
    let error = image.read(GuestOffset(2048), &mut data).unwrap_err().to_string();
    assert!(error.contains("has ended at 4096"), "{error}");
    // What we have made shorter ourselves is no surprise.
    file.set_size(1024).unwrap();
    file.read_at(crate::HostOffset(1024), &mut data).unwrap();
    assert_eq!(data, [0; 4096]);
}
