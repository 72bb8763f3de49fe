//! The probe guest: what this host's KVM is able to, as opposed to what it says.
//!
//! A `/dev/kvm` may have no hardware virtualisation behind it: there is a KVM that runs guest ring 3 on
//! the processor and interprets ring 0 in the host kernel, slowly and without many instructions. An
//! operating system does not start there, and nothing but trying shows it.
//!
//! ```text
//!   ring 0, 64-bit, flat:    count loop (speed) · one snippet for each instruction that kernels need
//!   each snippet ends in     out DONE: it works      exception → out FAULT: it does not
//!                            internal error, triple fault, no answer in time: it does not
//! ```
//!
//! Only instructions whose feature the guest's CPUID shows are tried: a kernel does not use the others.
//! The descriptor is driven directly, without the engine's run loop.

use crate::Kvm;
use crate::call::Named;
use crate::kick::Mailbox;
use crate::partition::KvmPartition;
use crate::{msr, state};
use kezhan_hypervisor::{
    CpuidTable, EngineError, GuestMemory, Hypervisor, PartitionConfig, SystemRegisters, flat,
};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs};
use kvm_ioctls::{VcpuExit, VcpuFd};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

/// What the probe guest found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Simple instructions of ring 0 in a second.
    pub instructions_per_second: u64,
    /// Instructions that kernels need and that do not work in ring 0.
    pub failing: Vec<String>,
    /// Whether an unmodified operating system can be expected to start, and not to take minutes for it.
    pub can_run_stock_kernel: bool,
}

impl Verdict {
    /// Why an unmodified operating system cannot run, in one line; `None` when it can.
    pub fn reason(&self) -> Option<String> {
        if self.can_run_stock_kernel {
            return None;
        }
        let speed = self.instructions_per_second as f64 / 1e6;
        let failing = match self.failing.as_slice() {
            [] => String::new(),
            some => format!(" and fails at {}", some.join(", ")),
        };
        Some(format!(
            "KVM on this host runs guest ring 0 at {speed:.1} million instructions a second{failing}"
        ))
    }
}

/// Hardware runs the loop at billions a second, an interpreter at millions.
const FAST_ENOUGH: u64 = 200_000_000;
/// A snippet that takes longer does not work.
const PATIENCE: Duration = Duration::from_millis(250);

const DONE: u16 = 0xf4;
const FAULT: u16 = 0xf5;

const RAM: usize = 0x10_0000;
const DONE_CODE: u64 = 0x1_0000;
const FAULT_CODE: u64 = 0x1_0010;
const RETURN_CODE: u64 = 0x1_0020;
const RING_3_CODE: u64 = 0x1_0030;
const LOOP: u64 = 0x1_0040;
const SNIPPETS: u64 = 0x1_1000;
const STACK: u64 = 0x3_0000;

/// `out 0xf4, al` · `hlt`
const OUT_DONE: [u8; 3] = [0xe6, DONE as u8, 0xf4];
/// `out 0xf5, al` · `hlt`
const OUT_FAULT: [u8; 3] = [0xe6, FAULT as u8, 0xf4];
/// `iretq`
const IRETQ: [u8; 2] = [0x48, 0xcf];
/// `syscall`
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `1: dec rcx` · `jnz 1b`, then [`OUT_DONE`]
const COUNT: [u8; 8] = [0x48, 0xff, 0xc9, 0x75, 0xfb, 0xe6, DONE as u8, 0xf4];

/// A bit of CPUID: leaf, register (EAX, EBX, ECX, EDX), bit.
type Bit = (u32, usize, u32);
const ALWAYS: Bit = (1, 3, 0);
const XSAVE: Bit = (1, 2, 26);
const FSGSBASE: Bit = (7, 1, 0);
const SMAP: Bit = (7, 1, 20);

