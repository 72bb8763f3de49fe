//! No panic outside tests: a guest, a file or a client could reach it. Where it is impossible, a comment
//! `// PANIC: why` on the line or just above says so.

use super::Finding;
use super::source::Tree;

const METHODS: &[&str] = &["unwrap", "expect", "unwrap_err", "expect_err"];
const MACROS: &[&str] = &["panic", "todo", "unimplemented", "unreachable"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, rust) in tree.rust() {
        let text: Vec<&str> = source.text.lines().collect();
        for window in rust.tokens(&source.text).windows(3) {
            let [(before, _), (word, line), (after, _)] = window else { continue };
            let method = before == "." && METHODS.contains(&word.as_str()) && after == "(";
            let is_macro = MACROS.contains(&word.as_str()) && after == "!";
            if (method || is_macro) && !rust.in_tests(*line) && !explained(&text, *line) {
                let message =
                    format!("`{word}`; return an error, or say `// PANIC: why impossible`");
                findings.push((source.path.clone(), *line, message));
            }
        }
    }
    findings
}

/// Is there a `// PANIC:` on this line, or in the comment just above its statement?
fn explained(text: &[&str], line: usize) -> bool {
    const REACH: usize = 6;
    let says = |index: usize| text.get(index).is_some_and(|line| line.contains("// PANIC:"));
    let last = line - 1;
    says(last) || (last.saturating_sub(REACH)..last).any(says)
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    fn found(text: &str) -> usize {
        check(&tree(&[("a/src/lib.rs", text)])).len()
    }

    #[test]
    fn unwrap_and_its_kin_are_found_also_inside_macros() {
        assert_eq!(found("fn f() { g().unwrap(); h().expect(\"x\"); }"), 2);
        assert_eq!(found("fn f() { format!(\"{}\", g().unwrap()); todo!() }"), 2);
        assert_eq!(found("fn f() { g().unwrap_or(1); std::panic::catch_unwind(h); }"), 0);
    }

    #[test]
    fn tests_and_explained_places_are_left_alone() {
        assert_eq!(found("#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }"), 0);
        assert_eq!(
            found(
                "fn f() {\n    // PANIC: the table has an entry for each byte.\n    g().unwrap()\n}"
            ),
            0
        );
    }
}
