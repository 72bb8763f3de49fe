//! `unsafe` only where the design needs it. That each block says why it is sound, clippy sees to
//! (`undocumented_unsafe_blocks`); that each use is expected with a reason, rustc (`unsafe_code`).

use super::Finding;
use super::source::Tree;

/// Where it may be: KVM's ioctls and shared pages, emitted code, the fast path to guest memory, and calls by which
/// the kernel moves a disk's bytes into and out of it.
const MAY: &[&str] = &["cpu/kvm/", "cpu/jit/", "cpu/soft/", "host/calls/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, rust) in tree.all_rust() {
        let tokens = rust.tokens(&source.text);
        let mut report = |line, message: &str| {
            findings.push((source.path.clone(), line, message.to_owned()));
        };
        let confined = MAY.iter().any(|folder| source.path.starts_with(folder));
        if let Some((_, line)) =
            tokens.iter().find(|(word, _)| word == "unsafe").filter(|_| !confined)
        {
            report(
                *line,
                "unsafe code; only cpu/kvm, cpu/jit, cpu/soft and host/calls may: use what they offer",
            );
        }
        for window in tokens.windows(3) {
            if let [(allow, line), (open, _), (lint, _)] = window
                && allow == "allow"
                && open == "("
                && lint == "unsafe_code"
            {
                report(*line, "allow(unsafe_code); write expect(unsafe_code, reason = \"…\")");
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    const CODE: &str = "fn f() { unsafe { g() } }";

    #[test]
    fn unsafe_is_confined_to_four_crates() {
        assert!(check(&tree(&[("cpu/kvm/src/a.rs", CODE)])).is_empty());
        assert_eq!(check(&tree(&[("devices/pci/src/a.rs", CODE)])).len(), 1);
        assert!(
            check(&tree(&[("devices/pci/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";")]))
                .is_empty()
        );
    }

    #[test]
    fn allow_is_refused_where_expect_is_meant() {
        let found = check(&tree(&[("cpu/kvm/src/a.rs", "#![allow(unsafe_code)]")]));
        assert!(found[0].2.contains("write expect"));
    }
}
