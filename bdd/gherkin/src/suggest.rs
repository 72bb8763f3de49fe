//! Which keyword a misspelt one may have meant.
//!
//! Neither we nor the official parser can refuse `Gven x` below a title: it is a description there. So the
//! same guess serves the parser's messages and `lint`.

use crate::language::{Language, Title};

const TITLES: [Title; 5] =
    [Title::Feature, Title::Rule, Title::Background, Title::Scenario, Title::Examples];

/// Words of ordinary prose that are one letter away from a keyword.
const PROSE: [&str; 16] = [
    "the", "they", "them", "than", "these", "hen", "an", "any", "add", "end", "hand", "give",
    "gives", "bit", "put", "rule",
];

/// The keyword that a line seems to begin with, if it begins with none exactly.
///
/// A word written with spaces is compared with the line's first word, a word written without (`假如`) with as
/// many characters as it has. One edit is forgiven for short words, two from five letters on.
pub fn nearest_keyword<'l>(language: &'l Language, line: &str) -> Option<&'l str> {
    let steps = language.steps().iter().map(|(word, _)| word.as_str());
    let titles = TITLES.iter().flat_map(|title| language.titles(*title));
    let mut best: Option<(usize, &str)> = None;
    for word in steps.filter(|word| *word != "* ") {
        let spaced = word.ends_with(' ');
        if spaced && PROSE.contains(&first_word(line).to_lowercase().as_str()) {
            continue;
        }
        let written =
            if spaced { first_word(line) } else { first_letters(line, word.chars().count()) };
        consider(&mut best, word.trim_end(), &written);
    }
    if let Some((head, _)) = line.split_once([':', '：']) {
        titles.for_each(|word| consider(&mut best, word, head.trim_end()));
    }
    best.map(|(_, word)| word)
}

fn consider<'l>(best: &mut Option<(usize, &'l str)>, word: &'l str, written: &str) {
    let letters = word.chars().count();
    // One wrong character of two is another word, unless it is of a script where a character is a word.
    let allowed = match letters {
        0..=1 => return,
        2 if word.is_ascii() => return,
        2..=4 => 1,
        _ => 2,
    };
    let edits = distance(word, written, allowed + 1);
    if (1..=allowed).contains(&edits) && best.is_none_or(|(known, _)| edits < known) {
        *best = Some((edits, word));
    }
}

fn first_word(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

fn first_letters(line: &str, count: usize) -> String {
    line.chars().take(count).collect()
}

/// Edits (insert, delete, replace, swap neighbours; letter case does not count), or `limit` if not fewer.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(64).collect();
    let b: Vec<char> = b.to_lowercase().chars().take(64).collect();
    if a.len().abs_diff(b.len()) >= limit {
        return limit;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replace = above[j] + usize::from(x != y);
            let mut cost = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(code: &str, line: &str) -> Option<&'static str> {
        nearest_keyword(Language::find(code).unwrap(), line)
    }

    #[test]
    fn a_misspelt_keyword_is_recognised_in_both_languages() {
        assert_eq!(guess("en", "Gven the bank is open"), Some("Given"));
        assert_eq!(guess("en", "Scenaro: cash"), Some("Scenario"));
        assert_eq!(guess("en", "Hten it rains"), Some("Then"));
        assert_eq!(guess("zh-CN", "假入账户有余额"), Some("假如"));
        assert_eq!(guess("zh-CN", "那末取出现金"), Some("那么"));
    }

    #[test]
    fn ordinary_prose_is_not_taken_for_a_keyword() {
        assert_eq!(guess("en", "As a customer"), None);
        assert_eq!(guess("en", "The bank closes at five"), None);
        assert_eq!(guess("zh-CN", "作为客户"), None);
    }
}
