//! The catalogue: every step that a feature may say.

use crate::clause::Clause;
use crate::definition::{Place, StepDefinition};
use crate::failure::Failure;
use kezhan_expressions::{Argument, Expression, ExpressionError, Kind, ParameterTypes};

/// Steps, ready to be looked up.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    definitions: Vec<StepDefinition>,
    expressions: Vec<(usize, Expression)>,
}

/// A definition that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Its phrase is wrong.
    #[error("{place}: step \"{name}\": {error}")]
    Expression {
        /// Where.
        place: Place,
        /// The step.
        name: String,
        /// What is wrong.
        error: Box<ExpressionError>,
    },
    /// Phrase and function disagree.
    #[error(
        "{place}: step \"{name}\": the phrase \"{phrase}\" gives {given} values, the function takes {taken}; make them equal"
    )]
    Arity {
        /// Where.
        place: Place,
        /// The step.
        name: String,
        /// The phrase.
        phrase: String,
        /// Values of the phrase.
        given: usize,
        /// Values of the function.
        taken: usize,
    },
    /// Two steps have one phrase.
    #[error(
        "{place}: step \"{name}\": the phrase \"{phrase}\" is already that of {other}; change one"
    )]
    Duplicate {
        /// Where.
        place: Place,
        /// The step.
        name: String,
        /// The phrase.
        phrase: String,
        /// Where the other is.
        other: Place,
    },
}

/// A step that a sentence means.
#[derive(Clone, Debug)]
pub struct StepMatch {
    /// Index of the definition.
    pub definition: usize,
    /// The phrase that matched.
    pub phrase: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// How it is asked.
    pub clause: Clause,
}

/// What a sentence means.
#[derive(Clone, Debug)]
pub enum Found {
    /// One step.
    One(StepMatch),
    /// No step.
    None,
    /// Several steps.
    Several(Vec<StepMatch>),
}

impl Catalogue {
    /// Adds definitions; those with faults are left out and reported, the others serve.
    pub fn add(
        &mut self,
        definitions: Vec<StepDefinition>,
        types: &ParameterTypes,
    ) -> Vec<CatalogueError> {
        let mut errors = Vec::new();
        for definition in definitions {
            match self.compile(&definition, types) {
                Ok(expressions) => {
                    let index = self.definitions.len();
                    self.expressions
                        .extend(expressions.into_iter().map(|expression| (index, expression)));
                    self.definitions.push(definition);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    fn compile(
        &self,
        definition: &StepDefinition,
        types: &ParameterTypes,
    ) -> Result<Vec<Expression>, CatalogueError> {
        let (place, name) = (definition.place.clone(), definition.name.to_string());
        let mut expressions = Vec::new();
        for phrase in &definition.phrases {
            let expression = Expression::parse(&phrase.expression, types).map_err(|error| {
                CatalogueError::Expression {
                    place: place.clone(),
                    name: name.clone(),
                    error: Box::new(error),
                }
            })?;
            let (given, taken) = (expression.arity(), definition.values);
            let phrase = phrase.expression.to_string();
            if given != taken {
                return Err(CatalogueError::Arity { place, name, phrase, given, taken });
            }
            if let Some((other, _)) =
                self.expressions.iter().find(|(_, known)| known.source() == phrase)
            {
                let other = self
                    .definitions
                    .get(*other)
                    .map(|other| other.place.clone())
                    .unwrap_or_default();
                return Err(CatalogueError::Duplicate { place, name, phrase, other });
            }
            expressions.push(expression);
        }
        Ok(expressions)
    }

    /// Every definition.
    pub fn definitions(&self) -> &[StepDefinition] {
        &self.definitions
    }

    /// The definition of a match.
    pub fn definition(&self, found: &StepMatch) -> Option<&StepDefinition> {
        self.definitions.get(found.definition)
    }

    /// The kind of each phrase, with the index of its definition.
    pub fn phrases(&self) -> impl Iterator<Item = (usize, &str, Kind)> {
        self.expressions
            .iter()
            .map(|(index, expression)| (*index, expression.source(), expression.kind()))
    }

    /// What a sentence means. A clause of time or negation is read only when the sentence means nothing with it,
    /// and only with a check.
    ///
    /// # Errors
    /// A clause with a time beyond all measure.
    pub fn find(&self, sentence: &str) -> Result<Found, Failure> {
        for (text, clause) in Clause::readings(sentence)? {
            let mut matches: Vec<StepMatch> = Vec::new();
            for (index, expression) in &self.expressions {
                let asks = self.definitions.get(*index).is_some_and(|definition| definition.check);
                if !(clause.is_plain() || asks)
                    || matches.iter().any(|known| known.definition == *index)
                {
                    continue;
                }
                if let Some(arguments) = expression.matches(&text) {
                    let phrase = expression.source().to_owned();
                    matches.push(StepMatch {
                        definition: *index,
                        phrase,
                        arguments,
                        clause: clause.clone(),
                    });
                }
            }
            match matches.len() {
                0 => {}
                1 => return Ok(matches.pop().map_or(Found::None, Found::One)),
                _ => return Ok(Found::Several(matches)),
            }
        }
        Ok(Found::None)
    }
}
