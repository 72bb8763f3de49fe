//! QEMU's image tool, for tests that compare with it.

use std::process::{Command, Output};
use std::time::Duration;

/// A test process that starts programs in one thread lends them, for a moment, the locked descriptors of
/// all others; and the tool gives up on LUKS when it cannot time its key derivation. It is then run again.
const TRIES: u32 = 20;
const PASSING: [&str; 2] = ["lock", "accurate CPU usage"];

/// What the tool did.
#[derive(Clone, Debug)]
pub struct PeerOutput {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub text: String,
    /// Its standard error.
    pub error: String,
}

/// Runs `qemu-img`; `None`, with the reason printed, when it is not installed.
pub fn qemu_img(arguments: &[&str]) -> Option<PeerOutput> {
    let mut output = run(arguments)?;
    for _ in 1..TRIES {
        if !PASSING.iter().any(|words| output.error.contains(words)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        output = run(arguments)?;
    }
    Some(output)
}

/// The tool's major version, when it is installed.
pub fn qemu_img_version() -> Option<u32> {
    let text = qemu_img(&["--version"])?.text;
    text.strip_prefix("qemu-img version ")?.split('.').next()?.parse().ok()
}

/// As [`qemu_img`], for what must succeed; gives the standard output.
///
/// # Panics
/// When the tool fails: tests only.
pub fn qemu_img_ok(arguments: &[&str]) -> Option<String> {
    let output = qemu_img(arguments)?;
    assert!(output.status == 0, "qemu-img {arguments:?}: {}{}", output.text, output.error);
    Some(output.text)
}

fn run(arguments: &[&str]) -> Option<PeerOutput> {
    let Ok(Output { status, stdout, stderr }) = Command::new("qemu-img").args(arguments).output()
    else {
        eprintln!("skipped: qemu-img is not installed (package qemu-utils)");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = status.code().unwrap_or(-1);
    Some(PeerOutput { status, text: text(&stdout), error: text(&stderr) })
}
