//! The board from the guest's side and from the vmm's.

use super::*;
use kezhan_device::testkit::Recorder;
use kezhan_device::{MachineEvent, ManualClock, MsiMessage, MsiTarget, Space};
use kezhan_hypervisor::{Doorbell, EngineError, EventDescriptors, Route, Vcpu};
use kezhan_machine_spec::{DeviceSpec, DiskSpec, Size};
use kezhan_ports::testkit::{CharBuffer, MemoryDisk, NicBuffer};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

mod idle;

/// An engine that records what it is told.
#[derive(Default)]
struct FakePartition {
    messages: Mutex<Vec<MsiMessage>>,
    routes: Mutex<BTreeMap<u32, Option<Route>>>,
    external: Mutex<Vec<bool>>,
    doorbells: Doorbells,
}

impl MsiTarget for FakePartition {
    fn signal(&self, message: MsiMessage) -> bool {
        self.messages.lock().unwrap().push(message);
        true
    }
}

impl Partition for FakePartition {
    fn vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, EngineError> {
        Err(EngineError::NoSuchVcpu(index))
    }
    fn kick(&self, _index: u32) {}
    fn set_route(&self, pin: u32, route: Option<Route>) {
        self.routes.lock().unwrap().insert(pin, route);
    }
    fn set_external_interrupt(&self, high: bool) {
        self.external.lock().unwrap().push(high);
    }
    fn signal_nmi(&self, _index: u32) {}
    fn pause(&self) {}
    fn resume(&self) {}
    fn tsc_khz(&self) -> u32 {
        1_000_000
    }
    fn map_rom(&self, _address: u64, _memory: Arc<GuestMemory>) -> Result<(), EngineError> {
        Ok(())
    }
    fn event_descriptors(&self) -> Option<&dyn EventDescriptors> {
        Some(self)
    }
}

/// Random, as far as a test can tell.
struct Sevens;

impl Entropy for Sevens {
    fn fill(&mut self, data: &mut [u8]) {
        data.fill(7);
    }
}

/// Doorbells that the engine was told of.
#[derive(Default)]
struct Doorbells(Mutex<Vec<u64>>);

impl EventDescriptors for FakePartition {
    fn attach_interrupt(&self, _pin: u32, _event: BorrowedFd<'_>) -> Result<(), EngineError> {
        Ok(())
    }
    fn detach_interrupt(&self, _pin: u32, _event: BorrowedFd<'_>) -> Result<(), EngineError> {
        Ok(())
    }
    fn attach_doorbell(&self, bell: Doorbell, _event: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.doorbells.0.lock().unwrap().push(bell.address);
        Ok(())
    }
    fn detach_doorbell(&self, bell: Doorbell, _event: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.doorbells.0.lock().unwrap().retain(|address| *address != bell.address);
        Ok(())
    }
}

/// A bell that counts.
struct CountingBell(AtomicUsize, File);

impl Bell for CountingBell {
    fn ring(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
}

/// Gives every device that may have a thread the same bell.
struct OneBell(Arc<CountingBell>);

impl Staff for OneBell {
    fn bell(&self, _name: &str) -> Option<Arc<dyn Bell>> {
        Some(self.0.clone())
    }
}

/// A board and everything around it.
struct Bench {
    board: Board,
    partition: Arc<FakePartition>,
    clock: Arc<ManualClock>,
    control: Arc<Recorder>,
    com1: CharBuffer,
    calls: Arc<AtomicUsize>,
}

fn spec(devices: &[&str]) -> MachineSpec {
    let device = |text: &&str| {
        let mut parts = text.split(',');
        let name = parts.next().unwrap().to_owned();
        let setting = |part: &str| part.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        DeviceSpec { name, settings: parts.filter_map(setting).collect() }
    };
    MachineSpec {
        memory: Size::mebibytes(4),
        devices: devices.iter().map(device).collect(),
        ..MachineSpec::default()
    }
}

fn try_bench(devices: &[&str]) -> Result<Bench, BoardError> {
    bench_of(&spec(devices))
}

fn bench_of(spec: &MachineSpec) -> Result<Bench, BoardError> {
    bench_with(spec, None)
}

fn bench_with(spec: &MachineSpec, staff: Option<Arc<dyn Staff>>) -> Result<Bench, BoardError> {
    let memory = GuestMemory::from_ranges(&memory_ranges(spec.memory.bytes())).unwrap();
    let (clock, control) = (Arc::new(ManualClock::default()), Arc::new(Recorder::default()));
    let (com1, calls) = (CharBuffer::default(), Arc::new(AtomicUsize::new(0)));
    let counter = calls.clone();
    let port: Box<dyn CharDevice> = Box::new(com1.clone());
    let host = Host {
        memory: Arc::new(memory),
        clock: clock.clone(),
        control: control.clone(),
        attention: Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }),
        ports: Ports {
            consoles: Vec::new(),
            characters: [("com1".to_owned(), port)].into(),
            disks: vec![Box::new(MemoryDisk::new(4096))],
            nics: vec![vec![Box::new(NicBuffer::default())]],
            entropy: Some(Box::new(Sevens)),
        },
        staff,
    };
    let board = Board::new(spec, host)?;
    let partition = Arc::new(FakePartition::default());
    board.connect(partition.clone());
    Ok(Bench { board, partition, clock, control, com1, calls })
}

