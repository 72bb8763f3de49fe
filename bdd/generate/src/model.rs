//! What a feature means to a generator: methods, tests, calls.
//!
//! The tree gives a step's template (`the customer asks for <amount>`), the pickles give its values. Two steps
//! are the same method when their fixed words are the same; the types of its parameters are then the narrowest
//! that holds every value: whole numbers, numbers, text.

use crate::names::{Case, Names, Vocabulary};
use kezhan_expressions::{Value, propose};
use kezhan_features::Feature;
use kezhan_gherkin::ast::{Child, Scenario, Step};
use kezhan_gherkin::{Pickle, PickleStep, Story};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One feature, ready for a back-end.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// The file it came from.
    pub source: String,
    /// Name for its files: the feature file's name as an identifier.
    pub stem: String,
    /// The feature's name.
    pub title: String,
    /// The sentences of its user story.
    pub story: Vec<String>,
    /// One per distinct step, in order of first use.
    pub methods: Vec<Method>,
    /// One per scenario and per row of examples.
    pub tests: Vec<Test>,
}

/// One distinct step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// Its identifier.
    pub name: String,
    /// Its sentence as first written, with the keyword.
    pub sentence: String,
    /// Line of the first use.
    pub line: usize,
    /// Its parameters.
    pub fields: Vec<Field>,
    /// It takes a table.
    pub table: bool,
    /// It takes a doc string.
    pub doc_string: bool,
}

/// A parameter of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its identifier.
    pub name: String,
    /// Its type.
    pub kind: FieldKind,
}

/// The types of parameters, from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldKind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Text.
    Text,
}

/// One test.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// Its identifier.
    pub name: String,
    /// The scenario's name.
    pub title: String,
    /// Line of the scenario or of the row.
    pub line: usize,
    /// Its tags.
    pub tags: Vec<String>,
    /// The tag that keeps it from running unasked.
    pub ignored: Option<String>,
    /// Its steps.
    pub calls: Vec<Call>,
}

/// One use of a method.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Index in [`Suite::methods`].
    pub method: usize,
    /// One value per field, as text.
    pub values: Vec<String>,
    /// The table.
    pub table: Option<Vec<Vec<String>>>,
    /// The doc string.
    pub doc_string: Option<String>,
}

/// Why there are no suites.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Two features with one name.
    #[error("{} and {} would both be written to {stem}; rename one", .first.display(), .second.display())]
    SameName {
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The name.
        stem: String,
    },
}

/// Tags that keep a test from running unasked.
const IGNORING: [&str; 4] = ["@ignore", "@skip", "@slow", "@wip"];

/// A character that no feature holds in earnest; column N of a row is this plus N while a template is taken apart.
/// (Unicode, Private Use Area)
const FIRST_MARK: u32 = 0xe000;
const MARKS: std::ops::Range<u32> = FIRST_MARK..0xf8ff;

/// The suite of a feature.
pub fn suite(feature: &Feature, vocabulary: &Vocabulary) -> Suite {
    let mut suite = Suite { source: feature.path.display().to_string(), ..Suite::default() };
    let stem = feature.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("feature");
    suite.stem = Case::Snake.identifier(stem);
    let Some(tree) = &feature.document.feature else { return suite };
    suite.title.clone_from(&tree.name);
    suite.story =
        Story::find(&tree.description).map(|story| story.sentences().to_vec()).unwrap_or_default();
    let mut nodes = Nodes::default();
    nodes.children(&tree.children);
    let mut builder =
        Builder { suite, nodes, vocabulary, methods: BTreeMap::new(), tests: Names::default() };
    feature.pickles.iter().for_each(|pickle| builder.test(pickle));
    builder.finish()
}

