//! One vCPU: KVM_RUN, and what each of its exits means to the machine.
//!
//! ```text
//!   run(io):  ┌─► before_entry: NMI asked for? PIC's INTR high?
//!             │   KVM_RUN
//!             │   port, memory, EOI, MSR ──► CpuIo, answer into the shared page ──┐
//!             │   cannot emulate ──► fix-up: our interpreter runs it ──────────────┤
//!             │   EINTR, EAGAIN, interrupt window ─────────────────────────────────┤
//!             └────────────────────────────────────────────────────────────────────┘
//!                 kicked, triple fault, anything else ──► Exit
//! ```
//!
//! # The PIC's interrupt
//! It goes to vCPU 0, whose LINT0 the PC wires to the PIC. It is given to KVM as an event "being
//! injected" (KVM_SET_VCPU_EVENTS) at an instruction boundary where KVM says that it would be taken, and
//! only then is the PIC asked for the vector. Rejected: KVM_INTERRUPT, which keeps the vector in a place
//! that no KVM_GET_… shows, so that a snapshot taken before the guest runs on would lose it.
//! After an exit for a port or memory access the instruction is still half done; then KVM is asked to
//! come back at the next boundary (`request_interrupt_window`).
//!
//! # Application processors
//! KVM_RUN of one that waits for SIPI sleeps inside KVM, and returns EAGAIN once when it has come.
//!
//! # What was rejected
//! KVM_CAP_SYNC_REGS: registers are only wanted at the rare exits that end `run` or need the interpreter.

use crate::call::Named;
use crate::exit::{self, InternalError};
use crate::kick::Settling;
use crate::partition::Shared;
use crate::time::VcpuTime;
use crate::{failure, fixup, state};
use kezhan_hypervisor::{CpuIo, EngineError, Exit, Vcpu, VcpuState};
use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE,
    KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_mp_state,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A vCPU, owned by its thread. The descriptor is first, so that it is closed before the memory goes.
pub(crate) struct KvmVcpu {
    fd: VcpuFd,
    index: u32,
    /// Between two instructions, as far as is known.
    at_boundary: bool,
    /// How many instructions a fix-up may run; grows while KVM_RUN gives nothing but failures.
    burst: u32,
    settling: Option<Settling>,
    time: VcpuTime,
    shared: Arc<Shared>,
}

impl KvmVcpu {
    /// Vcpu `index`, run by the calling thread from now on.
    pub(crate) fn new(fd: VcpuFd, index: u32, shared: Arc<Shared>) -> Result<KvmVcpu, EngineError> {
        let vcpu = KvmVcpu {
            fd,
            index,
            at_boundary: true,
            burst: 1,
            settling: None,
            time: VcpuTime::default(),
            shared,
        };
        if let Some(mailbox) = vcpu.shared.mailboxes.get(index as usize) {
            mailbox.open(&vcpu.fd, vcpu.shared.vm.run_size())?;
        }
        Ok(vcpu)
    }

    /// One KVM_RUN with what comes before and after it; `None` to go on.
    fn step(&mut self, io: &dyn CpuIo) -> Result<Option<Exit>, EngineError> {
        self.before_entry(io)?;
        self.at_boundary = false;
        let result = self.fd.run();
        if !matches!(result, Ok(VcpuExit::InternalError)) {
            self.burst = 1;
        }
        match result {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => self.access_port(io)?,
            Ok(VcpuExit::MmioRead(address, data)) => io.read_memory(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => io.write_memory(address, data),
            Ok(VcpuExit::IoapicEoi(vector)) => io.end_of_interrupt(vector),
            Ok(VcpuExit::X86Rdmsr(msr)) => self.shared.unknown_msrs.read(msr),
            Ok(VcpuExit::X86Wrmsr(msr)) => self.shared.unknown_msrs.write(msr),
            Ok(VcpuExit::IrqWindowOpen) => self.at_boundary = true,
            Ok(VcpuExit::Intr) => return self.interrupted(),
            Ok(VcpuExit::Shutdown) => return Ok(Some(Exit::Shutdown)),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET | KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                return Ok(Some(Exit::Shutdown));
            }
            Ok(VcpuExit::InternalError) => return self.internal_error(io),
            Ok(other) => {
                let cause = format!("KVM_RUN ended with {other:?}");
                return Ok(Some(failure::describe(&self.fd, &[], &cause)));
            }
            Err(error) => match error.errno() {
                libc::EINTR => return self.interrupted(),
                libc::EAGAIN => {}
                _ => {
                    let cause = format!("KVM_RUN: {error}");
                    return Ok(Some(failure::describe(&self.fd, &[], &cause)));
                }
            },
        }
        Ok(None)
    }

    /// A signal or `immediate_exit` ended KVM_RUN, after what the last exit left to do was done. A kick
    /// has everything settled before `run` returns.
    fn interrupted(&mut self) -> Result<Option<Exit>, EngineError> {
        self.at_boundary = true;
        let immediate = self.fd.get_kvm_run().immediate_exit != 0;
        self.fd.set_kvm_immediate_exit(0);
        match &mut self.settling {
            Some(settling) if immediate => settling.called_again = true,
            Some(_) => {
                self.end_settling()?;
                self.time.leave(&self.fd);
                return Ok(Some(Exit::Kicked));
            }
            None => {
                let mailbox = self.shared.mailboxes.get(self.index as usize);
                if mailbox.is_some_and(|mailbox| mailbox.take_kick()) {
                    self.settling = Some(Settling::begin(&self.fd)?);
                }
            }
        }
        Ok(None)
    }

