//! OpenAPI 3.1 from features, and features from OpenAPI.
//!
//! ```text
//! features --calls--> [Call: method, path, body, status, answer] --draw--> openapi.json
//!    ^                      |                                                 |
//!    |                      '------------- coverage: operation x status ------+
//!    '---------------------------------- outline --------------------- openapi.json
//! ```
//!
//! A call is read from API steps ("I POST /v1/x with:", "the API answers 201") or, through a table of
//! [`Bindings`], from plain sentences of the business. What is drawn is a skeleton: paths, methods, statuses,
//! examples from doc strings and schemas inferred from them, and for each operation the scenarios that it came from.

mod bindings;
mod calls;
mod coverage;
mod draw;
mod outline;
mod schema;
pub mod spec;

pub use bindings::{Bindings, BindingsError};
pub use calls::{Call, calls};
pub use coverage::{Row, coverage, coverage_text};
pub use draw::draw;
pub use outline::outline;

#[cfg(test)]
mod tests;