fn bench(devices: &[&str]) -> Bench {
    try_bench(devices).unwrap()
}

/// Every optional device of the list.
fn full_bench() -> Bench {
    let names: Vec<&str> = DEVICES.iter().filter(|k| !k.fixed).map(|k| k.name).collect();
    bench(&names)
}

impl Bench {
    fn out(&self, port: u16, value: u8) {
        self.board.write_port(port, &[value]);
    }

    fn inb(&self, port: u16) -> u8 {
        let mut data = [0];
        self.board.read_port(port, &mut data);
        data[0]
    }

    fn inl(&self, port: u16) -> u32 {
        let mut data = [0; 4];
        self.board.read_port(port, &mut data);
        u32::from_le_bytes(data)
    }

    fn peek(&self, address: u64) -> u32 {
        let mut data = [0; 4];
        self.board.read_memory(address, &mut data);
        u32::from_le_bytes(data)
    }

    fn poke(&self, address: u64, value: u32) {
        self.board.write_memory(address, &value.to_le_bytes());
    }

    fn write_ioapic(&self, register: u32, value: u32) {
        self.poke(0xfec0_0000, register);
        self.poke(0xfec0_0010, value);
    }

    fn config(&self, slot: u64, register: u64) -> u64 {
        0xc000_0000 + (slot << 15) + register
    }

    /// Loads the smallest multiboot kernel.
    fn load(&self) -> Entry {
        let mut kernel = vec![0xf4; 16];
        let (magic, flags, address) = (0x1bad_b002_u32, 1_u32 << 16, 0x20_0000_u32);
        let sum = 0_u32.wrapping_sub(magic).wrapping_sub(flags);
        let words = [magic, flags, sum, address + 16, address, 0, 0, address];
        kernel.extend(words.map(u32::to_le_bytes).concat());
        let files = GuestFiles { kernel: &kernel, initrd: None, cmdline: "quiet" };
        self.board.load(&files).unwrap()
    }

    fn enable_uart_interrupts(&self) {
        self.out(0x3f9, 1);
        self.out(0x3fc, 8);
    }
}

/// Programs both PICs with vectors 0x20 and 0x28, nothing masked.
fn start_pics(bench: &Bench) {
    for (port, vector, wiring) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
        bench.out(port, 0x11);
        for value in [vector, wiring, 1, 0] {
            bench.out(port + 1, value);
        }
    }
}

#[test]
fn what_a_guest_writes_to_com1_leaves_by_its_port() {
    let bench = bench(&[]);
    b"hello".iter().for_each(|byte| bench.out(0x3f8, *byte));
    assert_eq!(bench.com1.take_output(), b"hello");
}

