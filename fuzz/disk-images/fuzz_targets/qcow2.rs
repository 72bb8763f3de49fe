#![no_main]
//! Hostile qcow2 images.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kezhan_fuzz_disk_images::use_image("qcow2", bytes));
