//! What cases are made of: a guest with flat memory, a machine around it, a watchdog.
//!
//! ```text
//!   0x00000 tables (flat)   0x10000 code   0x20000 handlers, 256 bytes each   0x80000 data   0x90000 stack
//!   0x100000 … 0x200000 free RAM            0xc0000000 memory-mapped registers
//!   port 0xf4: the guest is done            port 0xf5: it took exception AL
//! ```

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use kezhan_hypervisor::testkit::{Access, RecordingIo};
use kezhan_hypervisor::{
    CpuIo, Exit, GuestMemory, Hypervisor, MpState, Partition, PartitionConfig, Vcpu, flat,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;
use vm_memory::{ByteValued, Bytes, GuestAddress};

/// Where code begins.
pub const CODE: u64 = 0x1_0000;
/// Where handlers are, 256 bytes each.
pub const HANDLERS: u64 = 0x2_0000;
/// Where guests leave their results.
pub const DATA: u64 = 0x8_0000;
/// Top of the stack.
pub const STACK: u64 = 0x9_0000;
/// RAM that nobody uses.
pub const FREE: u64 = 0x10_0000;
/// Bytes of RAM.
pub const RAM: usize = 0x20_0000;
/// Memory-mapped registers.
pub const REGISTERS: u64 = 0xc000_0000;
/// The guest is done.
pub const DONE: u32 = 0xf4;
/// The guest took an exception.
pub const FAULT: u32 = 0xf5;
/// The first vCPU's xAPIC.
pub const APIC: u64 = 0xfee0_0000;

/// Hosts may be busy; nothing here takes a second on an idle one.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a payload writer gives back.
pub type Code = Result<(), IcedError>;

type Hook = Box<dyn Fn(&dyn Partition) + Send + Sync>;

/// The machine around the guest.
#[derive(Default)]
pub struct Bench {
    /// Every access but those of the two ports above.
    pub seen: RecordingIo,
    partition: OnceLock<Arc<dyn Partition>>,
    hooks: Mutex<Vec<(u16, Arc<Hook>)>>,
    cpus: OnceLock<u32>,
    done: AtomicBool,
    late: AtomicBool,
    fault: Mutex<Option<u8>>,
    /// Lower the PIC's output when an interrupt is acknowledged.
    lower_on_acknowledge: AtomicBool,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bench, done {:?}, late {:?}", self.done, self.late)
    }
}

impl Bench {
    fn partition(&self) -> &dyn Partition {
        self.partition.get().expect("the guest runs").as_ref()
    }

    /// Everybody is to leave `run`.
    fn stop(&self) {
        for index in 0..*self.cpus.get().expect("the guest runs") {
            self.partition().kick(index);
        }
    }

    fn finished(&self) -> bool {
        self.done.load(Ordering::SeqCst) || self.late.load(Ordering::SeqCst)
    }
}

impl CpuIo for Bench {
    fn read_port(&self, port: u16, data: &mut [u8]) {
        self.seen.read_port(port, data);
    }

    fn write_port(&self, port: u16, data: &[u8]) {
        match u32::from(port) {
            DONE => {}
            FAULT => *self.fault.lock().unwrap() = Some(data[0]),
            _ => {
                let hooks = self.hooks.lock().unwrap();
                let hook = hooks.iter().find(|(p, _)| *p == port).map(|(_, hook)| hook.clone());
                drop(hooks);
                match hook {
                    Some(hook) => hook(self.partition()),
                    None => self.seen.write_port(port, data),
                }
                return;
            }
        }
        self.done.store(true, Ordering::SeqCst);
        self.stop();
    }

    fn read_memory(&self, address: u64, data: &mut [u8]) {
        self.seen.read_memory(address, data);
    }

    fn write_memory(&self, address: u64, data: &[u8]) {
        self.seen.write_memory(address, data);
    }

