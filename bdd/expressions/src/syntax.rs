//! The syntax of Cucumber Expressions.
//!
//! ```text
//! expression  = (alternation | optional | parameter | text)*
//! alternation = alternative ("/" alternative)+        alternative = (optional | text)+
//! optional    = "(" text ")"
//! parameter   = "{" name "}"
//! ```
//!
//! White space and parameters bound an alternation. (Cucumber Expressions, "Alternative text", "Optional text")

use crate::error::ExpressionError;
use crate::spec::SPECIAL;

/// A part of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Text(String),
    Optional(String),
    Parameter(String),
    Alternation(Vec<Vec<Node>>),
}

/// A node, a slash between alternatives, or a space that bounds them.
enum Piece {
    Node(Node),
    Slash(usize),
    Space,
}

pub(crate) fn parse(expression: &str) -> Result<Vec<Node>, ExpressionError> {
    let mut scanner = Scanner { expression, letters: expression.chars().collect(), at: 0 };
    let mut nodes = Vec::new();
    let mut run: Vec<Piece> = Vec::new();
    while let Some(piece) = scanner.piece()? {
        match piece {
            Piece::Space => {
                nodes.extend(close_run(expression, std::mem::take(&mut run))?);
                nodes.push(Node::Text(" ".to_owned()));
            }
            Piece::Node(parameter @ Node::Parameter(_)) => {
                nodes.extend(close_run(expression, std::mem::take(&mut run))?);
                nodes.push(parameter);
            }
            piece => run.push(piece),
        }
    }
    nodes.extend(close_run(expression, run)?);
    Ok(nodes)
}

/// A run of pieces without space or parameter: an alternation if it holds a slash.
fn close_run(expression: &str, run: Vec<Piece>) -> Result<Vec<Node>, ExpressionError> {
    let mut alternatives: Vec<Vec<Node>> = vec![Vec::new()];
    let mut column = 1;
    for piece in run {
        match piece {
            Piece::Slash(at) => {
                column = at;
                alternatives.push(Vec::new());
            }
            Piece::Node(node) => {
                alternatives.last_mut().into_iter().for_each(|last| last.push(node.clone()))
            }
            Piece::Space => {}
        }
    }
    if alternatives.len() == 1 {
        return Ok(alternatives.remove(0));
    }
    let fixed = |nodes: &Vec<Node>| nodes.iter().any(|node| matches!(node, Node::Text(_)));
    if !alternatives.iter().all(fixed) {
        return Err(ExpressionError::Empty {
            expression: expression.to_owned(),
            column,
            what: "an alternative",
        });
    }
    Ok(vec![Node::Alternation(alternatives)])
}

struct Scanner<'a> {
    expression: &'a str,
    letters: Vec<char>,
    at: usize,
}

impl Scanner<'_> {
    fn piece(&mut self) -> Result<Option<Piece>, ExpressionError> {
        let Some(&letter) = self.letters.get(self.at) else { return Ok(None) };
        let piece = match letter {
            '(' => {
                let column = self.at + 1;
                let text = self.inside(')')?;
                if text.is_empty() {
                    let expression = self.expression.to_owned();
                    return Err(ExpressionError::Empty { expression, column, what: "( )" });
                }
                Piece::Node(Node::Optional(text))
            }
            '{' => Piece::Node(Node::Parameter(self.inside('}')?)),
            '/' => {
                self.at += 1;
                Piece::Slash(self.at)
            }
            ' ' => {
                self.at += 1;
                Piece::Space
            }
            _ => Piece::Node(Node::Text(self.text()?)),
        };
        Ok(Some(piece))
    }

    /// Plain text up to the next character with a meaning; a closing bracket without its partner has none.
    fn text(&mut self) -> Result<String, ExpressionError> {
        let mut text = String::new();
        while let Some(&letter) = self.letters.get(self.at) {
            match letter {
                '\\' => text.push(self.escaped()?),
                '(' | '{' | '/' | ' ' => break,
                other => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
        Ok(text)
    }

    fn escaped(&mut self) -> Result<char, ExpressionError> {
        match self.letters.get(self.at + 1) {
            Some(letter) if SPECIAL.contains(letter) => {
                self.at += 2;
                Ok(*letter)
            }
            _ => {
                let expression = self.expression.to_owned();
                Err(ExpressionError::Escape { expression, column: self.at + 1 })
            }
        }
    }

    /// The text between a bracket and its partner.
    fn inside(&mut self, close: char) -> Result<String, ExpressionError> {
        let open = self.at;
        let mut text = String::new();
        self.at += 1;
        while let Some(&letter) = self.letters.get(self.at) {
            match letter {
                '\\' => text.push(self.escaped()?),
                found if found == close => {
                    self.at += 1;
                    return Ok(text);
                }
                found if "({".contains(found) || (close == '}' && ")/".contains(found)) => {
                    let expression = self.expression.to_owned();
                    return Err(ExpressionError::Nested { expression, column: self.at + 1, found });
                }
                other => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
        Err(self.unbalanced(open, if close == ')' { '(' } else { '{' }))
    }

    fn unbalanced(&self, at: usize, bracket: char) -> ExpressionError {
        ExpressionError::Unbalanced {
            expression: self.expression.to_owned(),
            column: at + 1,
            bracket,
        }
    }
}
