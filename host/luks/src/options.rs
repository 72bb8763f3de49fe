//! How a new header is made: the options of `kezhan image create`, which are those of qemu-img.

use crate::header::Hash;
use kezhan_block::{BlockError, CreateRequest, Result};
use std::time::Instant;

/// Rounds of PBKDF2 when no time is asked for: some tenths of a second.
const ROUNDS: u32 = 300_000;
/// Least rounds of a new header (LUKS §5.1).
const ROUNDS_MIN: u32 = 1000;
/// Rounds by which the host is measured.
const PROBE: u32 = 20_000;

/// Key length, hash and rounds of a new header; the cipher is AES in XTS mode.
#[derive(Clone, Copy, Debug)]
pub struct LuksOptions {
    pub(crate) hash: Hash,
    /// Bytes of the master key: two keys of the cipher.
    pub(crate) key_bytes: usize,
    pub(crate) rounds: u32,
}

impl Default for LuksOptions {
    fn default() -> LuksOptions {
        LuksOptions { hash: Hash::Sha256, key_bytes: 64, rounds: ROUNDS }
    }
}

impl LuksOptions {
    /// The names of the options, before which an image format may put its own prefix.
    pub const NAMES: [&str; 5] =
        ["cipher-alg", "cipher-mode", "hash-alg", "iter-time", "ivgen-alg"];

    /// Reads the options `prefix` + name.
    ///
    /// # Errors
    /// Values that are not done here.
    pub fn read(request: &CreateRequest, prefix: &str) -> Result<LuksOptions> {
        let option = |name: &str| request.option(&format!("{prefix}{name}"));
        let refuse = |name: &str, value: &str, what: &str| {
            Err(BlockError::option(format!("{prefix}{name}={value}"), what))
        };
        let mut options = LuksOptions::default();
        match option("cipher-alg") {
            None | Some("aes-256") => {}
            Some("aes-128") => options.key_bytes = 32,
            Some(other) => return refuse("cipher-alg", other, "give aes-256 or aes-128"),
        }
        for (name, only) in [("cipher-mode", "xts"), ("ivgen-alg", "plain64")] {
            if let Some(other) = option(name).filter(|value| *value != only) {
                return refuse(name, other, &format!("only {only} is done here"));
            }
        }
        if let Some(name) = option("hash-alg") {
            match Hash::named(name) {
                Some(hash) => options.hash = hash,
                None => return refuse("hash-alg", name, "give sha1, sha256 or sha512"),
            }
        }
        if let Some(text) = option("iter-time") {
            match text.parse::<u32>() {
                Ok(milliseconds @ 1..) => options.rounds = options.rounds_in(milliseconds),
                _ => return refuse("iter-time", text, "give milliseconds"),
            }
        }
        Ok(options)
    }

    /// How many rounds this host does in a time.
    fn rounds_in(&self, milliseconds: u32) -> u32 {
        let start = Instant::now();
        let _key = self.hash.pbkdf2(b"measure", b"measure", PROBE, self.key_bytes);
        let each = start.elapsed().as_secs_f64() / f64::from(PROBE);
        let rounds = f64::from(milliseconds) / 1e3 / each.max(1e-9);
        (rounds as u32).clamp(ROUNDS_MIN, crate::header::ITERATIONS_MAX)
    }
}
