//! Getting a vCPU thread out of KVM_RUN.
//!
//! Two things end KVM_RUN from outside (KVM API §4.10, §5): a signal that arrives while it runs, and
//! `immediate_exit` in the shared page when it is entered. Used together they leave no gap: the sender
//! sets the byte, then signals; a thread that was just about to enter sees the byte, one that was inside
//! gets the signal.
//!
//! ```text
//!   sender                                  vCPU thread
//!   kicked = true                           KVM_RUN returns EINTR
//!   immediate_exit = 1                      immediate_exit = 0
//!   tgkill(thread)                          kicked was true ? Exit::Kicked : look for work
//! ```
//!
//! The order on each side makes that a kick is never lost: `kicked` is set before the byte and taken
//! after it is cleared; at worst the byte stays set and costs one empty KVM_RUN.
//!
//! # Settling
//! When a vCPU stops for good, KVM may still have something to tell that no KVM_GET_… shows: the end of a
//! level-triggered interrupt. `immediate_exit` comes before that, so [`Settling`] has KVM_RUN entered with
//! a signal pending that is blocked outside of it: KVM then does all that comes before the guest's next
//! instruction, and not that instruction.
//!
//! The sender writes through its own mapping of the page, so that no two Rust references to the same
//! bytes exist. The lock around it orders sending against the end of the vCPU; it is held across nothing
//! but the write and the signal.

use crate::call::{self, Named};
use kezhan_hypervisor::EngineError;
use kvm_ioctls::{KvmRunWrapper, VcpuFd};
use std::os::raw::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use vmm_sys_util::signal::{
    SIGRTMIN, block_signal, clear_signal, register_signal_handler, unblock_signal,
};

/// What other threads want of one vCPU.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    kicked: AtomicBool,
    nmi: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    id: i32,
    page: KvmRunWrapper,
}

extern "C" fn interrupt_system_call(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// Installs the empty handler (without SA_RESTART) once in the process.
fn install_handler() -> Result<(), EngineError> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| {
            register_signal_handler(SIGRTMIN(), interrupt_system_call).map_err(|e| e.errno())
        })
        .map_err(std::io::Error::from_raw_os_error)
        .named("sigaction of the vCPU kick signal")
}

fn signal_call(
    call: &str,
    result: Result<(), vmm_sys_util::signal::Error>,
) -> Result<(), EngineError> {
    result.map_err(|error| EngineError::Host {
        call: format!("{call} of the vCPU kick signal"),
        error: std::io::Error::other(error.to_string()),
    })
}

/// While it lives, KVM_RUN of the calling thread's vCPU runs no guest instruction.
#[derive(Debug)]
pub(crate) struct Settling {
    /// Somebody set `immediate_exit` since, which is to be set again at the end.
    pub called_again: bool,
}

impl Settling {
    /// Begins; [`Settling::end`] must follow.
    pub(crate) fn begin(vcpu: &VcpuFd) -> Result<Settling, EngineError> {
        signal_call("pthread_sigmask", block_signal(SIGRTMIN()))?;
        call::open_signals(vcpu)?;
        call::signal_thread(call::thread_id(), SIGRTMIN());
        Ok(Settling { called_again: false })
    }

    /// Ends.
    pub(crate) fn end(self, vcpu: &VcpuFd) -> Result<(), EngineError> {
        signal_call("sigtimedwait", clear_signal(SIGRTMIN()))?;
        call::close_signals(vcpu)?;
        signal_call("pthread_sigmask", unblock_signal(SIGRTMIN()))
    }
}

impl Mailbox {
    /// From now on the calling thread is the one to kick.
    pub(crate) fn open(&self, vcpu: &VcpuFd, run_size: usize) -> Result<(), EngineError> {
        install_handler()?;
        signal_call("pthread_sigmask", unblock_signal(SIGRTMIN()))?;
        let mut page =
            KvmRunWrapper::mmap_from_fd(vcpu, run_size).named("mmap of the vCPU's shared page")?;
        if self.kicked.load(Ordering::SeqCst) || self.nmi.load(Ordering::SeqCst) {
            page.as_mut_ref().immediate_exit = 1;
        }
        *self.lock() = Some(Thread { id: call::thread_id(), page });
        Ok(())
    }

    /// The vCPU is going away.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// `run` is to return.
    pub(crate) fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
        self.interrupt(true);
    }

    /// An NMI is to be delivered. The vCPU thread does it: KVM_NMI from outside would wait until the
    /// vCPU leaves KVM_RUN by itself.
    pub(crate) fn request_nmi(&self) {
        self.nmi.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The vCPU thread is to look for work. It does so by itself before it enters the guest, so there is
    /// nothing to do when the caller is that thread (a device called back from `run`).
    pub(crate) fn wake(&self) {
        self.interrupt(false);
    }

    fn interrupt(&self, also_own_thread: bool) {
        if let Some(thread) = self.lock().as_mut() {
            let own = thread.id == call::thread_id();
            if also_own_thread || !own {
                thread.page.as_mut_ref().immediate_exit = 1;
            }
            if !own {
                call::signal_thread(thread.id, SIGRTMIN());
            }
        }
    }

    /// Whether there was a kick since the last call.
    pub(crate) fn take_kick(&self) -> bool {
        self.kicked.swap(false, Ordering::SeqCst)
    }

    /// Whether there was a request for an NMI since the last call.
    pub(crate) fn take_nmi(&self) -> bool {
        self.nmi.load(Ordering::Relaxed) && self.nmi.swap(false, Ordering::SeqCst)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Thread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
