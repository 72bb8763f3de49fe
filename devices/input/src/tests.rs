use super::spec::{command, config, status};
use super::*;
use kezhan_device::testkit::{LineLog, Recorder, check_contract, check_storm, read, write};
use kezhan_device::{Device, LineInterrupt, MachineEvent, ManualClock, Placement};
use std::sync::Arc;

const DATA: usize = 0;
const COMMAND: usize = 1;
const SYSTEM_CONTROL: usize = 2;
const A: u8 = 0x04;

struct Bench {
    i8042: I8042,
    keyboard: Arc<LineLog>,
    mouse: Arc<LineLog>,
    control: Arc<Recorder>,
}

fn bench() -> Bench {
    let (keyboard, keyboard_line) = LineLog::line("irq1");
    let (mouse, mouse_line) = LineLog::line("irq12");
    let control = Arc::new(Recorder::default());
    let wires = I8042Wires { keyboard: keyboard_line, mouse: mouse_line, control: control.clone() };
    Bench { i8042: I8042::new("i8042", wires), keyboard, mouse, control }
}

/// A bench as a kernel leaves it: both devices and their interrupts on, translating.
fn running() -> Bench {
    let mut bench = bench();
    bench.command(command::WRITE_CONFIG);
    bench.put(config::KEYBOARD_INTERRUPT | config::MOUSE_INTERRUPT | config::TRANSLATE);
    bench
}

impl Bench {
    fn command(&mut self, value: u8) {
        write(&mut self.i8042, COMMAND, 0, 1, value.into());
    }

    fn put(&mut self, value: u8) {
        write(&mut self.i8042, DATA, 0, 1, value.into());
    }

    fn status(&mut self) -> u8 {
        read(&mut self.i8042, COMMAND, 0, 1) as u8
    }

    /// Reads the data port while it is full.
    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.status() & status::OUTPUT_FULL != 0 {
            bytes.push(read(&mut self.i8042, DATA, 0, 1) as u8);
        }
        bytes
    }

    /// Sends a byte to the keyboard; gives the answer.
    fn keyboard(&mut self, value: u8) -> Vec<u8> {
        self.put(value);
        self.drain()
    }

    /// Sends a byte to the mouse; gives the answer.
    fn mouse(&mut self, value: u8) -> Vec<u8> {
        self.command(command::WRITE_MOUSE);
        self.put(value);
        self.drain()
    }

    fn tap(&mut self, usage: u8) -> Vec<u8> {
        for pressed in [true, false] {
            assert!(self.i8042.key(KeyEvent { usage, pressed }));
        }
        self.drain()
    }
}

#[test]
fn the_controller_keeps_the_device_contract() {
    check_contract(&mut bench().i8042);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    check_storm(&mut running().i8042, &ManualClock::default());
}

#[test]
fn the_probe_of_linux_finds_a_controller_with_two_ports() {
    let mut bench = bench();
    bench.command(command::SELF_TEST);
    assert_eq!(bench.drain(), [0x55]);
    bench.command(command::LOOP_MOUSE);
    bench.put(0x5a);
    assert_ne!(bench.status() & status::AUXILIARY, 0);
    assert_eq!(bench.drain(), [0x5a]);
    for (toggle, disabled) in [(command::DISABLE_MOUSE, true), (command::ENABLE_MOUSE, false)] {
        bench.command(toggle);
        bench.command(command::READ_CONFIG);
        assert_eq!(bench.drain()[0] & config::MOUSE_DISABLED != 0, disabled);
    }
    bench.command(command::TEST_KEYBOARD);
    bench.command(command::TEST_MOUSE);
    assert_eq!(bench.drain(), [0, 0]);
}

#[test]
fn keys_are_translated_to_set_1() {
    let mut bench = running();
    assert_eq!(bench.tap(A), [0x1e, 0x9e]);
    assert_eq!(bench.tap(0x52), [0xe0, 0x48, 0xe0, 0xc8], "up");
    assert_eq!(bench.tap(0x40), [0x41, 0xc1], "F7");
    assert!(bench.i8042.key(KeyEvent { usage: 0x48, pressed: true }));
    assert_eq!(bench.drain(), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5], "Pause");
}

#[test]
fn without_translation_keys_come_in_set_2() {
    let mut bench = running();
    bench.command(command::WRITE_CONFIG);
    bench.put(config::KEYBOARD_INTERRUPT);
    assert_eq!(bench.tap(A), [0x1c, 0xf0, 0x1c]);
    assert_eq!(bench.tap(0xe4), [0xe0, 0x14, 0xe0, 0xf0, 0x14], "right Control");
}

#[test]
fn every_byte_is_an_edge_of_irq_1() {
    let mut bench = running();
    bench.tap(A);
    assert_eq!(bench.keyboard.take(), [(0, true), (0, false)].repeat(2));
    assert_eq!(bench.mouse.take(), []);
}

