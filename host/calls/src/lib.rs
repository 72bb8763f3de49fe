//! Calls to the host's kernel that take raw memory: the one place of `host/` where `unsafe` is.
//!
//! | module | calls |
//! |---|---|
//! | [`ring`] | io_uring(7) on buffers that it owns |
//! | [`vectored`] | preadv2(2) and pwritev(2) on guest memory that a device has lent |
//!
//! Everything here is small, says for each call why it is sound, and offers functions that are safe to use.

pub mod ring;
pub mod vectored;
