use super::*;
use proptest::prelude::*;
use std::process::Command;
use syn::visit::Visit;

const ENGLISH: &str = "Feature: Customer withdraws cash
  As a customer
  I want to withdraw cash
  So that I can buy bread

  Background:
    Given the bank is open

  Scenario: enough money
    Given the account holds 100
    When the customer asks for 20
    Then the note says:
      | amount | left |
      | 20     | 80   |
    And the mail is:
      \"\"\"
      Dear \"customer\"
      \"\"\"

  @slow
  Scenario Outline: <amount> of <balance>
    Given the account holds <balance>
    When the customer asks for <amount>
    Then the machine says \"<answer>\"
    Examples:
      | balance | amount | answer |
      | 10.5    | 20     | no     |
      | 100     | 5      | yes    |
";

const CHINESE: &str = "# language: zh-CN
功能: 取款
  场景大纲: 取 <金额>
    假如账户余额为 100 元
    当客户取款 <金额> 元
    那么显示“<结果>”
    例子:
      | 金额 | 结果 |
      | 20 | 成功 |
      | 200 | 余额不足 |
";

fn features(folder: &std::path::Path, texts: &[(&str, &str)]) -> Vec<kezhan_features::Feature> {
    for (name, text) in texts {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let paths: Vec<_> = texts.iter().map(|(name, _)| folder.join(name)).collect();
    let loaded = kezhan_features::load(&paths, "en");
    assert_eq!(loaded.problems, []);
    loaded.features
}

fn both(target: Target, strict: bool) -> Vec<OutputFile> {
    let folder = tempfile::tempdir().unwrap();
    let features =
        features(folder.path(), &[("withdraw.feature", ENGLISH), ("取款.feature", CHINESE)]);
    generate(&features, &Options { target, strict }).unwrap()
}

fn text(files: &[OutputFile], name: &str) -> String {
    files.iter().find(|file| file.path.to_str() == Some(name)).unwrap().text.clone()
}

#[test]
fn literals_and_columns_become_typed_parameters() {
    let rust = text(&both(Target::Rust, true), "generated/withdraw.rs");
    assert!(rust.contains("fn the_account_holds(&mut self, number: f64);"), "{rust}");
    assert!(rust.contains("fn the_customer_asks_for(&mut self, number: i64);"));
    assert!(rust.contains("fn the_machine_says(&mut self, answer: &str);"));
    assert!(rust.contains("fn the_note_says(&mut self, table: &[&[&str]]);"));
    assert!(rust.contains("world.the_account_holds(10.5);"));
    assert!(rust.contains("world.the_account_holds(100.0);"));
    assert!(rust.contains("//! I want to withdraw cash"));
}

#[test]
fn rows_under_a_title_without_columns_are_named_by_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let text = ENGLISH.replace("<amount> of <balance>", "rows");
    let features = features(folder.path(), &[("rows.feature", text.as_str())]);
    let options = Options { target: Target::Rust, strict: false };
    let rust = self::text(&generate(&features, &options).unwrap(), "generated/rows.rs");
    assert!(rust.contains("fn rows_10_5_20_no() {"), "{rust}");
}

#[test]
fn a_title_with_columns_names_its_rows() {
    let rust = text(&both(Target::Rust, false), "generated/withdraw.rs");
    assert!(rust.contains("#[ignore = \"@slow\"]\nfn step_20_of_10_5() {"), "{rust}");
    let chinese = text(&both(Target::Rust, false), "generated/取款.rs");
    assert!(chinese.contains("fn 取_20() {"), "{chinese}");
    assert!(chinese.contains("fn 账户余额为_元(&mut self, number: i64)"));
}

#[test]
fn a_step_that_is_not_written_fails_with_its_name_and_strict_has_no_default() {
    let rust = text(&both(Target::Rust, false), "generated/withdraw.rs");
    assert!(
        rust.contains("pending(\"Given the bank is open\", \"fn the_bank_is_open(&mut self)\");"),
        "{rust}"
    );
    assert!(!text(&both(Target::Rust, true), "generated/withdraw.rs").contains("pending"));
}

/// Finds closures.
#[derive(Default)]
struct Closures(usize);

impl<'ast> Visit<'ast> for Closures {
    fn visit_expr_closure(&mut self, _closure: &'ast syn::ExprClosure) {
        self.0 += 1;
    }
}

#[test]
fn generated_rust_parses_and_holds_no_closure() {
    for strict in [false, true] {
        for file in both(Target::Rust, strict) {
            let tree = syn::parse_file(&file.text)
                .unwrap_or_else(|error| panic!("{error}\n{}", file.text));
            let mut closures = Closures::default();
            closures.visit_file(&tree);
            assert_eq!(closures.0, 0, "{}", file.path.display());
        }
    }
}

