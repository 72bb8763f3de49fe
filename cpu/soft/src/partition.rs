//! The partition: the software engine's side of the contract.

use crate::apic::{Apic, CRYSTAL_KHZ, Clock, Message};
use crate::blocks::BlockCache;
use crate::code::Shared;
use crate::debug::Watch;
use crate::large::LargePages;
use crate::memory::SoftMemory;
use crate::perf_map::PerfMap;
use crate::ram::Ram;
use crate::tier::Tier;
use crate::tlb::{Tlb, View};
use crate::traffic::Traffic;
use crate::vcpu::SoftVcpu;
use kezhan_hypervisor::{
    CpuidEntry, CpuidTable, DirtyLog, EngineError, GuestMemory, Hypervisor, MsiMessage, MsiTarget,
    Partition, PartitionConfig, Route, Vcpu,
};
use kezhan_jit::translate::Translator;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

/// The software engine.
#[derive(Clone, Debug)]
pub struct SoftHypervisor {
    translate: bool,
    perf_map: Option<Arc<PerfMap>>,
}

impl Default for SoftHypervisor {
    fn default() -> SoftHypervisor {
        SoftHypervisor::new()
    }
}

impl SoftHypervisor {
    /// The engine; it needs nothing of the host.
    pub fn new() -> SoftHypervisor {
        SoftHypervisor::with_translator(true)
    }

    /// With the translator (the usual), or with the interpreter alone.
    pub fn with_translator(on: bool) -> SoftHypervisor {
        SoftHypervisor { translate: on, perf_map: None }
    }

    /// Tells `perf` of what is translated.
    pub fn with_perf_map(self, map: PerfMap) -> SoftHypervisor {
        SoftHypervisor { perf_map: Some(Arc::new(map)), ..self }
    }
}

/// Code memory of all vCPUs together, in bytes. The tables that go with it, whose bounds follow from its size, take
/// up to 2.2 times as much: less than 256 MiB in all, whatever the guest does.
const CODE_MEMORY: usize = 60 << 20;
/// Code memory of a vCPU, in bytes: at least, and at most.
const CODE_MEMORY_OF_ONE: (usize, usize) = (1 << 20, 64 << 20);
/// Bytes of code memory for each decoded instruction that is kept.
const BYTES_PER_OP: usize = 64;

impl Hypervisor for SoftHypervisor {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn supported_cpuid(&self) -> Result<CpuidTable, EngineError> {
        Ok(kezhan_x86::cpuid::supported(tsc_khz(), CRYSTAL_KHZ))
    }

    fn create(&self, config: PartitionConfig) -> Result<Arc<dyn Partition>, EngineError> {
        if config.cpus == 0 || config.cpus > 255 {
            return Err(EngineError::TooManyCpus { asked: config.cpus, most: 255 });
        }
        // Without it the guest would get #UD for what the host is to execute.
        kezhan_jit::prepare().map_err(|failed| EngineError::Host {
            call: "the software engine".to_owned(),
            error: std::io::Error::other(failed),
        })?;
        Ok(Arc::new(SoftPartition {
            clock: Arc::new(Clock::new(tsc_khz())),
            taken: (0..config.cpus).map(|_| AtomicBool::new(false)).collect(),
            roms: Mutex::new(Vec::new()),
            shared: OnceLock::new(),
            translate: self.translate,
            perf_map: self.perf_map.clone(),
            config,
        }))
    }
}

/// The host's TSC frequency, in steps that the crystal can be multiplied to (Intel SDM vol. 2A, CPUID leaf
/// 15H): guest time does not depend on it, but a guest that moves to KVM should not see it change.
fn tsc_khz() -> u32 {
    static KHZ: OnceLock<u32> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let step = kezhan_x86::cpuid::TSC_STEP_KHZ;
        (host_tsc_khz().unwrap_or(2_000_000) + step / 2) / step * step
    })
}

/// From what the kernel says of the CPU's clock.
fn host_tsc_khz() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    (mhz > 100.0 && mhz < 10_000.0).then_some((mhz * 1000.0) as u32)
}

/// A partition of the software engine.
#[derive(Debug)]
pub struct SoftPartition {
    config: PartitionConfig,
    clock: Arc<Clock>,
    taken: Vec<AtomicBool>,
    roms: Mutex<Vec<(u64, Arc<GuestMemory>)>>,
    shared: OnceLock<Arc<Shared>>,
    translate: bool,
    perf_map: Option<Arc<PerfMap>>,
}

