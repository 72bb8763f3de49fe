//! Runs scenarios.
//!
//! ```text
//! features --plan--> chosen scenarios, in order --budget--> one thread per scenario that fits
//!                                                               | attempt, steps, events
//!                                             one channel <-----'
//!                                                 |
//!                                        writers: NDJSON, terminal; at the end JUnit, JSON, HTML
//! ```
//!
//! A scenario has a thread, a world and a folder of its own. It begins when its processors and memory fit into what
//! is left of the budget: the limit is what machines use, not a number of threads. A scenario that does not come
//! back in time is given up and reported, and the run goes on. What scenarios started is noted with a
//! [`reaper`], which outlives even a killed runner.

mod attempt;
pub mod budget;
mod external;
mod load;
mod plan;
pub mod reaper;
mod run;
mod shell;
mod tags;

pub use budget::Cost;
pub use load::{LoadError, load_steps};
pub use plan::{Order, Plan, Selection, Shard, select};
pub use run::{Options, Outcome, run};
pub use tags::{TagError, TagExpression};

#[cfg(test)]
mod tests;
