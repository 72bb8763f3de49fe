//! [`Exit::Failed`]: where the guest was, and why it cannot go on.

use kezhan_hypervisor::Exit;
use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
};
use kvm_ioctls::VcpuFd;
use std::fmt::Write;

/// The exit for `cause`, with the vCPU's RIP, mode and the `bytes` of the instruction where known.
pub(crate) fn describe(vcpu: &VcpuFd, bytes: &[u8], cause: &str) -> Exit {
    let mut text = match vcpu.get_regs() {
        Ok(registers) => format!("RIP {:#x}", registers.rip),
        Err(_) => "RIP unknown".into(),
    };
    if let Ok(system) = vcpu.get_sregs() {
        let _ = write!(
            text,
            " (CS {:#x} base {:#x}, ring {}, CR0 {:#x}, EFER {:#x})",
            system.cs.selector, system.cs.base, system.cs.dpl, system.cr0, system.efer
        );
    }
    if !bytes.is_empty() {
        text.push_str(", bytes");
        for byte in bytes {
            let _ = write!(text, " {byte:02x}");
        }
    }
    Exit::Failed(format!("{text}: {cause}"))
}

/// KVM's name for an internal error (KVM API §5, KVM_EXIT_INTERNAL_ERROR).
pub(crate) fn suberror(number: u32) -> String {
    let name = match number {
        KVM_INTERNAL_ERROR_EMULATION => "emulation failure",
        KVM_INTERNAL_ERROR_SIMUL_EX => "two exceptions at once",
        KVM_INTERNAL_ERROR_DELIVERY_EV => "an exit while an event was being delivered",
        KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "an exit reason that KVM does not expect",
        _ => "unknown",
    };
    format!("KVM internal error {number} ({name})")
}
