//! Names that sentences use: `${ip}`, `${env:HOME}`, `${secret:TOKEN}`.
//!
//! A secret comes from the environment, under the name `KEZHAN_SECRET_` and its own, and is masked wherever text
//! leaves the runner.

use crate::failure::Failure;
use std::collections::BTreeMap;

/// What stands in the place of a secret.
const MASK: &str = "••••••";

/// The variables of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
    secrets: Vec<String>,
}

impl Variables {
    /// Keeps a value under a name.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Notes a text that must never be shown.
    pub fn hide(&mut self, secret: &str) {
        if !secret.is_empty() && !self.secrets.iter().any(|known| known == secret) {
            self.secrets.push(secret.to_owned());
        }
    }

    /// A text with every `${name}` replaced; `$${` stands for `${`.
    ///
    /// # Errors
    /// A name that has no value.
    pub fn fill(&self, text: &str) -> Result<String, Failure> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            if let Some(escaped) = before.strip_suffix('$') {
                filled.push_str(escaped);
                filled.push_str("${");
                rest = after;
                continue;
            }
            filled.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                filled.push_str("${");
                rest = after;
                continue;
            };
            filled.push_str(&self.look_up(name)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn look_up(&self, name: &str) -> Result<String, Failure> {
        let known = || self.values.keys().cloned().collect::<Vec<_>>().join(", ");
        if let Some(name) = name.strip_prefix("env:") {
            return std::env::var(name).map_err(|error| {
                Failure::Broken(format!("environment variable {name}: {error}; set it"))
            });
        }
        if let Some(name) = name.strip_prefix("secret:") {
            let name = format!("KEZHAN_SECRET_{name}");
            return std::env::var(&name).map_err(|error| {
                Failure::Broken(format!("environment variable {name}: {error}; set it"))
            });
        }
        self.get(name).map(str::to_owned).ok_or_else(|| {
            Failure::Broken(format!("variable \"{name}\" has no value; known are: {}", known()))
        })
    }

    /// A text without secrets.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("KEZHAN_SECRET_"));
        let secrets = environment.map(|(_, value)| value).chain(self.secrets.iter().cloned());
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            masked = masked.replace(&secret, MASK);
        }
        masked
    }
}