#[test]
fn nobody_answers_with_all_ones_and_is_counted() {
    let bench = bench(&[]);
    assert_eq!((bench.inl(0x5678), bench.peek(0xd000_0000)), (u32::MAX, u32::MAX));
    bench.inl(0x5678);
    bench.out(0x5678, 1);
    let strays = bench.board.strays();
    assert_eq!(
        strays[0],
        Stray { space: Space::Port, address: 0x5678, kind: StrayKind::Unclaimed, count: 3 }
    );
    assert_eq!((strays[1].space, strays[1].address), (Space::Memory, 0xd000_0000));
}

#[test]
fn the_count_of_strays_is_bounded() {
    let bench = bench(&[]);
    (0..10_000).for_each(|at| bench.out(0x3000 + at, 0));
    assert!(bench.board.strays().len() <= 256);
}

#[test]
fn an_access_over_the_end_of_a_region_is_one_access_a_byte() {
    let bench = bench(&[]);
    bench.out(0x3ff, 0x5a);
    assert_eq!(bench.inl(0x3ff), 0xffff_ff5a);
    assert_eq!(bench.inl(0x3f7) & 0xff, 0xff);
    assert_eq!(bench.inl(0x3fc) >> 24, 0x5a);
    assert_eq!(bench.inl(0xfffe), u32::MAX);
}

#[test]
fn the_reset_register_lies_inside_the_configuration_address() {
    let bench = bench(&[]);
    bench.board.write_port(0xcf8, &0x8000_0000_u32.to_le_bytes());
    assert_eq!((bench.inl(0xcf8), bench.inl(0xcfc)), (0x8000_0000, bench.peek(0xc000_0000)));
    bench.out(0xcf9, 0x06);
    assert_eq!(bench.control.take_events(), [MachineEvent::Reset]);
    assert_eq!(bench.inl(0xcf8), 0x8000_0000);
}

#[test]
fn a_com1_interrupt_reaches_the_pic_and_the_acknowledge_gives_its_vector() {
    let bench = bench(&[]);
    start_pics(&bench);
    bench.board.resume();
    bench.enable_uart_interrupts();
    bench.com1.feed(b"x");
    bench.board.service();
    assert_eq!(bench.partition.external.lock().unwrap().last(), Some(&true));
    assert_eq!(bench.board.acknowledge_interrupt(), 0x24);
    assert_eq!(bench.partition.external.lock().unwrap().last(), Some(&false));
}

#[test]
fn a_com1_interrupt_reaches_ioapic_pin_4_after_its_route_was_told() {
    let bench = bench(&[]);
    bench.board.resume();
    bench.write_ioapic(0x10 + 2 * 4, 0x34);
    let route = bench.partition.routes.lock().unwrap()[&4].unwrap();
    assert_eq!((route.message.data & 0xff, route.level), (0x34, false));
    bench.enable_uart_interrupts();
    bench.com1.feed(b"x");
    bench.board.service();
    assert_eq!(*bench.partition.messages.lock().unwrap(), [route.message]);
}

#[test]
fn a_level_interrupt_comes_again_until_its_cause_is_gone() {
    let bench = bench(&[]);
    bench.write_ioapic(0x10 + 2 * 9, 1 << 15 | 0x39);
    bench.board.write_port(0x602, &0x100_u16.to_le_bytes());
    bench.board.press_power_button();
    bench.board.end_of_interrupt(0x39);
    assert_eq!(bench.partition.messages.lock().unwrap().len(), 2);
    bench.board.write_port(0x600, &0x100_u16.to_le_bytes());
    bench.board.end_of_interrupt(0x39);
    assert_eq!(bench.partition.messages.lock().unwrap().len(), 2);
}

/// Slots 1 and 9 share an input: it is high until both have let go (PCI Local Bus 3.0 §2.2.6).
#[test]
fn pci_functions_that_share_an_interrupt_hold_it_together() {
    let bench = bench(&[]);
    bench.write_ioapic(0x10 + 2 * 17, 1 << 15 | 0x51);
    let [first, second] = [1, 9].map(|slot| bench.board.wiring.intx(slot, 1, "function"));
    let sent = || bench.partition.messages.lock().unwrap().len();
    first.set(true);
    second.set(true);
    assert_eq!(sent(), 1);
    first.set(false);
    bench.board.end_of_interrupt(0x51);
    assert_eq!(sent(), 2, "the other still asks");
    second.set(false);
    bench.board.end_of_interrupt(0x51);
    assert_eq!(sent(), 2);
}

