//! Code that models hardware, a format or a protocol names the document and section it follows, at least
//! five times in a thousand lines.

use super::Finding;
use super::source::Tree;
use std::collections::BTreeMap;

/// Folders of crates that model a specification. The engine contract models none.
const MODELS: &[&str] =
    &["cpu/", "devices/", "host/qcow2/", "host/disk-formats/", "host/net/", "machine/"];
const NOT: &[&str] = &["cpu/hypervisor/", "machine/board/"];
const EACH_THOUSAND: usize = 5;
/// A crate that is smaller has no rate to speak of.
const SMALL: usize = 200;

/// Marks of a citation.
const MARKS: &[&str] = &[
    "§",
    "SDM",
    "APM",
    "RFC ",
    "ACPI ",
    "virtio 1",
    "qcow2 specification",
    "MS-VHDX",
    "Virtual Hard Disk Image Format",
    "PCI Local Bus",
    "PCI Express",
    "8254",
    "8259",
    "82093",
    "16550",
    "MC146818",
    "8042",
    "Documentation/",
    "multiboot 0",
    "IEEE",
    "IA-PC HPET",
    "HITR",
    "Technical Reference",
    "data sheet",
    "ELF-64",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut crates: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (source, _) in tree.rust() {
        let below = |folder: &&str| source.path.starts_with(*folder);
        if MODELS.iter().any(below) && !NOT.iter().any(below) {
            let name: Vec<&str> = source.path.split('/').take(2).collect();
            let (lines, cited) = crates.entry(name.join("/")).or_default();
            *lines += source.text.lines().count();
            *cited += source.text.lines().filter(|line| cites(line)).count();
        }
    }
    let poor = crates
        .into_iter()
        .filter(|(_, (lines, cited))| *lines >= SMALL && cited * 1000 < lines * EACH_THOUSAND);
    poor.map(|(name, (lines, cited))| {
        let wanted = (lines * EACH_THOUSAND).div_ceil(1000);
        let message = format!(
            "{cited} citations of a specification in {lines} lines; name document and section, {wanted} at least"
        );
        (name, 1, message)
    })
    .collect()
}

fn cites(line: &str) -> bool {
    let comment = line.find("//").map_or("", |at| &line[at..]);
    MARKS.iter().any(|mark| comment.contains(mark)) || names_a_title(comment)
}

/// A section by its title, in quotes: documents without numbered sections.
fn names_a_title(comment: &str) -> bool {
    let quoted = comment.split('"').skip(1).step_by(2);
    quoted.into_iter().any(|words| words.starts_with(|c: char| c.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_crate_of_a_device_cites_five_times_in_a_thousand_lines() {
        let code = "fn f() {}\n".repeat(999);
        let with = |n: usize| format!("{}{code}", "// PC16550D data sheet §8.6\n".repeat(n));
        assert_eq!(check(&tree(&[("devices/a/src/lib.rs", &with(4))])).len(), 1);
        assert!(check(&tree(&[("devices/a/src/lib.rs", &with(6))])).is_empty());
        assert!(check(&tree(&[("vmm/src/lib.rs", &with(0))])).is_empty());
    }
}
