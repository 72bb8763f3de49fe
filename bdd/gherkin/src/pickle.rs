//! Pickles: the scenarios of a file made ready to run, one per scenario and per row of examples.
//!
//! Backgrounds are put in front, tags of all levels are joined, `<names>` are replaced by the row's cells, and
//! `And` takes the kind of the step before it. The shape is Cucumber Messages' `pickle`.

use crate::ast::{
    Child, DataTable, DocString, Document, Examples, KeywordType, Location, Scenario, Step,
    TableRow, Tag,
};
use crate::error::{Fault, ParseError};
use crate::number::Ids;
use crate::spec::MAX_EXPANSION;
use serde::{Deserialize, Serialize};

/// A scenario ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pickle {
    /// Identifier.
    pub id: String,
    /// The file's name.
    pub uri: String,
    /// Where the scenario, or the row of examples, stands.
    pub location: Location,
    /// The name, with the row's values put in.
    pub name: String,
    /// Code of the spoken language.
    pub language: String,
    /// The steps, backgrounds first.
    pub steps: Vec<PickleStep>,
    /// Tags of feature, rule, scenario and examples.
    pub tags: Vec<PickleTag>,
    /// The scenario, then the row, that this came from.
    pub ast_node_ids: Vec<String>,
}

/// A step ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleStep {
    /// The table or the doc string, or both.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub argument: Option<PickleArgument>,
    /// The step, then the row, that this came from.
    pub ast_node_ids: Vec<String>,
    /// Identifier.
    pub id: String,
    /// Its kind; never `Conjunction`.
    #[serde(rename = "type")]
    pub kind: KeywordType,
    /// The sentence, with the row's values put in.
    pub text: String,
}

/// What stands below a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleArgument {
    /// A doc string.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub doc_string: Option<PickleDocString>,
    /// A table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_table: Option<PickleTable>,
}

/// A doc string ready to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleDocString {
    /// First or second of two arguments, counted from one; absent when it is alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub argument_index: Option<u8>,
    /// What follows the opening delimiter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub media_type: Option<String>,
    /// The text.
    pub content: String,
}

/// A table ready to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleTable {
    /// First or second of two arguments, counted from one; absent when it is alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub argument_index: Option<u8>,
    /// The rows.
    pub rows: Vec<PickleRow>,
}

/// A row of a table ready to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickleRow {
    /// The cells.
    pub cells: Vec<PickleCell>,
}

/// A cell of a table ready to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickleCell {
    /// Its text.
    pub value: String,
}

/// A tag of a pickle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleTag {
    /// The tag with its `@`.
    pub name: String,
    /// The tag in the tree.
    pub ast_node_id: String,
}

/// The pickles of a file.
///
/// # Errors
/// [`Fault::TooManyRows`] when the rows expand to more text than [`MAX_EXPANSION`].
pub fn pickles(document: &Document, ids: &mut Ids) -> Result<Vec<Pickle>, ParseError> {
    let Some(feature) = &document.feature else { return Ok(Vec::new()) };
    let uri = document.uri.clone().unwrap_or_default();
    let frame = Frame {
        uri: &uri,
        language: &feature.language,
        tags: feature.tags.clone(),
        background: Vec::new(),
    };
    let mut compiler = Compiler { ids, pickles: Vec::new(), left: MAX_EXPANSION };
    compiler.children(frame, &feature.children)?;
    Ok(compiler.pickles)
}

/// What a scenario inherits.
#[derive(Clone)]
struct Frame<'a> {
    uri: &'a str,
    language: &'a str,
    tags: Vec<Tag>,
    background: Vec<&'a Step>,
}

struct Compiler<'i> {
    ids: &'i mut Ids,
    pickles: Vec<Pickle>,
    left: usize,
}

/// Names and values of one row; empty for a plain scenario.
type Row<'a> = Option<(&'a TableRow, &'a TableRow)>;