    fn acknowledge_interrupt(&self) -> u8 {
        if self.lower_on_acknowledge.load(Ordering::SeqCst) {
            self.partition().set_external_interrupt(false);
        }
        self.seen.acknowledge_interrupt()
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.seen.end_of_interrupt(vector);
    }
}

/// A guest.
pub struct Guest {
    /// Its engine.
    pub partition: Arc<dyn Partition>,
    /// Its RAM.
    pub memory: Arc<GuestMemory>,
    /// Its machine.
    pub bench: Arc<Bench>,
    cpus: u32,
    /// Where all CPUs but the first begin, if they do not wait for SIPI.
    others: Option<u64>,
}

impl Guest {
    /// A guest with one CPU whose code ends in "done".
    pub fn new(engine: &dyn Hypervisor, code: impl FnOnce(&mut CodeAssembler) -> Code) -> Guest {
        Guest::with_cpus(engine, 1, code)
    }

    /// A guest with `cpus` CPUs, the first of which runs `code`.
    pub fn with_cpus(
        engine: &dyn Hypervisor,
        cpus: u32,
        code: impl FnOnce(&mut CodeAssembler) -> Code,
    ) -> Guest {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
        flat::write_tables(&memory).unwrap();
        let memory = Arc::new(memory);
        let cpuid = engine.supported_cpuid().unwrap();
        let config = PartitionConfig { memory: memory.clone(), cpus, cpuid, pins: 24 };
        let partition = engine.create(config).unwrap();
        let bench = Arc::new(Bench::default());
        bench.partition.set(partition.clone()).ok().unwrap();
        bench.cpus.set(cpus).unwrap();
        let guest = Guest { partition, memory, bench, cpus, others: None };
        for vector in 0..32_u8 {
            guest.on_vector(vector, |a| {
                a.mov(al, i32::from(vector))?;
                a.out(FAULT as i32, al)?;
                a.hlt()
            });
        }
        guest.put_code(CODE, |a| {
            code(a)?;
            a.out(DONE as i32, al)?;
            let mut forever = a.create_label();
            a.set_label(&mut forever)?;
            a.hlt()?;
            a.jmp(forever)
        });
        guest
    }

    /// Has all CPUs but the first begin at an address, in 64-bit mode as the first does, rather than wait for SIPI.
    pub fn start_others_at(&mut self, address: u64) {
        self.others = Some(address);
    }

    /// A CPU but the first, as it begins.
    fn other(&self, index: u32) -> Box<dyn Vcpu> {
        let mut vcpu = self.partition.vcpu(index).unwrap();
        if let Some(address) = self.others {
            let reset = vcpu.state().unwrap();
            let mut state = flat::start(&reset, address, STACK - 0x2000 * u64::from(index));
            state.mp = MpState::Running;
            vcpu.set_state(&state).unwrap();
        }
        vcpu
    }

    /// Puts 64-bit code at an address.
    pub fn put_code(&self, address: u64, code: impl FnOnce(&mut CodeAssembler) -> Code) {
        let mut assembler = CodeAssembler::new(64).unwrap();
        code(&mut assembler).unwrap();
        let bytes = assembler.assemble(address).unwrap();
        self.memory.write_slice(&bytes, GuestAddress(address)).unwrap();
    }

    /// The handler of an interrupt or exception.
    pub fn on_vector(&self, vector: u8, code: impl FnOnce(&mut CodeAssembler) -> Code) {
        let address = HANDLERS + 256 * u64::from(vector);
        self.put_code(address, code);
        flat::set_gate(&self.memory, vector, address, 3).unwrap();
    }

    /// A handler that adds 1 to the `n`th result, tells the xAPIC that it is done, and returns.
    pub fn count_vector(&self, vector: u8, n: u64) {
        self.on_vector(vector, |a| {
            a.push(rax)?;
            a.inc(qword_ptr(DATA + 8 * n))?;
            a.mov(eax, APIC as u32)?;
            a.mov(dword_ptr(rax + 0xb0), 0)?;
            a.pop(rax)?;
            a.iretq()
        });
    }

