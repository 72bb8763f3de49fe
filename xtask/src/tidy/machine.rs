//! Nothing of the machine that it was built on gets into the tree: no path to the repository or to the
//! person's home, no host of a local package registry. What to look for is asked of the machine.

use super::Finding;
use super::source::Tree;
use crate::place;
use std::env;
use std::fs;
use std::path::Path;

/// Folders that every Linux has, and that the tree may name.
const STANDARD: &[&str] = &[
    "bin", "boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "proc", "root", "run",
    "sbin", "srv", "sys", "tmp", "usr", "var",
];
const REGISTRIES: &[&str] =
    &["crates.io", "github.com", "pypi.org", "npmjs.org", "debian.org", "localhost"];
/// Variables that name a registry.
const VARIABLES: &[&str] = &[
    "PIP_INDEX_URL",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "CARGO_REGISTRIES_DEFAULT",
    "GOPROXY",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let home = env::var("HOME").unwrap_or_default();
    let cargo = env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    let mut settings: Vec<String> =
        VARIABLES.iter().filter_map(|name| env::var(name).ok()).collect();
    settings.extend(fs::read_to_string(Path::new(&cargo).join("config.toml")));
    let mut words = paths(&place::root(), &home);
    words.extend(settings.iter().flat_map(|text| hosts(text)));
    find(tree, &words)
}

fn find(tree: &Tree, words: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        for (index, line) in source.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| contains(line, word)) {
                let message = format!("names `{word}` of this machine; remove it");
                findings.push((source.path.clone(), index + 1, message));
            }
        }
    }
    findings
}

/// Contains it, and not in the middle of a longer path or name.
fn contains(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at]
            .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}'))
    })
}

/// The paths that would give this machine away.
fn paths(root: &Path, home: &str) -> Vec<String> {
    let mut words = Vec::new();
    let first =
        root.components().nth(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
    match first {
        Some(first) if !STANDARD.contains(&&*first) => words.push(format!("/{first}/")),
        _ => words.push(root.to_string_lossy().into_owned()),
    }
    if home.starts_with("/home/") {
        words.push(home.to_owned());
    }
    words
}

/// Hosts in the URLs of a text that are not the public registries.
fn hosts(text: &str) -> Vec<String> {
    let urls = text.split("://").skip(1);
    let host = |rest: &str| {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')))
            .unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let private =
        |host: &String| !host.is_empty() && !REGISTRIES.iter().any(|public| host.ends_with(public));
    urls.map(host).filter(private).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn an_unusual_top_folder_and_a_home_are_given_away_by_any_path_below() {
        let words = paths(Path::new("/build17/k"), "/home/ann");
        let line = |text: &str| find(&tree(&[("a.md", text)]), &words).len();
        assert_eq!(line("see /build17/other/file"), 1);
        assert_eq!(line("in /home/ann/k"), 1);
        assert_eq!(line("in xtask/build17/a, out/build17/b and /home/bob"), 0);
    }

    #[test]
    fn a_usual_top_folder_gives_away_the_repository_alone() {
        let words = paths(Path::new("/home/ann/k"), "/root");
        assert_eq!(words, ["/home/ann/k"]);
    }

    #[test]
    fn the_host_of_a_private_registry_is_found_and_the_public_ones_are_not() {
        assert_eq!(hosts("registry = \"sparse+https://mirror.inn:80/index/\""), ["mirror.inn"]);
        assert!(hosts("https://index.crates.io/ https://pypi.org/simple").is_empty());
    }
}
