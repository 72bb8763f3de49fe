//! What the ACPI component architecture's own tool says of tables.

use crate::Tables;
use std::path::Path;
use std::process::Command;

/// Disassembles every table with `iasl`, and compiles the DSDT again: the compiler checks what the
/// disassembler does not (names, types, resource descriptors). Prints why when it is not installed.
///
/// # Panics
/// When the tool finds an error or a warning: this is a test.
pub fn check_with_iasl(tables: &Tables) {
    if Command::new("iasl").arg("-v").output().is_err() {
        println!("skipped: iasl is not installed (Debian package acpica-tools)");
        return;
    }
    let folder = std::env::temp_dir().join(format!("kezhan-acpi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    for (_, bytes) in tables.parts.iter().filter(|(at, _)| *at != tables.rsdp) {
        let name = String::from_utf8_lossy(&bytes[..4]).to_lowercase();
        let path = folder.join(format!("{name}.dat"));
        std::fs::write(&path, bytes).expect("a temporary file");
        let text = iasl(&["-d"], &path);
        let wrong = ["rror", "arning", "ncorrect", "nvalid"];
        assert!(wrong.iter().all(|word| !text.contains(word)), "{name}: {text}");
    }
    let text = iasl(&[], &folder.join("dsdt.dsl"));
    assert!(text.contains("0 Errors, 0 Warnings"), "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}

fn iasl(options: &[&str], file: &Path) -> String {
    let output = Command::new("iasl").args(options).arg(file).output().expect("iasl runs");
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    text.into_owned()
}
