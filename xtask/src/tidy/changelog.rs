//! `CHANGELOG.md` keeps the form of Keep a Changelog 1.1.0.

use super::Finding;
use super::source::Tree;

const FILE: &str = "CHANGELOG.md";
const KINDS: &[&str] = &["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    match tree.sources.iter().find(|source| source.path == FILE) {
        Some(source) => headings(&source.text),
        None => vec![(FILE.to_owned(), 1, "is missing; write what users will notice".to_owned())],
    }
}

fn headings(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |line, message: String| findings.push((FILE.to_owned(), line, message));
    let mut versions = 0;
    for (index, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("### ") {
            if !KINDS.contains(&kind) {
                report(index + 1, format!("`{kind}`; choose of {}", KINDS.join(", ")));
            }
        } else if let Some(version) = line.strip_prefix("## ") {
            if versions == 0 && version != "[Unreleased]" {
                report(index + 1, "the first version is to be `[Unreleased]`".to_owned());
            }
            if versions > 0 && !is_release(version) {
                report(index + 1, format!("`{version}`; write `[1.2.3] - 2026-01-31`"));
            }
            versions += 1;
        }
    }
    if versions == 0 {
        report(1, "has no version; begin with `## [Unreleased]`".to_owned());
    }
    findings
}

/// `[1.2.3] - 2026-01-31`
fn is_release(heading: &str) -> bool {
    let digits = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit())
    };
    let Some((version, date)) = heading.strip_prefix('[').and_then(|rest| rest.split_once("] - "))
    else {
        return false;
    };
    let date: Vec<&str> = date.split('-').collect();
    version.split('.').count() == 3
        && version.split('.').all(|part| part.parse::<u32>().is_ok())
        && matches!(date[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_keep_a_changelog_is_held() {
        assert!(
            headings("# Changelog\n## [Unreleased]\n### Added\n- a\n## [0.1.0] - 2026-11-25\n")
                .is_empty()
        );
        assert_eq!(headings("## [0.1.0] - 2026-11-25\n").len(), 1);
        assert_eq!(headings("## [Unreleased]\n### New\n").len(), 1);
        assert_eq!(headings("## [Unreleased]\n## 0.1\n").len(), 1);
        assert_eq!(headings("nothing").len(), 1);
    }
}
