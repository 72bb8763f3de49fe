use super::*;
use kezhan_device::testkit::{LineLog, check_contract, check_storm, read, write};
use kezhan_device::{Device, LineInterrupt, ManualClock};

fn isa() -> PcTestdev {
    PcTestdev::new("testdev", (0..24).map(|_| LineInterrupt::unconnected("test")).collect())
}

#[test]
fn both_test_devices_keep_the_contract_and_survive_a_storm() {
    let devices: [Box<dyn Device>; 2] = [Box::new(isa()), Box::new(PciTestdev::new("pci-testdev"))];
    for mut device in devices {
        check_contract(&mut *device);
        check_storm(&mut *device, &ManualClock::default());
    }
}

#[test]
fn the_data_register_remembers_bytes_of_any_access() {
    let mut device = isa();
    write(&mut device, 0, 0, 4, 0x9999_1234);
    assert_eq!(read(&mut device, 0, 0, 1), 0x34);
    assert_eq!(read(&mut device, 0, 2, 2), 0x9999);
}

#[test]
fn the_memory_window_behaves_as_memory() {
    let mut device = isa();
    write(&mut device, 3, 0xfff8, 8, 0x0123_4567_89ab_cdef);
    assert_eq!(read(&mut device, 3, 0xfffc, 4), 0x0123_4567);
}

#[test]
fn a_line_port_drives_its_line() {
    let (log, line) = LineLog::line("irq 0");
    let mut device = PcTestdev::new("testdev", vec![line]);
    write(&mut device, 2, 0, 1, 1);
    write(&mut device, 2, 0, 1, 1);
    write(&mut device, 2, 0, 1, 0);
    assert_eq!(log.take(), [(0, true), (0, false)]);
}

/// Runs one test of the PCI device as the program does; gives its width and count.
fn run(device: &mut PciTestdev, region: usize, test: u64) -> (u64, u64) {
    write(device, region, 0, 1, test);
    let width = read(device, region, 1, 1);
    let offset = read(device, region, 4, 4);
    let data = read(device, region, 8, 4);
    for _ in 0..16 {
        write(device, region, offset, width as usize, data);
    }
    (width, read(device, region, 12, 4))
}

#[test]
fn the_pci_device_counts_the_writes_of_each_test_in_each_bar() {
    let mut device = PciTestdev::new("pci-testdev");
    for region in 0..2 {
        for (test, width) in [(0, 1), (1, 2), (2, 4)] {
            assert_eq!(run(&mut device, region, test), (width, 16));
        }
        assert_eq!(run(&mut device, region, 3).0, 0, "there is no fourth");
    }
}
