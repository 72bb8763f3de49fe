//! A guest with flat memory, run by one engine to its end.

use kezhan_hypervisor::{
    CpuIo, Exit, GuestMemory, Hypervisor, Partition, PartitionConfig, Vcpu, VcpuState, flat,
};
use kezhan_soft::SoftHypervisor;
use std::sync::{Arc, Mutex, OnceLock};
use vm_memory::{Bytes, GuestAddress};

/// Where code begins: a little before a page's end, so that most programs have an instruction that lies over it.
pub const CODE: u64 = 0x1_0fd8;
/// Top of the stack.
pub const STACK: u64 = 0x9_0000;
/// Two pages of operands.
pub const DATA: u64 = 0x10_0000;
/// Bytes of operands.
pub const DATA_BYTES: usize = 0x2000;
/// The loop counter.
pub const COUNTER: u64 = 0x18_0000;
const HANDLERS: u64 = 0x2_0000;
const RAM: usize = 0x20_0000;
/// The guest is done.
pub const DONE: i32 = 0xf4;
/// The guest took exception AL.
const FAULT: i32 = 0xf5;

/// Everything that a program can leave behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub state: VcpuState,
    pub data: Vec<u8>,
    pub fault: Option<u8>,
}

#[derive(Default)]
struct Io {
    partition: OnceLock<Arc<dyn Partition>>,
    fault: Mutex<Option<u8>>,
    written: Mutex<Vec<u8>>,
}

impl CpuIo for Io {
    fn read_port(&self, _port: u16, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_port(&self, port: u16, data: &[u8]) {
        if i32::from(port) == FAULT {
            *self.fault.lock().unwrap() = Some(data[0]);
        } else if i32::from(port) != DONE {
            self.written.lock().unwrap().extend_from_slice(data);
            return;
        }
        self.partition.get().unwrap().kick(0);
    }

    fn read_memory(&self, address: u64, data: &mut [u8]) {
        data.copy_from_slice(&address.to_le_bytes()[..data.len()]);
    }

    fn write_memory(&self, _address: u64, data: &[u8]) {
        self.written.lock().unwrap().extend_from_slice(data);
    }

    fn acknowledge_interrupt(&self) -> u8 {
        0
    }

    fn end_of_interrupt(&self, _vector: u8) {}
}

/// A guest with one vCPU.
pub struct Guest {
    pub memory: Arc<GuestMemory>,
    io: Arc<Io>,
    vcpu: Box<dyn Vcpu>,
    reset: VcpuState,
    partition: Arc<dyn Partition>,
}

impl Guest {
    /// Of the software engine with the translator, or without.
    pub fn new(translate: bool) -> Guest {
        let engine = SoftHypervisor::with_translator(translate);
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
        flat::write_tables(&memory).unwrap();
        for vector in 0..32_u8 {
            let handler = HANDLERS + 16 * u64::from(vector);
            // mov al, vector; out FAULT, al; hlt
            let code = [0xb0, vector, 0xe6, FAULT as u8, 0xf4];
            memory.write_slice(&code, GuestAddress(handler)).unwrap();
            flat::set_gate(&memory, vector, handler, 3).unwrap();
        }
        let memory = Arc::new(memory);
        let cpuid = engine.supported_cpuid().unwrap();
        let config = PartitionConfig { memory: memory.clone(), cpus: 1, cpuid, pins: 24 };
        let partition = engine.create(config).unwrap();
        let io = Arc::new(Io::default());
        io.partition.set(partition.clone()).ok().unwrap();
        let vcpu = partition.vcpu(0).unwrap();
        let reset = vcpu.state().unwrap();
        Guest { memory, io, vcpu, reset, partition }
    }

    /// The state in which programs start; `prepare` changes it.
    pub fn start(&mut self, prepare: impl FnOnce(&mut VcpuState)) {
        let mut state = flat::start(&self.reset, CODE, STACK);
        prepare(&mut state);
        self.vcpu.set_state(&state).unwrap();
    }

    /// Puts bytes into memory.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    /// Runs from where it was started to where it is done.
    pub fn run(&mut self) -> Outcome {
        *self.io.fault.lock().unwrap() = None;
        assert_eq!(self.vcpu.run(self.io.as_ref()), Exit::Kicked);
        let mut data = vec![0; DATA_BYTES];
        self.memory.read_slice(&mut data, GuestAddress(DATA)).unwrap();
        data.append(&mut self.io.written.lock().unwrap());
        let mut state = self.vcpu.state().unwrap();
        state.msrs.clear();
        state.apic = self.reset.apic.clone();
        Outcome { state, data, fault: *self.io.fault.lock().unwrap() }
    }

    /// Superblocks made so far.
    pub fn statistics(&self) -> Vec<String> {
        self.partition.statistics()
    }
}
