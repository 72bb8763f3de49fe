//! A vCPU's state between our structs and KVM's.
//!
//! # Order
//! Reading begins with KVM_GET_MP_STATE: KVM then takes INIT and SIPI that are on their way, which changes
//! the rest. Writing goes
//!
//! ```text
//!   SREGS (APIC base and mode) → REGS (forgets exceptions) → DEBUGREGS → XCRS → XSAVE → MSRs
//!     → LAPIC → IA32_TSC_DEADLINE (needs the LVT's timer mode) → VCPU_EVENTS → MP_STATE
//! ```
//!
//! # Choices
//! * KVM_SET_XSAVE, never KVM_SET_FPU: the latter leaves XSTATE_BV as it is, so that values may be taken
//!   for "in initial state".
//! * KVM_SET_SREGS rather than KVM_SET_SREGS2: the page-directory pointers of PAE paging, which the second
//!   carries, are not in our state; the first has KVM load them from memory.
//! * A pending SIPI is the legacy KVM_MP_STATE_SIPI_RECEIVED with its vector; KVM never reports it, since
//!   KVM_GET_MP_STATE has taken it.

#![expect(unsafe_code, reason = "KVM_SET_XSAVE is unsafe where features are enabled at run time")]

use crate::call::Named;
use crate::msr;
use crate::spec::MSR_TSC_DEADLINE;
use kezhan_hypervisor::{
    ApicState, DebugRegisters, DescriptorTable, EngineError, Events, GeneralRegisters, MpState,
    Segment, SystemRegisters, VcpuState,
};
use kvm_bindings::*;
use kvm_ioctls::VcpuFd;

/// Reads all, with the MSRs of `msrs`.
pub(crate) fn read(vcpu: &VcpuFd, msrs: &[u32]) -> Result<VcpuState, EngineError> {
    let mp = vcpu.get_mp_state().named("KVM_GET_MP_STATE")?;
    let events = vcpu.get_vcpu_events().named("KVM_GET_VCPU_EVENTS")?;
    Ok(VcpuState {
        general: general(vcpu)?,
        system: system(&vcpu.get_sregs().named("KVM_GET_SREGS")?),
        debug: debug(vcpu)?,
        xcr0: xcr0(vcpu)?,
        xsave: xsave(vcpu)?,
        msrs: msr::read(vcpu, msrs)?,
        apic: ApicState { registers: apic_page(vcpu)? },
        events: from_events(&events),
        mp: match mp.mp_state {
            KVM_MP_STATE_RUNNABLE => MpState::Running,
            KVM_MP_STATE_HALTED => MpState::Halted,
            _ => MpState::WaitForSipi,
        },
    })
}

/// Writes all.
pub(crate) fn write(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), EngineError> {
    set_system(vcpu, &state.system)?;
    set_general(vcpu, &state.general)?;
    set_debug(vcpu, &state.debug)?;
    set_extended(vcpu, state.xcr0, &state.xsave)?;
    let (deadline, msrs): (Vec<_>, Vec<_>) =
        state.msrs.iter().partition(|(index, _)| *index == MSR_TSC_DEADLINE);
    msr::write(vcpu, &msrs)?;
    set_apic_page(vcpu, &state.apic.registers)?;
    msr::write(vcpu, &deadline)?;
    vcpu.set_vcpu_events(&to_events(&state.events)).named("KVM_SET_VCPU_EVENTS")?;
    let mp_state = match (state.mp, state.events.sipi_vector) {
        (MpState::Running, _) => KVM_MP_STATE_RUNNABLE,
        (MpState::Halted, _) => KVM_MP_STATE_HALTED,
        (MpState::WaitForSipi, None) => KVM_MP_STATE_INIT_RECEIVED,
        (MpState::WaitForSipi, Some(_)) => KVM_MP_STATE_SIPI_RECEIVED,
    };
    vcpu.set_mp_state(kvm_mp_state { mp_state }).named(format!("KVM_SET_MP_STATE to {mp_state}"))
}

/// The general registers.
pub(crate) fn general(vcpu: &VcpuFd) -> Result<GeneralRegisters, EngineError> {
    let r = vcpu.get_regs().named("KVM_GET_REGS")?;
    Ok(GeneralRegisters {
        gpr: [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ],
        rip: r.rip,
        rflags: r.rflags,
    })
}

