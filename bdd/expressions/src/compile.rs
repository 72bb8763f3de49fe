//! From syntax to one regular expression.

use crate::error::ExpressionError;
use crate::parameter::{ParameterType, ParameterTypes};
use crate::syntax::Node;
use crate::width::{is_ideographic, widen};

/// The regular expression of an expression, and the type of each of its groups.
pub(crate) fn compile(
    expression: &str,
    nodes: &[Node],
    types: &ParameterTypes,
) -> Result<(String, Vec<ParameterType>), ExpressionError> {
    let mut pattern = String::from("^");
    let mut groups = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| nodes.get(at));
        let after = nodes.get(at + 1);
        match node {
            Node::Parameter(name) => {
                let kind = find(expression, name, types)?;
                if before.is_some_and(ends_ideographic) {
                    pattern.push_str(r"\s*");
                }
                pattern.push_str(&format!("({})", kind.pattern));
                if after.is_some_and(starts_ideographic) {
                    pattern.push_str(r"\s*");
                }
                groups.push(kind);
            }
            Node::Text(text) if text == " " => {
                let loose =
                    before.is_some_and(ends_ideographic) || after.is_some_and(starts_ideographic);
                pattern.push_str(if loose { r"\s*" } else { r"\s" });
            }
            node => plain(node, &mut pattern),
        }
    }
    pattern.push('$');
    Ok((pattern, groups))
}

fn find(
    expression: &str,
    name: &str,
    types: &ParameterTypes,
) -> Result<ParameterType, ExpressionError> {
    types.find(name).cloned().ok_or_else(|| ExpressionError::UnknownType {
        expression: expression.to_owned(),
        name: name.to_owned(),
        known: types.iter().map(|kind| format!("{{{}}}", kind.name)).collect::<Vec<_>>().join(" "),
    })
}

fn plain(node: &Node, pattern: &mut String) {
    match node {
        Node::Text(text) => text.chars().for_each(|letter| literal(letter, pattern)),
        Node::Optional(text) => {
            pattern.push_str("(?:");
            text.chars().for_each(|letter| literal(letter, pattern));
            pattern.push_str(")?");
        }
        Node::Alternation(alternatives) => {
            for (at, alternative) in alternatives.iter().enumerate() {
                pattern.push_str(if at == 0 { "(?:" } else { "|" });
                alternative.iter().for_each(|node| plain(node, pattern));
            }
            pattern.push(')');
        }
        Node::Parameter(_) => {}
    }
}

/// A character, or its full-width form.
fn literal(letter: char, pattern: &mut String) {
    let mut buffer = [0; 4];
    let plain = regex::escape(letter.encode_utf8(&mut buffer));
    match widen(letter) {
        Some(wide) => pattern.push_str(&format!("(?:{plain}|{wide})")),
        None => pattern.push_str(&plain),
    }
}

fn ends_ideographic(node: &Node) -> bool {
    match node {
        Node::Text(text) => text.chars().next_back().is_some_and(is_ideographic),
        Node::Alternation(alternatives) => {
            alternatives.iter().any(|nodes| nodes.last().is_some_and(ends_ideographic))
        }
        Node::Optional(_) | Node::Parameter(_) => false,
    }
}

fn starts_ideographic(node: &Node) -> bool {
    match node {
        Node::Text(text) => text.chars().next().is_some_and(is_ideographic),
        Node::Alternation(alternatives) => {
            alternatives.iter().any(|nodes| nodes.first().is_some_and(starts_ideographic))
        }
        Node::Optional(_) | Node::Parameter(_) => false,
    }
}