#[test]
fn input_calls_for_service_and_service_polls_the_device() {
    let bench = bench(&[]);
    bench.board.resume();
    let before = bench.calls.load(Ordering::SeqCst);
    bench.com1.feed(b"a");
    bench.com1.feed(b"b");
    assert_eq!(bench.calls.load(Ordering::SeqCst), before + 1, "one call until it is served");
    assert_eq!(bench.inb(0x3fd) & 1, 0);
    bench.board.service();
    assert_eq!((bench.inb(0x3fd) & 1, bench.inb(0x3f8)), (1, b'a'));
}

#[test]
fn a_paused_board_serves_nothing_and_catches_up_when_it_goes_on() {
    let bench = bench(&[]);
    bench.board.resume();
    bench.board.pause();
    bench.com1.feed(b"a");
    assert_eq!(bench.board.service(), None);
    assert_eq!(bench.inb(0x3fd) & 1, 0);
    bench.board.resume();
    bench.board.service();
    assert_eq!(bench.inb(0x3fd) & 1, 1);
}

#[test]
fn a_device_is_woken_when_its_deadline_has_come() {
    let bench = bench(&[]);
    bench.board.resume();
    bench.write_ioapic(0x10 + 2 * 9, 1 << 15 | 0x39);
    bench.board.write_port(0x602, &1_u16.to_le_bytes());
    // The PM timer's top bit changes after 2^31 ticks: ten minutes.
    let due = (1_u64 << 31) * 1_000_000_000 / 3_579_545;
    bench.clock.advance(due - 1000);
    bench.board.service();
    assert!(bench.partition.messages.lock().unwrap().is_empty());
    bench.clock.advance(2000);
    bench.board.service();
    assert_eq!(bench.partition.messages.lock().unwrap().len(), 1);
}

#[test]
fn loading_puts_the_acpi_tables_where_a_guest_looks() {
    let bench = bench(&[]);
    let entry = bench.load();
    assert_eq!((entry.rip, entry.rax), (0x20_0000, 0x2bad_b002));
    let mut signature = [0; 8];
    bench.board.memory.read_slice(&mut signature, GuestAddress(0xe_0000)).unwrap();
    assert_eq!(&signature, b"RSD PTR ");
    assert_eq!(bench.inb(0x4d1), 0x0e, "the SCI and PCI's interrupts are level-triggered");
}

#[test]
fn the_acpi_tables_of_a_full_board_are_sound() {
    kezhan_acpi::testkit::check_with_iasl(&full_bench().board.tables);
}

#[test]
fn loading_gives_pci_functions_their_addresses_and_a_guest_may_move_them() {
    let bench = bench(&["pci-testdev"]);
    bench.load();
    bench.board.resume();
    let (memory, ports) = (bench.peek(bench.config(1, 0x10)), bench.peek(bench.config(1, 0x14)));
    assert_eq!((memory & !0xf, ports & !0x3), (0xd000_0000, 0xc000));
    let first = bench.peek(0xd000_0000);
    assert_ne!(first, u32::MAX);
    bench.poke(bench.config(1, 0x10), 0xd800_0000);
    assert_eq!((bench.peek(0xd800_0000), bench.peek(0xd000_0000)), (first, u32::MAX));
    bench.board.write_memory(bench.config(1, 0x04), &[0, 0]);
    assert_eq!(bench.peek(0xd800_0000), u32::MAX, "memory decoding is off");
}

#[test]
fn a_bar_over_a_fixed_device_does_not_hide_it() {
    let bench = bench(&["pci-testdev"]);
    bench.load();
    bench.board.resume();
    bench.poke(0xfec0_0000, 1);
    let version = bench.peek(0xfec0_0010);
    bench.poke(bench.config(1, 0x10), 0xfec0_0000);
    assert_eq!(bench.peek(0xfec0_0010), version);
}

#[test]
fn the_exit_device_moves_by_its_setting() {
    let bench = bench(&["isa-debug-exit,iobase=0x501"]);
    bench.out(0x501, 3);
    assert_eq!(bench.control.take_events(), [MachineEvent::Exit(7)]);
}

