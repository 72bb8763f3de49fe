//! One line of a file: its indentation, the cells of a table row, the tags of a tag line.
//!
//! Source of the rules: the Gherkin reference, sections "Data Tables", "Tags" and "Doc Strings". White space
//! is Unicode's, and the information separators U+001C to U+001F.

use crate::ast::{Location, TableCell, Tag};

/// A line without its end, and what it looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Counted from one.
    pub number: usize,
    /// The whole line; a carriage return before the line feed is not part of it.
    pub text: &'a str,
    /// The line without leading white space.
    pub trimmed: &'a str,
    /// How many characters of white space lead.
    pub indent: usize,
}

pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

impl<'a> Line<'a> {
    pub fn new(number: usize, raw: &'a str) -> Line<'a> {
        let text = raw.trim_end_matches('\r');
        let trimmed = text.trim_start_matches(is_space);
        let indent = text[..text.len() - trimmed.len()].chars().count();
        Line { number, text, trimmed, indent }
    }

    /// Where the line's first visible character stands.
    pub fn location(&self) -> Location {
        Location::new(self.number, self.indent + 1)
    }

    /// What follows a keyword, trimmed.
    pub fn after(&self, keyword: &str) -> &'a str {
        trim(self.trimmed.get(keyword.len()..).unwrap_or_default())
    }

    /// The line without up to `indent` leading characters; a line that is indented less loses all its indentation.
    pub fn without_indent(&self, indent: usize) -> &'a str {
        if indent > self.indent {
            return self.trimmed;
        }
        let cut = self.text.char_indices().nth(indent).map_or(self.text.len(), |(at, _)| at);
        &self.text[cut..]
    }

    /// The cells between bars. `\|`, `\\` and `\n` are the escapes; text outside the outer bars is dropped.
    pub fn cells(&self) -> Vec<TableCell> {
        let mut cells = Vec::new();
        let mut open: Option<Cell> = None;
        let mut letters = trim(self.trimmed).chars().zip(self.indent + 1..);
        while let Some((letter, column)) = letters.next() {
            match letter {
                '|' => {
                    cells.extend(open.take().map(|cell| cell.close(self.number)));
                    open = Some(Cell { start: column + 1, text: String::new() });
                }
                '\\' => {
                    let escaped = unescape(letters.next().map(|(next, _)| next));
                    open.iter_mut().for_each(|cell| cell.text.push_str(&escaped));
                }
                other => open.iter_mut().for_each(|cell| cell.text.push(other)),
            }
        }
        cells
    }

    /// The tags of a tag line, or where one holds white space. ` #` begins a comment.
    pub fn tags(&self) -> Result<Vec<Tag>, Location> {
        let mut column = self.indent + 1;
        let mut tags = Vec::new();
        for item in trim(before_comment(trim(self.trimmed))).split('@').skip(1) {
            let location = Location::new(self.number, column);
            let name = trim(item);
            if name.contains(is_space) {
                return Err(location);
            }
            tags.push(Tag { location, name: format!("@{name}"), id: String::new() });
            column += item.chars().count() + 1;
        }
        Ok(tags)
    }
}

struct Cell {
    start: usize,
    text: String,
}

impl Cell {
    fn close(self, line: usize) -> TableCell {
        let blank = |c: char| is_space(c) && c != '\n';
        let inner = self.text.trim_start_matches(blank);
        let indent = self.text[..self.text.len() - inner.len()].chars().count();
        let location = Location::new(line, self.start + indent);
        TableCell { location, value: inner.trim_end_matches(blank).to_owned() }
    }
}

fn unescape(next: Option<char>) -> String {
    match next {
        Some('n') => "\n".to_owned(),
        Some(c @ ('|' | '\\')) => c.to_string(),
        Some(c) => format!("\\{c}"),
        None => "\\".to_owned(),
    }
}

fn before_comment(text: &str) -> &str {
    let mut space = None;
    for (at, c) in text.char_indices() {
        match space {
            Some(start) if c == '#' => return &text[..start],
            _ => space = is_space(c).then_some(at),
        }
    }
    text
}
