//! Boot.
fn main() {}