/// The tree's nodes by identifier.
#[derive(Default)]
struct Nodes<'a> {
    steps: BTreeMap<&'a str, &'a Step>,
    /// Row of examples to names and values of its cells.
    rows: BTreeMap<&'a str, Vec<(&'a str, &'a str)>>,
    /// Rows whose scenario's title says a column, and so names each of its tests.
    named: BTreeSet<&'a str>,
}

impl<'a> Nodes<'a> {
    fn children(&mut self, children: &'a [Child]) {
        for child in children {
            match child {
                Child::Background(background) => self.steps(&background.steps),
                Child::Scenario(scenario) => self.scenario(scenario),
                Child::Rule(rule) => self.children(&rule.children),
            }
        }
    }

    fn steps(&mut self, steps: &'a [Step]) {
        self.steps.extend(steps.iter().map(|step| (step.id.as_str(), step)));
    }

    fn scenario(&mut self, scenario: &'a Scenario) {
        self.steps(&scenario.steps);
        for examples in &scenario.examples {
            for row in &examples.table_body {
                let names = examples.table_header.iter().flat_map(|header| &header.cells);
                let cells = names
                    .zip(&row.cells)
                    .map(|(name, cell)| (name.value.as_str(), cell.value.as_str()));
                let cells: Vec<(&str, &str)> = cells.collect();
                if cells.iter().any(|(name, _)| scenario.name.contains(&format!("<{name}>"))) {
                    self.named.insert(&row.id);
                }
                self.rows.insert(&row.id, cells);
            }
        }
    }
}

/// Words, whether there is a table, whether there is a doc string: what makes two steps one method.
type Key = (Vec<String>, bool, bool);

struct Builder<'a> {
    suite: Suite,
    nodes: Nodes<'a>,
    vocabulary: &'a Vocabulary,
    methods: BTreeMap<Key, usize>,
    tests: Names,
}

impl Builder<'_> {
    fn test(&mut self, pickle: &Pickle) {
        let id = pickle.ast_node_ids.get(1).map_or("", String::as_str);
        let row = self.nodes.rows.get(id).cloned().unwrap_or_default();
        let mut title = pickle.name.clone();
        if !self.nodes.named.contains(id) {
            for (_, value) in row.iter().filter(|(_, value)| !pickle.name.contains(*value)) {
                title.push(' ');
                title.push_str(value);
            }
        }
        let mut test = Test {
            name: self.tests.take(&Case::Snake.identifier(&title)),
            title: pickle.name.clone(),
            line: pickle.location.line,
            tags: pickle.tags.iter().map(|tag| tag.name.clone()).collect(),
            ..Test::default()
        };
        test.ignored = test.tags.iter().find(|tag| IGNORING.contains(&tag.as_str())).cloned();
        let calls: Vec<Call> =
            pickle.steps.iter().filter_map(|step| self.call(step, &row)).collect();
        test.calls = calls;
        self.suite.tests.push(test);
    }

    fn call(&mut self, step: &PickleStep, row: &[(&str, &str)]) -> Option<Call> {
        let node = *self.nodes.steps.get(step.ast_node_ids.first()?.as_str())?;
        let in_outline = step.ast_node_ids.len() > 1;
        let template = Template::read(&node.text, if in_outline { row } else { &[] });
        let argument = step.argument.clone().unwrap_or_default();
        let method = self.method(node, &template);
        let known = self.suite.methods.get_mut(method)?;
        for (field, value) in known.fields.iter_mut().zip(&template.values) {
            field.kind = field.kind.max(kind_of(value));
        }
        let rows = argument.data_table.map(|table| table.rows);
        let cells =
            |row: kezhan_gherkin::PickleRow| row.cells.into_iter().map(|cell| cell.value).collect();
        Some(Call {
            method,
            values: template.values,
            table: rows.map(|rows| rows.into_iter().map(cells).collect()),
            doc_string: argument.doc_string.map(|doc| doc.content),
        })
    }

    fn method(&mut self, node: &Step, template: &Template) -> usize {
        let key = (template.words.clone(), node.data_table.is_some(), node.doc_string.is_some());
        let next = self.suite.methods.len();
        let index = *self.methods.entry(key).or_insert(next);
        if index == next {
            self.suite.methods.push(Method {
                sentence: format!("{}{}", node.keyword, node.text),
                line: node.location.line,
                fields: template.fields(),
                table: node.data_table.is_some(),
                doc_string: node.doc_string.is_some(),
                name: template.words.join(" "),
            });
        }
        index
    }

    fn finish(mut self) -> Suite {
        let mut taken = Names::without(self.vocabulary.reserved);
        for method in &mut self.suite.methods {
            method.name = taken.take(&self.vocabulary.methods.identifier(&method.name));
            let mut fields = Names::without(self.vocabulary.reserved);
            for field in &mut method.fields {
                field.name = fields.take(&field.name);
            }
        }
        self.suite
    }
}

