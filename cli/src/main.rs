//! The `kezhan` command.

fn main() {}
