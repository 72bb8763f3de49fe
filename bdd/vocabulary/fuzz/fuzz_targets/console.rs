//! No output of a guest makes the console panic.

#![no_main]

use kezhan_vocabulary::machine::{Console, Transcript};
use std::sync::Arc;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let transcript = Arc::new(Transcript::default());
    transcript.push(bytes);
    let mut console = Console::new(Box::new(std::io::sink()), transcript);
    let _ = console.take(&third_character);
    let _ = console.fresh();
    let _ = console.log();
});

fn third_character(text: &str) -> Option<usize> {
    text.char_indices().nth(3).map(|(at, _)| at)
}
