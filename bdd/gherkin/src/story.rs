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
    /// The sentences as they stand, without the punctuation at their ends.
    pub said: Vec<String>,
}

const ROLES: &[&str] =
    &["as an ", "as a ", "as the ", "作为一名", "作为一个", "作为一位", "作为", "身为"];
/// "As someone …" is a role too; what follows stays with it.
const NAMELESS: &[&str] = &["as some", "as any", "as every"];
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
                if slot.is_none()
                    && let Some(part) = after_any(line, openings)
                {
                    *slot = Some(part);
                    story.said.push(line.trim_matches(is_punctuation).to_owned());
                }
            }
        }
        (story.role.is_some() || story.want.is_some()).then_some(story)
    }
}

impl Story {
    /// The sentences as their author wrote them, in order.
    pub fn sentences(&self) -> &[String] {
        &self.said
    }
}

fn after_any(line: &str, openings: &[&str]) -> Option<String> {
    let low = line.to_lowercase();
    if openings == ROLES && NAMELESS.iter().any(|opening| low.starts_with(opening)) {
        return line.get(3..).map(|rest| rest.trim_matches(is_punctuation).to_owned());
    }
    openings.iter().find_map(|opening| {
        let head = line.get(..opening.len())?;
        let rest = line.get(opening.len()..)?;
        (head.to_lowercase() == **opening).then(|| rest.trim_matches(is_punctuation).to_owned())
    })
}

fn is_punctuation(letter: char) -> bool {
    letter.is_whitespace() || "，,。.：:".contains(letter)
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
        assert_eq!(english.sentences()[1], "I want to withdraw cash");
        let chinese =
            Story::find("作为客户，\n我想要从取款机取现金，\n以便不必去银行排队。").unwrap();
        assert_eq!(chinese.role.as_deref(), Some("客户"));
        assert_eq!(chinese.want.as_deref(), Some("从取款机取现金"));
        assert_eq!(chinese.benefit.as_deref(), Some("不必去银行排队"));
        assert_eq!(chinese.sentences()[0], "作为客户");
    }

    #[test]
    fn sentences_are_shown_as_they_were_written() {
        let story = Story::find("As someone in a hurry\nI want every answer at once").unwrap();
        assert_eq!(story.sentences(), ["As someone in a hurry", "I want every answer at once"]);
        assert_eq!(story.role.as_deref(), Some("someone in a hurry"));
        assert_eq!(story.want.as_deref(), Some("every answer at once"));
    }

    #[test]
    fn prose_is_no_story() {
        assert_eq!(Story::find("Cash machines are old."), None);
    }
}
