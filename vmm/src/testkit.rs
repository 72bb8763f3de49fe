//! An engine that runs a script instead of a guest.

use kezhan_device::GuestMemory;
use kezhan_hypervisor::{
    CpuIo, CpuidTable, EngineError, Exit, Hypervisor, MsiMessage, MsiTarget, Partition,
    PartitionConfig, Route, Vcpu, VcpuState,
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a scripted vCPU does, one after the other; after the last step it waits for kicks.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes bytes to a port, one by one.
    Print(u16, &'static [u8]),
    /// Comes out of `run`.
    Exit(Exit),
}

/// What happened to the engine, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Pause,
    Resume,
    Start(u32, u64),
}

/// An engine; every vCPU runs its script each time its state is set.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Inner>);

#[derive(Default)]
struct Inner {
    scripts: Vec<Vec<Step>>,
    shared: Mutex<Shared>,
    kicked: Condvar,
}

#[derive(Default)]
struct Shared {
    kicks: Vec<bool>,
    calls: Vec<Call>,
}

impl Scripted {
    /// An engine with one script a vCPU.
    pub(crate) fn new(scripts: Vec<Vec<Step>>) -> Scripted {
        Scripted(Arc::new(Inner { scripts, ..Inner::default() }))
    }

    /// What happened since the last call.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared().calls)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, call: Call) {
        self.shared().calls.push(call);
    }
}

impl Hypervisor for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn supported_cpuid(&self) -> Result<CpuidTable, EngineError> {
        Ok(CpuidTable::default())
    }

    fn create(&self, config: PartitionConfig) -> Result<Arc<dyn Partition>, EngineError> {
        self.shared().kicks = vec![false; config.cpus as usize];
        Ok(Arc::new(self.clone()))
    }
}

impl MsiTarget for Scripted {
    fn signal(&self, _message: MsiMessage) -> bool {
        true
    }
}

impl Partition for Scripted {
    fn vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, EngineError> {
        let script = self.0.scripts.get(index as usize).cloned();
        let script = script.ok_or(EngineError::NoSuchVcpu(index))?;
        let state = VcpuState::default();
        Ok(Box::new(ScriptedVcpu { engine: self.clone(), index, next: 0, script, state }))
    }

    fn kick(&self, index: u32) {
        if let Some(kick) = self.shared().kicks.get_mut(index as usize) {
            *kick = true;
        }
        self.0.kicked.notify_all();
    }

    fn set_route(&self, _pin: u32, _route: Option<Route>) {}
    fn set_external_interrupt(&self, _high: bool) {}
    fn signal_nmi(&self, _index: u32) {}

    fn pause(&self) {
        self.record(Call::Pause);
    }

    fn resume(&self) {
        self.record(Call::Resume);
    }

    fn tsc_khz(&self) -> u32 {
        1_000_000
    }

    fn map_rom(&self, _address: u64, _memory: Arc<GuestMemory>) -> Result<(), EngineError> {
        Ok(())
    }
}

struct ScriptedVcpu {
    engine: Scripted,
    index: u32,
    script: Vec<Step>,
    next: usize,
    state: VcpuState,
}

impl ScriptedVcpu {
    fn wait_for_kick(&self) -> Exit {
        let mut shared = self.engine.shared();
        loop {
            match shared.kicks.get_mut(self.index as usize) {
                Some(kick) if *kick => {
                    *kick = false;
                    return Exit::Kicked;
                }
                _ => {
                    let kicked = &self.engine.0.kicked;
                    shared = kicked.wait(shared).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Vcpu for ScriptedVcpu {
    fn run(&mut self, io: &dyn CpuIo) -> Exit {
        while let Some(step) = self.script.get(self.next) {
            self.next += 1;
            match step {
                Step::Print(port, text) => text.iter().for_each(|b| io.write_port(*port, &[*b])),
                Step::Exit(exit) => return exit.clone(),
            }
        }
        self.wait_for_kick()
    }

    fn state(&self) -> Result<VcpuState, EngineError> {
        Ok(self.state.clone())
    }

    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        self.engine.record(Call::Start(self.index, state.general.rip));
        self.state = state.clone();
        self.next = 0;
        Ok(())
    }
}

/// A kernel that the scripted engine never executes: a multiboot header (multiboot 0.6.96 §3.1) that
/// loads it at 1 MiB, and `hlt`. The file lives as long as the handle.
pub(crate) fn kernel_file() -> (tempfile::NamedTempFile, std::path::PathBuf) {
    const MAGIC: u32 = 0x1bad_b002;
    const ADDRESSES: u32 = 1 << 16;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES);
    let base = 0x10_0000;
    let header = [MAGIC, ADDRESSES, checksum, base, base, 0, 0, base + 0x20];
    let mut kernel: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    kernel.push(0xf4);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kernel).unwrap();
    let path = file.path().to_owned();
    (file, path)
}
