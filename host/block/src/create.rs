//! What to make: the format-independent half of `kezhan image create`.

use crate::{BlockError, Result, Storage};
use std::path::Path;
use std::sync::Arc;

/// How much space to reserve at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// Nothing.
    #[default]
    Off,
    /// The format's tables.
    Metadata,
    /// Tables, and space reserved on the host.
    Falloc,
    /// Tables, and zeroes written.
    Full,
}

impl std::str::FromStr for Preallocation {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Preallocation> {
        match text {
            "off" => Ok(Preallocation::Off),
            "metadata" => Ok(Preallocation::Metadata),
            "falloc" => Ok(Preallocation::Falloc),
            "full" => Ok(Preallocation::Full),
            _ => Err(BlockError::option(
                format!("preallocation={text}"),
                "give off, metadata, falloc or full",
            )),
        }
    }
}

/// Makes an empty file at a path.
pub type MakeFile = fn(&Path) -> Result<Arc<dyn Storage>>;

/// A new image.
#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    /// Size of the guest's disk in bytes.
    pub size: u64,
    /// Name of the backing image, as it is to be written into the image.
    pub backing_file: Option<String>,
    /// Format of the backing image.
    pub backing_format: Option<String>,
    /// Options of the format: `-o name=value`.
    pub options: Vec<(String, String)>,
    /// An external data file, opened by the caller when the options name one.
    pub data_file: Option<Arc<dyn Storage>>,
    /// The backing image's file, opened by the caller, for formats that note more of it than its name.
    pub backing: Option<Arc<dyn Storage>>,
    /// Makes another file, for formats of several: a format opens none by itself.
    pub make_file: Option<MakeFile>,
    /// The passphrase of an encrypted image.
    pub passphrase: Option<Vec<u8>>,
}

impl CreateRequest {
    /// The last value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// An option that is `on` or `off`.
    ///
    /// # Errors
    /// Any other value.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.option(name) {
            None => Ok(default),
            Some("on" | "true" | "yes") => Ok(true),
            Some("off" | "false" | "no") => Ok(false),
            Some(other) => Err(BlockError::option(format!("{name}={other}"), "give 'on' or 'off'")),
        }
    }

    /// An option that is a number of bytes, with an optional unit `K M G T`.
    ///
    /// # Errors
    /// What is not a number, or too large.
    pub fn number(&self, name: &str, default: u64) -> Result<u64> {
        let Some(text) = self.option(name) else { return Ok(default) };
        let wrong =
            || BlockError::option(format!("{name}={text}"), "give a number, for example 64K");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..].to_ascii_lowercase()[..] {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err(wrong()),
        };
        digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).ok_or_else(wrong)
    }

    /// The `preallocation` option.
    ///
    /// # Errors
    /// A mode not known.
    pub fn preallocation(&self) -> Result<Preallocation> {
        self.option("preallocation").map_or(Ok(Preallocation::Off), str::parse)
    }

    /// Refuses every option that is not in `known`.
    ///
    /// # Errors
    /// [`BlockError::Option`] with the first one not known.
    pub fn expect_only(&self, format: &str, known: &[&str]) -> Result<()> {
        match self.options.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(BlockError::option(
                name.clone(),
                format!("{format} does not take it; it takes: {}", known.join(", ")),
            )),
        }
    }
}
