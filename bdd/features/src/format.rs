//! The usual layout of a feature file.
//!
//! The tree says where each line of meaning stands, so formatting is line by line: every line gets the
//! indentation of its kind, rows of one table are aligned (a Chinese character is two columns wide), doc strings
//! move as blocks, and comments follow what comes after them. The result is parsed again and must be the same
//! feature; if it is not, the file is left alone and the caller told.

use kezhan_gherkin::ast::{
    Child, DataTable, DocString, Document, Examples, Scenario, Step, TableRow, Tag,
};
use kezhan_gherkin::{ParseError, parse};
use unicode_width::UnicodeWidthStr;

/// Why a file was not formatted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It does not parse.
    #[error("{} faults, the first at {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Faulty(Vec<ParseError>),
    /// The result would mean something else: our fault.
    #[error("formatting would change its meaning; it is left as it is, please report it")]
    Changed,
}

const TITLE: usize = 2;

/// What a line becomes.
#[derive(Clone, Debug, Default)]
enum Layout {
    /// Its text at an indentation.
    #[default]
    Free,
    /// The trimmed text after so many spaces.
    Indent(usize),
    /// This text, whatever it was.
    Text(String),
}

/// A file with the usual layout.
///
/// # Errors
/// When it does not parse, or when formatting it would change it.
pub fn format(text: &str, language: &str) -> Result<String, FormatError> {
    let document = parse(text, language).map_err(FormatError::Faulty)?;
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    let mut layouts = Layouts { lines: &lines, at: vec![Layout::Free; lines.len() + 1] };
    layouts.document(&document);
    let formatted = layouts.write();
    let again = parse(&formatted, language).map_err(|_error| FormatError::Changed)?;
    if meaning(&again) == meaning(&document) { Ok(formatted) } else { Err(FormatError::Changed) }
}

struct Layouts<'a> {
    lines: &'a [&'a str],
    at: Vec<Layout>,
}

