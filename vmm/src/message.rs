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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Run by the test below in a process of its own, which it ends.
    #[test]
    #[ignore = "ends its process"]
    fn panic_in_a_thread() {
        end_process_on_panic();
        let thread = std::thread::Builder::new().name("vcpu7".to_owned());
        thread.spawn(|| panic!("out of ideas")).unwrap().join().ok();
        unreachable!("the panic ends the process");
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_process_with_70_and_names_the_thread() {
        let this = std::env::current_exe().unwrap();
        let inner = "message::tests::panic_in_a_thread";
        let arguments = ["--exact", inner, "--ignored", "--nocapture"];
        let output = Command::new(this).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status::SOFTWARE.into()), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.starts_with("kezhan: thread 'vcpu7': "), "{text}");
        assert!(text.contains("out of ideas") && text.contains("please report"), "{text}");
    }
}
