//! Definitions of steps.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::world::World;
use kezhan_expressions::Value;
use kezhan_gherkin::PickleStep;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A step's function, as the attribute wraps it.
pub type StepFunction = fn(&mut World, &Arguments) -> Result<(), Failure>;

/// One way to say a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// Code of the spoken language.
    pub language: Cow<'static, str>,
    /// A Cucumber Expression or a regular expression.
    pub expression: Cow<'static, str>,
}

/// Where a step is defined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Cow<'static, str>,
    /// The line.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A step.
#[derive(Clone, Debug)]
pub struct StepDefinition {
    /// Its name, unique in a catalogue.
    pub name: Cow<'static, str>,
    /// The ways to say it: one function, many languages.
    pub phrases: Vec<Phrase>,
    /// What it does.
    pub about: Cow<'static, str>,
    /// It asks and changes nothing: it takes within, for and not.
    pub check: bool,
    /// How long a check is asked again when the sentence does not say.
    pub patience: Duration,
    /// How many values it takes.
    pub values: usize,
    /// It needs a table.
    pub table: bool,
    /// It needs a doc string.
    pub doc_string: bool,
    /// It belongs to the program, not to its user.
    pub built_in: bool,
    /// Where it is defined.
    pub place: Place,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone)]
pub enum Action {
    /// Calls a function.
    Function(StepFunction),
    /// Asks a program outside.
    Program(Arc<dyn StepProgram>),
    /// Runs other steps.
    Composite(Arc<Composite>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Function(_) => "Function",
            Action::Program(_) => "Program",
            Action::Composite(_) => "Composite",
        })
    }
}

/// A program outside that carries out steps.
pub trait StepProgram: Send + Sync {
    /// Carries out the step of a name.
    ///
    /// # Errors
    /// What the program answers, or what is wrong with it.
    fn run(&self, world: &mut World, step: &str, arguments: &Arguments) -> Result<(), Failure>;
}

/// Steps made of steps; `<1>`, `<2>` … in them stand for the values of the whole.
#[derive(Clone, Debug, Default)]
pub struct Composite {
    /// The steps.
    pub steps: Vec<PickleStep>,
}

impl Composite {
    /// The sentences of the steps for the values of the whole.
    pub fn sentences(&self, values: &[Value]) -> Vec<String> {
        self.steps.iter().map(|step| crate::perform::fill_numbers(&step.text, values)).collect()
    }
}
