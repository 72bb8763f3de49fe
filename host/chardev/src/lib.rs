//! Character back-ends: where a guest's serial port ends on the host.
//!
//! | back-end | what the guest writes | what the guest reads |
//! |---|---|---|
//! | [`Terminal`] | standard output | standard input: raw when it is a terminal, with a menu behind Ctrl-] |
//! | [`FileDevice`] | appended to a file | nothing |
//! | [`SocketDevice`] | the client of a Unix socket, if there is one | that client |
//! | `NullCharDevice` (crate `kezhan-ports`) | dropped | nothing |
//!
//! # Who does the work
//! A device calls `read` and `write` from a vCPU thread and must not be made to wait, so that a buffer
//! of 16 KiB stands in each direction:
//!
//! ```text
//!   vCPU ── write ──► Outlet ── writer thread ──► terminal, pipe, file     (may block as it likes)
//!   vCPU ◄── read ─── Inlet ◄── main loop ─────── terminal, pipe           (polled, so never blocks)
//!                Inlet, Outlet ◄── socket thread ──► client of the socket
//! ```
//!
//! When an outlet is full, `write` accepts less, and the waker tells the device once there is room.
//! When an inlet is full, nobody reads the host side, and the sender waits in its turn.
//!
//! # Why a writer thread
//! `O_NONBLOCK` belongs to the open file description, which we share with the shell that started us and
//! with whatever else holds the terminal: setting it breaks them. Asking `poll` first does not help
//! either, since a terminal that takes one byte is writable, and a write of two then blocks. The thread
//! is made with the first byte of output.
//!
//! # Locks
//! Each buffer has one lock, held for a copy. Wakers are called with no lock held.

mod error;
mod file;
mod inlet;
mod menu;
mod outlet;
mod raw;
mod socket;
mod terminal;

pub use error::ChardevError;
pub use file::FileDevice;
pub use menu::{EscapeMenu, MENU_HELP, MenuCommand};
pub use raw::{RawMode, restore_terminals};
pub use socket::SocketDevice;
pub use terminal::{Terminal, TerminalEnds, TerminalPort};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that each direction of a back-end holds.
pub const BUFFER_SIZE: usize = 16 * 1024;

/// Somebody to be told; the same shape as the ports' wakers.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
