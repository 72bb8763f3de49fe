//! Tag expressions: `@a and not (@b or @c)`. (Cucumber reference, "Tag expressions")

/// An expression over tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagExpression {
    /// Every scenario.
    Any,
    /// Scenarios with a tag.
    Tag(String),
    /// Scenarios that something does not hold for.
    Not(Box<TagExpression>),
    /// Scenarios that both hold for.
    And(Box<TagExpression>, Box<TagExpression>),
    /// Scenarios that either holds for.
    Or(Box<TagExpression>, Box<TagExpression>),
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tag expression \"{expression}\": {what}; write it as \"@a and not (@b or @c)\"")]
pub struct TagError {
    /// The expression.
    pub expression: String,
    /// What is wrong.
    pub what: String,
}

/// How deep brackets and `not` may nest.
const MAX_DEPTH: usize = 64;

impl std::str::FromStr for TagExpression {
    type Err = TagError;

    fn from_str(text: &str) -> Result<TagExpression, TagError> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let mut words = Words { words: spaced.split_whitespace().collect(), at: 0 };
        let wrong = |what: String| TagError { expression: text.to_owned(), what };
        if words.words.is_empty() {
            return Ok(TagExpression::Any);
        }
        let expression = words.or(0).map_err(wrong)?;
        match words.peek() {
            None => Ok(expression),
            Some(word) => Err(wrong(format!("\"{word}\" is not expected"))),
        }
    }
}

struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<TagExpression, String> {
        let mut left = self.and(depth)?;
        while self.take("or") {
            left = TagExpression::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<TagExpression, String> {
        let mut left = self.not(depth)?;
        while self.take("and") {
            left = TagExpression::And(Box::new(left), Box::new(self.not(depth)?));
        }
        Ok(left)
    }

    fn not(&mut self, depth: usize) -> Result<TagExpression, String> {
        if depth > MAX_DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        if self.take("not") {
            return Ok(TagExpression::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            return if self.take(")") {
                Ok(inner)
            } else {
                Err("a bracket is not closed".to_owned())
            };
        }
        match self.peek() {
            Some(word) if word.starts_with('@') => {
                self.at += 1;
                Ok(TagExpression::Tag(word.to_owned()))
            }
            Some(word) => Err(format!("\"{word}\" is no tag")),
            None => Err("a tag is missing at the end".to_owned()),
        }
    }
}

impl TagExpression {
    /// Whether it holds for a scenario's tags.
    pub fn holds(&self, tags: &[&str]) -> bool {
        match self {
            TagExpression::Any => true,
            TagExpression::Tag(tag) => tags.contains(&tag.as_str()),
            TagExpression::Not(inner) => !inner.holds(tags),
            TagExpression::And(left, right) => left.holds(tags) && right.holds(tags),
            TagExpression::Or(left, right) => left.holds(tags) || right.holds(tags),
        }
    }
}
