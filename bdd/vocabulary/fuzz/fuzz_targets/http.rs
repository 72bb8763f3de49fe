//! No answer of a server makes the client panic.

#![no_main]

use kezhan_vocabulary::http::{Request, read_answer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = read_answer(bytes, &Request { method: "GET".to_owned(), ..Request::default() });
});