impl Compiler<'_> {
    fn children<'a>(
        &mut self,
        mut frame: Frame<'a>,
        children: &'a [Child],
    ) -> Result<(), ParseError> {
        for child in children {
            match child {
                Child::Background(background) => frame.background.extend(&background.steps),
                Child::Scenario(scenario) if scenario.examples.is_empty() => {
                    self.scenario(&frame, scenario, &[], None)?;
                }
                Child::Scenario(scenario) => self.outline(&frame, scenario)?,
                Child::Rule(rule) => {
                    let mut inner = frame.clone();
                    inner.tags.extend(rule.tags.iter().cloned());
                    self.children(inner, &rule.children)?;
                }
            }
        }
        Ok(())
    }

    fn outline(&mut self, frame: &Frame<'_>, scenario: &Scenario) -> Result<(), ParseError> {
        for Examples { table_header, table_body, tags, .. } in &scenario.examples {
            for (header, row) in table_header
                .iter()
                .flat_map(|header| table_body.iter().map(move |row| (header, row)))
            {
                self.scenario(frame, scenario, tags, Some((header, row)))?;
            }
        }
        Ok(())
    }

    fn scenario(
        &mut self,
        frame: &Frame<'_>,
        scenario: &Scenario,
        tags: &[Tag],
        row: Row<'_>,
    ) -> Result<(), ParseError> {
        let mut steps = Vec::new();
        let mut kind = KeywordType::Unknown;
        if !scenario.steps.is_empty() {
            for step in &frame.background {
                kind = kind_after(kind, step.keyword_type);
                steps.push(self.step(step, kind, None)?);
            }
        }
        for step in &scenario.steps {
            kind = kind_after(kind, step.keyword_type);
            steps.push(self.step(step, kind, row)?);
        }
        let tags = frame.tags.iter().chain(&scenario.tags).chain(tags);
        let pickle = Pickle {
            id: self.ids.next_id(),
            uri: frame.uri.to_owned(),
            location: row.map_or(scenario.location, |(_, values)| values.location),
            name: self.fill(&scenario.name, row, scenario.location)?,
            language: frame.language.to_owned(),
            steps,
            tags: tags
                .map(|tag| PickleTag { name: tag.name.clone(), ast_node_id: tag.id.clone() })
                .collect(),
            ast_node_ids: origins(&scenario.id, row),
        };
        self.pickles.push(pickle);
        Ok(())
    }

    fn step(
        &mut self,
        step: &Step,
        kind: KeywordType,
        row: Row<'_>,
    ) -> Result<PickleStep, ParseError> {
        let text = self.fill(&step.text, row, step.location)?;
        let argument = self.argument(step, row)?;
        Ok(PickleStep {
            argument,
            ast_node_ids: origins(&step.id, row),
            id: self.ids.next_id(),
            kind,
            text,
        })
    }

    fn argument(
        &mut self,
        step: &Step,
        row: Row<'_>,
    ) -> Result<Option<PickleArgument>, ParseError> {
        if step.doc_string.is_none() && step.data_table.is_none() {
            return Ok(None);
        }
        let both = step.doc_string.as_ref().zip(step.data_table.as_ref());
        let table_index =
            both.map(|(doc, table)| if table.location < doc.location { 1 } else { 2 });
        let doc_string = match &step.doc_string {
            Some(doc) => Some(self.doc_string(doc, row, table_index.map(|index| 3 - index))?),
            None => None,
        };
        let data_table = match &step.data_table {
            Some(table) => Some(self.table(table, row, table_index)?),
            None => None,
        };
        Ok(Some(PickleArgument { doc_string, data_table }))
    }

    fn doc_string(
        &mut self,
        doc: &DocString,
        row: Row<'_>,
        index: Option<u8>,
    ) -> Result<PickleDocString, ParseError> {
        let media_type = match &doc.media_type {
            Some(media_type) => Some(self.fill(media_type, row, doc.location)?),
            None => None,
        };
        Ok(PickleDocString {
            argument_index: index,
            media_type,
            content: self.fill(&doc.content, row, doc.location)?,
        })
    }

    fn table(
        &mut self,
        table: &DataTable,
        row: Row<'_>,
        index: Option<u8>,
    ) -> Result<PickleTable, ParseError> {
        let mut rows = Vec::new();
        for line in &table.rows {
            let mut cells = Vec::new();
            for cell in &line.cells {
                cells.push(PickleCell { value: self.fill(&cell.value, row, cell.location)? });
            }
            rows.push(PickleRow { cells });
        }
        Ok(PickleTable { argument_index: index, rows })
    }

    /// Puts the cells of a row in the place of `<names>`, column after column, within the file's allowance.
    fn fill(&mut self, text: &str, row: Row<'_>, location: Location) -> Result<String, ParseError> {
        let mut text = text.to_owned();
        let pairs =
            row.into_iter().flat_map(|(names, values)| names.cells.iter().zip(&values.cells));
        for (name, value) in pairs {
            let mark = format!("<{}>", name.value);
            let uses = text.matches(&mark).count();
            self.spend(uses.saturating_mul(value.value.len()), location)?;
            if uses > 0 {
                text = text.replace(&mark, &value.value);
            }
        }
        self.spend(text.len() + std::mem::size_of::<PickleStep>(), location)?;
        Ok(text)
    }

    fn spend(&mut self, bytes: usize, location: Location) -> Result<(), ParseError> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(ParseError { location, fault: Fault::TooManyRows })?;
        Ok(())
    }
}

fn kind_after(before: KeywordType, kind: KeywordType) -> KeywordType {
    if kind == KeywordType::Conjunction { before } else { kind }
}

fn origins(id: &str, row: Row<'_>) -> Vec<String> {
    std::iter::once(id.to_owned()).chain(row.map(|(_, values)| values.id.clone())).collect()
}
