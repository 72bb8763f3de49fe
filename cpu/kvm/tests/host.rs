//! What this host's KVM is found to be. Where there is no /dev/kvm, the error must say so.

use kezhan_hypervisor::{EngineError, Hypervisor};
use kezhan_kvm::{Kvm, Verdict};
use std::path::Path;

/// The engine, or `None` after checking how its absence is told.
fn kvm() -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(error) => {
            assert!(error.to_string().starts_with("/dev/kvm: "), "{error}");
            assert!(error.to_string().contains("--engine soft"), "{error}");
            assert!(!Path::new("/dev/kvm").exists() || matches!(error, EngineError::NoKvm(_)));
            eprintln!("no KVM here: {error}");
            None
        }
    }
}

#[test]
fn the_probe_tells_hardware_from_an_interpreter() {
    let Some(kvm) = kvm() else { return };
    let verdict = kvm.probe().unwrap();
    let interpreted = Path::new("/sys/module/kvm_pvm").exists();
    assert_eq!(verdict.can_run_stock_kernel, !interpreted, "{verdict:?}");
    assert_eq!(verdict.reason().is_some(), interpreted);
    assert!(verdict.instructions_per_second > 100_000, "{verdict:?}");
    for works in ["iretq", "swapgs", "cpuid", "fxrstor"] {
        assert!(!verdict.failing.iter().any(|name| name == works), "{verdict:?}");
    }
    if interpreted {
        for fails in ["int3", "xrstor", "syscall"] {
            assert!(verdict.failing.iter().any(|name| name == fails), "{verdict:?}");
        }
    }
}

#[test]
fn the_reason_names_the_speed_and_the_instructions() {
    let verdict = Verdict {
        instructions_per_second: 3_900_000,
        failing: vec!["int3".into(), "xrstor".into()],
        can_run_stock_kernel: false,
    };
    let reason = verdict.reason().unwrap();
    assert!(reason.contains("3 million"), "{reason}");
    assert!(reason.ends_with("int3, xrstor"), "{reason}");
}

#[test]
fn inspection_lists_every_capability_that_is_needed() {
    let Some(kvm) = kvm() else { return };
    let inspection = kvm.inspect();
    assert_eq!(inspection.api_version, 12);
    let missing: Vec<_> =
        inspection.capabilities.iter().filter(|cap| cap.needed && cap.value <= 0).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(inspection.features.iter().any(|feature| feature == "x2apic"));
}

#[test]
fn paravirtual_features_that_tie_a_guest_to_host_threads_are_not_offered() {
    let Some(kvm) = kvm() else { return };
    let features = kvm.supported_cpuid().unwrap().answer(0x4000_0001, 0)[0];
    // ASYNC_PF, PV_EOI, PV_UNHALT, PV_TLB_FLUSH, PV_SEND_IPI.
    for bit in [4, 6, 7, 9, 11] {
        assert_eq!(features >> bit & 1, 0, "bit {bit}");
    }
    // The paravirtual clock.
    assert_eq!(features >> 3 & 1, 1);
}
