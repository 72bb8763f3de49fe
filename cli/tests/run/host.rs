//! The other verbs.

use crate::kezhan;
use std::process::Stdio;

#[test]
fn doctor_ends_with_0_and_its_json_names_the_engine() {
    let output = kezhan().args(["doctor", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(matches!(report["engine"].as_str(), Some("kvm" | "soft")), "{report}");
    assert!(report["checks"].as_array().is_some_and(|checks| checks.len() > 5), "{report}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    for arguments in [&["doctor"][..], &["man"], &["completions", "bash"], &["run", "--help"]] {
        let mut child =
            kezhan().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn no_verb_shows_the_help_and_is_wrong_usage() {
    let output = kezhan().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: kezhan"));
}