impl Layouts<'_> {
    fn set(&mut self, line: usize, layout: Layout) {
        if let Some(slot) = self.at.get_mut(line) {
            *slot = layout;
        }
    }

    fn document(&mut self, document: &Document) {
        let Some(feature) = &document.feature else { return };
        self.title(feature.location.line, &feature.tags, 0);
        self.children(&feature.children, TITLE);
    }

    fn title(&mut self, line: usize, tags: &[Tag], indent: usize) {
        self.set(line, Layout::Indent(indent));
        tags.iter().for_each(|tag| self.set(tag.location.line, Layout::Indent(indent)));
        self.description(line, indent + TITLE);
    }

    /// The free text below a title: up to the next line that means something.
    fn description(&mut self, title: usize, indent: usize) {
        let lines = self.lines.iter().enumerate().skip(title);
        let text = lines.take_while(|(_, line)| !is_keyword_like(line));
        let text: Vec<usize> =
            text.filter(|(_, line)| !line.trim().is_empty()).map(|(at, _)| at + 1).collect();
        text.into_iter().for_each(|line| self.set(line, Layout::Indent(indent)));
    }

    fn children(&mut self, children: &[Child], indent: usize) {
        for child in children {
            match child {
                Child::Background(background) => {
                    self.title(background.location.line, &[], indent);
                    self.steps(&background.steps, indent + TITLE);
                }
                Child::Scenario(scenario) => self.scenario(scenario, indent),
                Child::Rule(rule) => {
                    self.title(rule.location.line, &rule.tags, indent);
                    self.children(&rule.children, indent + TITLE);
                }
            }
        }
    }

    fn scenario(&mut self, scenario: &Scenario, indent: usize) {
        self.title(scenario.location.line, &scenario.tags, indent);
        self.steps(&scenario.steps, indent + TITLE);
        for Examples { location, tags, table_header, table_body, .. } in &scenario.examples {
            self.title(location.line, tags, indent + TITLE);
            self.rows(table_header.iter().chain(table_body), indent + 2 * TITLE);
        }
    }

    fn steps(&mut self, steps: &[Step], indent: usize) {
        for step in steps {
            // A space that the author put between a keyword such as 而且 and its sentence stays.
            let line = self.lines.get(step.location.line - 1).map_or("", |line| line.trim_start());
            let spaced = line
                .strip_prefix(&step.keyword)
                .is_some_and(|rest| rest.starts_with(char::is_whitespace));
            let gap = if spaced { " " } else { "" };
            let text = format!("{:indent$}{}{gap}{}", "", step.keyword, step.text);
            self.set(step.location.line, Layout::Text(text));
            if let Some(DataTable { rows, .. }) = &step.data_table {
                self.rows(rows.iter(), indent + TITLE);
            }
            if let Some(doc) = &step.doc_string {
                self.doc_string(doc, indent + TITLE);
            }
        }
    }

    fn rows<'r>(&mut self, rows: impl Iterator<Item = &'r TableRow> + Clone, indent: usize) {
        let cells = |row: &TableRow| {
            row.cells.iter().map(|cell| escape_cell(&cell.value)).collect::<Vec<_>>()
        };
        let mut widths: Vec<usize> = Vec::new();
        for row in rows.clone().map(cells) {
            widths.resize(widths.len().max(row.len()), 0);
            widths
                .iter_mut()
                .zip(&row)
                .for_each(|(width, cell)| *width = (*width).max(cell.width()));
        }
        for row in rows {
            let mut text = format!("{:indent$}|", "");
            for (cell, width) in cells(row).iter().zip(&widths) {
                text.push_str(&format!(" {cell}{:pad$} |", "", pad = width - cell.width()));
            }
            self.set(row.location.line, Layout::Text(text));
        }
    }

    fn doc_string(&mut self, doc: &DocString, indent: usize) {
        let first = doc.location.line;
        let media_type = doc.media_type.as_deref().unwrap_or_default();
        self.set(first, Layout::Text(format!("{:indent$}{}{media_type}", "", doc.delimiter)));
        let escaped: String = doc.delimiter.chars().flat_map(|mark| ['\\', mark]).collect();
        let content = doc.content.replace(&doc.delimiter, &escaped);
        // An empty doc string may hold one empty line or none: the file says which.
        let closing = self
            .lines
            .iter()
            .skip(first)
            .position(|line| line.trim_start().starts_with(&doc.delimiter));
        let count = closing.unwrap_or(0);
        for (at, line) in content.split('\n').take(count).enumerate() {
            let text =
                if line.is_empty() { String::new() } else { format!("{:indent$}{line}", "") };
            self.set(first + 1 + at, Layout::Text(text));
        }
        self.set(first + 1 + count, Layout::Text(format!("{:indent$}{}", "", doc.delimiter)));
    }

    fn write(&self) -> String {
        let mut text = String::new();
        let mut blank = true;
        for (at, line) in self.lines.iter().enumerate() {
            let line = self.line(at + 1, line);
            let in_doc = matches!(self.at.get(at + 1), Some(Layout::Text(_)));
            if !(line.is_empty() && blank) || in_doc {
                text.push_str(&line);
                text.push('\n');
            }
            blank = line.is_empty();
        }
        let end = text.trim_end_matches('\n').len();
        text.truncate(end);
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    fn line(&self, number: usize, line: &str) -> String {
        let trimmed = line.trim();
        match self.at.get(number) {
            Some(Layout::Text(text)) => text.clone(),
            Some(Layout::Indent(indent)) if !trimmed.is_empty() => {
                format!("{:indent$}{trimmed}", "", indent = *indent)
            }
            _ if trimmed.is_empty() => String::new(),
            _ => format!("{:indent$}{trimmed}", "", indent = self.indent_after(number)),
        }
    }

    /// A comment stands as the next line that means something.
    fn indent_after(&self, number: usize) -> usize {
        let below = self.at.iter().skip(number + 1).find_map(|layout| match layout {
            Layout::Indent(indent) => Some(*indent),
            Layout::Text(text) => Some(text.len() - text.trim_start().len()),
            Layout::Free => None,
        });
        below.unwrap_or(0)
    }
}