impl SoftPartition {
    /// The shared part, made when the first vCPU is: from then on the memory map is fixed.
    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let mut ram = Ram::new(self.config.memory.clone());
            for (address, rom) in self.roms.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let lowest = rom.iter().map(|region| region.start_addr().0).min().unwrap_or(0);
                ram.add(rom.clone(), address.wrapping_sub(lowest), false);
            }
            let shared = Arc::new(Shared::new(ram, self.config.cpus));
            shared.watch_devices();
            shared
        })
    }

    /// The code memory of one vCPU, in bytes.
    fn code_memory(&self) -> usize {
        let (least, most) = CODE_MEMORY_OF_ONE;
        (CODE_MEMORY / self.config.cpus as usize).clamp(least, most) & !0xffff
    }

    /// The translated tier of one vCPU; without executable memory the interpreter does everything.
    fn tier(&self) -> Option<Tier> {
        let translator = self.translate.then(|| Translator::new(self.code_memory()).ok())??;
        self.shared().ticker.start(self.shared(), &self.clock);
        Some(Tier::new(translator, self.perf_map.clone()))
    }

    fn cpuid(&self, index: u32) -> CpuidTable {
        let mut table = self.config.cpuid.clone();
        for entry in &mut table.entries {
            with_apic_id(entry, index, self.config.cpus);
        }
        table
    }
}

/// Fills in what differs from one vCPU to the next (Intel SDM vol. 2A, CPUID leaves 1, 4, 0BH).
fn with_apic_id(entry: &mut CpuidEntry, index: u32, cpus: u32) {
    match entry.leaf {
        1 => {
            entry.registers[1] = entry.registers[1] & 0xff00 | index << 24 | cpus.min(255) << 16;
        }
        0xb | 0x1f => {
            entry.registers[3] = index;
            if entry.subleaf == Some(1) {
                entry.registers[1] = cpus;
            }
        }
        _ => {}
    }
}

impl MsiTarget for SoftPartition {
    fn signal(&self, message: MsiMessage) -> bool {
        self.shared().deliver(Message::of_msi(message), usize::MAX)
    }
}

impl Partition for SoftPartition {
    fn vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, EngineError> {
        let taken = self.taken.get(index as usize).ok_or(EngineError::NoSuchVcpu(index))?;
        if taken.swap(true, Ordering::SeqCst) {
            return Err(EngineError::NoSuchVcpu(index));
        }
        let memory = SoftMemory {
            shared: self.shared().clone(),
            index,
            tlb: Tlb::default(),
            large: LargePages::default(),
            looks: 0,
            part: None,
            view: View::SUPERVISOR,
            apic: Apic::new(index),
            clock: self.clock.clone(),
            cpuid: self.cpuid(index),
            generation: [1; 2],
            fetched: HashSet::new(),
            code_writes_pass: false,
            tsc_adjust: 0,
            pauses: 0,
            watch: Watch::default(),
            traffic: Traffic::default(),
        };
        let cache = BlockCache::new(self.code_memory() / BYTES_PER_OP);
        Ok(Box::new(SoftVcpu::new(memory, self.tier(), cache)))
    }

    fn kick(&self, index: u32) {
        if let Some(mailbox) = self.shared().mailboxes.get(index as usize) {
            mailbox.post(|notes| notes.kick = true);
        }
    }

    /// Nothing to do: pins send their messages through [`MsiTarget`], which carry the trigger mode.
    fn set_route(&self, _pin: u32, _route: Option<Route>) {}

    fn set_external_interrupt(&self, high: bool) {
        if let Some(mailbox) = self.shared().mailboxes.first() {
            mailbox.set_external(high);
        }
    }

    fn signal_nmi(&self, index: u32) {
        if let Some(mailbox) = self.shared().mailboxes.get(index as usize) {
            mailbox.post(|notes| notes.nmis = notes.nmis.saturating_add(1));
        }
    }

    fn pause(&self) {
        self.clock.pause();
    }

    fn resume(&self) {
        self.clock.resume();
    }

    fn tsc_khz(&self) -> u32 {
        self.clock.khz()
    }

    fn map_rom(&self, address: u64, memory: Arc<GuestMemory>) -> Result<(), EngineError> {
        self.roms.lock().unwrap_or_else(PoisonError::into_inner).push((address, memory));
        Ok(())
    }

    fn statistics(&self) -> Vec<String> {
        let all = self.shared().counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().enumerate().flat_map(|(cpu, counters)| counters.lines(cpu)).collect()
    }

    fn release_memory(&self, address: u64, length: u64) -> bool {
        self.shared().ram.release(address, length)
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        Some(self)
    }
}

impl DirtyLog for SoftPartition {
    fn set_logging(&self, on: bool) -> Result<(), EngineError> {
        for (_, log) in self.shared().ram.logs() {
            log.set_logging(on);
        }
        self.drop_write_entries();
        Ok(())
    }

    fn take(&self) -> Result<Vec<Vec<u64>>, EngineError> {
        self.drop_write_entries();
        Ok(self.shared().ram.logs().map(|(_, log)| log.take_dirty()).collect())
    }
}

impl SoftPartition {
    /// Makes every vCPU mark pages anew, and waits for those in guest code.
    fn drop_write_entries(&self) {
        let asked: Vec<_> =
            self.shared().mailboxes.iter().map(|m| (m, m.ask_drop_writes(None))).collect();
        for (mailbox, ticket) in asked {
            while !mailbox.has_dropped(ticket) {
                std::thread::yield_now();
            }
        }
    }
}
