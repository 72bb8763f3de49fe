//! Subjects of the commits that the base branch does not have yet: `area: change in imperative`.

use super::Finding;
use super::source::Tree;
use crate::{Outcome, place, program};
use std::process::Command;

const LIMIT: usize = 72;
/// Tried in this order; the first that exists is the base.
const BASES: &[&str] = &["origin/HEAD", "origin/main", "main"];

pub(super) fn check(_: &Tree) -> Outcome<Vec<Finding>> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        program::text(git.args(arguments).current_dir(place::root()))
    };
    let exists = |base: &&&str| git(&["rev-parse", "--verify", "--quiet", base]).is_ok();
    let Some(base) = BASES.iter().find(exists) else { return Ok(Vec::new()) };
    let range = format!("{base}..HEAD");
    let log = git(&["log", "--no-merges", "--format=%h %s", &range])?;
    Ok(log.lines().filter_map(breach).collect())
}

/// A line of the log: the commit, a space, the subject.
fn breach(line: &str) -> Option<Finding> {
    let (commit, subject) = line.split_once(' ')?;
    let report =
        |message: &str| Some((format!("commit {commit}"), 1, format!("`{subject}`: {message}")));
    let length = subject.chars().count();
    if length > LIMIT {
        return report(&format!("{length} characters; {LIMIT} are the limit"));
    }
    let area = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/, .".contains(c);
    match subject.split_once(": ") {
        Some((before, after)) if before.chars().all(area) && !after.trim().is_empty() => None,
        _ => report("write `area: change in imperative`, the area in lower case"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_its_area_and_is_short() {
        assert_eq!(breach("abc1234 pci: add the host bridge"), None);
        assert_eq!(breach("abc1234 cpu/soft: add the TLB"), None);
        assert!(breach("abc1234 wip").is_some());
        assert!(breach("abc1234 Add things").is_some());
        assert!(breach(&format!("abc1234 a: {}", "b".repeat(80))).is_some());
    }
}
