use super::*;
use std::str::FromStr;

/// An engine that has every feature of the table, AVX-512 state and a bit that nobody knows.
fn everything() -> CpuidTable {
    let mut table = CpuidTable::default();
    let leaves = [(1, None), (7, Some(0)), (7, Some(1)), (0xd, Some(1)), (0x8000_0001, None)];
    for (leaf, subleaf) in leaves {
        table.set(CpuidEntry { leaf, subleaf, registers: [0; 4] });
    }
    for feature in FEATURES {
        feature.set(&mut table, true);
    }
    let mut seven = *table.find(7, 0).unwrap();
    seven.registers[1] |= 1 << 25;
    table.set(seven);
    for (component, size, offset) in [(2, 256, 576), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664)]
    {
        let registers = [size, offset, 0, 0];
        table.set(CpuidEntry { leaf: 0xd, subleaf: Some(component), registers });
    }
    table.set(CpuidEntry { leaf: 0xd, subleaf: Some(0), registers: [0xe7, 576, 2688, 0] });
    table
}

fn built(text: &str) -> CpuidTable {
    build(&CpuSpec::from_str(text).unwrap(), everything(), "soft").unwrap()
}

fn refused(text: &str, supported: CpuidTable) -> String {
    build(&CpuSpec::from_str(text).unwrap(), supported, "soft").unwrap_err().to_string()
}

fn has(table: &CpuidTable, name: &str) -> bool {
    FEATURES.iter().find(|f| f.name == name).unwrap().is_in(table)
}

#[test]
fn host_passes_everything_on() {
    assert_eq!(built("host"), everything());
}

#[test]
fn a_level_has_its_features_and_those_of_kernels_and_no_others() {
    let table = built("x86-64-v2");
    for name in ["sse4_2", "popcnt", "cx16", "lahf_lm", "smep", "x2apic", "nx"] {
        assert!(has(&table, name), "{name}");
    }
    for name in ["avx", "aes", "rdrand", "bmi1", "xsave", "xsaves"] {
        assert!(!has(&table, name), "{name}");
    }
    assert_eq!(table.find(7, 0).unwrap().registers[1] >> 25 & 1, 0, "a bit nobody knows");
}

#[test]
fn state_components_follow_the_features() {
    assert_eq!(built("x86-64-v3").find(0xd, 0).unwrap().registers, [7, 576, 832, 0]);
    assert_eq!(built("x86-64-v4").find(0xd, 0).unwrap().registers, [0xe7, 576, 2688, 0]);
    assert_eq!(built("x86-64-v3").find(0xd, 5), None);
    assert_eq!(built("x86-64-v2").find(0xd, 0), None);
}

#[test]
fn what_stands_on_a_feature_goes_with_it() {
    let table = built("host,-avx");
    for name in ["avx", "avx2", "fma", "avx512f", "avx512bw", "vaes"] {
        assert!(!has(&table, name), "{name}");
    }
    assert!(has(&table, "xsave") && has(&table, "aes"));
}

#[test]
fn a_feature_can_be_added_to_a_level() {
    assert!(has(&built("x86-64-v2,+aes"), "aes"));
}

#[test]
fn what_the_engine_lacks_is_named() {
    let mut poor = everything();
    FEATURES.iter().find(|f| f.name == "popcnt").unwrap().set(&mut poor, false);
    let error = refused("x86-64-v2", poor.clone());
    assert_eq!(
        error,
        "--cpu: x86-64-v2 needs popcnt, which engine soft lacks on this host; use host"
    );
    let error = refused("host,+popcnt", poor);
    assert!(error.contains("'popcnt'") && error.contains("lacks it"), "{error}");
}

#[test]
fn a_feature_that_nobody_knows_is_refused() {
    assert!(refused("host,-warp", everything()).contains("'warp' is not known"));
}

#[test]
fn every_prerequisite_is_a_feature_and_no_two_have_one_name_or_place() {
    for (index, feature) in FEATURES.iter().enumerate() {
        if let Some(needs) = feature.needs {
            assert!(FEATURES.iter().any(|f| f.name == needs), "{needs}");
        }
        let twins = FEATURES[..index]
            .iter()
            .filter(|f| f.name == feature.name || (f.word == feature.word && f.bit == feature.bit));
        assert_eq!(twins.count(), 0, "{}", feature.name);
    }
}

#[test]
fn a_vendor_is_named_in_both_leaves_with_a_family_of_its_own() {
    let mut engine = everything();
    let intel = kezhan_hypervisor::CpuidEntry {
        leaf: 0,
        subleaf: None,
        registers: [0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
    };
    engine.set(intel);
    engine.set(CpuidEntry { leaf: 0x8000_0000, subleaf: None, registers: [0x8000_0008, 0, 0, 0] });
    let vendor =
        |text: &str| build(&CpuSpec::from_str(text).unwrap(), engine.clone(), "soft").unwrap();
    let amd = vendor("host,vendor=AuthenticAMD");
    let letters = [0x6874_7541, 0x444d_4163, 0x6974_6e65];
    assert_eq!(amd.find(0, 0).unwrap().registers[1..], letters);
    assert_eq!(amd.find(0x8000_0000, 0).unwrap().registers[1..], letters);
    assert_eq!(amd.find(1, 0).unwrap().registers[0] >> 8 & 0xf, 0xf);
    assert_eq!(vendor("host,vendor=GenuineIntel"), engine);
}
