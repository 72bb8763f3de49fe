//! From text to syntax tree, line by line, with all faults of a file.
//!
//! One loop: read the line as the first kind that the place allows, add it to the tree, move on. A line that no
//! kind fits is reported and skipped, and the place stays: this is how the official parser recovers too, so the
//! faults found are the same. The tree grows at its right edge only; "the last scenario" is found, not kept.

use crate::ast::{
    Background, Child, Comment, DataTable, DocString, Document, Examples, Feature, Location, Rule,
    Scenario, Step, TableRow, Tag,
};
use crate::error::{Fault, ParseError};
use crate::language::{Language, Title};
use crate::line::Line;
use crate::place::{Argument, Node, Place};
use crate::spec::{DOC_STRINGS, MAX_ERRORS, MAX_SOURCE};
use crate::suggest::nearest_keyword;
use crate::token::{Kind, ORDER, Token};
use crate::{number, table};

/// Reads a feature file given as bytes: a byte order mark is dropped, other encodings are refused.
///
/// # Errors
/// Every fault of the file, in order.
pub fn parse_bytes(bytes: &[u8], language: &str) -> Result<Document, Vec<ParseError>> {
    if bytes.len() as u64 > MAX_SOURCE {
        let fault = Fault::TooLarge(bytes.len() as u64);
        return Err(vec![ParseError { location: Location::new(1, 1), fault }]);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, language),
        Err(error) => Err(vec![not_utf8(bytes, error.valid_up_to())]),
    }
}

fn not_utf8(bytes: &[u8], at: usize) -> ParseError {
    let good = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
    let line = good.matches('\n').count() + 1;
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let fault = Fault::NotUtf8(bytes.get(at).copied().unwrap_or_default());
    ParseError { location: Location::new(line, column), fault }
}

/// Reads a feature file. `language` is the code that holds until a `# language:` comment changes it.
///
/// # Errors
/// Every fault of the file, in order.
pub fn parse(text: &str, language: &str) -> Result<Document, Vec<ParseError>> {
    let Some(language) = Language::find(language) else {
        let fault = Fault::UnknownLanguage(language.to_owned());
        return Err(vec![ParseError { location: Location::new(1, 1), fault }]);
    };
    let mut parser = Parser::new(text.strip_prefix('\u{feff}').unwrap_or(text), language);
    while let Some(line) = parser.lines.next() {
        parser.line(line);
        if parser.errors.len() >= MAX_ERRORS {
            parser.fault(line.location(), Fault::TooMany(MAX_ERRORS));
            return Err(parser.errors);
        }
    }
    parser.finish()
}

/// The lines of a text, numbered. It is cheap to copy, which is how the parser looks ahead.
#[derive(Clone)]
struct Lines<'a> {
    rest: Option<&'a str>,
    number: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.rest.filter(|rest| !rest.is_empty())?;
        let (line, rest) =
            rest.split_once('\n').map_or((rest, None), |(line, rest)| (line, Some(rest)));
        self.rest = rest;
        self.number += 1;
        Some(Line::new(self.number, line))
    }
}

