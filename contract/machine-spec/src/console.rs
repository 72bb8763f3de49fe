//! Consoles: `--console WHERE[,name=NAME]`.

use crate::{SerialSpec, SpecError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A port of the machine's virtio-console. The first is the guest's `hvc0`, the others are named ports
/// (`/dev/virtio-ports/NAME` under Linux).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSpec {
    /// Where it goes.
    pub to: SerialSpec,
    /// Name by which the guest finds it: letters, digits, `-`, `_` and `.`, at most 64.
    #[serde(default)]
    pub name: String,
}

impl ConsoleSpec {
    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.len() > 64 || !self.name.chars().all(fits) {
            return Err(SpecError::Console(self.to_string()));
        }
        Ok(())
    }
}

impl FromStr for ConsoleSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<ConsoleSpec, SpecError> {
        let (place, name) = match text.rsplit_once(",name=") {
            Some((place, name)) if !name.is_empty() => (place, name),
            Some(_) => return Err(SpecError::Console(text.to_owned())),
            None => (text, ""),
        };
        let to = place.parse().map_err(|_serial| SpecError::Console(text.to_owned()))?;
        let console = ConsoleSpec { to, name: name.to_owned() };
        console.validate().map(|()| console)
    }
}

impl fmt::Display for ConsoleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, ",name={}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_reads_as_it_is_written() {
        for text in ["stdio", "file=/tmp/a,b", "socket=/run/s,name=org.kezhan.agent", "none,name=x"]
        {
            assert_eq!(text.parse::<ConsoleSpec>().unwrap().to_string(), text);
        }
        for text in ["", "tcp=1", "stdio,name=", "stdio,name=a b"] {
            assert_eq!(text.parse::<ConsoleSpec>(), Err(SpecError::Console(text.to_owned())));
        }
    }
}