    /// What happens when the guest writes to `port`, called on its vCPU thread.
    pub fn on_port(&self, port: u16, hook: impl Fn(&dyn Partition) + Send + Sync + 'static) {
        self.bench.hooks.lock().unwrap().push((port, Arc::new(Box::new(hook))));
    }

    /// The PIC gives `vector` and lowers its output at the acknowledge cycle.
    pub fn pic_gives(&self, vector: u8) {
        self.bench.seen.answer_vector(vector);
        self.bench.lower_on_acknowledge.store(true, Ordering::SeqCst);
    }

    /// The `n`th result.
    pub fn result(&self, n: u64) -> u64 {
        self.read(DATA + 8 * n)
    }

    /// A value in RAM.
    pub fn read<T: ByteValued>(&self, address: u64) -> T {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// The first vCPU, for the calling thread, about to run the code.
    pub fn boot(&self) -> Box<dyn Vcpu> {
        let mut vcpu = self.partition.vcpu(0).unwrap();
        let reset = vcpu.state().unwrap();
        vcpu.set_state(&flat::start(&reset, CODE, STACK)).unwrap();
        vcpu
    }

    /// Runs the whole guest until it is done; a panic when it takes an exception or too long.
    pub fn run(&self) -> Box<dyn Vcpu> {
        let mut vcpu = self.boot();
        assert_eq!(self.go(vcpu.as_mut()), Exit::Kicked);
        vcpu
    }

    /// Runs until the guest is done (`Exit::Kicked`) or cannot go on, other vCPUs on their own threads.
    pub fn go(&self, vcpu: &mut dyn Vcpu) -> Exit {
        let (running, ended) = mpsc::channel::<()>();
        let exit = std::thread::scope(|scope| {
            scope.spawn(move || self.watch(&ended));
            for index in 1..self.cpus {
                scope.spawn(move || self.until_finished(self.other(index).as_mut()));
            }
            let exit = self.until_finished(vcpu);
            if !self.bench.finished() {
                self.bench.done.store(true, Ordering::SeqCst);
                self.bench.stop();
            }
            drop(running);
            exit
        });
        assert!(!self.bench.late.load(Ordering::SeqCst), "the guest took too long: {exit:?}");
        let fault = *self.bench.fault.lock().unwrap();
        assert_eq!(fault, None, "the guest took an exception");
        exit
    }

    /// Runs for as long as nobody kicks.
    pub fn run_until_kicked(&self, vcpu: &mut dyn Vcpu) {
        assert_eq!(vcpu.run(self.bench.as_ref()), Exit::Kicked);
    }

    /// The accesses so far.
    pub fn accesses(&self) -> Vec<Access> {
        self.bench.seen.take()
    }

    fn until_finished(&self, vcpu: &mut dyn Vcpu) -> Exit {
        loop {
            match vcpu.run(self.bench.as_ref()) {
                Exit::Kicked if !self.bench.finished() => {}
                exit => return exit,
            }
        }
    }

    fn watch(&self, ended: &mpsc::Receiver<()>) {
        if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            self.bench.late.store(true, Ordering::SeqCst);
            self.bench.stop();
        }
    }
}

/// Spins until the `n`th result is `value`.
pub fn wait_for(a: &mut CodeAssembler, n: u64, value: i32) -> Code {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.pause()?;
    a.cmp(qword_ptr(DATA + 8 * n), value)?;
    a.jne(again)
}

/// Turns the xAPIC on, with spurious vector 0xff.
pub fn enable_apic(a: &mut CodeAssembler) -> Code {
    write_apic(a, 0xf0, 0x1ff)
}

/// Writes a register of the xAPIC.
pub fn write_apic(a: &mut CodeAssembler, register: u64, value: u32) -> Code {
    a.mov(eax, (APIC + register) as u32)?;
    a.mov(dword_ptr(rax), value as i32)
}
