//! The values that parameters become.

use crate::spec::{DURATION_UNITS, QUOTES, SIZE_UNITS};
use crate::width::narrow_all;
use serde::Serialize;
use std::net::IpAddr;
use std::time::Duration;

/// What a machine can be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// Its processors run.
    Running,
    /// Its processors are held.
    Paused,
    /// It is off.
    Stopped,
    /// It died of itself.
    Crashed,
}

/// The value of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `{int}`, `{port}`, `{status}`
    Int(i64),
    /// `{float}`
    Float(f64),
    /// `{string}`, `{word}`, `{path}`, `{regex}`, `{method}`, `{key}`, `{}` and types of one's own.
    Text(String),
    /// `{size}`, in bytes.
    Size(u64),
    /// `{duration}`
    Duration(Duration),
    /// `{state}`
    State(MachineState),
    /// `{address}`
    Address(IpAddr),
}

/// Why a text that has the form of a parameter is no value of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no {what}; {mend}")]
pub struct ValueError {
    /// The text.
    pub text: String,
    /// What it should be.
    pub what: &'static str,
    /// What to write instead.
    pub mend: &'static str,
}

pub(crate) type Parser = fn(&str) -> Result<Value, ValueError>;

fn wrong(text: &str, what: &'static str, mend: &'static str) -> ValueError {
    ValueError { text: text.to_owned(), what, mend }
}

pub(crate) fn text(text: &str) -> Result<Value, ValueError> {
    Ok(Value::Text(text.to_owned()))
}

pub(crate) fn int(text: &str) -> Result<Value, ValueError> {
    let digits = narrow_all(text);
    digits
        .parse()
        .map(Value::Int)
        .map_err(|_error| wrong(text, "whole number", "use at most 18 digits"))
}

pub(crate) fn float(text: &str) -> Result<Value, ValueError> {
    narrow_all(text)
        .parse()
        .map(Value::Float)
        .map_err(|_error| wrong(text, "number", "write it as 12.5"))
}

pub(crate) fn port(text: &str) -> Result<Value, ValueError> {
    match int(text) {
        Ok(Value::Int(port @ 1..=65535)) => Ok(Value::Int(port)),
        _ => Err(wrong(text, "port", "ports are 1 to 65535")),
    }
}

pub(crate) fn address(text: &str) -> Result<Value, ValueError> {
    text.parse()
        .map(Value::Address)
        .map_err(|_error| wrong(text, "address", "write it as 10.0.0.1 or fe80::1"))
}

/// A quoted text without its quotes; a backslash keeps the next character. A bare text is itself.
pub(crate) fn quoted(text: &str) -> Result<Value, ValueError> {
    let quote =
        QUOTES.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
    let Some(inner) = quote else { return self::text(text) };
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(kept) if kept == '\\' || is_quote(kept) => plain.push(kept),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    Ok(Value::Text(plain))
}

fn is_quote(c: char) -> bool {
    QUOTES.iter().any(|(open, close)| c == *open || c == *close)
}

/// `/…/` without its slashes.
pub(crate) fn slashed(text: &str) -> Result<Value, ValueError> {
    let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).unwrap_or(text);
    Ok(Value::Text(inner.replace("\\/", "/")))
}

pub(crate) fn size(text: &str) -> Result<Value, ValueError> {
    let narrow = narrow_all(text);
    let fault = || wrong(text, "size", "write it as 512 MiB or 2 GiB");
    let (number, shift) = SIZE_UNITS
        .iter()
        .find_map(|(unit, shift)| Some((narrow.strip_suffix(unit)?.trim(), *shift)))
        .ok_or_else(fault)?;
    let whole: u64 = number.parse().map_err(|_error| fault())?;
    whole.checked_mul(1 << shift).map(Value::Size).ok_or_else(fault)
}

pub(crate) fn duration(text: &str) -> Result<Value, ValueError> {
    let narrow = narrow_all(text);
    let fault = || wrong(text, "duration", "write it as 500 ms, 60 seconds or 2 分钟");
    let (number, unit) = DURATION_UNITS
        .iter()
        .find_map(|(name, unit)| Some((narrow.strip_suffix(name)?.trim(), *unit)))
        .ok_or_else(fault)?;
    let seconds = number.parse::<f64>().map_err(|_error| fault())? * unit / 1e3;
    Duration::try_from_secs_f64(seconds).map(Value::Duration).map_err(|_error| fault())
}

pub(crate) fn state(text: &str) -> Result<Value, ValueError> {
    let state = match text {
        "running" | "运行" => MachineState::Running,
        "paused" | "暂停" => MachineState::Paused,
        "stopped" | "停止" | "关机" => MachineState::Stopped,
        "crashed" | "崩溃" => MachineState::Crashed,
        _ => return Err(wrong(text, "state", "states are running, paused, stopped and crashed")),
    };
    Ok(Value::State(state))
}
