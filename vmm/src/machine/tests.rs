use super::*;
use crate::events::Event;
use crate::testkit::{Call, Scripted, Step, kernel_file};
use kezhan_device::MachineEvent;
use kezhan_hypervisor::Exit;
use kezhan_machine_spec::Size;
use kezhan_ports::CharDevice;
use kezhan_ports::testkit::CharBuffer;
use std::time::Instant;
use vm_memory::{Bytes, GuestAddress};

const COM1: u16 = 0x3f8;
/// Where the test kernel begins.
const ENTRY: u64 = 0x10_0020;

struct Bench {
    machine: Machine,
    engine: Scripted,
    events: Arc<EventQueue>,
    console: CharBuffer,
}

impl Bench {
    fn new(scripts: Vec<Vec<Step>>) -> Bench {
        let (kernel, path) = kernel_file();
        let spec = MachineSpec {
            cpus: scripts.len() as u32,
            memory: Size::mebibytes(4),
            kernel: Some(path),
            ..MachineSpec::default()
        };
        let files = BootFiles::open(&spec).unwrap();
        drop(kernel);
        let (engine, console) = (Scripted::new(scripts), CharBuffer::default());
        let events = Arc::new(EventQueue::new().unwrap());
        let port: Box<dyn CharDevice> = Box::new(console.clone());
        let ports = Ports { characters: [("com1".to_owned(), port)].into(), ..Ports::default() };
        let parts =
            Parts { engine: Arc::new(engine.clone()), files, ports, events: events.clone() };
        let machine = Machine::new(&spec, parts).unwrap();
        Bench { machine, engine, events, console }
    }

    fn wait_for(&self, done: impl Fn(&Bench) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            self.machine.service();
            assert!(Instant::now() < until, "nothing happens");
        }
    }

    fn wait_for_output(&self, wanted: &[u8]) {
        let seen = std::cell::RefCell::new(Vec::new());
        self.wait_for(|bench| {
            seen.borrow_mut().extend(bench.console.take_output());
            seen.borrow().as_slice() == wanted
        });
    }
}

#[test]
fn what_the_guest_prints_comes_out_of_the_port() {
    let mut bench = Bench::new(vec![vec![Step::Print(COM1, b"hello")]]);
    assert_eq!(bench.machine.state(), MachineState::Created);
    bench.machine.start().unwrap();
    bench.wait_for_output(b"hello");
    assert_eq!(bench.machine.state(), MachineState::Running);
}

#[test]
fn the_first_vcpu_starts_at_the_kernels_entry_and_the_others_as_the_engine_made_them() {
    let mut bench = Bench::new(vec![vec![], vec![]]);
    bench.machine.start().unwrap();
    let mut calls = bench.engine.take_calls();
    calls.sort_by_key(|call| format!("{call:?}"));
    assert_eq!(calls, [Call::Start(0, ENTRY), Call::Start(1, 0)]);
}

#[test]
fn a_paused_machine_stands_still_and_goes_on_where_it_was() {
    let mut bench = Bench::new(vec![vec![Step::Print(COM1, b"x")], vec![]]);
    bench.machine.start().unwrap();
    bench.wait_for_output(b"x");
    bench.machine.pause().unwrap();
    bench.engine.take_calls();
    let (stopped, now) = (bench.machine.uptime(), Instant::now());
    while now.elapsed() < Duration::from_millis(2) {}
    assert_eq!(bench.machine.uptime(), stopped);
    assert_eq!(bench.machine.service(), None, "no device is called");
    bench.machine.pause().unwrap();
    bench.machine.resume();
    assert_eq!(bench.engine.take_calls(), [Call::Resume], "and nothing is loaded anew");
    bench.wait_for(|bench| bench.machine.uptime() > stopped);
}

#[test]
fn a_reset_loads_the_kernel_anew_and_runs_it_from_its_entry() {
    let mut bench = Bench::new(vec![vec![Step::Print(COM1, b"boot")]]);
    bench.machine.start().unwrap();
    bench.wait_for_output(b"boot");
    bench.machine.memory.write_slice(&[0xff; 4], GuestAddress(ENTRY)).unwrap();
    bench.engine.take_calls();
    bench.machine.reset().unwrap();
    bench.wait_for_output(b"boot");
    assert_eq!(bench.engine.take_calls(), [Call::Pause, Call::Start(0, ENTRY), Call::Resume]);
    let mut code = [0; 1];
    bench.machine.memory.read_slice(&mut code, GuestAddress(ENTRY)).unwrap();
    assert_eq!(code, [0xf4]);
}

#[test]
fn a_reset_of_a_paused_machine_leaves_it_paused() {
    let mut bench = Bench::new(vec![vec![]]);
    bench.machine.start().unwrap();
    bench.machine.pause().unwrap();
    bench.machine.reset().unwrap();
    assert_eq!(bench.machine.state(), MachineState::Paused);
}

#[test]
fn the_guests_requests_and_exits_reach_the_driver() {
    let reset = Step::Print(0xcf9, b"\x06");
    let mut bench = Bench::new(vec![vec![reset, Step::Exit(Exit::Shutdown)]]);
    bench.machine.start().unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    bench.wait_for(|bench| {
        seen.borrow_mut().extend(bench.events.take());
        seen.borrow().len() == 2
    });
    let expected = [Event::Machine(MachineEvent::Reset), Event::Vcpu(0, Exit::Shutdown)];
    assert_eq!(*seen.borrow(), expected);
    // A vCPU that came out by itself is parked, and pausing does not wait for it.
    bench.machine.pause().unwrap();
}

#[test]
fn a_saved_machine_goes_on_in_another_one() {
    let mut bench = Bench::new(vec![vec![Step::Print(COM1 + 7, b"s")], vec![]]);
    bench.machine.start().unwrap();
    bench.machine.memory.write_slice(b"in memory", GuestAddress(0x20_0000)).unwrap();
    let snapshot = bench.machine.save().unwrap();
    assert_eq!(bench.machine.state(), MachineState::Running, "saving does not stop it");
    assert!(snapshot.memory.pages() >= 2 && snapshot.vcpus.len() == 2);

    let mut other = Bench::new(vec![vec![], vec![]]);
    other.machine.restore(&snapshot).unwrap();
    assert_eq!(other.machine.state(), MachineState::Paused);
    assert_eq!(other.machine.save().unwrap(), snapshot);
    other.machine.resume();
    other.wait_for(|other| other.machine.uptime() > Duration::from_nanos(snapshot.time));
}

#[test]
fn a_state_of_a_machine_with_other_cpus_is_refused() {
    let snapshot = Bench::new(vec![vec![], vec![]]).machine.save().unwrap();
    let error = Bench::new(vec![vec![]]).machine.restore(&snapshot).unwrap_err();
    assert!(error.to_string().contains("--cpus 2"), "{error}");
}