/// A step taken apart: fixed words, and between them values with the names of their columns.
struct Template {
    words: Vec<String>,
    values: Vec<String>,
    names: Vec<Option<String>>,
}

impl Template {
    fn read(text: &str, row: &[(&str, &str)]) -> Template {
        let mut marked = text.to_owned();
        for ((name, _), mark) in row.iter().zip(MARKS) {
            let mark = char::from_u32(mark).unwrap_or_default().to_string();
            marked = marked.replace(&format!("<{name}>"), &mark);
        }
        let proposal = propose(&marked);
        let mut template = Template { words: Vec::new(), values: Vec::new(), names: Vec::new() };
        let mut parameters = proposal.parameters.iter();
        for words in &proposal.words {
            template.words_with_marks(words, row);
            if let Some((_, value)) = parameters.next() {
                let value = text_of(value);
                let name = value
                    .chars()
                    .find_map(|mark| column(mark, row))
                    .map(|(name, _)| name.to_owned());
                template.names.push(name);
                template.values.push(fill(&value, row));
            }
        }
        template
    }

    /// A column outside quotes is a parameter by itself.
    fn words_with_marks(&mut self, words: &str, row: &[(&str, &str)]) {
        let mut word = String::new();
        for letter in words.chars() {
            match column(letter, row) {
                Some((name, value)) => {
                    self.words.push(std::mem::take(&mut word));
                    self.names.push(Some(name.to_owned()));
                    self.values.push(value.to_owned());
                }
                None => word.push(letter),
            }
        }
        self.words.push(word);
    }

    fn fields(&self) -> Vec<Field> {
        let named = self.names.iter().zip(&self.values);
        named
            .map(|(name, value)| {
                let kind = kind_of(value);
                let fallback = if kind == FieldKind::Text { "text" } else { "number" };
                let name = Case::Snake.identifier(name.as_deref().unwrap_or(fallback));
                Field { name, kind }
            })
            .collect()
    }
}

fn column<'r>(mark: char, row: &[(&'r str, &'r str)]) -> Option<(&'r str, &'r str)> {
    let index = (mark as u32).checked_sub(FIRST_MARK)?;
    row.get(usize::try_from(index).ok()?).copied()
}

fn fill(text: &str, row: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    for letter in text.chars() {
        match column(letter, row) {
            Some((_, value)) => filled.push_str(value),
            None => filled.push(letter),
        }
    }
    filled
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Size(bytes) => bytes.to_string(),
        Value::Duration(duration) => duration.as_secs_f64().to_string(),
        Value::State(_) | Value::Address(_) => String::new(),
    }
}

fn kind_of(value: &str) -> FieldKind {
    let numeric =
        !value.is_empty() && value.chars().all(|c| c.is_ascii_digit() || ".-+eE".contains(c));
    if numeric && value.parse::<i64>().is_ok() {
        FieldKind::Int
    } else if numeric && value.parse::<f64>().is_ok_and(f64::is_finite) {
        FieldKind::Float
    } else {
        FieldKind::Text
    }
}