#[test]
fn files_of_a_person_are_kept_and_stale_files_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let files = both(Target::Python, false);
    assert!(
        check(folder.path(), &files).unwrap().iter().all(|(_, action)| *action == Action::Stale)
    );
    write(folder.path(), &files).unwrap();
    let steps = folder.path().join("steps_withdraw.py");
    std::fs::write(&steps, "mine").unwrap();
    std::fs::write(folder.path().join("test_withdraw.py"), "old").unwrap();
    let actions: Vec<_> = check(folder.path(), &files).unwrap();
    let of = |name: &str| actions.iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
    assert_eq!(of("steps_withdraw.py"), Action::Kept);
    assert_eq!(of("test_withdraw.py"), Action::Stale);
    assert_eq!(of("generated_withdraw.py"), Action::Unchanged);
    write(folder.path(), &files).unwrap();
    assert_eq!(std::fs::read_to_string(steps).unwrap(), "mine");
}

#[test]
fn two_features_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let features = features(folder.path(), &[("a-b.feature", ENGLISH), ("a b.feature", CHINESE)]);
    let error = generate(&features, &Options { target: Target::Go, strict: false }).unwrap_err();
    assert!(error.to_string().ends_with("would both be written to a_b; rename one"), "{error}");
}

/// Runs a command in a folder; `None`, with the reason printed, when there is no such program.
fn run(program: &str, arguments: &[&str], folder: &std::path::Path) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).current_dir(folder).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            eprintln!("SKIPPED: {program}: {error}");
            None
        }
    }
}

#[test]
fn generated_rust_compiles_and_is_red_at_the_first_missing_step() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &both(Target::Rust, false)).unwrap();
    let arguments = ["--edition", "2024", "--test", "features.rs", "-o", "program"];
    let Some((compiled, text)) = run("rustc", &arguments, folder.path()) else { return };
    assert!(compiled, "{text}");
    assert!(!text.contains("warning"), "{text}");
    let (passed, text) = run("./program", &[], folder.path()).unwrap();
    assert!(!passed);
    assert!(text.contains("the step \"Given the bank is open\" is not written yet: add `fn the_bank_is_open(&mut self)`"));
    assert!(text.contains("0 passed; 3 failed; 2 ignored"), "{text}");
}

#[test]
fn strict_rust_makes_the_compiler_list_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &both(Target::Rust, true)).unwrap();
    let arguments = ["--edition", "2024", "--test", "features.rs", "-o", "program"];
    let Some((compiled, text)) = run("rustc", &arguments, folder.path()) else { return };
    assert!(!compiled);
    assert!(text.contains("error[E0046]") && text.contains("`the_bank_is_open`"), "{text}");
}

#[test]
fn generated_go_compiles_and_is_red_at_the_first_missing_step() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &both(Target::Go, false)).unwrap();
    std::fs::write(folder.path().join("go.mod"), "module example\n").unwrap();
    let Some((passed, text)) = run("go", &["test", "./..."], folder.path()) else { return };
    assert!(!passed);
    assert!(text.contains("the step \"Given the bank is open\" is not written yet"), "{text}");
    let Some((_, unformatted)) = run("gofmt", &["-l", "."], folder.path()) else { return };
    assert_eq!(unformatted, "");
}

#[test]
fn generated_python_runs_and_is_red_at_the_first_missing_step() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &both(Target::Python, false)).unwrap();
    let python = std::env::var("KEZHAN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let Some((passed, text)) = run(&python, &["-m", "pytest", "-q"], folder.path()) else { return };
    if text.contains("No module named pytest") {
        eprintln!("SKIPPED: {text}");
        return;
    }
    assert!(!passed);
    assert!(text.contains("the step \"Given the bank is open\" is not written yet"), "{text}");
    assert!(text.contains("3 failed, 2 skipped"), "{text}");
}

proptest! {
    #[test]
    fn whatever_a_feature_says_the_rust_parses(
        title in ".{0,20}", step in "[^\\n\\r]{1,30}", cell in "[^\\n\\r|\\\\]{0,10}",
    ) {
        let text = format!(
            "Feature: {0}\n  {0}\n  Scenario Outline: {0} <a>\n    Given {step} <a>\n    When \"<a>\" <a>{step}\n    Examples:\n      | a |\n      | {cell} |\n",
            title.replace(['\n', '\r'], " ")
        );
        let Ok(mut document) = kezhan_gherkin::parse(&text, "en") else { return Ok(()) };
        document.uri = Some("x.feature".to_owned());
        let pickles = kezhan_gherkin::pickles(&document, &mut kezhan_gherkin::Ids::from(1000)).unwrap();
        let feature = kezhan_features::Feature { path: "x.feature".into(), text, document, pickles };
        for target in [Target::Rust, Target::Go, Target::Python] {
            for file in generate(std::slice::from_ref(&feature), &Options { target, strict: false }).unwrap() {
                if target == Target::Rust {
                    prop_assert!(syn::parse_file(&file.text).is_ok(), "{}", file.text);
                }
            }
        }
    }
}
