//! From `--cpu MODEL[,vendor=NAME][,±feature…]` and what the engine can give to what CPUID answers.
//!
//! ```text
//!   all that the engine supports ──► model: levels above it off ──► ±features ──► prerequisites ──► XSAVE
//! ```
//!
//! `host` passes everything on. A level of the x86-64 psABI ("System V ABI, AMD64 supplement" §3.1.1)
//! promises its features, which must all be there, and hides every other one that programs could see
//! and use, also those that we have no name for: a machine of one model is the same on every host.
//! Features of interest to kernels only belong to every model, as far as the engine has them.

mod features;

use crate::VmmError;
use features::{FEATURES, Feature, Level, WORDS};
use kezhan_hypervisor::{CpuidEntry, CpuidTable, Hypervisor};
use kezhan_machine_spec::{CpuModel, CpuSpec, CpuVendor};

/// The state components of XCR0 above x87 and SSE, with the feature that each belongs to (Intel SDM
/// vol. 1 §13.1).
const COMPONENTS: [(u32, &str); 8] = [
    (2, "avx"),
    (3, "mpx"),
    (4, "mpx"),
    (5, "avx512f"),
    (6, "avx512f"),
    (7, "avx512f"),
    (9, "pku"),
    (17, "amx_tile"),
];

/// Bytes of an XSAVE area before the extended components (Intel SDM vol. 1 §13.4.1, §13.4.2).
const LEGACY_AREA: u32 = 576;

/// The CPUID table for a description under an engine.
///
/// # Errors
/// [`VmmError::Cpu`] that names the features the engine lacks, or a feature that is not known.
pub(crate) fn table(cpu: &CpuSpec, engine: &dyn Hypervisor) -> Result<CpuidTable, VmmError> {
    build(cpu, engine.supported_cpuid()?, engine.name())
}

fn build(cpu: &CpuSpec, supported: CpuidTable, engine: &str) -> Result<CpuidTable, VmmError> {
    let mut table = supported.clone();
    if let Some(vendor) = cpu.vendor {
        set_vendor(&mut table, vendor);
    }
    if let Some(level) = level(cpu.model) {
        let lacks =
            |f: &&Feature| f.level.within(level) && f.level.promised() && !f.is_in(&supported);
        let missing: Vec<_> = FEATURES.iter().filter(lacks).map(|f| f.name).collect();
        if !missing.is_empty() {
            let model = CpuSpec { features: Vec::new(), ..cpu.clone() };
            let missing = missing.join(", ");
            return Err(VmmError::Cpu(format!(
                "{model} needs {missing}, which engine {engine} lacks on this host; use host"
            )));
        }
        keep_only(&mut table, level);
    }
    for (name, on) in &cpu.features {
        change(&mut table, &supported, (name, *on), engine)?;
    }
    drop_dependents(&mut table);
    trim_state(&mut table);
    Ok(table)
}

/// Leaf 1 EAX for each maker where the engine's CPU is of the other: a processor that kernels know.
const INTEL_SIGNATURE: u32 = 0x0001_06ca;
/// AMD family 0FH, model 6BH, stepping 1: before the families whose kernels code expects their own MSRs.
const AMD_SIGNATURE: u32 = 0x0006_0fb1;

/// Names `vendor` in leaf 0 (and 80000000H, which AMD's processors fill in too), with a family of its own.
fn set_vendor(table: &mut CpuidTable, vendor: CpuVendor) {
    let letters = vendor.letters().as_bytes();
    let word =
        |at: usize| letters.iter().skip(at).take(4).rev().fold(0, |w, b| w << 8 | u32::from(*b));
    let named = [word(0), word(8), word(4)];
    let Some(mut first) = table.find(0, 0).copied() else { return };
    if first.registers[1..] == named {
        return;
    }
    first.registers[1..].copy_from_slice(&named);
    table.set(first);
    if let Some(mut extended) = table.find(0x8000_0000, 0).copied() {
        let repeated = if vendor == CpuVendor::Amd { named } else { [0; 3] };
        extended.registers[1..].copy_from_slice(&repeated);
        table.set(extended);
    }
    if let Some(mut version) = table.find(1, 0).copied() {
        version.registers[0] = match vendor {
            CpuVendor::Intel => INTEL_SIGNATURE,
            CpuVendor::Amd => AMD_SIGNATURE,
        };
        table.set(version);
    }
}

fn level(model: CpuModel) -> Option<Level> {
    match model {
        CpuModel::Host => None,
        CpuModel::V1 => Some(Level::V1),
        CpuModel::V2 => Some(Level::V2),
        CpuModel::V3 => Some(Level::V3),
        CpuModel::V4 => Some(Level::V4),
    }
}

/// Clears every bit of the feature words that is not a feature of this level.
fn keep_only(table: &mut CpuidTable, level: Level) {
    for word in WORDS {
        let allowed = FEATURES
            .iter()
            .filter(|f| f.word == word && f.level.within(level))
            .fold(0, |mask, f| mask | 1 << f.bit);
        word.alter(table, |value| value & allowed);
    }
}

fn change(
    table: &mut CpuidTable,
    supported: &CpuidTable,
    (name, on): (&str, bool),
    engine: &str,
) -> Result<(), VmmError> {
    let feature = FEATURES.iter().find(|f| f.name == name).ok_or_else(|| {
        VmmError::Cpu(format!("feature '{name}' is not known; names are those of /proc/cpuinfo"))
    })?;
    if on && !feature.is_in(supported) {
        return Err(VmmError::Cpu(format!(
            "feature '{name}': engine {engine} lacks it on this host; leave it out"
        )));
    }
    feature.set(table, on);
    Ok(())
}

/// Clears features whose prerequisite is off, and so on down.
fn drop_dependents(table: &mut CpuidTable) {
    let is_off =
        |table: &CpuidTable, name: &str| FEATURES.iter().any(|f| f.name == name && !f.is_in(table));
    while let Some(feature) = FEATURES
        .iter()
        .find(|f| f.is_in(table) && f.needs.is_some_and(|needs| is_off(table, needs)))
    {
        feature.set(table, false);
    }
}

/// Makes leaf 0DH fit the features: state components that no feature uses are not there (Intel SDM
/// vol. 2A, CPUID leaf 0DH).
fn trim_state(table: &mut CpuidTable) {
    const XSTATE: u32 = 0xd;
    let has = |name: &str| FEATURES.iter().any(|f| f.name == name && f.is_in(table));
    if !has("xsave") {
        table.entries.retain(|entry| entry.leaf != XSTATE);
        return;
    }
    let gone: Vec<u32> =
        COMPONENTS.iter().filter(|(_, name)| !has(name)).map(|(bit, _)| *bit).collect();
    let is_gone = |e: &CpuidEntry| e.leaf == XSTATE && e.subleaf.is_some_and(|s| gone.contains(&s));
    table.entries.retain(|entry| !is_gone(entry));
    let end = |e: &CpuidEntry| e.registers[0].saturating_add(e.registers[1]);
    let components = table.entries.iter().filter(|e| e.leaf == XSTATE && e.subleaf > Some(1));
    // Supervisor components (ECX bit 0) have no place in the standard format.
    let size = components.filter(|e| e.registers[2] & 1 == 0).map(end).max().unwrap_or(0);
    let mask = gone.iter().fold(u32::MAX, |mask, bit| mask & !(1 << bit));
    if let Some(mut main) = table.find(XSTATE, 0).copied() {
        main.registers[0] &= mask;
        main.registers[2] = size.max(LEGACY_AREA);
        table.set(main);
    }
}

#[cfg(test)]
mod tests;
