//! Names that say nothing become the place where everything goes.

use super::Finding;
use super::source::Tree;

const EMPTY: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "stuff"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let named = tree.all_rust().filter_map(|(source, _)| {
        let parts = source.path.trim_end_matches(".rs").split('/');
        let word =
            parts.flat_map(|part| part.split(['-', '_'])).find(|word| EMPTY.contains(word))?;
        let message = format!(
            "`{word}` in the path; name it after what it holds, in the specification's terms"
        );
        Some((source.path.clone(), 1, message))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_folder_or_file_named_for_nothing_is_found() {
        assert_eq!(check(&tree(&[("core/utils/src/lib.rs", "")])).len(), 1);
        assert_eq!(check(&tree(&[("core/device/src/pci_helpers.rs", "")])).len(), 1);
        assert!(check(&tree(&[("core/device/src/community.rs", "")])).is_empty());
    }
}
