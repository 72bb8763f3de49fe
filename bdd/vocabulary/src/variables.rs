//! Steps on the scenario's variables.

use kezhan_steps::{Failure, StepDefinition, World, check, step, steps};

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    steps![save, variable_is]
}

/// Keeps a text under a name; `${name}` stands for it in later sentences.
#[step(en = "I save {string} as {string}", zh = "我把 {string} 存为 {string}")]
fn save(world: &mut World, value: &str, name: &str) -> Result<(), Failure> {
    world.variables.set(name, value);
    Ok(())
}

/// Compares a saved text.
#[check(en = "the variable {string} is {string}", zh = "变量 {string} 是 {string}")]
fn variable_is(world: &mut World, name: &str, expected: &str) -> Result<(), Failure> {
    match world.variables.get(name) {
        Some(value) if value == expected => Ok(()),
        Some(value) => {
            Err(Failure::mismatch(format!("{name} = {expected:?}"), format!("{value:?}")))
        }
        None => Err(Failure::mismatch(format!("{name} = {expected:?}"), "no such variable")),
    }
}