#[test]
fn the_interval_timer_ticks_at_pin_2_of_the_ioapic_and_pin_0_of_the_pic() {
    let bench = bench(&[]);
    start_pics(&bench);
    bench.board.resume();
    bench.write_ioapic(0x10 + 2 * 2, 0x32);
    // Channel 0, mode 2, 1193 counts: a millisecond.
    [(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)].iter().for_each(|(port, v)| bench.out(*port, *v));
    for _ in 0..10 {
        let next = bench.board.service().unwrap();
        bench.clock.advance(next - bench.clock.now());
        bench.board.service();
    }
    let messages = bench.partition.messages.lock().unwrap();
    assert!(messages.len() >= 5 && messages.iter().all(|m| m.data & 0xff == 0x32));
    assert_eq!(bench.board.acknowledge_interrupt(), 0x20);
}

#[test]
fn the_hpet_takes_interrupt_0_over_from_the_interval_timer() {
    let bench = bench(&[]);
    bench.board.resume();
    bench.write_ioapic(0x10 + 2 * 2, 0x32);
    // Timer 0: one shot, interrupt enabled, after 1000 ticks of 10 ns; legacy replacement.
    bench.poke(0xfed0_0100, 1 << 2);
    bench.poke(0xfed0_0108, 1000);
    bench.poke(0xfed0_010c, 0);
    bench.poke(0xfed0_0010, 3);
    assert_eq!(bench.board.service(), Some(10_000));
    bench.clock.advance(10_000);
    bench.board.service();
    assert_eq!(bench.partition.messages.lock().unwrap().len(), 1);
}

#[test]
fn a_key_reaches_the_guest_as_interrupt_1() {
    let bench = bench(&[]);
    bench.write_ioapic(0x10 + 2, 0x31);
    // Keyboard enabled with interrupts and translation; scanning on.
    [(0x64, 0x60), (0x60, 0x41)].iter().for_each(|(port, v)| bench.out(*port, *v));
    bench.out(0x60, 0xf4);
    assert_eq!(bench.inb(0x60), 0xfa);
    bench.partition.messages.lock().unwrap().clear();
    assert!(bench.board.key(KeyEvent { usage: 0x04, pressed: true }));
    assert_eq!(bench.partition.messages.lock().unwrap().len(), 1);
    assert_eq!(bench.inb(0x60), 0x1e, "the A key in set 1");
}

#[test]
fn the_keyboard_controller_resets_the_machine() {
    let bench = bench(&[]);
    bench.out(0x64, 0xfe);
    assert_eq!(bench.control.take_events(), [MachineEvent::Reset]);
}

#[test]
fn cmos_tells_firmware_how_much_memory_there_is() {
    let bench = bench(&[]);
    let read = |index: u8| {
        bench.out(0x70, index);
        u32::from(bench.inb(0x71))
    };
    assert_eq!(read(0x30) | read(0x31) << 8, 3 * 1024, "KiB above 1 MiB");
}

#[test]
fn test_device_lines_reach_isa_interrupts_and_the_upper_pins() {
    let bench = bench(&["pc-testdev"]);
    for pin in [0, 14, 20] {
        let entry = if pin == 0 { 2 } else { pin };
        bench.write_ioapic(0x10 + 2 * entry, 0x40 + pin);
        bench.out(0x2000 + pin as u16, 1);
        let message = bench.partition.messages.lock().unwrap().pop();
        assert_eq!(message.map(|m| m.data & 0xff), Some(0x40 + pin), "line {pin}");
    }
}

#[test]
fn wrong_devices_settings_and_conflicts_are_named() {
    let error = |devices: &[&str]| try_bench(devices).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        error(&["sound"]),
        "--device 'sound': devices are isa-debug-exit, isa-debugcon, pvpanic, pc-testdev, virtio-rng, virtio-balloon, hotplug, pci-testdev"
    );
    assert!(error(&["com1"]).starts_with("--device 'com1': devices are"));
    assert_eq!(
        error(&["isa-debug-exit,base=1"]),
        "--device isa-debug-exit: no setting 'base'; it has iobase"
    );
    assert_eq!(
        error(&["isa-debug-exit,iobase=lots"]),
        "--device isa-debug-exit,iobase=lots: give a port from 0 to 0xffff"
    );
    assert_eq!(
        error(&["pvpanic", "pvpanic"]),
        "--device pvpanic: the machine has it already; leave this one out"
    );
    assert_eq!(
        error(&["isa-debug-exit,iobase=0x3fa"]),
        "com1.registers and isa-debug-exit.exit overlap at 0x3fa; leave one out or move it with a setting"
    );
}