/// An instruction that kernels use: name, the feature it belongs to, code that uses it (Intel SDM vol. 2).
/// Memory operands are at 0x20000, which is zero; CR4 has OSXSAVE and FSGSBASE where CPUID has them.
const SNIPPET_TABLE: [(&str, Bit, &[u8]); 22] = [
    ("int3", ALWAYS, &[0xcc]),
    ("int", ALWAYS, &[0xcd, 0x80]),
    ("cmpxchg16b", (1, 2, 13), &[0xf0, 0x48, 0x0f, 0xc7, 0x0c, 0x25, 0, 0, 2, 0]),
    ("clac", SMAP, &[0x0f, 0x01, 0xca]),
    ("stac", SMAP, &[0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca]),
    // mov eax, 3; xor edx, edx; xsave [0x20000]
    ("xsave", XSAVE, &[0xb8, 3, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x24, 0x25, 0, 0, 2, 0]),
    // mov eax, 3; xor edx, edx; xrstor [0x20000]
    ("xrstor", XSAVE, &[0xb8, 3, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x2c, 0x25, 0, 0, 2, 0]),
    ("xgetbv", XSAVE, &[0x31, 0xc9, 0x0f, 0x01, 0xd0]),
    // fxsave [0x20400]; fxrstor [0x20400]
    ("fxrstor", ALWAYS, &[0x0f, 0xae, 4, 0x25, 0, 4, 2, 0, 0x0f, 0xae, 0xc, 0x25, 0, 4, 2, 0]),
    ("swapgs", ALWAYS, &[0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8]),
    ("rdtscp", (0x8000_0001, 3, 27), &[0x0f, 0x01, 0xf9]),
    ("popcnt", (1, 2, 23), &[0xf3, 0x0f, 0xb8, 0xc1]),
    ("verw", ALWAYS, &[0xb8, 0x10, 0, 0, 0, 0x0f, 0x00, 0xe8]),
    ("lsl", ALWAYS, &[0xb9, 0x10, 0, 0, 0, 0x0f, 0x03, 0xc1]),
    ("fwait", ALWAYS, &[0xdb, 0xe3, 0x9b]),
    ("stmxcsr", ALWAYS, &[0x0f, 0xae, 0x1c, 0x25, 0, 8, 2, 0]),
    ("pxor", ALWAYS, &[0x66, 0x0f, 0xef, 0xc0]),
    ("wrfsbase", FSGSBASE, &[0x31, 0xc0, 0xf3, 0x48, 0x0f, 0xae, 0xd0]),
    // xor eax, eax; mov ecx, 2; invpcid rax, [0x20800]
    (
        "invpcid",
        (7, 1, 10),
        &[0x31, 0xc0, 0xb8, 2, 0, 0, 0, 0x66, 0x0f, 0x38, 0x82, 4, 0x25, 0, 8, 2, 0],
    ),
    ("cpuid", ALWAYS, &[0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2]),
    // push rsp; pop rax; push 0x10; push rax; pushfq; push 8; lea rax, [rip + 3]; push rax; iretq
    (
        "iretq",
        ALWAYS,
        &[0x54, 0x58, 0x6a, 0x10, 0x50, 0x9c, 0x6a, 8, 0x48, 0x8d, 5, 3, 0, 0, 0, 0x50, 0x48, 0xcf],
    ),
    // push 0x23; push 0x30000; push 2; push 0x2b; push RING_3_CODE; iretq, there syscall
    (
        "syscall",
        ALWAYS,
        &[0x6a, 0x23, 0x68, 0, 0, 3, 0, 0x6a, 2, 0x6a, 0x2b, 0x68, 0x30, 0, 1, 0, 0x48, 0xcf],
    ),
];

/// Makes the guest, runs it, and judges.
pub(crate) fn probe(kvm: &Kvm) -> Result<Verdict, EngineError> {
    let memory = guest_memory()?;
    let config = PartitionConfig { memory, cpus: 1, cpuid: kvm.supported_cpuid()?, pins: 24 };
    let partition = KvmPartition::new(config)?;
    let (mut vcpu, mailbox) = partition.take_bare()?;
    let features = features(&vcpu)?;
    let ring_0 = prepare(&vcpu, &features)?;
    let (watchdog, words) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || watch(&words, mailbox));
        let mut guest = Guest { vcpu: &mut vcpu, ring_0, watchdog };
        let instructions_per_second = guest.speed()?;
        let failing = guest.failing(&features)?;
        let can_run_stock_kernel = failing.is_empty() && instructions_per_second >= FAST_ENOUGH;
        Ok(Verdict { instructions_per_second, failing, can_run_stock_kernel })
    })
}

fn guest_memory() -> Result<Arc<GuestMemory>, EngineError> {
    let host = |error: String| EngineError::Host {
        call: format!("mmap of {RAM:#x} bytes for the probe guest"),
        error: std::io::Error::other(error),
    };
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)])
        .map_err(|error| host(error.to_string()))?;
    fill(&memory).map_err(|error| host(error.to_string()))?;
    Ok(Arc::new(memory))
}

