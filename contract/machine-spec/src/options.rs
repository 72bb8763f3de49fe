//! Option values that are not numbers: `--engine`, `--jit`, `--serial`, `--device`.

use crate::{DeviceSpec, EngineChoice, SerialSpec, SpecError, Switch};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

impl FromStr for EngineChoice {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<EngineChoice, SpecError> {
        match text {
            "auto" => Ok(EngineChoice::Auto),
            "kvm" => Ok(EngineChoice::Kvm),
            "soft" => Ok(EngineChoice::Soft),
            _ => Err(SpecError::Engine(text.to_owned())),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Kvm => "kvm",
            EngineChoice::Soft => "soft",
        })
    }
}

impl FromStr for Switch {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Switch, SpecError> {
        match text {
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            _ => Err(SpecError::Switch(text.to_owned())),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Switch::On => "on",
            Switch::Off => "off",
        })
    }
}

impl FromStr for SerialSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<SerialSpec, SpecError> {
        match text.split_once('=') {
            None if text == "stdio" => Ok(SerialSpec::Stdio),
            None if text == "none" => Ok(SerialSpec::None),
            Some(("file", path)) if !path.is_empty() => Ok(SerialSpec::File(PathBuf::from(path))),
            Some(("socket", path)) if !path.is_empty() => {
                Ok(SerialSpec::Socket(PathBuf::from(path)))
            }
            _ => Err(SpecError::Serial(text.to_owned())),
        }
    }
}

impl fmt::Display for SerialSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SerialSpec::Stdio => f.write_str("stdio"),
            SerialSpec::None => f.write_str("none"),
            SerialSpec::File(path) => write!(f, "file={}", path.display()),
            SerialSpec::Socket(path) => write!(f, "socket={}", path.display()),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<DeviceSpec, SpecError> {
        let wrong = || SpecError::Device(text.to_owned());
        let mut parts = text.split(',');
        let name = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
        let setting = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(wrong()),
        };
        Ok(DeviceSpec {
            name: name.ok_or_else(wrong)?.to_owned(),
            settings: parts.map(setting).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_destinations_read_as_they_are_written() {
        for text in ["stdio", "none", "file=/tmp/a=b,c", "socket=/run/s"] {
            assert_eq!(text.parse::<SerialSpec>().unwrap().to_string(), text);
        }
        for text in ["", "file", "file=", "socket=", "tcp=1", "stdio="] {
            assert_eq!(text.parse::<SerialSpec>(), Err(SpecError::Serial(text.to_owned())));
        }
    }

    #[test]
    fn engines_read_as_they_are_written() {
        for text in ["auto", "kvm", "soft"] {
            assert_eq!(text.parse::<EngineChoice>().unwrap().to_string(), text);
        }
        assert_eq!("KVM".parse::<EngineChoice>(), Err(SpecError::Engine("KVM".to_owned())));
    }

    #[test]
    fn a_device_has_a_name_and_settings() {
        let device: DeviceSpec = "isa-debug-exit,port=0xf4,x=".parse().unwrap();
        assert_eq!(device.name, "isa-debug-exit");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(device.settings, [pair("port", "0xf4"), pair("x", "")]);
        for text in ["", ",port=1", "name=x", "dev,flag", "dev,=1", "dev,"] {
            assert_eq!(text.parse::<DeviceSpec>(), Err(SpecError::Device(text.to_owned())));
        }
    }
}