/// Lines that no description holds: a tag, a comment or a table. Keywords overwrite their layout later.
fn is_keyword_like(line: &str) -> bool {
    line.trim_start().starts_with(['@', '|'])
}

fn escape_cell(value: &str) -> String {
    value.replace('\\', "\\\\").replace('|', "\\|").replace('\n', "\\n")
}

/// A document without places, and without the indentation of free text.
fn meaning(document: &Document) -> String {
    let mut text = String::new();
    for comment in &document.comments {
        text.push_str(comment.text.trim());
        text.push('\n');
    }
    if let Some(feature) = &document.feature {
        push(
            &mut text,
            &[&feature.language, &feature.keyword, &feature.name],
            &feature.description,
        );
        tags(&mut text, &feature.tags);
        feature.children.iter().for_each(|child| child_meaning(&mut text, child));
    }
    text
}

fn push(text: &mut String, fields: &[&str], description: &str) {
    let lines: Vec<&str> =
        description.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    text.push_str(&format!("{fields:?} {lines:?}\n"));
}

fn tags(text: &mut String, tags: &[Tag]) {
    tags.iter().for_each(|tag| text.push_str(&tag.name));
}

fn child_meaning(text: &mut String, child: &Child) {
    match child {
        Child::Background(background) => {
            push(text, &[&background.keyword, &background.name], &background.description);
            background.steps.iter().for_each(|step| step_meaning(text, step));
        }
        Child::Scenario(scenario) => {
            push(text, &[&scenario.keyword, &scenario.name], &scenario.description);
            tags(text, &scenario.tags);
            scenario.steps.iter().for_each(|step| step_meaning(text, step));
            for examples in &scenario.examples {
                push(text, &[&examples.keyword, &examples.name], &examples.description);
                tags(text, &examples.tags);
                rows_meaning(text, examples.table_header.iter().chain(&examples.table_body));
            }
        }
        Child::Rule(rule) => {
            push(text, &[&rule.keyword, &rule.name], &rule.description);
            tags(text, &rule.tags);
            rule.children.iter().for_each(|child| child_meaning(text, child));
        }
    }
}

fn step_meaning(text: &mut String, step: &Step) {
    push(text, &[&step.keyword, &step.text], "");
    rows_meaning(text, step.data_table.iter().flat_map(|table| &table.rows));
    if let Some(doc) = &step.doc_string {
        text.push_str(&format!("{:?} {:?}\n", doc.media_type, doc.content));
    }
}

fn rows_meaning<'a>(text: &mut String, rows: impl Iterator<Item = &'a TableRow>) {
    rows.for_each(|row| {
        row.cells.iter().for_each(|cell| text.push_str(&format!("{:?}|", cell.value)));
        text.push('\n');
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_file_gets_the_usual_layout() {
        let text = "#language:zh-CN\n@a\n功能: 取款\n作为客户\n\n\n\n  # 注\n场景大纲: 取\n假如余额\n|名称|值|\n|长名字|1|\n当取 <n>\n\"\"\"json\n{\n  \"a\": 1\n}\n\"\"\"\n例子:\n|n|\n|100|\n";
        let expected = "#language:zh-CN\n@a\n功能: 取款\n  作为客户\n\n  # 注\n  场景大纲: 取\n    假如余额\n      | 名称   | 值 |\n      | 长名字 | 1  |\n    当取 <n>\n      \"\"\"json\n      {\n        \"a\": 1\n      }\n      \"\"\"\n    例子:\n      | n   |\n      | 100 |\n";
        assert_eq!(format(text, "en").unwrap(), expected);
        assert_eq!(format(expected, "en").unwrap(), expected);
    }

    #[test]
    fn every_file_of_the_corpus_keeps_its_meaning_and_formats_once() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gherkin/corpus");
        let files = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|file| file.is_file()) {
            let text = std::fs::read_to_string(&file).unwrap();
            let once =
                format(&text, "en").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(format(&once, "en").unwrap(), once, "{}", file.display());
        }
    }
}
