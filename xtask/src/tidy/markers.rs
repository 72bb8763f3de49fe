//! No notes of unfinished work: it is done, or it is an issue.

use super::Finding;
use super::source::Tree;

const MARKERS: &[&str] = &["TODO", "FIXME", "HACK"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, _) in tree.all_rust() {
        for (index, line) in source.text.lines().enumerate() {
            let Some(at) = line.find("//") else { continue };
            let mut words = line[at..].split(|c: char| !c.is_ascii_alphabetic());
            if let Some(word) = words.find(|word| MARKERS.contains(word)) {
                let message = format!("{word}; finish it, or file an issue and remove the note");
                findings.push((source.path.clone(), index + 1, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_note_in_a_comment_is_found_and_a_word_in_code_is_not() {
        assert_eq!(check(&tree(&[("a.rs", "fn f() {} /\u{2f} TODO: g")])).len(), 1);
        assert!(check(&tree(&[("a.rs", "const TODO: u8 = 1;")])).is_empty());
    }
}
