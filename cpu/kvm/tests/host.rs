//! What this host's KVM is found to be. Where there is no /dev/kvm, the error must say so.

use kezhan_hypervisor::{CpuIo, EngineError, Exit, GuestMemory, Hypervisor, PartitionConfig, flat};
use kezhan_kvm::{Kvm, Verdict};
use std::path::Path;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

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
    assert!(reason.contains("3.9 million"), "{reason}");
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

/// A machine without devices.
struct Nothing;

impl CpuIo for Nothing {
    fn read_port(&self, _: u16, _: &mut [u8]) {}
    fn write_port(&self, _: u16, _: &[u8]) {}
    fn read_memory(&self, _: u64, _: &mut [u8]) {}
    fn write_memory(&self, _: u64, _: &[u8]) {}
    fn acknowledge_interrupt(&self) -> u8 {
        0
    }
    fn end_of_interrupt(&self, _: u8) {}
}

#[test]
fn an_instruction_that_nobody_can_run_is_told_with_its_place_its_bytes_and_what_to_do() {
    let Some(kvm) = kvm() else { return };
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
    flat::write_tables(&memory).unwrap();
    // vpaddd zmm0, zmm0, zmm0, and where the processor has that: ud2, with no handler.
    let code = [0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc0, 0x0f, 0x0b];
    memory.write_slice(&code, GuestAddress(flat::FREE)).unwrap();
    let cpuid = kvm.supported_cpuid().unwrap();
    let config = PartitionConfig { memory: Arc::new(memory), cpus: 1, cpuid, pins: 24 };
    let partition = kvm.create(config).unwrap();
    let mut vcpu = partition.vcpu(0).unwrap();
    let reset = vcpu.state().unwrap();
    vcpu.set_state(&flat::start(&reset, flat::FREE, 0x2_0000)).unwrap();
    match vcpu.run(&Nothing) {
        Exit::Failed(text) => {
            assert!(text.starts_with("RIP 0x10000 "), "{text}");
            assert!(text.contains("bytes 62 f1 7d 48 fe c0"), "{text}");
            assert!(text.contains("--engine soft"), "{text}");
            assert!(text.contains("kezhan doctor"), "{text}");
        }
        exit => assert_eq!(exit, Exit::Shutdown, "only an interpreter stops here"),
    }
}
