//! Carrying out one step: variables, waiting, holding, negating, steps within steps.
//!
//! A check is asked at once and then again with growing pauses (5 ms to 200 ms): what is waited for is a condition,
//! the pause only keeps a processor free. Between two questions the world's guards are asked, so that a dead
//! machine ends the wait with its reason.

use crate::arguments::Arguments;
use crate::catalogue::{Catalogue, Found, StepMatch};
use crate::clause::Clause;
use crate::definition::{Action, Composite, StepDefinition};
use crate::failure::Failure;
use crate::world::World;
use kezhan_expressions::{Argument, Value};
use kezhan_gherkin::PickleArgument;
use std::time::{Duration, Instant};

/// How deep steps may be made of steps.
pub const MAX_DEPTH: usize = 8;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Carries out a step that was found in the catalogue.
///
/// # Errors
/// Why it did not pass.
pub fn perform(
    catalogue: &Catalogue,
    world: &mut World,
    found: &StepMatch,
    below: Option<&PickleArgument>,
) -> Result<(), Failure> {
    perform_at(catalogue, world, (found, below), 0)
}

fn perform_at(
    catalogue: &Catalogue,
    world: &mut World,
    (found, below): (&StepMatch, Option<&PickleArgument>),
    depth: usize,
) -> Result<(), Failure> {
    let definition = catalogue
        .definition(found)
        .ok_or_else(|| Failure::Broken("the step is of another catalogue".to_owned()))?;
    let mut values = Vec::new();
    for Argument { value, .. } in &found.arguments {
        values.push(value.clone().map_err(|error| Failure::Broken(error.to_string()))?);
    }
    if let Some(machine) = &found.clause.machine {
        world.machine = Some(world.variables.fill(machine)?);
    }
    let plain = Arguments::new(values, below);
    let arguments = plain.map(&|text| world.variables.fill(text))?;
    match &definition.action {
        Action::Composite(composite) => {
            composite_steps(catalogue, world, (composite, &arguments), depth)
        }
        _ if definition.check => ask(world, definition, &arguments, &found.clause),
        _ => {
            call(world, definition, &arguments)?;
            world.ask_guards()
        }
    }
}

fn call(
    world: &mut World,
    definition: &StepDefinition,
    arguments: &Arguments,
) -> Result<(), Failure> {
    match &definition.action {
        Action::Function(function) => function(world, arguments),
        Action::Program(program) => program.clone().run(world, &definition.name, arguments),
        Action::Composite(_) => Ok(()),
    }
}

fn ask(
    world: &mut World,
    definition: &StepDefinition,
    arguments: &Arguments,
    clause: &Clause,
) -> Result<(), Failure> {
    // What must not hold is judged now unless the sentence gives it time: patience would only delay a pass.
    let patience =
        if clause.not || clause.hold.is_some() { Duration::ZERO } else { definition.patience };
    let limit = world.scaled(clause.within.unwrap_or(patience));
    wait(world, definition, arguments, (clause, limit))?;
    match clause.hold {
        Some(hold) => keep(world, definition, arguments, (clause, hold)),
        None => Ok(()),
    }
}

/// One question, its negation taken into account.
fn once(
    world: &mut World,
    definition: &StepDefinition,
    arguments: &Arguments,
    not: bool,
) -> Result<(), Failure> {
    match (call(world, definition, arguments), not) {
        (Ok(()), true) => {
            let name = definition.name.replace('_', " ");
            Err(Failure::mismatch(format!("not: {name}"), "it holds"))
        }
        (Err(Failure::Mismatch { .. }), true) => Ok(()),
        (result, _) => result,
    }
}

fn wait(
    world: &mut World,
    definition: &StepDefinition,
    arguments: &Arguments,
    (clause, limit): (&Clause, Duration),
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match once(world, definition, arguments, clause.not) {
            Err(failure @ Failure::Mismatch { .. }) => failure,
            result => return result,
        };
        world.ask_guards()?;
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(late(failure, limit));
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn late(failure: Failure, limit: Duration) -> Failure {
    match failure {
        Failure::Mismatch { expected, seen } if !limit.is_zero() => {
            let expected = format!("{expected}, within {:.1} s", limit.as_secs_f64());
            Failure::Mismatch { expected, seen }
        }
        failure => failure,
    }
}

fn keep(
    world: &mut World,
    definition: &StepDefinition,
    arguments: &Arguments,
    (clause, hold): (&Clause, Duration),
) -> Result<(), Failure> {
    let hold = world.scaled(hold);
    let begun = Instant::now();
    // The last question is asked when the time is over, however long that took.
    let mut over = false;
    while !over {
        std::thread::sleep(LONGEST_PAUSE.min(hold.saturating_sub(begun.elapsed())));
        world.ask_guards()?;
        over = begun.elapsed() >= hold;
        match once(world, definition, arguments, clause.not) {
            Err(Failure::Mismatch { expected, seen }) => {
                let held = begun.elapsed().as_secs_f64();
                let expected = format!("{expected}, for {:.1} s", hold.as_secs_f64());
                return Err(Failure::Mismatch {
                    expected,
                    seen: format!("{seen}, after {held:.1} s"),
                });
            }
            Err(failure) => return Err(failure),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn composite_steps(
    catalogue: &Catalogue,
    world: &mut World,
    (composite, arguments): (&Composite, &Arguments),
    depth: usize,
) -> Result<(), Failure> {
    if depth >= MAX_DEPTH {
        return Err(Failure::Broken(format!(
            "steps are made of steps more than {MAX_DEPTH} deep; do they call themselves?"
        )));
    }
    for step in &composite.steps {
        let text = fill_numbers(&step.text, &arguments.values);
        let below = step.argument.as_ref().map(|below| fill_below(below, &arguments.values));
        let within = |failure: Failure| match failure {
            Failure::Mismatch { expected, seen } => {
                Failure::Mismatch { expected: format!("{expected} (in: {text})"), seen }
            }
            Failure::Broken(what) => Failure::Broken(format!("in \"{text}\": {what}")),
            failure => failure,
        };
        match catalogue.find(&text)? {
            Found::One(found) => {
                perform_at(catalogue, world, (&found, below.as_ref()), depth + 1).map_err(within)?
            }
            Found::None => return Err(Failure::Broken(format!("no step means \"{text}\""))),
            Found::Several(_) => {
                return Err(Failure::Broken(format!("several steps mean \"{text}\"")));
            }
        }
    }
    Ok(())
}

/// A text with `<1>`, `<2>` … replaced by values.
pub(crate) fn fill_numbers(text: &str, values: &[Value]) -> String {
    let mut filled = text.to_owned();
    for (value, number) in values.iter().zip(1..) {
        let written = match value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Size(bytes) => format!("{bytes} bytes"),
            Value::Duration(duration) => format!("{} ms", duration.as_millis()),
            Value::Address(address) => address.to_string(),
            Value::State(state) => format!("{state:?}").to_lowercase(),
        };
        filled = filled.replace(&format!("<{number}>"), &written);
    }
    filled
}

fn fill_below(below: &PickleArgument, values: &[Value]) -> PickleArgument {
    let mut below = below.clone();
    if let Some(doc) = &mut below.doc_string {
        doc.content = fill_numbers(&doc.content, values);
    }
    for cell in
        below.data_table.iter_mut().flat_map(|table| &mut table.rows).flat_map(|row| &mut row.cells)
    {
        cell.value = fill_numbers(&cell.value, values);
    }
    below
}
