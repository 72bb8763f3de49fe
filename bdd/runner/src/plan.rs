//! Which scenarios run, and in which order.

use crate::tags::TagExpression;
use kezhan_features::Feature;
use kezhan_gherkin::Pickle;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What to run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Tags.
    pub tags: TagExpression,
    /// Part of the scenario's name.
    pub name: Option<String>,
    /// Only these lines of these files; all of a file that is not here.
    pub lines: Vec<(PathBuf, usize)>,
    /// Only a part of what is left.
    pub shard: Option<Shard>,
    /// The order.
    pub order: Order,
}

impl Default for Selection {
    fn default() -> Selection {
        Selection {
            tags: TagExpression::Any,
            name: None,
            lines: Vec::new(),
            shard: None,
            order: Order::Written,
        }
    }
}

/// One of several equal parts: `2/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub index: usize,
    /// How many parts.
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err(format!("shard \"{text}\": write it as 2/5, the second of five")),
        }
    }
}

/// The order of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As written.
    Written,
    /// Shuffled by a seed.
    Random(u64),
}

/// What will run: feature and scenario of each.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// The scenarios, in order.
    pub scenarios: Vec<(&'a Feature, &'a Pickle)>,
}

/// Chooses and orders scenarios.
pub fn select<'a>(features: &'a [Feature], selection: &Selection) -> Plan<'a> {
    let all = features
        .iter()
        .flat_map(|feature| feature.pickles.iter().map(move |pickle| (feature, pickle)));
    let mut scenarios: Vec<_> =
        all.filter(|(feature, pickle)| chosen(feature, pickle, selection)).collect();
    if let Some(Shard { index, count }) = selection.shard {
        let mine = |(at, _): &(usize, _)| at % count == index - 1;
        scenarios =
            scenarios.into_iter().enumerate().filter(mine).map(|(_, scenario)| scenario).collect();
    }
    if let Order::Random(seed) = selection.order {
        shuffle(&mut scenarios, seed);
    }
    Plan { scenarios }
}

fn chosen(feature: &Feature, pickle: &Pickle, selection: &Selection) -> bool {
    let tags: Vec<&str> = pickle.tags.iter().map(|tag| tag.name.as_str()).collect();
    let named = selection.name.as_ref().is_none_or(|name| pickle.name.contains(name));
    let lines: Vec<usize> = selection
        .lines
        .iter()
        .filter(|(path, _)| same(path, &feature.path))
        .map(|(_, line)| *line)
        .collect();
    let listed = lines.is_empty() || lines.iter().any(|line| covers(feature, pickle, *line));
    named && listed && selection.tags.holds(&tags)
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// A line means the scenario or row that begins there, or the last one that begins above it; above the first it means
/// the whole feature.
fn covers(feature: &Feature, pickle: &Pickle, line: usize) -> bool {
    let starts = feature.pickles.iter().map(|pickle| pickle.location.line);
    let nearest = starts.filter(|start| *start <= line).max();
    nearest.is_none_or(|nearest| nearest == pickle.location.line)
}

/// Fisher and Yates, with the generator xorshift64*.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    for last in (1..items.len()).rev() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let random = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        let other = usize::try_from(random).unwrap_or(0) % (last + 1);
        items.swap(last, other);
    }
}
