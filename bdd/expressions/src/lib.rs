//! How a sentence finds its step: Cucumber Expressions, regular expressions, parameter types.
//!
//! ```text
//! "a {size} disk {string}" --parse--> syntax --compile--> one regular expression
//!                                                               |
//! "a 2 GiB disk “data”" ----------------------------------------+--> [Size(2147483648), Text("data")]
//! ```
//!
//! An expression becomes one regular expression of the crate `regex`, which matches in linear time whatever a
//! feature file says. Two things are ours, for people who type Chinese: a half-width mark or digit also matches
//! its full-width form, and a space beside a Chinese character may be left out or put in.
//!
//! [`propose`] goes the other way: from a sentence to the expression that would match it.

mod compile;
mod error;
mod expression;
mod parameter;
mod propose;
pub mod spec;
mod syntax;
mod value;
pub mod width;

pub use error::ExpressionError;
pub use expression::{Argument, Expression, Kind};
pub use parameter::{ParameterType, ParameterTypes};
pub use propose::{Proposal, propose};
pub use value::{MachineState, Value, ValueError};

#[cfg(test)]
mod tests;