fn fill(memory: &GuestMemory) -> Result<(), vm_memory::GuestMemoryError> {
    flat::write_tables(memory)?;
    for vector in 0..32 {
        flat::set_gate(memory, vector, FAULT_CODE, 0)?;
    }
    flat::set_gate(memory, 3, RETURN_CODE, 0)?;
    flat::set_gate(memory, 0x80, RETURN_CODE, 3)?;
    let code: [(u64, &[u8]); 5] = [
        (DONE_CODE, &OUT_DONE),
        (FAULT_CODE, &OUT_FAULT),
        (RETURN_CODE, &IRETQ),
        (RING_3_CODE, &SYSCALL),
        (LOOP, &COUNT),
    ];
    for (address, bytes) in code {
        memory.write_slice(bytes, GuestAddress(address))?;
    }
    for (address, (_, _, bytes)) in (SNIPPETS..).step_by(64).zip(SNIPPET_TABLE) {
        memory.write_slice(bytes, GuestAddress(address))?;
        memory.write_slice(&OUT_DONE, GuestAddress(address + bytes.len() as u64))?;
    }
    Ok(())
}

/// What the guest's CPUID really shows, which need not be what it was set to.
fn features(vcpu: &VcpuFd) -> Result<CpuidTable, EngineError> {
    let entries = vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).named("KVM_GET_CPUID2")?;
    Ok(crate::cpuid::table(&entries))
}

fn has(features: &CpuidTable, (leaf, register, bit): Bit) -> bool {
    features.answer(leaf, 0).get(register).is_some_and(|value| value >> bit & 1 == 1)
}

/// Ring 0 of 64-bit mode with what a kernel turns on in CR4 and in the MSRs of SYSCALL.
fn prepare(vcpu: &VcpuFd, features: &CpuidTable) -> Result<SystemRegisters, EngineError> {
    let mut start = flat::start(&state::read(vcpu, &[])?, DONE_CODE, STACK);
    for (feature, cr4) in [(XSAVE, 1 << 18), (FSGSBASE, 1 << 16)] {
        if has(features, feature) {
            start.system.cr4 |= cr4;
        }
    }
    let star = u64::from(flat::SYSRET_BASE) << 48 | u64::from(flat::CODE) << 32;
    // IA32_STAR, IA32_LSTAR, IA32_FMASK (Intel SDM vol. 3A §5.8.8).
    msr::write(vcpu, &[(0xc000_0081, star), (0xc000_0082, DONE_CODE), (0xc000_0084, 0x200)])?;
    Ok(start.system)
}

struct Guest<'a> {
    vcpu: &'a mut VcpuFd,
    ring_0: SystemRegisters,
    watchdog: mpsc::Sender<()>,
}

impl Guest<'_> {
    /// Instructions a second. The loop is made longer until the time can be measured well.
    fn speed(&mut self) -> Result<u64, EngineError> {
        let mut count = 4_000_u64;
        loop {
            let begin = Instant::now();
            let done = self.run(LOOP, count)?;
            let elapsed = begin.elapsed();
            if !done || elapsed >= Duration::from_millis(1) || count >= 10_000_000 {
                let instructions = 2 * u128::from(if done { count } else { 0 });
                return Ok((instructions * 1_000_000_000 / elapsed.as_nanos().max(1)) as u64);
            }
            count *= 10;
        }
    }

    fn failing(&mut self, features: &CpuidTable) -> Result<Vec<String>, EngineError> {
        let mut failing = Vec::new();
        for (address, (name, feature, _)) in (SNIPPETS..).step_by(64).zip(SNIPPET_TABLE) {
            if has(features, feature) && !self.run(address, 0)? {
                failing.push(name.to_owned());
            }
        }
        Ok(failing)
    }

    /// Runs from `rip` in ring 0; true when it came to its end.
    fn run(&mut self, rip: u64, rcx: u64) -> Result<bool, EngineError> {
        state::set_system(self.vcpu, &self.ring_0)?;
        let registers = kvm_regs { rip, rcx, rsp: STACK, rflags: 2, ..Default::default() };
        self.vcpu.set_regs(&registers).named("KVM_SET_REGS")?;
        // The watchdog ends with the probe; until then it listens.
        let _ = self.watchdog.send(());
        let done = self.wait();
        let _ = self.watchdog.send(());
        Ok(done)
    }

    fn wait(&mut self) -> bool {
        let begin = Instant::now();
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(port, _)) => return port == DONE,
                Ok(_) => return false,
                Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                    self.vcpu.set_kvm_immediate_exit(0);
                    if begin.elapsed() >= PATIENCE {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}

/// One word a snippet's begin, one its end; when the second is late, KVM_RUN is ended.
fn watch(words: &mpsc::Receiver<()>, mailbox: &Mailbox) {
    while words.recv().is_ok() {
        if words.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            mailbox.kick();
            let _ = words.recv();
        }
    }
}
