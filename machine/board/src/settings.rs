//! `key=value` settings of a device, checked against what its kind knows.

use crate::{BoardError, DeviceKind};
use std::ops::RangeInclusive;

/// The settings given to one device.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    device: &'static str,
    given: &'a [(String, String)],
}

impl<'a> Settings<'a> {
    pub(crate) fn check(
        kind: &DeviceKind,
        given: &'a [(String, String)],
    ) -> Result<Settings<'a>, BoardError> {
        let known = |key: &str| kind.settings.iter().any(|setting| setting.key == key);
        match given.iter().find(|(key, _)| !known(key)) {
            None => Ok(Settings { device: kind.name, given }),
            Some((key, _)) => Err(BoardError::UnknownSetting {
                device: kind.name.to_owned(),
                key: key.clone(),
                known: describe(kind),
            }),
        }
    }

    /// A small number within `range`.
    pub(crate) fn count(
        &self,
        key: &str,
        default: u8,
        range: RangeInclusive<u8>,
    ) -> Result<u8, BoardError> {
        let Some((_, value)) = self.given.iter().rev().find(|(given, _)| given == key) else {
            return Ok(default);
        };
        let parsed = value.parse().ok().filter(|count| range.contains(count));
        parsed.ok_or_else(|| BoardError::SettingValue {
            device: self.device.to_owned(),
            key: key.to_owned(),
            value: value.clone(),
            rule: "give a number from 1 to 16",
        })
    }

    /// An I/O port, decimal or with `0x`.
    pub(crate) fn port(&self, key: &str, default: u16) -> Result<u16, BoardError> {
        let Some((_, value)) = self.given.iter().rev().find(|(given, _)| given == key) else {
            return Ok(default);
        };
        let parsed = match value.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => value.parse(),
        };
        parsed.map_err(|_not_a_number| BoardError::SettingValue {
            device: self.device.to_owned(),
            key: key.to_owned(),
            value: value.clone(),
            rule: "give a port from 0 to 0xffff",
        })
    }
}

fn describe(kind: &DeviceKind) -> String {
    if kind.settings.is_empty() {
        return "it has none".to_owned();
    }
    let keys: Vec<&str> = kind.settings.iter().map(|setting| setting.key).collect();
    format!("it has {}", keys.join(", "))
}
