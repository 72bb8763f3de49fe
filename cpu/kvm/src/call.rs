//! Host calls: one way to name them in errors, and those that kvm-ioctls lacks.

#![expect(unsafe_code, reason = "raw ioctls and signals that the rust-vmm crates do not wrap")]

use crate::spec;
use kezhan_hypervisor::{Doorbell, EngineError};
use kvm_bindings::{KVMIO, kvm_ioeventfd, kvm_signal_mask};
use kvm_ioctls::{VcpuFd, VmFd};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{ioctl_with_ptr, ioctl_with_ref};
use vmm_sys_util::ioctl_iow_nr;

ioctl_iow_nr!(KVM_IOEVENTFD, KVMIO, 0x79, kvm_ioeventfd);
ioctl_iow_nr!(KVM_SET_SIGNAL_MASK, KVMIO, 0x8b, kvm_signal_mask);

/// The signals that KVM_RUN blocks: a kernel signal set has one bit for each of 64 signals.
#[repr(C)]
struct SignalMask {
    header: kvm_signal_mask,
    blocked: [u8; 8],
}

/// Gives a failed host call its name.
pub(crate) trait Named<T> {
    /// `call` names the call with its values.
    fn named(self, call: impl Into<String>) -> Result<T, EngineError>;
}

impl<T> Named<T> for Result<T, kvm_ioctls::Error> {
    fn named(self, call: impl Into<String>) -> Result<T, EngineError> {
        self.map_err(io::Error::from).named(call)
    }
}

impl<T> Named<T> for Result<T, io::Error> {
    fn named(self, call: impl Into<String>) -> Result<T, EngineError> {
        self.map_err(|error| EngineError::Host { call: call.into(), error })
    }
}

/// A second descriptor for the same event, as the type that kvm-ioctls wants.
pub(crate) fn event(fd: BorrowedFd<'_>) -> Result<EventFd, EngineError> {
    let own = fd.try_clone_to_owned().named("dup of an event descriptor")?;
    // SAFETY: `own` is an open descriptor that nobody else owns.
    Ok(unsafe { EventFd::from_raw_fd(own.into_raw_fd()) })
}

/// KVM_IOEVENTFD (KVM API §4.59). kvm-ioctls cannot say "any value of this size".
pub(crate) fn ioeventfd(
    vm: &VmFd,
    bell: Doorbell,
    event: BorrowedFd<'_>,
    attach: bool,
) -> Result<(), EngineError> {
    let mut flags = 0;
    if bell.value.is_some() {
        flags |= spec::IOEVENTFD_DATAMATCH;
    }
    if bell.port {
        flags |= spec::IOEVENTFD_PIO;
    }
    if !attach {
        flags |= spec::IOEVENTFD_DEASSIGN;
    }
    let argument = kvm_ioeventfd {
        datamatch: bell.value.unwrap_or(0),
        addr: bell.address,
        len: bell.size,
        fd: event.as_raw_fd(),
        flags,
        ..Default::default()
    };
    // SAFETY: `vm` is a VM descriptor and the kernel reads exactly this struct.
    let result = unsafe { ioctl_with_ref(vm, KVM_IOEVENTFD(), &argument) };
    if result == 0 {
        return Ok(());
    }
    let verb = if attach { "add" } else { "remove" };
    Err(io::Error::last_os_error()).named(format!("KVM_IOEVENTFD ({verb} {bell:x?})"))
}

/// KVM_SET_SIGNAL_MASK (KVM API §4.19): KVM_RUN lets all signals through, whatever the thread blocks.
pub(crate) fn open_signals(vcpu: &VcpuFd) -> Result<(), EngineError> {
    let mask =
        SignalMask { header: kvm_signal_mask { len: 8, ..Default::default() }, blocked: [0; 8] };
    // SAFETY: the kernel reads the header and the `len` bytes behind it, which are all in `mask`.
    let result = unsafe { ioctl_with_ptr(vcpu, KVM_SET_SIGNAL_MASK(), &raw const mask) };
    signal_mask_result(result)
}

/// KVM_RUN blocks what the thread blocks.
pub(crate) fn close_signals(vcpu: &VcpuFd) -> Result<(), EngineError> {
    // SAFETY: a null pointer takes the mask away.
    let result =
        unsafe { ioctl_with_ptr(vcpu, KVM_SET_SIGNAL_MASK(), std::ptr::null::<kvm_signal_mask>()) };
    signal_mask_result(result)
}

fn signal_mask_result(result: i32) -> Result<(), EngineError> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).named("KVM_SET_SIGNAL_MASK")
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Sends a signal to a thread of this process. A thread that is gone is not an error.
pub(crate) fn signal_thread(thread: i32, signal: i32) {
    // SAFETY: tgkill takes plain numbers; a stale thread id gives ESRCH, or hits another thread of ours,
    // whose handler does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
}

/// The host's time-stamp counter.
pub(crate) fn host_tsc() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and Linux leaves it open to user mode.
    unsafe { core::arch::x86_64::_rdtsc() }
}