/// Writes the general registers.
pub(crate) fn set_general(vcpu: &VcpuFd, general: &GeneralRegisters) -> Result<(), EngineError> {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] =
        general.gpr;
    let GeneralRegisters { rip, rflags, .. } = *general;
    vcpu.set_regs(&kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    })
    .named("KVM_SET_REGS")
}

/// The debug registers.
pub(crate) fn debug(vcpu: &VcpuFd) -> Result<DebugRegisters, EngineError> {
    let debug = vcpu.get_debug_regs().named("KVM_GET_DEBUGREGS")?;
    Ok(DebugRegisters { address: debug.db, dr6: debug.dr6, dr7: debug.dr7 })
}

/// Writes the debug registers.
pub(crate) fn set_debug(vcpu: &VcpuFd, debug: &DebugRegisters) -> Result<(), EngineError> {
    let DebugRegisters { address: db, dr6, dr7 } = *debug;
    vcpu.set_debug_regs(&kvm_debugregs { db, dr6, dr7, ..Default::default() })
        .named(format!("KVM_SET_DEBUGREGS with DR6 {dr6:#x}, DR7 {dr7:#x}"))
}

/// XCR0.
pub(crate) fn xcr0(vcpu: &VcpuFd) -> Result<u64, EngineError> {
    let xcrs = vcpu.get_xcrs().named("KVM_GET_XCRS")?;
    Ok(xcrs.xcrs.first().map_or(1, |xcr| xcr.value))
}

