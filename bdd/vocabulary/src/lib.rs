//! The built-in steps, in English and Chinese.
//!
//! | family | module | acts on |
//! |---|---|---|
//! | variables | [`variables`] | names of the scenario |
//! | files | [`files`] | the scenario's folder |
//! | commands | [`commands`] | programs on this host |
//! | images | [`images`] | disk images, by `kezhan image` |
//! | REST | [`rest`] | any HTTP server, and the manager's socket |
//! | events | [`events`] | what any HTTP server sends as `text/event-stream` |
//! | machines | [`machine`] | processes `kezhan run`, their serial consoles, commands in their guests |
//!
//! Steps on screens, snapshots and clusters come with those capabilities and get a module each here. Every family
//! works through public interfaces only, keeps what it owns in the world, and lets go of it when the world is
//! dropped. [`all`] is the one list.

pub mod commands;
pub mod events;
pub mod files;
pub mod http;
pub mod images;
pub mod json;
pub mod machine;
pub mod process;
pub mod rest;
pub mod variables;

use kezhan_steps::StepDefinition;

/// Every built-in step.
pub fn all() -> Vec<StepDefinition> {
    let families = [
        variables::steps(),
        files::steps(),
        commands::steps(),
        images::steps(),
        rest::steps(),
        events::steps(),
        machine::steps(),
    ];
    let mut definitions = families.concat();
    definitions.iter_mut().for_each(|definition| definition.built_in = true);
    definitions
}

#[cfg(test)]
mod tests;
