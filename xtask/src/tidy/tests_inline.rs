//! Tests stand beside the code but do not bury it: a longer block moves to a file of its own.

use super::Finding;
use super::source::Tree;

const LIMIT: usize = 150;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, rust) in tree.rust() {
        let length: usize = rust.test_blocks().iter().map(|block| block.clone().count()).sum();
        if let (Some(block), true) = (rust.test_blocks().first(), length > LIMIT) {
            let message = format!(
                "{length} lines of tests; move them to a tests.rs, {LIMIT} are the limit inline"
            );
            findings.push((source.path.clone(), *block.start(), message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_long_block_of_tests_is_to_move() {
        let tests = |n: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}", "fn f() {}\n".repeat(n));
        assert!(check(&tree(&[("a.rs", &tests(100))])).is_empty());
        assert_eq!(check(&tree(&[("a.rs", &tests(160))])).len(), 1);
        assert!(check(&tree(&[("a/tests.rs", &tests(160))])).is_empty());
    }
}
