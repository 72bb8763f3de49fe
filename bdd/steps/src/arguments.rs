//! What a step function is given.

use crate::failure::Failure;
use kezhan_expressions::{MachineState, Value};
use kezhan_gherkin::PickleArgument;
use std::net::IpAddr;
use std::time::Duration;

/// The arguments of one use of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    /// One per parameter of the phrase.
    pub values: Vec<Value>,
    table: Option<Table>,
    doc_string: Option<DocString>,
}

/// A table below a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The rows; all have the same length.
    pub rows: Vec<Vec<String>>,
}

/// A doc string below a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocString {
    /// What follows the opening delimiter: `json`, `sh`.
    pub media_type: Option<String>,
    /// The text.
    pub content: String,
}

impl Table {
    /// The rows as pairs, for a table of two columns.
    ///
    /// # Errors
    /// When it has another number of columns.
    pub fn pairs(&self) -> Result<Vec<(&str, &str)>, Failure> {
        let pair = |row: &Vec<String>| match row.as_slice() {
            [key, value] => Ok((key.clone(), value.clone())),
            _ => Err(Failure::Broken(format!(
                "the table has {} columns; give it two: name and value",
                row.len()
            ))),
        };
        self.rows.iter().try_for_each(|row| pair(row).map(drop))?;
        Ok(self
            .rows
            .iter()
            .filter_map(|row| Some((row.first()?.as_str(), row.get(1)?.as_str())))
            .collect())
    }
}

impl Arguments {
    /// Arguments of a match and of what stands below the step.
    pub fn new(values: Vec<Value>, below: Option<&PickleArgument>) -> Arguments {
        let table = below.and_then(|below| below.data_table.as_ref()).map(|table| Table {
            rows: table
                .rows
                .iter()
                .map(|row| row.cells.iter().map(|cell| cell.value.clone()).collect())
                .collect(),
        });
        let doc_string = below.and_then(|below| below.doc_string.as_ref()).map(|doc| DocString {
            media_type: doc.media_type.clone(),
            content: doc.content.clone(),
        });
        Arguments { values, table, doc_string }
    }

    /// The value of a parameter, counted from zero.
    ///
    /// # Errors
    /// When there is none, or it is of another type.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, Failure> {
        let count = self.values.len();
        let wrong = || {
            Failure::Broken(format!(
                "the step takes a value {}, its phrase gives {count}",
                index + 1
            ))
        };
        T::from_value(self.values.get(index).ok_or_else(wrong)?)
    }

    /// The table below the step.
    ///
    /// # Errors
    /// When there is none.
    pub fn table(&self) -> Result<Table, Failure> {
        self.table
            .clone()
            .ok_or_else(|| Failure::Broken("this step needs a table below it".to_owned()))
    }

    /// The doc string below the step.
    ///
    /// # Errors
    /// When there is none.
    pub fn doc_string(&self) -> Result<DocString, Failure> {
        self.doc_string
            .clone()
            .ok_or_else(|| Failure::Broken("this step needs a doc string below it".to_owned()))
    }

    /// The table, if there is one.
    pub fn table_below(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// The doc string, if there is one.
    pub fn doc_string_below(&self) -> Option<&DocString> {
        self.doc_string.as_ref()
    }

    /// The same arguments with every text changed.
    pub(crate) fn map(
        &self,
        change: &dyn Fn(&str) -> Result<String, Failure>,
    ) -> Result<Arguments, Failure> {
        let mut arguments = self.clone();
        for value in &mut arguments.values {
            if let Value::Text(text) = value {
                *text = change(text)?;
            }
        }
        for cell in arguments.table.iter_mut().flat_map(|table| &mut table.rows).flatten() {
            *cell = change(cell)?;
        }
        if let Some(doc) = &mut arguments.doc_string {
            doc.content = change(&doc.content)?;
        }
        Ok(arguments)
    }
}

/// Types that a step function may take.
pub trait FromValue: Sized {
    /// The value as this type.
    ///
    /// # Errors
    /// When it is of another type or out of range.
    fn from_value(value: &Value) -> Result<Self, Failure>;
}

fn wrong<T>(value: &Value, what: &str) -> Result<T, Failure> {
    Err(Failure::Broken(format!("the step takes {what}, its phrase gives {value:?}")))
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<String, Failure> {
        Ok(match value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Address(address) => address.to_string(),
            other => return wrong(other, "a text"),
        })
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<f64, Failure> {
        match value {
            Value::Float(number) => Ok(*number),
            other => wrong(other, "a number"),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Result<u64, Failure> {
        match value {
            Value::Size(bytes) => Ok(*bytes),
            Value::Int(number) => u64::try_from(*number)
                .or_else(|_error| wrong(value, "a number that is not negative")),
            other => wrong(other, "a size"),
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: &Value) -> Result<Duration, Failure> {
        match value {
            Value::Duration(duration) => Ok(*duration),
            other => wrong(other, "a duration"),
        }
    }
}

impl FromValue for MachineState {
    fn from_value(value: &Value) -> Result<MachineState, Failure> {
        match value {
            Value::State(state) => Ok(*state),
            other => wrong(other, "a state"),
        }
    }
}

impl FromValue for IpAddr {
    fn from_value(value: &Value) -> Result<IpAddr, Failure> {
        match value {
            Value::Address(address) => Ok(*address),
            other => wrong(other, "an address"),
        }
    }
}

macro_rules! from_int {
    ($($kind:ty),*) => {$(
        impl FromValue for $kind {
            fn from_value(value: &Value) -> Result<$kind, Failure> {
                match value {
                    Value::Int(number) => <$kind>::try_from(*number)
                        .or_else(|_error| wrong(value, concat!("a number that fits ", stringify!($kind)))),
                    other => wrong(other, "a whole number"),
                }
            }
        }
    )*};
}

from_int!(i64, i32, u32, u16, u8, usize);
