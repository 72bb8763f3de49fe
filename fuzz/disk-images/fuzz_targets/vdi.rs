#![no_main]
//! Hostile vdi images.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kezhan_fuzz_disk_images::use_image("vdi", bytes));
