#![no_main]
//! Hostile luks images.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kezhan_fuzz_disk_images::use_image("luks", bytes));
