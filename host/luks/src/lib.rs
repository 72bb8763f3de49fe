//! LUKS version 1: a disk encrypted with a master key, the master key encrypted with passphrases.
//!
//! ```text
//!   header ─ 8 key slots: passphrase ─ PBKDF2 ─► slot key ─► key material ─ merge ─► master key
//!   payload: sectors of 512 bytes, AES-XTS, the sector's number is the tweak
//! ```
//!
//! The key material of a slot is the master key blown up 4000 times, so that a slot that is overwritten
//! even in part is gone.
//!
//! [`CryptStorage`] does the sectors over any storage; a LUKS disk is raw over it ([`LuksDriver`]), and qcow2
//! puts its guest data into it (tables stay in the clear). Only `aes-xts-plain64` is done, which is what
//! everybody makes today; hashes are SHA-1 (old headers), SHA-256 and SHA-512.
//!
//! Source: "LUKS On-Disk Format Specification", version 1.2.3; IEEE 1619 (XTS).

mod crypt;
mod driver;
mod header;
mod options;
#[cfg(test)]
mod tests;

pub use crypt::{CryptStorage, MasterKey};
pub use driver::LuksDriver;
pub use header::LuksHeader;
pub use options::LuksOptions;
