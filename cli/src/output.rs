//! Standard output, for reports.

use std::io::{self, Write};

/// Prints all of `text`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}
