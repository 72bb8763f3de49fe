use super::spec::{command, header, host_bridge, status};
use super::*;
use kezhan_device::testkit::{check_contract, check_storm, read, write};
use kezhan_device::{
    Access, Device, ManualClock, Region, RegionIndex, RestoreError, SavedState, Space,
};
use std::sync::{Arc, Mutex};

const CONFIG: usize = 0;
const ECAM: usize = 1;
const SLOT: PciAddress = PciAddress::new(0, 3, 0);

/// Records what the board would be told.
#[derive(Default)]
struct Map(Mutex<Vec<(PciAddress, usize, Option<u64>)>>);

impl BarTarget for Map {
    fn place(&self, function: PciAddress, region: RegionIndex, base: Option<u64>) {
        self.0.lock().unwrap().push((function, region.0, base));
    }
}

impl Map {
    fn take(&self) -> Vec<(PciAddress, usize, Option<u64>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A function with one BAR of each kind.
struct Example(ConfigSpace);

impl Example {
    fn new() -> Example {
        let identity = Identity { vendor: 0x1b36, device: 0x1234, ..Identity::default() };
        let bar = |region, kind, size| Bar { region, kind, size };
        Example(
            ConfigSpace::endpoint(identity)
                .with_bar(0, bar("registers", BarKind::Memory32, 0x1000))
                .with_bar(1, bar("ports", BarKind::Port, 0x20))
                .with_bar(2, bar("memory", BarKind::Memory64, 1 << 33))
                .with_interrupt_pin(1),
        )
    }
}

impl Device for Example {
    fn name(&self) -> &str {
        "example"
    }
    fn regions(&self) -> Vec<Region> {
        self.0.regions()
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    fn save(&self) -> SavedState {
        SavedState::new("example", 1, &self.0.save())
    }
    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        self.0.restore(&state.open("example", 1)?)
    }
}

impl PciFunction for Example {
    fn config(&self) -> &ConfigSpace {
        &self.0
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.0
    }
}

fn host() -> (PciHost, Arc<Map>, Arc<Mutex<Example>>) {
    let map = Arc::new(Map::default());
    let mut host = PciHost::new("pci", 1, map.clone());
    let example = Arc::new(Mutex::new(Example::new()));
    host.plug(PciAddress::new(0, 0, 0), Arc::new(Mutex::new(HostBridge::new("bridge")))).unwrap();
    host.plug(SLOT, example.clone()).unwrap();
    (host, map, example)
}

fn ecam(register: usize) -> u64 {
    u64::from(SLOT.device) << 15 | register as u64
}

fn put(host: &mut PciHost, register: usize, value: u64) {
    assert_eq!(write(host, ECAM, ecam(register), 4, value), Access::Done);
}

fn get(host: &mut PciHost, register: usize) -> u64 {
    read(host, ECAM, ecam(register), 4)
}

#[test]
fn host_and_functions_keep_the_device_contract_and_survive_a_storm() {
    let (mut host, _, example) = host();
    check_contract(&mut host);
    check_storm(&mut host, &ManualClock::default());
    check_contract(&mut *example.lock().unwrap());
    check_contract(&mut HostBridge::new("bridge"));
}

#[test]
fn both_mechanisms_reach_the_host_bridge() {
    let (mut host, ..) = host();
    let id = u64::from(host_bridge::DEVICE) << 16 | u64::from(host_bridge::VENDOR);
    assert_eq!(read(&mut host, ECAM, 0, 4), id);
    write(&mut host, CONFIG, 0, 4, 0x8000_0000);
    assert_eq!(read(&mut host, CONFIG, 0, 4), 0x8000_0000);
    assert_eq!(read(&mut host, CONFIG, 4, 4), id);
    assert_eq!(read(&mut host, CONFIG, 6, 2), u64::from(host_bridge::DEVICE));
    write(&mut host, CONFIG, 0, 4, 0);
    assert_eq!(read(&mut host, CONFIG, 4, 4), 0xffff_ffff, "not enabled");
}

#[test]
fn absent_functions_and_extended_registers_read_all_ones() {
    let (mut host, ..) = host();
    assert_eq!(read(&mut host, ECAM, 0x1f << 15, 4), 0xffff_ffff);
    assert_eq!(read(&mut host, ECAM, ecam(0x100), 4), 0xffff_ffff);
    assert_eq!(write(&mut host, ECAM, 0x1f << 15, 4, 0), Access::Done);
}

#[test]
fn an_access_across_a_doubleword_is_refused() {
    let (mut host, ..) = host();
    let mut data = [0; 4];
    assert_eq!(host.read(RegionIndex(ECAM), 2, &mut data), Access::Unaligned);
    assert_eq!(host.read(RegionIndex(CONFIG), 1, &mut data[..1]), Access::BadRegister);
}

#[test]
fn all_ones_in_a_bar_read_back_as_its_size() {
    let (mut host, map, _) = host();
    for (register, mask) in
        [(0x10, 0xffff_f000), (0x14, 0xffff_ffe1), (0x18, 0x0000_000c), (0x1c, 0xffff_fffe)]
    {
        put(&mut host, register, 0xffff_ffff);
        assert_eq!(get(&mut host, register), mask, "register {register:#x}");
    }
    assert_eq!(map.take(), [], "nothing decodes");
}

#[test]
fn the_board_is_told_once_of_each_change_of_place() {
    let (mut host, map, _) = host();
    put(&mut host, 0x10, 0xfebf_0000);
    put(&mut host, 0x14, 0xc001);
    put(&mut host, 0x1c, 0x10);
    assert_eq!(map.take(), []);
    let decode = u64::from(command::IO | command::MEMORY);
    put(&mut host, header::COMMAND, decode);
    put(&mut host, header::COMMAND, decode);
    let places =
        [(SLOT, 0, Some(0xfebf_0000)), (SLOT, 1, Some(0xc000)), (SLOT, 2, Some(0x10_0000_0000))];
    assert_eq!(map.take(), places);
    put(&mut host, 0x10, 0xffff_ffff);
    assert_eq!(map.take(), [(SLOT, 0, None)], "sizing with decoding on maps nothing");
}

#[test]
fn what_a_reset_or_restore_changed_is_told_at_resume() {
    let (mut host, map, example) = host();
    put(&mut host, 0x10, 0xfebf_0000);
    put(&mut host, header::COMMAND, command::MEMORY.into());
    let saved = example.lock().unwrap().save();
    example.lock().unwrap().reset();
    map.take();
    host.resume();
    assert_eq!(map.take(), [(SLOT, 0, None)]);
    example.lock().unwrap().restore(&saved).unwrap();
    host.resume();
    assert_eq!(map.take(), [(SLOT, 0, Some(0xfebf_0000))]);
}

#[test]
fn intx_follows_the_function_unless_the_guest_disabled_it() {
    let mut config = Example::new().0;
    assert!(config.set_interrupt(true));
    config.write(header::COMMAND as u16, &command::INTERRUPT_DISABLE.to_le_bytes());
    assert!(!config.interrupt_level());
    let mut status_now = [0; 2];
    config.read(header::STATUS as u16, &mut status_now);
    assert_eq!(u16::from_le_bytes(status_now), status::INTERRUPT);
    assert!(!config.set_interrupt(false));
}

#[test]
fn capabilities_are_chained_and_only_their_writable_bits_change() {
    let mut config = Example::new().0;
    let first = config.add_capability(0x09, &[8, 1, 2, 3, 4], &[]).unwrap();
    let second = config.add_capability(0x05, &[0, 0], &[0x01]).unwrap();
    assert_eq!((first, second), (0x40, 0x48));
    let byte = |offset: u16| {
        let mut data = [0];
        config.read(offset, &mut data);
        data[0]
    };
    assert_eq!(byte(header::CAPABILITIES as u16), first);
    assert_eq!(byte(0x41), second);
    assert_eq!(byte(0x49), 0);
    config.write(0x4a, &[0xff, 0xff]);
    let mut data = [0; 2];
    config.read(0x4a, &mut data);
    assert_eq!(data, [1, 0]);
    assert_eq!(config.add_capability(0x09, &[0; 200], &[]), None, "no room");
}

#[test]
fn a_bridge_has_bus_numbers_and_windows() {
    let mut config = ConfigSpace::bridge(Identity::default());
    config.write(0x18, &[0xff; 0x18]);
    let mut data = [0; 0x18];
    config.read(0x18, &mut data);
    assert_eq!(data[..8], [0xff, 0xff, 0xff, 0, 0xf0, 0xf0, 0, 0]);
    assert_eq!(data[8..12], [0xf0, 0xff, 0xf0, 0xff]);
}

#[test]
fn the_state_of_another_function_is_refused() {
    let bridge = ConfigSpace::endpoint(Identity { vendor: 1, ..Identity::default() });
    assert!(matches!(Example::new().0.restore(&bridge.save()), Err(RestoreError::Invalid { .. })));
    let short = ConfigState { bytes: vec![0; 3] };
    assert!(matches!(Example::new().0.restore(&short), Err(RestoreError::Invalid { .. })));
}

#[test]
fn slots_are_taken_once_and_must_exist() {
    let (mut host, ..) = host();
    let function = Arc::new(Mutex::new(Example::new()));
    assert_eq!(host.plug(SLOT, function.clone()), Err(PlugError::Occupied(SLOT)));
    let far = PciAddress::new(1, 0, 0);
    let error = host.plug(far, function).unwrap_err();
    assert!(error.to_string().starts_with("PCI slot 01:00.0 does not exist"));
}

#[test]
fn regions_follow_the_order_of_the_bars() {
    let regions = Example::new().0.regions();
    assert_eq!(
        regions.iter().map(|r| r.name).collect::<Vec<_>>(),
        ["registers", "ports", "memory"]
    );
    assert_eq!(regions[1].space, Space::Port);
    assert_eq!(regions[2].length, 1 << 33);
}

#[test]
fn what_is_behind_a_port_is_found_at_the_bus_number_that_the_guest_gave_and_only_there() {
    let map = Arc::new(Map::default());
    let mut host = PciHost::new("pci-host", 256, map.clone());
    let port = Arc::new(Mutex::new(RootPort::new("port0", 1)));
    let at = PciAddress::new(0, 5, 0);
    host.plug(at, port.clone()).unwrap();
    host.lead(200, at);
    let behind = PciAddress::new(200, 0, 0);
    host.plug(behind, Arc::new(Mutex::new(Example::new()))).unwrap();
    port.lock().unwrap().insert();
    let id = |host: &mut PciHost, bus: u64| read(host, ECAM, bus << 20, 4);
    assert_eq!(id(&mut host, 200), 0xffff_ffff);
    // Bus 7 lies behind.
    write(&mut host, ECAM, 5 << 15 | 0x18, 4, 0x0007_0700);
    assert_eq!((id(&mut host, 7), id(&mut host, 200)), (0x1234_1b36, 0xffff_ffff));
    write(&mut host, ECAM, 7 << 20 | 0x10, 4, 0xe000_0000);
    write(&mut host, ECAM, 7 << 20 | 0x04, 2, 2);
    assert_eq!(map.take(), [(behind, 0, Some(0xe000_0000))]);
    host.unplug(behind);
    assert_eq!(map.take(), [(behind, 0, None)]);
    assert_eq!(id(&mut host, 7), 0xffff_ffff);
}
