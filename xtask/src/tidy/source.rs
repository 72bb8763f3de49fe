//! The files that git knows, and what the rules ask of Rust sources.

use crate::{Outcome, program};
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A text file.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its syntax, for Rust.
    pub(crate) rust: Option<Rust>,
}

/// What is known of a Rust source.
pub(crate) struct Rust {
    /// The syntax tree.
    pub(crate) file: syn::File,
    /// The whole file is test code: by its place, or since it is a module under `cfg(test)`.
    pub(crate) is_test: bool,
    /// Lines of items under `cfg(test)`.
    tests: Vec<RangeInclusive<usize>>,
}

/// All of them.
pub(crate) struct Tree {
    /// Sorted by path.
    pub(crate) sources: Vec<Source>,
}

impl Tree {
    /// Reads what git tracks, and what it would track.
    ///
    /// # Errors
    /// git fails, or a source does not parse.
    pub(crate) fn read(root: &Path) -> Outcome<Tree> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root);
        let list = program::text(&mut git)?;
        let mut files = Vec::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // What is not text, or has been removed and not yet committed, is of no interest.
            if let Ok(text) = fs::read_to_string(root.join(path)) {
                files.push((path.to_owned(), text));
            }
        }
        Tree::of(files)
    }

    /// A tree of these files.
    ///
    /// # Errors
    /// One does not parse.
    pub(crate) fn of(files: Vec<(String, String)>) -> Outcome<Tree> {
        let mut sources = Vec::new();
        let mut test_files = BTreeSet::new();
        for (path, text) in files {
            let rust = if path.ends_with(".rs") { Some(Rust::parse(&path, &text)?) } else { None };
            if let Some(rust) = &rust {
                test_files.extend(test_modules(&path, &rust.file));
            }
            sources.push(Source { path, text, rust });
        }
        for source in &mut sources {
            let below = |module: &PathBuf| {
                let path = Path::new(&source.path);
                path.with_extension("") == *module || path.starts_with(module)
            };
            if let Some(rust) = &mut source.rust {
                rust.is_test |= test_files.iter().any(below);
            }
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { sources })
    }

    /// The Rust sources that are not test code.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&Source, &Rust)> {
        self.all_rust().filter(|(_, rust)| !rust.is_test)
    }

    /// The Rust sources.
    pub(crate) fn all_rust(&self) -> impl Iterator<Item = (&Source, &Rust)> {
        self.sources.iter().filter_map(|source| Some((source, source.rust.as_ref()?)))
    }
}

impl Rust {
    fn parse(path: &str, text: &str) -> Outcome<Rust> {
        let file = syn::parse_file(text).map_err(|e| {
            format!("{path}:{}: {e}; `cargo check` shows more", e.span().start().line)
        })?;
        let mut finder = TestItems::default();
        finder.visit_file(&file);
        Ok(Rust { is_test: is_test_path(path), tests: finder.lines, file })
    }

    /// Is this line test code?
    pub(crate) fn in_tests(&self, line: usize) -> bool {
        self.is_test || self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// The blocks of test code in this file.
    pub(crate) fn test_blocks(&self) -> &[RangeInclusive<usize>] {
        &self.tests
    }

    /// All tokens, those in macros and groups too.
    pub(crate) fn tokens(&self, text: &str) -> Vec<(String, usize)> {
        let mut all = Vec::new();
        if let Ok(stream) = text.parse::<TokenStream>() {
            flatten(stream, &mut all);
        }
        all
    }
}

fn flatten(stream: TokenStream, all: &mut Vec<(String, usize)>) {
    for token in stream {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                all.push(("(".to_owned(), line));
                flatten(group.stream(), all);
                all.push((")".to_owned(), line));
            }
            TokenTree::Literal(_) => all.push(("\"".to_owned(), line)),
            other => all.push((other.to_string(), line)),
        }
    }
}

/// Test code by its place: integration tests, benchmarks, fuzz targets, test kits.
fn is_test_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let folder = |name: &&str| matches!(*name, "tests" | "benches" | "fuzz" | "testkit");
    let file = parts.last().copied().unwrap_or_default();
    parts.iter().any(folder) || matches!(file, "tests.rs" | "testkit.rs")
}

/// The modules that `path` declares under `cfg(test)`, as paths without extension.
fn test_modules(path: &str, file: &syn::File) -> Vec<PathBuf> {
    let path = Path::new(path);
    let own = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.parent().unwrap_or(path).to_path_buf(),
        _ => path.with_extension(""),
    };
    let declared = |item: &syn::Item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_test(&module.attrs) => {
            Some(own.join(module.ident.to_string()))
        }
        _ => None,
    };
    file.items.iter().filter_map(declared).collect()
}

/// Is one of these `#[test]` or a `#[cfg(…)]` that names `test`?
fn is_test(attributes: &[syn::Attribute]) -> bool {
    let names_test = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let mut words = Vec::new();
            flatten(list.tokens.clone(), &mut words);
            words.iter().any(|(word, _)| word == "test")
                && words.iter().all(|(word, _)| word != "not")
        }
        meta => meta.path().is_ident("test"),
    };
    attributes.iter().any(names_test)
}

/// The lines of a span.
pub(crate) fn lines(span: Span) -> RangeInclusive<usize> {
    span.start().line..=span.end().line
}

#[derive(Default)]
struct TestItems {
    lines: Vec<RangeInclusive<usize>>,
}

impl<'a> Visit<'a> for TestItems {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if is_test(&item.attrs) {
            self.lines.push(lines(item.span()));
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if is_test(&item.attrs) {
            self.lines.push(lines(item.span()));
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        if is_test(&item.attrs) {
            self.lines.push(lines(item.span()));
        } else {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if is_test(&item.attrs) {
            self.lines.push(lines(item.span()));
        }
    }
}

#[cfg(test)]
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    Tree::of(files.iter().map(own).collect()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_declared_under_cfg_test_is_test_code_with_all_below_it() {
        let tree = tree(&[
            ("a/src/lib.rs", "#[cfg(test)]\nmod kernels;\nmod real;"),
            ("a/src/kernels.rs", ""),
            ("a/src/kernels/small.rs", ""),
            ("a/src/real.rs", ""),
        ]);
        let real: Vec<_> = tree.rust().map(|(source, _)| &*source.path).collect();
        assert_eq!(real, ["a/src/lib.rs", "a/src/real.rs"]);
    }

    #[test]
    fn cfg_not_test_is_not_test_code() {
        let tree = tree(&[("a/src/lib.rs", "#[cfg(not(test))]\nfn f() {}\n#[test]\nfn g() {}")]);
        let (_, rust) = tree.rust().next().unwrap();
        assert!(!rust.in_tests(2) && rust.in_tests(4));
    }
}
