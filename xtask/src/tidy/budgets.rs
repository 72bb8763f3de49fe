//! Budgets of size: lines of a function and of a file, number of arguments.

use super::Finding;
use super::source::{Rust, Tree, lines};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FUNCTION: usize = 80;
/// A function that is one `match` whose arms are one line each.
const TABLE: usize = 150;
const ARGUMENTS: usize = 6;
const FILE: usize = 800;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, rust) in tree.rust() {
        let length = source.text.lines().count() - test_lines(rust);
        if length > FILE {
            let message = format!("{length} lines; split the file, {FILE} are the limit");
            findings.push((source.path.clone(), 1, message));
        }
        let mut functions = Functions { rust, found: Vec::new() };
        functions.visit_file(&rust.file);
        let with_path = |(line, message)| (source.path.clone(), line, message);
        findings.extend(functions.found.into_iter().map(with_path));
    }
    findings
}

fn test_lines(rust: &Rust) -> usize {
    rust.test_blocks().iter().map(|block| block.clone().count()).sum()
}

struct Functions<'a> {
    rust: &'a Rust,
    found: Vec<(usize, String)>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let first = signature.span().start().line;
        if self.rust.in_tests(first) {
            return;
        }
        let name = &signature.ident;
        let length = lines(body.span()).end() + 1 - first;
        let limit = if is_table(body) { TABLE } else { FUNCTION };
        if length > limit {
            let message = format!("`{name}` has {length} lines; split it, {limit} are the limit");
            self.found.push((first, message));
        }
        let arguments = signature.inputs.len();
        if arguments > ARGUMENTS {
            let message = format!(
                "`{name}` has {arguments} arguments; give it a struct, {ARGUMENTS} are the limit"
            );
            self.found.push((first, message));
        }
    }
}

impl<'a> Visit<'a> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.measure(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Ends in a `match` of one-line arms, which is nearly all of it.
fn is_table(body: &syn::Block) -> bool {
    let Some(syn::Stmt::Expr(syn::Expr::Match(table), _)) = body.stmts.last() else {
        return false;
    };
    let before = table.span().start().line - body.span().start().line;
    before <= 10 && table.arms.iter().all(|arm| lines(arm.body.span()).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&tree(&[("a/src/lib.rs", text)])).into_iter().map(|(_, _, message)| message).collect()
    }

    #[test]
    fn a_function_of_81_lines_is_too_long_and_one_of_80_is_not() {
        let function = |n: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(n - 2));
        assert_eq!(found(&function(81)).len(), 1);
        assert!(found(&function(80)).is_empty());
    }

    #[test]
    fn a_table_of_one_line_arms_may_have_150() {
        let arms: String = (0..120).map(|n| format!("{n} => {n},\n")).collect();
        assert!(
            found(&format!("fn f(n: u8) -> u8 {{\nmatch n {{\n{arms}_ => 0,\n}}\n}}")).is_empty()
        );
        let wide = arms.replace("\n7 => 7", "\n7 => {\n7\n}");
        assert_eq!(
            found(&format!("fn f(n: u8) -> u8 {{\nmatch n {{\n{wide}_ => 0,\n}}\n}}")).len(),
            1
        );
    }

    #[test]
    fn seven_arguments_are_too_many() {
        let message = &found("fn f(a: A, b: A, c: A, d: A, e: A, f: A, g: A) {}")[0];
        assert!(message.starts_with("`f` has 7 arguments"));
    }

    #[test]
    fn tests_are_not_measured() {
        let body = "g();\n".repeat(900);
        assert!(found(&format!("#[cfg(test)]\nmod tests {{\nfn f() {{\n{body}}}\n}}")).is_empty());
    }
}
