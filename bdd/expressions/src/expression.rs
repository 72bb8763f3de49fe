//! Expressions ready to match.

use crate::compile::compile;
use crate::error::ExpressionError;
use crate::parameter::{ParameterType, ParameterTypes};
use crate::syntax;
use crate::value::{Value, ValueError};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// How an expression is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// `a {size} disk`
    CucumberExpression,
    /// `^a (\d+) MiB disk$`
    RegularExpression,
}

/// A pattern of a step.
#[derive(Clone, Debug)]
pub struct Expression {
    source: String,
    kind: Kind,
    regex: Regex,
    groups: Vec<Option<ParameterType>>,
}

/// One argument of a matched step.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Where it begins in the sentence, in characters; absent for a group that took no part.
    pub start: Option<usize>,
    /// The text that matched.
    pub text: String,
    /// The parameter type's name; absent for a plain group of a regular expression.
    pub parameter: Option<String>,
    /// Its value, or why it is none.
    pub value: Result<Value, ValueError>,
}

impl Expression {
    /// Reads an expression: `/…/`, or a text that begins with `^` or ends with `$`, is a regular expression.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(source: &str, types: &ParameterTypes) -> Result<Expression, ExpressionError> {
        let slashed = source.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let anchored = source.starts_with('^') || source.ends_with('$');
        match slashed.or(anchored.then_some(source)) {
            Some(pattern) => Expression::regular(pattern, types),
            None => Expression::cucumber(source, types),
        }
    }

    fn cucumber(source: &str, types: &ParameterTypes) -> Result<Expression, ExpressionError> {
        let (pattern, groups) = compile(source, &syntax::parse(source)?, types)?;
        let groups = groups.into_iter().map(Some).collect();
        Ok(Expression {
            source: source.to_owned(),
            kind: Kind::CucumberExpression,
            regex: build(&pattern)?,
            groups,
        })
    }

    fn regular(source: &str, types: &ParameterTypes) -> Result<Expression, ExpressionError> {
        let regex = build(source)?;
        let groups = group_sources(source).map(|group| number_type(group, types)).collect();
        Ok(Expression { source: source.to_owned(), kind: Kind::RegularExpression, regex, groups })
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How it is written.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The names of its parameter types, in order; `None` for a plain group.
    pub fn parameters(&self) -> impl Iterator<Item = Option<&str>> {
        self.groups.iter().map(|group| group.as_ref().map(|kind| kind.name.as_str()))
    }

    /// How many arguments a match gives.
    pub fn arity(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// The arguments of a sentence, if it matches.
    pub fn matches(&self, text: &str) -> Option<Vec<Argument>> {
        let captures = self.regex.captures(text)?;
        let groups = captures.iter().skip(1).enumerate();
        Some(
            groups
                .map(|(at, group)| {
                    argument(text, group, self.groups.get(at).and_then(Option::as_ref))
                })
                .collect(),
        )
    }
}

fn build(pattern: &str) -> Result<Regex, ExpressionError> {
    let built = regex::RegexBuilder::new(pattern).size_limit(8 << 20).build();
    built.map_err(|error| ExpressionError::Regex {
        expression: pattern.to_owned(),
        reason: error.to_string(),
    })
}

fn argument(text: &str, group: Option<regex::Match<'_>>, kind: Option<&ParameterType>) -> Argument {
    let found = group.map_or("", |group| group.as_str());
    Argument {
        start: group.map(|group| text[..group.start()].chars().count()),
        text: found.to_owned(),
        parameter: kind.map(|kind| kind.name.clone()),
        value: kind.map_or_else(|| Ok(Value::Text(found.to_owned())), |kind| kind.value(found)),
    }
}

/// What stands inside each capturing group of a regular expression, in the order of their opening brackets.
fn group_sources(pattern: &str) -> impl Iterator<Item = &str> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    let mut open: Vec<Option<usize>> = Vec::new();
    let (mut class, mut escaped) = (false, false);
    for (at, letter) in pattern.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => {
                let rest = &pattern[at + 1..];
                let capturing =
                    !rest.starts_with('?') || rest.starts_with("?P<") || rest.starts_with("?<");
                open.push(capturing.then_some(groups.len()));
                groups.extend(capturing.then_some((at + 1, at + 1)));
            }
            ')' if !class => {
                let group = open.pop().flatten().and_then(|index| groups.get_mut(index));
                group.into_iter().for_each(|group| group.1 = at);
            }
            _ => {}
        }
    }
    groups.into_iter().map(|(start, end)| &pattern[start..end])
}

/// Numbers are recognised, as in Cucumber: a group that can hold only digits gives a number.
fn number_type(group: &str, types: &ParameterTypes) -> Option<ParameterType> {
    match group {
        r"\d+" | r"-?\d+" | "[0-9]+" | "-?[0-9]+" => types.find("int").cloned(),
        r"\d+\.\d+" | r"-?\d+\.\d+" | r"-?\d*\.\d+" => types.find("float").cloned(),
        _ => None,
    }
}