#[test]
fn every_device_of_the_list_is_named_once_and_has_its_rows() {
    let bench = full_bench();
    for (index, kind) in DEVICES.iter().enumerate() {
        assert!(DEVICES[..index].iter().all(|other| other.name != kind.name), "{}", kind.name);
        assert!(!kind.help.is_empty() && !kind.help.ends_with('.'));
        let named = |slot: &Arc<Slot>| slot.name().trim_end_matches(char::is_numeric) == kind.name;
        let found = bench.board.slots().iter().any(|slot| slot.name() == kind.name || named(slot));
        assert!(found, "{}", kind.name);
    }
    for (index, row) in ADDRESS_MAP.iter().enumerate() {
        assert!(DEVICES.iter().any(|kind| kind.name == row.device), "{}", row.device);
        let same = |other: &Row| (other.device, other.part) == (row.device, row.part);
        assert!(!ADDRESS_MAP[..index].iter().any(same), "{}.{}", row.device, row.part);
    }
}

#[test]
fn a_disk_of_the_description_is_a_virtio_function_with_its_registers() {
    let disks = vec![DiskSpec::new("disk.img")];
    let bench = bench_of(&MachineSpec { disks, ..spec(&[]) }).unwrap();
    bench.load();
    bench.board.resume();
    let id = bench.peek(bench.config(1, 0));
    let bar = bench.peek(bench.config(1, 0x14)) & !0xf;
    assert_eq!(id, 0x1042_1af4);
    // Capacity in sectors, the first field of the device's configuration.
    assert_eq!(bench.peek(u64::from(bar) + 0x2000), 8);
}

#[test]
fn a_network_card_of_the_description_has_the_address_that_was_asked_for() {
    let nets = vec!["user,mac=52:54:00:12:34:56".parse().unwrap()];
    let bench = bench_of(&MachineSpec { nets, ..spec(&[]) }).unwrap();
    bench.load();
    bench.board.resume();
    let id = bench.peek(bench.config(1, 0));
    let bar = bench.peek(bench.config(1, 0x14)) & !0xf;
    assert_eq!(id, 0x1041_1af4);
    assert_eq!(bench.peek(u64::from(bar) + 0x2000), 0x1200_5452);
}

#[test]
fn a_card_for_guests_without_virtio_is_an_82540em() {
    let nets = vec!["user,card=e1000,mac=52:54:00:12:34:56".parse().unwrap()];
    let bench = bench_of(&MachineSpec { nets, ..spec(&[]) }).unwrap();
    bench.load();
    bench.board.resume();
    let bar = bench.peek(bench.config(1, 0x10)) & !0xf;
    assert_eq!(bench.peek(bench.config(1, 0)), 0x100e_8086);
    assert_eq!(bench.peek(u64::from(bar) + 0x5400), 0x1200_5452);
}

#[test]
fn there_is_no_card_where_none_is_asked_for() {
    let nets = vec!["none".parse().unwrap()];
    let bench = bench_of(&MachineSpec { nets, ..spec(&[]) }).unwrap();
    bench.load();
    bench.board.resume();
    assert_eq!(bench.peek(bench.config(1, 0)), u32::MAX);
}

#[test]
fn a_saved_board_restores_into_another_and_is_the_same() {
    let bench = full_bench();
    bench.load();
    bench.board.resume();
    start_pics(&bench);
    bench.write_ioapic(0x10 + 2 * 4, 0x34);
    bench.enable_uart_interrupts();
    bench.com1.feed(b"x");
    bench.board.service();
    bench.board.pause();
    let saved = bench.board.save();
    let other = full_bench();
    other.board.restore(&saved).unwrap();
    assert_eq!(other.board.save(), saved);
    assert!(other.partition.messages.lock().unwrap().is_empty(), "nothing is sent on the way");
    assert_eq!(other.partition.external.lock().unwrap().last(), Some(&true));
    other.board.resume();
    assert_eq!(other.board.acknowledge_interrupt(), 0x24);
    assert_ne!(other.peek(0xd000_0000), u32::MAX, "BARs are where they were");
}

