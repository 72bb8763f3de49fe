//! Messages for people, on standard error.

use crate::error::status;
use std::io::Write;

/// Prints one message, after the program's name. A standard error that is closed is no reason to stop.
pub fn tell(text: &str) {
    let line = format!("kezhan: {text}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
}

/// From now on a panic in any thread restores the terminal, tells where it was, and ends the process
/// with [`status::SOFTWARE`]: half a machine must not go on.
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        kezhan_chardev::restore_terminals();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        tell(&format!("thread '{name}': {panic}; this is a fault of ours, please report it"));
        std::process::exit(status::SOFTWARE.into());
    }));
}
