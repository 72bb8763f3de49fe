use super::*;
use kezhan_device::ManualClock;
use kezhan_device::testkit::{check_contract, check_storm, read, write};

fn device() -> FwCfg {
    let mut items = Items::new(3, 512 << 20);
    assert!(items.add_file("etc/second", vec![4, 5]));
    assert!(items.add_file("etc/first", vec![1, 2, 3]));
    FwCfg::new("fw-cfg", items)
}

/// Bytes of an item, as a guest reads them.
fn item(device: &mut FwCfg, key: u16, length: usize) -> Vec<u8> {
    write(device, 0, 0, 2, key.into());
    (0..length).map(|_| read(device, 0, 1, 1) as u8).collect()
}

#[test]
fn it_keeps_the_contract_and_survives_a_storm() {
    check_contract(&mut device());
    check_storm(&mut device(), &ManualClock::default());
}

#[test]
fn a_guest_finds_the_device_the_cpus_and_the_memory() {
    let mut device = device();
    assert_eq!(item(&mut device, 0, 4), b"QEMU");
    assert_eq!(item(&mut device, 1, 4), [1, 0, 0, 0]);
    assert_eq!(item(&mut device, 5, 2), [3, 0]);
    assert_eq!(item(&mut device, 15, 2), [3, 0]);
    assert_eq!(item(&mut device, 3, 8), (512_u64 << 20).to_le_bytes());
}

#[test]
fn behind_an_item_and_in_an_absent_one_there_are_zeros() {
    let mut device = device();
    assert_eq!(item(&mut device, 5, 4), [3, 0, 0, 0]);
    assert_eq!(item(&mut device, 0x3fff, 2), [0, 0]);
}

#[test]
fn the_directory_leads_to_the_files_in_the_order_of_their_names() {
    let mut device = device();
    let directory = item(&mut device, 0x19, 4 + 2 * 64);
    assert_eq!(directory[..4], [0, 0, 0, 2]);
    assert_eq!(directory[4..12], [0, 0, 0, 3, 0, 0x20, 0, 0]);
    assert_eq!(&directory[12..22], b"etc/first\0");
    assert_eq!(directory[68..76], [0, 0, 0, 2, 0, 0x21, 0, 0]);
    assert_eq!(item(&mut device, 0x20, 3), [1, 2, 3]);
    assert_eq!(item(&mut device, 0x21, 2), [4, 5]);
}

#[test]
fn a_file_that_does_not_fit_is_refused() {
    let mut items = Items::new(1, 0);
    assert!(items.add_file(&"n".repeat(55), Vec::new()));
    assert!(!items.add_file(&"n".repeat(56), Vec::new()));
    assert!(!items.add_file("a\0b", Vec::new()));
}

#[test]
fn a_restored_device_goes_on_in_the_middle_of_an_item() {
    let mut device = device();
    item(&mut device, 0x20, 1);
    let saved = device.save();
    let mut other = self::device();
    other.restore(&saved).unwrap();
    assert_eq!(read(&mut other, 0, 1, 1), 2);
}
