//! No closure stands in the generated tests, in their steps, or in the library: it is a rule of the examples,
//! and proved by parsing the code.

use std::path::{Path, PathBuf};
use syn::visit::Visit;

struct Closures {
    file: PathBuf,
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Closures {
    fn visit_expr_closure(&mut self, _closure: &'ast syn::ExprClosure) {
        self.found.push(self.file.display().to_string());
    }

    /// What stands in a macro, `assert!(…)` or `vec![…]`, is only words to the parser: read it as expressions.
    fn visit_macro(&mut self, words: &'ast syn::Macro) {
        let list = syn::parse_str::<syn::Expr>(&format!("[{}]", words.tokens));
        let mut within = Closures { file: self.file.clone(), found: Vec::new() };
        within.visit_expr(&list.expect("the macro holds expressions"));
        self.found.append(&mut within.found);
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension() == Some("rs".as_ref()) {
            files.push(path);
        }
    }
}

#[test]
fn no_closure_anywhere() {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    assert!(files.len() >= 6, "only {} files were looked at", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("the file can be read");
        let tree = syn::parse_file(&text).expect("the file is Rust");
        let mut closures = Closures { file, found: Vec::new() };
        closures.visit_file(&tree);
        assert_eq!(closures.found, Vec::<String>::new());
    }
}

#[test]
fn a_closure_is_found_even_within_a_macro() {
    let text = "fn f() { assert!([1].iter().any(|x| *x == 1)); g(|| ()); }";
    let mut closures = Closures { file: PathBuf::new(), found: Vec::new() };
    closures.visit_file(&syn::parse_file(text).expect("it is Rust"));
    assert_eq!(closures.found.len(), 2);
}
