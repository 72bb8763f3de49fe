#![no_main]
//! Hostile luks images.

/// Where the header counts rounds: of the digest, and of each of eight key slots ("LUKS On-Disk Format" §2.3).
const DIGEST_ROUNDS: usize = 164;
const SLOT_ROUNDS: usize = 212;
const SLOT: usize = 48;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    // Few rounds, or an input would take seconds for nothing but arithmetic.
    let slots = (0..8).map(|slot| SLOT_ROUNDS + slot * SLOT);
    for at in slots.chain([DIGEST_ROUNDS]) {
        if let Some(rounds) = bytes.get_mut(at..at + 3) {
            rounds.fill(0);
        }
    }
    kezhan_fuzz_disk_images::use_image("luks", &bytes);
});
