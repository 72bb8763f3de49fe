//! Any bytes as a guest's frames and as resolvers' answers: never a panic.
//!
//!     cargo +nightly fuzz run frames -- -max_len=4096 -max_total_time=60

#![no_main]

use kezhan_net_fuzz::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| run(data));