#[test]
fn a_state_of_another_board_is_refused_by_the_device_that_differs() {
    let (small, large) = (bench(&[]), bench(&["pvpanic"]));
    assert_eq!(
        large.board.restore(&small.board.save()),
        Err(BoardError::MissingState("pvpanic".into()))
    );
    assert_eq!(
        small.board.restore(&large.board.save()),
        Err(BoardError::ExtraState("pvpanic".into()))
    );
    let mut damaged = small.board.save();
    damaged.iter_mut().find(|(name, _)| name == "com1").unwrap().1.version = 99;
    let error = small.board.restore(&damaged).unwrap_err();
    assert!(matches!(error, BoardError::Restore { device, .. } if device == "com1"));
}

#[test]
fn reset_gives_the_power_on_state_and_lets_the_kernel_be_loaded_again() {
    let bench = full_bench();
    let fresh = bench.board.save();
    bench.load();
    bench.board.resume();
    start_pics(&bench);
    bench.enable_uart_interrupts();
    bench.board.pause();
    bench.board.reset();
    assert_eq!(bench.board.save(), fresh);
    assert_eq!(bench.load().rip, 0x20_0000);
}

#[test]
fn memory_goes_around_the_pci_hole() {
    let gib = 1_u64 << 30;
    assert_eq!(memory_ranges(gib), [(GuestAddress(0), gib as usize)]);
    let large = memory_ranges(5 * gib);
    assert_eq!(large, [(GuestAddress(0), 3 << 30), (GuestAddress(4 * gib), (2 * gib) as usize)]);
    let map = memory_map(5 * gib);
    assert!(map.windows(2).all(|pair| pair[0].end() <= pair[1].address));
    let ram = map.iter().filter(|e| e.kind == kezhan_firmware::MemoryKind::Ram);
    assert_eq!(ram.map(|e| e.length).sum::<u64>(), 5 * gib - (0x10_0000 - 0x9_fc00));
    let ecam = map.iter().find(|e| e.address == 0xc000_0000).unwrap();
    assert_eq!((ecam.kind, ecam.length), (kezhan_firmware::MemoryKind::Reserved, 256 << 20));
}

/// A hostile guest: accesses of every size, most of them near devices.
#[test]
fn no_storm_of_accesses_makes_the_board_panic() {
    let bench = full_bench();
    bench.load();
    bench.board.resume();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..50_000 {
        let (choice, value) = (random(), random().to_le_bytes());
        let row = &ADDRESS_MAP[choice as usize % ADDRESS_MAP.len()];
        let size = 1 << (choice >> 8 & 3);
        let near = choice >> 16 & 0x3f;
        match row.place {
            Place::Memory(base) if choice & 1 << 40 == 0 => {
                bench.board.write_memory(base.wrapping_add(near), &value[..size]);
            }
            Place::Memory(base) => {
                let address = if choice & 1 << 41 == 0 { base + near } else { u64::MAX - near };
                bench.board.read_memory(address, &mut [0; 8][..size]);
            }
            Place::Port(port) | Place::PortInside(port) if choice & 1 << 40 == 0 => {
                bench.board.write_port(port.wrapping_add(near as u16), &value[..size.min(4)]);
            }
            Place::Port(port) | Place::PortInside(port) => {
                bench.board.read_port(port.wrapping_sub(near as u16), &mut [0; 4][..size.min(4)]);
            }
            Place::Irq(_) => {
                bench.clock.advance(near * 1000);
                bench.board.service();
                bench.board.end_of_interrupt(near as u8);
            }
        }
    }
    bench.board.pause();
    let saved = bench.board.save();
    bench.board.restore(&saved).unwrap();
    assert_eq!(bench.board.save(), saved);
}

