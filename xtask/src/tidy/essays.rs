//! Each source but tests opens by saying what it is.

use super::Finding;
use super::source::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust().filter(|(source, _)| {
        let first =
            source.text.lines().map(str::trim).find(|line| {
                !(line.is_empty() || line.starts_with("#!") || line.starts_with("// "))
            });
        first.is_some_and(|line| !line.starts_with("//!"))
    });
    silent
        .map(|(source, _)| {
            let message = "does not say what it is; open it with a `//!` comment".to_owned();
            (source.path.clone(), 1, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_source_without_an_opening_is_found() {
        assert_eq!(check(&tree(&[("a.rs", "fn f() {}")])).len(), 1);
        assert!(check(&tree(&[("a.rs", "#![no_main]\n//! A fuzz target.\nfn f() {}")])).is_empty());
        assert!(check(&tree(&[("a.rs", "//! A.\nfn f() {}")])).is_empty());
    }
}