/// The XSAVE area, in standard format.
pub(crate) fn xsave(vcpu: &VcpuFd) -> Result<Vec<u8>, EngineError> {
    let xsave = vcpu.get_xsave().named("KVM_GET_XSAVE")?;
    Ok(xsave.region.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// `whole` with x87, SSE and AVX state out of `part`, which has nothing else (Intel SDM vol. 1 §13.4).
pub(crate) fn merge_xsave(whole: &[u8], part: &[u8]) -> Vec<u8> {
    // Legacy region, XSTATE_BV, YMM state.
    const PARTS: [std::ops::Range<usize>; 2] = [0..416, 576..832];
    let mut merged = whole.to_vec();
    for range in PARTS {
        if let (Some(to), Some(from)) = (merged.get_mut(range.clone()), part.get(range)) {
            to.copy_from_slice(from);
        }
    }
    if let (Some(to), Some(from)) = (merged.get_mut(512), part.get(512)) {
        *to = *to & !7 | from & 7;
    }
    merged
}

/// Writes XCR0 and the XSAVE area.
pub(crate) fn set_extended(vcpu: &VcpuFd, xcr0: u64, area: &[u8]) -> Result<(), EngineError> {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    if let Some(xcr) = xcrs.xcrs.first_mut() {
        xcr.value = xcr0;
    }
    vcpu.set_xcrs(&xcrs).named(format!("KVM_SET_XCRS with XCR0 {xcr0:#x}"))?;
    let mut xsave = kvm_xsave::default();
    if area.len() > size_of_val(&xsave.region) {
        return Err(EngineError::State(format!(
            "an XSAVE area of {} bytes is longer than KVM takes",
            area.len()
        )));
    }
    for (word, bytes) in xsave.region.iter_mut().zip(area.chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_le_bytes);
    }
    // SAFETY: KVM reads more than these 4096 bytes only when the process has asked for features with
    // larger state (arch_prctl ARCH_REQ_XCOMP_GUEST_PERM), which we never do.
    unsafe { vcpu.set_xsave(&xsave) }.named("KVM_SET_XSAVE")
}

/// The APIC page.
pub(crate) fn apic_page(vcpu: &VcpuFd) -> Result<Vec<u8>, EngineError> {
    let page = vcpu.get_lapic().named("KVM_GET_LAPIC")?;
    Ok(page.regs.iter().map(|&byte| byte as u8).collect())
}

/// Writes the APIC page.
pub(crate) fn set_apic_page(vcpu: &VcpuFd, page: &[u8]) -> Result<(), EngineError> {
    let mut lapic = kvm_lapic_state::default();
    for (to, from) in lapic.regs.iter_mut().zip(page) {
        *to = *from as _;
    }
    vcpu.set_lapic(&lapic).named("KVM_SET_LAPIC")
}

/// KVM's segments, tables and control registers as ours.
pub(crate) fn system(s: &kvm_sregs) -> SystemRegisters {
    let table = |t: &kvm_dtable| DescriptorTable { base: t.base, limit: t.limit };
    SystemRegisters {
        segments: [&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs].map(from_segment),
        ldtr: from_segment(&s.ldt),
        tr: from_segment(&s.tr),
        gdtr: table(&s.gdt),
        idtr: table(&s.idt),
        cr0: s.cr0,
        cr2: s.cr2,
        cr3: s.cr3,
        cr4: s.cr4,
        cr8: s.cr8,
        efer: s.efer,
        apic_base: s.apic_base,
    }
}

/// Writes segments, tables and control registers.
pub(crate) fn set_system(vcpu: &VcpuFd, s: &SystemRegisters) -> Result<(), EngineError> {
    let [es, cs, ss, ds, fs, gs] = s.segments.each_ref().map(to_segment);
    let table = |t: &DescriptorTable| kvm_dtable { base: t.base, limit: t.limit, padding: [0; 3] };
    let sregs = kvm_sregs {
        es,
        cs,
        ss,
        ds,
        fs,
        gs,
        tr: to_segment(&s.tr),
        ldt: to_segment(&s.ldtr),
        gdt: table(&s.gdtr),
        idt: table(&s.idtr),
        cr0: s.cr0,
        cr2: s.cr2,
        cr3: s.cr3,
        cr4: s.cr4,
        cr8: s.cr8,
        efer: s.efer,
        apic_base: s.apic_base,
        interrupt_bitmap: [0; 4],
    };
    vcpu.set_sregs(&sregs).named(format!(
        "KVM_SET_SREGS with CR0 {:#x}, CR4 {:#x}, EFER {:#x}, APIC base {:#x}",
        s.cr0, s.cr4, s.efer, s.apic_base
    ))
}

fn from_segment(s: &kvm_segment) -> Segment {
    Segment {
        selector: s.selector,
        base: s.base,
        limit: s.limit,
        kind: s.type_,
        s: s.s != 0,
        dpl: s.dpl,
        present: s.present != 0,
        avl: s.avl != 0,
        l: s.l != 0,
        db: s.db != 0,
        g: s.g != 0,
        unusable: s.unusable != 0,
    }
}

fn to_segment(s: &Segment) -> kvm_segment {
    kvm_segment {
        selector: s.selector,
        base: s.base,
        limit: s.limit,
        type_: s.kind,
        s: s.s.into(),
        dpl: s.dpl,
        present: s.present.into(),
        avl: s.avl.into(),
        l: s.l.into(),
        db: s.db.into(),
        g: s.g.into(),
        unusable: s.unusable.into(),
        padding: 0,
    }
}

fn from_events(e: &kvm_vcpu_events) -> Events {
    let error = (e.exception.has_error_code != 0).then_some(e.exception.error_code);
    let due = e.exception.injected != 0 || e.exception.pending != 0;
    Events {
        exception: due.then_some((e.exception.nr, error)),
        interrupt: (e.interrupt.injected != 0).then_some(e.interrupt.nr),
        interrupt_shadow: e.interrupt.shadow != 0,
        nmi_pending: e.nmi.pending != 0 || e.nmi.injected != 0,
        // An NMI whose delivery is under way is pending again for us, and so is not masked yet.
        nmi_masked: e.nmi.masked != 0 && e.nmi.injected == 0,
        sipi_vector: None,
    }
}

fn to_events(events: &Events) -> kvm_vcpu_events {
    let mut e = kvm_vcpu_events {
        flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        ..Default::default()
    };
    if let Some((vector, error)) = events.exception {
        e.exception.injected = 1;
        e.exception.nr = vector;
        e.exception.has_error_code = error.is_some().into();
        e.exception.error_code = error.unwrap_or(0);
    }
    if let Some(vector) = events.interrupt {
        e.interrupt.injected = 1;
        e.interrupt.nr = vector;
    }
    e.interrupt.shadow = events.interrupt_shadow.into();
    e.nmi.pending = events.nmi_pending.into();
    e.nmi.masked = events.nmi_masked.into();
    if let Some(vector) = events.sipi_vector {
        e.sipi_vector = vector.into();
        e.flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
    }
    e
}