#[test]
fn a_loaded_machine_looks_as_a_bios_leaves_it() {
    let bench = bench(&[]);
    bios::leave_behind(&bench.board.memory, &bench.board).unwrap();
    let dword = |address| bench.board.memory.read_obj::<u32>(GuestAddress(address)).unwrap();
    assert_eq!(dword(4 * 8), 0xf000_fea5, "the timer's handler");
    assert_eq!(dword(4 * 0x73), 0xf000_ff53);
    assert_eq!(bench.board.memory.read_obj::<u8>(GuestAddress(0xf_ff53)).unwrap(), 0xcf);
    assert_eq!((bench.inb(0x21), bench.inb(0xa1)), (0xfa, 0xff), "timer and cascade are open");
    assert_eq!((bench.inb(0x4d0), bench.inb(0x4d1)), (0, 0x0e));
}

/// A running board, and the work of its one disk, which has a thread that this bell calls.
fn with_a_thread() -> (Bench, Arc<CountingBell>, Attendance) {
    let null = File::open("/dev/null").unwrap();
    let bell = Arc::new(CountingBell(AtomicUsize::new(0), null));
    let spec = MachineSpec { disks: vec![DiskSpec::new("vm.img")], ..spec(&[]) };
    let bench = bench_with(&spec, Some(Arc::new(OneBell(bell.clone())))).unwrap();
    bench.load();
    let [work] = bench.board.attendances().try_into().unwrap();
    bench.board.resume();
    (bench, bell, work)
}

#[test]
fn a_disk_with_a_thread_is_left_to_it_and_stands_still_while_the_machine_does() {
    let (bench, bell, work) = with_a_thread();
    let bar = u64::from(bench.peek(bench.config(1, 0x14)) & !0xf);
    let bells = bench.partition.doorbells.0.lock().unwrap().clone();
    assert_eq!(bells, [bar + 0x3000], "the engine may ring for the one queue");
    bench.board.write_memory(bar + 0x3000, &[0, 0]);
    bench.board.write_memory(bar + 0x3000, &[0, 0]);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1, "rung once until it is served");
    work.serve();
    bench.board.write_memory(bar + 0x3000, &[0, 0]);
    assert_eq!((work.name(), bell.0.load(Ordering::SeqCst)), ("disk0", 2));
    bench.board.pause();
    work.serve();
    let saved = bench.board.save();
    bench.board.restore(&saved).unwrap();
    bench.board.resume();
    assert_eq!(bench.partition.doorbells.0.lock().unwrap().len(), 1);
}

#[test]
fn a_disk_comes_into_a_free_slot_and_leaves_when_the_guest_switches_it_off() {
    let bench = bench(&["hotplug,slots=1"]);
    bench.load();
    bench.board.resume();
    let disk = || Box::new(MemoryDisk::new(4096));
    let spec = DiskSpec::new("vm.img");
    assert!(bench.board.attach_disk("disk7", &spec, disk()).unwrap().is_none(), "no threads here");
    let full = bench.board.attach_disk("disk8", &spec, disk()).unwrap_err();
    assert_eq!(full, BoardError::NoFreeSlot(1));
    // Firmware gave the bus behind the port, function 00:01.0, number 1.
    let behind = 0xc010_0000;
    assert_eq!(bench.peek(behind), 0x1042_1af4);
    bench.poke(behind + 0x14, 0xd020_0000);
    bench.poke(behind + 0x04, 2);
    let mut queues = [0; 2];
    bench.board.read_memory(0xd020_0000 + 0x12, &mut queues);
    assert_eq!(queues, [1, 0], "its registers are there, and tell of one queue");
    assert!(bench.board.ask_for_disk("disk8").is_err());
    bench.board.ask_for_disk("disk7").unwrap();
    assert_eq!(bench.board.take_ejected(), Vec::<String>::new());
    // Slot control: power off.
    bench.poke(bench.config(1, 0x40 + 0x18), 0x0400);
    assert_eq!(bench.board.take_ejected(), ["disk7"]);
    assert_eq!((bench.peek(behind), bench.peek(0xd020_0000)), (u32::MAX, u32::MAX));
    bench.board.attach_disk("disk8", &spec, disk()).unwrap();
}