    /// Ends settling, if it goes on. Who called in the meantime is heard in the next `run`.
    fn end_settling(&mut self) -> Result<(), EngineError> {
        if let Some(settling) = self.settling.take() {
            if settling.called_again {
                self.fd.set_kvm_immediate_exit(1);
            }
            settling.end(&self.fd)?;
        }
        Ok(())
    }

    fn before_entry(&mut self, io: &dyn CpuIo) -> Result<(), EngineError> {
        if self.shared.mailboxes.get(self.index as usize).is_some_and(|m| m.take_nmi()) {
            self.fd.nmi().named("KVM_NMI")?;
        }
        if self.index == 0 {
            let wanted = self.shared.external.load(Ordering::SeqCst);
            let ready = self.fd.get_kvm_run().ready_for_interrupt_injection != 0;
            let inject = wanted && self.at_boundary && ready;
            if inject {
                self.inject(io.acknowledge_interrupt())?;
            }
            self.fd.get_kvm_run().request_interrupt_window = (wanted && !inject).into();
        }
        Ok(())
    }

    /// Injects an external interrupt that the guest is ready to take.
    fn inject(&mut self, vector: u8) -> Result<(), EngineError> {
        let mut events = self.fd.get_vcpu_events().named("KVM_GET_VCPU_EVENTS")?;
        events.interrupt.injected = 1;
        events.interrupt.nr = vector;
        events.interrupt.soft = 0;
        // Only what is always valid; an NMI that comes in meanwhile is not overwritten.
        events.flags = 0;
        self.fd
            .set_vcpu_events(&events)
            .named(format!("KVM_SET_VCPU_EVENTS with external interrupt {vector:#x}"))?;
        if self.fd.get_mp_state().named("KVM_GET_MP_STATE")?.mp_state == KVM_MP_STATE_HALTED {
            let mp_state = KVM_MP_STATE_RUNNABLE;
            self.fd.set_mp_state(kvm_mp_state { mp_state }).named("KVM_SET_MP_STATE to run")?;
        }
        Ok(())
    }

    fn access_port(&mut self, io: &dyn CpuIo) -> Result<(), EngineError> {
        let length = self.shared.vm.run_size();
        let access = exit::port_access(self.fd.get_kvm_run(), length).ok_or_else(|| {
            EngineError::State("KVM reports a port access outside of its shared page".into())
        })?;
        for data in access.data.chunks_exact_mut(access.size) {
            if access.input {
                io.read_port(access.port, data);
            } else {
                io.write_port(access.port, data);
            }
        }
        Ok(())
    }

    fn internal_error(&mut self, io: &dyn CpuIo) -> Result<Option<Exit>, EngineError> {
        let none = InternalError { suberror: 0, instruction: Vec::new() };
        let error = exit::internal_error(self.fd.get_kvm_run()).unwrap_or(none);
        if error.suberror != KVM_INTERNAL_ERROR_EMULATION {
            let cause = failure::suberror(error.suberror);
            return Ok(Some(failure::describe(&self.fd, &error.instruction, &cause)));
        }
        self.at_boundary = true;
        let why = match fixup::run(&self.fd, &self.shared, io, self.burst)? {
            fixup::Outcome::Done => {
                self.burst = (2 * self.burst).min(fixup::LONGEST_BURST);
                return Ok(None);
            }
            fixup::Outcome::Shutdown => return Ok(Some(Exit::Shutdown)),
            fixup::Outcome::Unable(why) => why,
        };
        let cause = format!(
            "KVM cannot run this instruction, nor can the interpreter ({why}); --engine soft may, and \
             'kezhan doctor' tells what this host's KVM is able to"
        );
        Ok(Some(failure::describe(&self.fd, &error.instruction, &cause)))
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, io: &dyn CpuIo) -> Exit {
        if let Err(error) = self.time.enter(&self.fd, &self.shared.pauses) {
            return failure::describe(&self.fd, &[], &error.to_string());
        }
        let exit = loop {
            match self.step(io) {
                Ok(None) => {}
                Ok(Some(exit)) => break exit,
                Err(error) => break failure::describe(&self.fd, &[], &error.to_string()),
            }
        };
        match self.end_settling() {
            Ok(()) => exit,
            Err(error) => failure::describe(&self.fd, &[], &error.to_string()),
        }
    }

    fn state(&self) -> Result<VcpuState, EngineError> {
        let mut state = state::read(&self.fd, self.shared.state_msrs(&self.fd)?)?;
        self.time.correct(&mut state, &self.fd, &self.shared.pauses)?;
        Ok(state)
    }

    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        state::write(&self.fd, state)?;
        self.time.set(state, &self.fd, &self.shared.pauses)?;
        self.at_boundary = true;
        self.fd.get_kvm_run().ready_for_interrupt_injection = 0;
        Ok(())
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        if let Some(mailbox) = self.shared.mailboxes.get(self.index as usize) {
            mailbox.close();
        }
    }
}
