//! No bytes make the parser or the pickle compiler panic, and what parses serialises.
//!
//! Seeds: `cargo +nightly fuzz run feature fuzz/corpus/feature corpus`, from `bdd/gherkin`.

#![no_main]

use kezhan_gherkin::{Ids, parse_bytes, pickles};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = parse_bytes(bytes, "en") {
        let _ = pickles(&document, &mut Ids::default());
    }
});