#[test]
fn the_keyboard_answers_its_commands() {
    let mut bench = running();
    assert_eq!(bench.keyboard(0xff), [0xfa, 0xaa]);
    assert_eq!(bench.keyboard(0xf2), [0xfa, 0xab, 0x41], "the second byte is translated");
    assert_eq!(bench.keyboard(0xee), [0xee]);
    assert_eq!([bench.keyboard(0xed), bench.keyboard(0x04)], [[0xfa], [0xfa]]);
    assert_eq!(bench.i8042.leds(), 4);
    bench.keyboard(0xf0);
    assert_eq!(bench.keyboard(3), [0xfe], "there is no set 3");
    assert_eq!(bench.keyboard(0xf5), [0xfa]);
    assert!(!bench.i8042.key(KeyEvent { usage: A, pressed: true }));
    assert_eq!(bench.keyboard(0xf4), [0xfa]);
    assert_eq!(bench.tap(A), [0x1e, 0x9e]);
    assert_eq!(bench.keyboard(0x00), [0xfe], "no such command");
}

#[test]
fn a_key_that_does_not_fit_whole_is_refused() {
    let mut bench = running();
    while bench.i8042.key(KeyEvent { usage: 0x52, pressed: false }) {}
    let bytes = bench.drain();
    assert_eq!(bytes.len() % 2, 0, "no half keys: {bytes:02x?}");
    assert!(!bench.i8042.key(KeyEvent { usage: 0xff, pressed: true }), "no such key");
}

#[test]
fn a_disabled_keyboard_keeps_its_bytes() {
    let mut bench = running();
    bench.command(command::DISABLE_KEYBOARD);
    bench.i8042.key(KeyEvent { usage: A, pressed: true });
    assert!(bench.drain().is_empty());
    bench.command(command::ENABLE_KEYBOARD);
    assert_eq!(bench.drain(), [0x1e]);
}

#[test]
fn the_mouse_answers_and_sends_packets_by_irq_12() {
    let mut bench = running();
    assert_eq!(bench.mouse(0xff), [0xfa, 0xaa, 0x00]);
    assert_eq!(bench.mouse(0xf2), [0xfa, 0x00]);
    assert_eq!(bench.mouse(0xe9), [0xfa, 0x00, 2, 100]);
    bench.i8042.mouse(MouseEvent { right: 5, ..MouseEvent::default() });
    assert!(bench.drain().is_empty(), "not reporting");
    bench.mouse(0xf6);
    assert_eq!(bench.mouse(0xf4), [0xfa]);
    bench.mouse.take();
    bench.i8042.mouse(MouseEvent { right: 300, down: 2, wheel: 0, buttons: 1 });
    assert_eq!(bench.drain(), [0x29, 255, 0xfe, 0x09, 45, 0]);
    assert_eq!(bench.mouse.take().len(), 12);
}

#[test]
fn the_wheel_comes_by_knocking() {
    let mut bench = running();
    for rate in [200, 100, 80] {
        bench.mouse(0xf3);
        bench.mouse(rate);
    }
    assert_eq!(bench.mouse(0xf2), [0xfa, 3]);
    bench.mouse(0xf4);
    bench.i8042.mouse(MouseEvent { wheel: -1, ..MouseEvent::default() });
    assert_eq!(bench.drain(), [0x08, 0, 0, 0xff]);
}

#[test]
fn a_guest_that_reads_no_packets_loses_no_movement() {
    let mut bench = running();
    bench.mouse(0xf4);
    for _ in 0..100 {
        bench.i8042.mouse(MouseEvent { right: 10, ..MouseEvent::default() });
    }
    let bytes = bench.drain();
    assert_eq!(bytes.chunks(3).map(|packet| u32::from(packet[1])).sum::<u32>(), 1000);
}

#[test]
fn a_pulse_of_the_reset_line_resets_by_each_of_the_three_ways() {
    let mut bench = bench();
    bench.command(0xfe);
    bench.command(command::WRITE_OUTPUT_PORT);
    bench.put(0x02);
    write(&mut bench.i8042, SYSTEM_CONTROL, 0, 1, 0x03);
    assert_eq!(bench.control.take_events(), [MachineEvent::Reset; 3]);
    bench.command(0xff);
    assert_eq!(bench.control.take_events(), [], "no line pulsed");
}

#[test]
fn a20_is_one_bit_seen_from_two_ports() {
    let mut bench = bench();
    write(&mut bench.i8042, SYSTEM_CONTROL, 0, 1, 0);
    assert!(!bench.i8042.a20());
    bench.command(command::WRITE_OUTPUT_PORT);
    bench.put(0x03);
    assert_eq!(read(&mut bench.i8042, SYSTEM_CONTROL, 0, 1), 2);
}

#[test]
fn a_saved_controller_goes_on_and_raises_its_line() {
    let mut first = running();
    first.i8042.key(KeyEvent { usage: A, pressed: true });
    first.i8042.key(KeyEvent { usage: A, pressed: false });
    let mut second = bench();
    second.i8042.restore(&first.i8042.save()).unwrap();
    assert_eq!(second.keyboard.take(), [(0, true)]);
    assert_eq!(second.drain(), [0x1e, 0x9e]);
}

#[test]
fn the_acpi_nodes_are_a_keyboard_and_a_mouse() {
    let placed = Placement { bases: vec![0x60, 0x64, 0x92], interrupts: vec![1, 12] };
    let wires = I8042Wires {
        keyboard: LineInterrupt::unconnected("irq1"),
        mouse: LineInterrupt::unconnected("irq12"),
        control: Arc::new(Recorder::default()),
    };
    let aml = I8042::new("i8042", wires).aml(&placed).unwrap();
    for name in [b"KBD_", b"MOU_"] {
        assert!(aml.windows(4).any(|window| window == name));
    }
}
