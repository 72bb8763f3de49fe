//! Steps: what a sentence of a feature does.
//!
//! ```text
//! "Then the console shows "login:" within 60 seconds"
//!      |  clause: within 60 s                 (every Then: within, for, not)
//!      v
//! "the console shows "login:"" --catalogue--> StepDefinition + Arguments --> fn(&mut World, …)
//! ```
//!
//! A step is a plain named function with an attribute ([`step`] or [`check`]), or a program outside
//! ([`Action::Program`]), or steps made of steps ([`Action::Composite`]). A check only asks; the waiting, holding and
//! negating are done here, once, for all of them ([`perform`]).
//!
//! ```
//! # use kezhan_steps::{Failure, World};
//! #[kezhan_steps::step(en = "I call {string}", zh = "我呼叫 {string}")]
//! fn call(world: &mut World, name: &str) -> Result<(), Failure> {
//!     world.variables.set("called", name);
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! A function that takes more or fewer values than its phrase gives does not compile; the compiler points at the phrase:
//! "this phrase has 1 parameters, the function takes 0 values".
//!
//! ```compile_fail
//! # use kezhan_steps::{Failure, World};
//! #[kezhan_steps::step(en = "I call {string}")]
//! fn call(world: &mut World) -> Result<(), Failure> {
//!     Ok(())
//! }
//! # fn main() {}
//! ```

extern crate self as kezhan_steps;

mod arguments;
mod catalogue;
mod clause;
mod definition;
mod failure;
mod perform;
mod variables;
mod world;

pub use arguments::{Arguments, DocString, FromValue, Table};
pub use catalogue::{Catalogue, CatalogueError, Found, StepMatch};
pub use clause::Clause;
pub use definition::{Action, Composite, Phrase, Place, StepDefinition, StepFunction, StepProgram};
pub use failure::Failure;
pub use kezhan_bdd_macros::{check, step};
pub use kezhan_expressions::{MachineState, Value};
pub use perform::{MAX_DEPTH, perform};
pub use variables::Variables;
pub use world::{Attachment, Guard, Reaper, Settings, World};

/// The definitions of the named functions, each of which carries [`step`] or [`check`].
///
/// The path to a function is also the path to the module that the attribute put beside it.
#[macro_export]
macro_rules! steps {
    ($($name:path),* $(,)?) => {
        ::std::vec![$({
            use $name as named;
            named::definition()
        }),*]
    };
}

#[cfg(test)]
mod tests;
