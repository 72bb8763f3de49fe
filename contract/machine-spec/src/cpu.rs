//! `--cpu MODEL[,vendor=NAME][,±feature…]`.

use crate::SpecError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A CPU model: the host's own, or a level of the x86-64 psABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuModel {
    /// All that the engine can pass on of this host.
    #[default]
    Host,
    /// x86-64-v1: SSE2.
    V1,
    /// x86-64-v2: SSE4.2, POPCNT, CMPXCHG16B.
    V2,
    /// x86-64-v3: AVX2, BMI, FMA.
    V3,
    /// x86-64-v4: AVX-512.
    V4,
}

/// The maker that CPUID names. Guests choose by it where makers differ, as with SYSCALL in 32-bit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuVendor {
    /// GenuineIntel.
    Intel,
    /// AuthenticAMD.
    Amd,
}

impl CpuVendor {
    /// The twelve letters of CPUID leaf 0, in the order EBX, EDX, ECX.
    pub fn letters(self) -> &'static str {
        match self {
            CpuVendor::Intel => "GenuineIntel",
            CpuVendor::Amd => "AuthenticAMD",
        }
    }
}

/// A model and the features added to it and taken from it. Whether a feature exists is the engine's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSpec {
    /// The model.
    pub model: CpuModel,
    /// The maker, when it is to be another than the engine's own.
    pub vendor: Option<CpuVendor>,
    /// Features as Linux names them in `/proc/cpuinfo`, with `true` for `+`.
    pub features: Vec<(String, bool)>,
}

const MODELS: [(&str, CpuModel); 5] = [
    ("host", CpuModel::Host),
    ("x86-64-v1", CpuModel::V1),
    ("x86-64-v2", CpuModel::V2),
    ("x86-64-v3", CpuModel::V3),
    ("x86-64-v4", CpuModel::V4),
];

impl FromStr for CpuSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<CpuSpec, SpecError> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let (_, model) = MODELS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| SpecError::CpuModel(name.to_owned()))?;
        let mut cpu = CpuSpec { model: *model, ..CpuSpec::default() };
        for part in parts {
            match part.strip_prefix("vendor=") {
                Some(vendor) => cpu.vendor = Some(parse_vendor(vendor)?),
                None => cpu.features.push(parse_feature(part)?),
            }
        }
        Ok(cpu)
    }
}

fn parse_vendor(text: &str) -> Result<CpuVendor, SpecError> {
    [CpuVendor::Intel, CpuVendor::Amd]
        .into_iter()
        .find(|vendor| vendor.letters() == text)
        .ok_or_else(|| SpecError::CpuVendor(text.to_owned()))
}

fn parse_feature(text: &str) -> Result<(String, bool), SpecError> {
    let (sign, name) = text.split_at_checked(1).unwrap_or_default();
    match (sign, name) {
        (_, "") => Err(SpecError::CpuFeature(text.to_owned())),
        ("+", name) => Ok((name.to_ascii_lowercase(), true)),
        ("-", name) => Ok((name.to_ascii_lowercase(), false)),
        _ => Err(SpecError::CpuFeature(text.to_owned())),
    }
}

impl fmt::Display for CpuSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = MODELS.iter().find(|(_, model)| *model == self.model).map_or("host", |m| m.0);
        f.write_str(name)?;
        if let Some(vendor) = self.vendor {
            write!(f, ",vendor={}", vendor.letters())?;
        }
        for (feature, on) in &self.features {
            write!(f, ",{}{feature}", if *on { '+' } else { '-' })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSpec {
    type Error = SpecError;

    fn try_from(text: String) -> Result<CpuSpec, SpecError> {
        text.parse()
    }
}

impl From<CpuSpec> for String {
    fn from(cpu: CpuSpec) -> String {
        cpu.to_string()
    }
}