struct Parser<'a> {
    lines: Lines<'a>,
    language: &'static Language,
    place: Place,
    document: Document,
    tags: Vec<Tag>,
    description: Vec<&'a str>,
    errors: Vec<ParseError>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, language: &'static Language) -> Parser<'a> {
        Parser {
            lines: Lines { rest: Some(text), number: 0 },
            language,
            place: Place::Start,
            document: Document::default(),
            tags: Vec::new(),
            description: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn line(&mut self, line: Line<'a>) {
        let place = self.place;
        let read = |kind: &Kind| kind.read(&line, self.language);
        match ORDER.iter().filter(|kind| place.accepts(**kind)).find_map(read) {
            Some(token) => self.token(&line, token),
            None => {
                let found = line.trimmed.trim_end().to_owned();
                let hint = nearest_keyword(self.language, &found).map(str::to_owned);
                let fault = Fault::Unexpected { found, hint, expected: place.expected() };
                self.fault(line.location(), fault);
            }
        }
    }

    fn token(&mut self, line: &Line<'a>, token: Token<'a>) {
        match token {
            Token::Empty => {}
            Token::Language(code) => self.change_language(line, code),
            Token::Comment(text) => self.comment(line, text),
            Token::Tags(tags) => self.tag_line(tags),
            Token::Title { title, keyword, name } => self.title(line, title, (keyword, name)),
            Token::Step { keyword, kind, text } => self.step(Step {
                location: line.location(),
                keyword: keyword.to_owned(),
                keyword_type: kind,
                text: text.to_owned(),
                ..Step::default()
            }),
            Token::Row(cells) => {
                self.row(TableRow { location: line.location(), cells, id: String::new() })
            }
            Token::DocString { delimiter, media_type } => {
                self.doc_string(line, delimiter, media_type)
            }
            Token::Other => {
                self.describe();
                self.description.push(line.text);
            }
        }
    }

    fn change_language(&mut self, line: &Line<'a>, code: &str) {
        match Language::find(code) {
            Some(language) => {
                self.language = language;
                self.place = Place::AfterLanguage;
            }
            None => {
                self.fault(line.location(), Fault::UnknownLanguage(code.to_owned()));
                self.comment(line, line.text);
            }
        }
    }

    fn comment(&mut self, line: &Line<'a>, text: &str) {
        self.describe();
        self.document
            .comments
            .push(Comment { location: Location::new(line.number, 1), text: text.to_owned() });
    }

    /// A comment or text right below a title begins its description.
    fn describe(&mut self) {
        if let Place::Heading(node) = self.place {
            self.place = Place::Description(node);
        }
    }

    fn tag_line(&mut self, tags: Result<Vec<Tag>, Location>) {
        match tags {
            Ok(tags) => self.tags.extend(tags),
            Err(location) => self.fault(location, Fault::TagWithSpace),
        }
        let owner = match self.place {
            Place::Start | Place::AfterLanguage => Node::Feature,
            Place::Tags(node) => node,
            _ => self.look_ahead(),
        };
        self.enter(Place::Tags(owner));
    }

    /// What the title below a run of tags opens.
    fn look_ahead(&self) -> Node {
        let is = |line: &Line<'a>, kind: Kind| kind.read(line, self.language).is_some();
        let passes = |line: &Line<'a>| {
            [Kind::Empty, Kind::Comment, Kind::Tags].iter().any(|kind| is(line, *kind))
        };
        match self.lines.clone().find(|line| !passes(line)) {
            Some(line) if self.place.accepts(Kind::Examples) && is(&line, Kind::Examples) => {
                Node::Examples
            }
            Some(line) if is(&line, Kind::Scenario) => Node::Scenario,
            _ => Node::Rule,
        }
    }

    fn title(&mut self, line: &Line<'a>, title: Title, (keyword, name): (&str, &str)) {
        self.end_description();
        let (location, keyword, name) = (line.location(), keyword.to_owned(), name.to_owned());
        let tags = std::mem::take(&mut self.tags);
        let node = match title {
            Title::Feature => {
                let language = self.language.code.to_owned();
                self.document.feature =
                    Some(Feature { location, tags, language, keyword, name, ..Feature::default() });
                Node::Feature
            }
            Title::Rule => {
                let rule = Rule { location, tags, keyword, name, ..Rule::default() };
                self.document
                    .feature
                    .iter_mut()
                    .for_each(|feature| feature.children.push(Child::Rule(rule.clone())));
                Node::Rule
            }
            Title::Background => {
                let background = Background { location, keyword, name, ..Background::default() };
                self.add(Child::Background(background));
                Node::Background
            }
            Title::Scenario => {
                self.add(Child::Scenario(Scenario {
                    location,
                    tags,
                    keyword,
                    name,
                    ..Scenario::default()
                }));
                Node::Scenario
            }
            Title::Examples => {
                let examples = Examples { location, tags, keyword, name, ..Examples::default() };
                if let Some(Child::Scenario(scenario)) = self.last() {
                    scenario.examples.push(examples);
                }
                Node::Examples
            }
        };
        self.enter(Place::Heading(node));
    }

    fn step(&mut self, step: Step) {
        let node = match self.last() {
            Some(Child::Background(background)) => {
                background.steps.push(step);
                Node::Background
            }
            Some(Child::Scenario(scenario)) => {
                scenario.steps.push(step);
                Node::Scenario
            }
            _ => return,
        };
        self.enter(Place::Step(node, Argument::None));
    }

    fn row(&mut self, row: TableRow) {
        if let Place::Step(node, argument) = self.place {
            if let Some(step) = self.last_step() {
                step.data_table
                    .get_or_insert_with(|| DataTable { location: row.location, rows: Vec::new() })
                    .rows
                    .push(row);
            }
            let only = matches!(argument, Argument::None | Argument::Table { only: true });
            self.enter(Place::Step(node, Argument::Table { only }));
            return;
        }
        if let Some(Child::Scenario(scenario)) = self.last()
            && let Some(examples) = scenario.examples.last_mut()
        {
            match examples.table_header {
                None => examples.table_header = Some(row),
                Some(_) => examples.table_body.push(row),
            }
        }
        self.enter(Place::Rows);
    }

    fn doc_string(&mut self, line: &Line<'a>, delimiter: &'static str, media_type: &str) {
        let media_type = Some(media_type.to_owned()).filter(|media_type| !media_type.is_empty());
        let content = self.doc_text(line, delimiter).join("\n");
        let Place::Step(node, argument) = self.place else { return };
        let doc = DocString {
            location: line.location(),
            media_type,
            content,
            delimiter: delimiter.to_owned(),
        };
        self.last_step().into_iter().for_each(|step| step.doc_string = Some(doc.clone()));
        self.enter(Place::Step(node, Argument::Doc { only: argument == Argument::None }));
    }

    /// The lines of a doc string up to its closing delimiter.
    fn doc_text(&mut self, opening: &Line<'a>, delimiter: &'static str) -> Vec<String> {
        let escaped = DOC_STRINGS
            .iter()
            .find(|(mark, _)| *mark == delimiter)
            .map_or("", |(_, escaped)| escaped);
        let mut text = Vec::new();
        for line in self.lines.by_ref() {
            if line.trimmed.starts_with(delimiter) {
                return text;
            }
            text.push(line.without_indent(opening.indent).replace(escaped, delimiter));
        }
        let location = Location { line: self.lines.number + 1, column: None };
        self.fault(location, Fault::OpenDocString { opened: opening.number, delimiter });
        text
    }

    fn enter(&mut self, place: Place) {
        self.end_description();
        self.place = place;
    }

    /// Must run before a sibling is added: the description belongs to the last node.
    fn end_description(&mut self) {
        if let Place::Description(node) = self.place {
            self.close_description(node);
            self.place = Place::Heading(node);
        }
    }

    fn close_description(&mut self, node: Node) {
        let lines = std::mem::take(&mut self.description);
        let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        let text = lines.get(..end).unwrap_or_default().join("\n");
        let slot = match node {
            Node::Feature => self.document.feature.as_mut().map(|feature| &mut feature.description),
            Node::Rule => self.last_rule().map(|rule| &mut rule.description),
            Node::Background | Node::Scenario | Node::Examples => {
                self.last().and_then(|child| match child {
                    Child::Background(background) => Some(&mut background.description),
                    Child::Scenario(Scenario { examples, .. }) if node == Node::Examples => {
                        examples.last_mut().map(|examples| &mut examples.description)
                    }
                    Child::Scenario(Scenario { description, .. }) => Some(description),
                    Child::Rule(_) => None,
                })
            }
        };
        slot.into_iter().for_each(|slot| slot.clone_from(&text));
    }

    fn last_rule(&mut self) -> Option<&mut Rule> {
        match self.document.feature.as_mut()?.children.last_mut() {
            Some(Child::Rule(rule)) => Some(rule),
            _ => None,
        }
    }

    /// The children of the innermost open rule or feature.
    fn children(&mut self) -> Option<&mut Vec<Child>> {
        let children = &mut self.document.feature.as_mut()?.children;
        if !matches!(children.last(), Some(Child::Rule(_))) {
            return Some(children);
        }
        match children.last_mut() {
            Some(Child::Rule(rule)) => Some(&mut rule.children),
            _ => None,
        }
    }

    fn add(&mut self, child: Child) {
        if let Some(children) = self.children() {
            children.push(child);
        }
    }

    fn last(&mut self) -> Option<&mut Child> {
        self.children()?.last_mut()
    }

    fn last_step(&mut self) -> Option<&mut Step> {
        match self.last()? {
            Child::Background(background) => background.steps.last_mut(),
            Child::Scenario(scenario) => scenario.steps.last_mut(),
            Child::Rule(_) => None,
        }
    }

    fn fault(&mut self, location: Location, fault: Fault) {
        self.errors.push(ParseError { location, fault });
    }

    fn finish(mut self) -> Result<Document, Vec<ParseError>> {
        let open_doc =
            self.errors.iter().any(|error| matches!(error.fault, Fault::OpenDocString { .. }));
        if !self.place.may_end() && !open_doc {
            let location = Location { line: self.lines.number + 1, column: None };
            self.fault(location, Fault::UnexpectedEnd(self.place.expected()));
        }
        self.enter(Place::Start);
        self.errors.extend(table::ragged_rows(&self.document));
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|error| error.location);
            return Err(self.errors);
        }
        number::number(&mut self.document);
        Ok(self.document)
    }
}
