//! `--cpu MODEL[,±feature…]`.

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

/// A model and the features added to it and taken from it. Whether a feature exists is the engine's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSpec {
    /// The model.
    pub model: CpuModel,
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
        let features = parts.map(parse_feature).collect::<Result<_, _>>()?;
        Ok(CpuSpec { model: *model, features })
    }
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
