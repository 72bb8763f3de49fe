//! User stories: the three sentences that say for whom, what and why.
//!
//! They are free text to the grammar. We read them from a feature's description, in English and Chinese, so that
//! reports and generated files can show them; the description stays as written.

use serde::{Deserialize, Serialize};

/// "As a …, I want …, so that …"; any part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// For whom.
    pub role: Option<String>,
    /// What.
    pub want: Option<String>,
    /// Why.
    pub benefit: Option<String>,
}

const ROLES: &[&str] =
    &["as an ", "as a ", "as the ", "作为一名", "作为一个", "作为一位", "作为", "身为"];
const WANTS: &[&str] = &[
    "i want to ",
    "i want ",
    "i would like to ",
    "i would like ",
    "我想要",
    "我希望",
    "我想",
    "我要",
];
const BENEFITS: &[&str] = &["so that ", "in order to ", "以便于", "以便", "从而", "为了", "这样"];

impl Story {
    /// The story in a description, or nothing when it tells none.
    pub fn find(description: &str) -> Option<Story> {
        let mut story = Story::default();
        for line in description.lines().map(str::trim) {
            let slots = [
                (&mut story.role, ROLES),
                (&mut story.want, WANTS),
                (&mut story.benefit, BENEFITS),
            ];
            for (slot, openings) in slots {
                if slot.is_none() {
                    *slot = after_any(line, openings);
                }
            }
        }
        (story.role.is_some() || story.want.is_some()).then_some(story)
    }
}

/// The openings of the three sentences in a language.
const LABELS: [(&str, [&str; 3]); 3] = [
    ("zh-CN", ["作为", "我想要", "以便"]),
    ("zh-TW", ["作為", "我想要", "以便"]),
    ("en", ["As a", "I want to", "So that"]),
];

impl Story {
    /// The sentences with their usual openings in a language; English for languages that we do not know.
    pub fn sentences(&self, language: &str) -> Vec<String> {
        let known = LABELS.iter().find(|(code, _)| *code == language).or(LABELS.last());
        let (gap, labels) = known.map_or((" ", [""; 3]), |(code, labels)| {
            (if *code == "en" { " " } else { "" }, *labels)
        });
        let parts = [&self.role, &self.want, &self.benefit];
        let said =
            labels.iter().zip(parts).filter_map(|(label, part)| Some((label, part.as_ref()?)));
        said.map(|(label, part)| format!("{label}{gap}{part}")).collect()
    }
}

fn after_any(line: &str, openings: &[&str]) -> Option<String> {
    openings.iter().find_map(|opening| {
        let head = line.get(..opening.len())?;
        let rest = line.get(opening.len()..)?;
        let punctuation = |c: char| c.is_whitespace() || "，,。.：:".contains(c);
        (head.to_lowercase() == **opening).then(|| rest.trim_matches(punctuation).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_read_in_english_and_in_chinese() {
        let english =
            Story::find("  As a customer,\n  I want to withdraw cash,\n  so that I can buy bread.")
                .unwrap();
        assert_eq!(english.role.as_deref(), Some("customer"));
        assert_eq!(english.want.as_deref(), Some("withdraw cash"));
        assert_eq!(english.benefit.as_deref(), Some("I can buy bread"));
        assert_eq!(english.sentences("en")[1], "I want to withdraw cash");
        let chinese =
            Story::find("作为客户，\n我想要从取款机取现金，\n以便不必去银行排队。").unwrap();
        assert_eq!(chinese.role.as_deref(), Some("客户"));
        assert_eq!(chinese.want.as_deref(), Some("从取款机取现金"));
        assert_eq!(chinese.benefit.as_deref(), Some("不必去银行排队"));
        assert_eq!(chinese.sentences("zh-CN")[0], "作为客户");
    }

    #[test]
    fn prose_is_no_story() {
        assert_eq!(Story::find("Cash machines are old."), None);
    }
}
