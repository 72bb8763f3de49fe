//! The console, seen from a driver.

use super::{Console, ConsolePort};
use crate::spec::console as numbers;
use crate::testkit::{Bench, Ring};
use kezhan_device::testkit::{check_contract, check_storm};
use kezhan_device::{Device, ManualClock};
use kezhan_ports::testkit::CharBuffer;

const IN: u64 = 0x8000;
const OUT: u64 = 0x9000;

fn bench() -> (Bench, CharBuffer, CharBuffer) {
    let (console, agent) = (CharBuffer::default(), CharBuffer::default());
    let port = |name: &str, device: &CharBuffer| ConsolePort {
        name: name.to_owned(),
        device: Box::new(device.clone()),
    };
    let ports = vec![port("console", &console), port("org.kezhan.agent", &agent)];
    (Bench::new(Console::new(ports)), console, agent)
}

fn message(id: u32, event: u16, value: u16) -> Vec<u8> {
    let header = u64::from(id) | u64::from(event) << 32 | u64::from(value) << 48;
    header.to_le_bytes().to_vec()
}

/// A driver that knows of ports.
struct Driver {
    bench: Bench,
    rings: Vec<Ring>,
}

impl Driver {
    fn new(mut bench: Bench) -> Driver {
        assert!(bench.negotiate(numbers::MULTIPORT));
        let rings = (0..6).map(|queue| bench.ring(queue)).collect();
        bench.go_live();
        Driver { bench, rings }
    }

    fn say(&mut self, id: u32, event: u16, value: u16) {
        self.bench.put(OUT, &message(id, event, value));
        self.rings[3].add(&[(OUT, 8, false)]);
        self.bench.notify(3);
        assert!(self.rings[3].take(1).is_some());
    }

    /// The device's next message.
    fn hear(&mut self) -> Vec<u8> {
        self.rings[2].add(&[(IN, 64, true)]);
        self.bench.notify(2);
        let (_, length) = self.rings[2].take(1).unwrap();
        self.bench.bytes(IN, length as usize)
    }

    fn send(&mut self, queue: usize, text: &[u8]) {
        self.bench.put(OUT, text);
        self.rings[queue].add(&[(OUT, text.len() as u32, false)]);
        self.bench.notify(queue as u64);
    }

    fn receive(&mut self, queue: usize) -> Option<Vec<u8>> {
        let (_, length) = self.rings[queue].take(1)?;
        Some(self.bench.bytes(IN, length as usize))
    }
}

#[test]
fn a_driver_without_ports_has_a_console_in_queues_0_and_1() {
    let (mut bench, console, agent) = bench();
    assert!(bench.negotiate(0));
    let (mut input, mut output) = (bench.ring(0), bench.ring(1));
    bench.go_live();
    bench.put(OUT, b"login: ");
    output.add(&[(OUT, 7, false)]);
    bench.notify(1);
    assert_eq!(console.take_output(), b"login: ");
    assert!(output.take(1).is_some());
    console.feed(b"root\r");
    bench.poll();
    assert!(input.take(1).is_none(), "there is no buffer for it yet");
    input.add(&[(IN, 3, true)]);
    input.add(&[(IN + 16, 16, true)]);
    bench.notify(0);
    let lengths = [input.take(1), input.take(1)].map(|used| used.unwrap().1);
    assert_eq!(
        (lengths, bench.bytes(IN, 3), bench.bytes(IN + 16, 2)),
        ([3, 2], b"roo".into(), b"t\r".into())
    );
    assert!(agent.take_output().is_empty());
}

#[test]
fn ports_are_agreed_upon_on_the_control_queues() {
    let (bench, _, _) = bench();
    let mut driver = Driver::new(bench);
    assert_eq!(driver.bench.get(0x2004, 4), 2, "the configuration tells how many ports there are");
    driver.say(0, numbers::DEVICE_READY, 1);
    assert_eq!(driver.hear(), message(0, numbers::PORT_ADD, 1));
    assert_eq!(driver.hear(), message(1, numbers::PORT_ADD, 1));
    driver.say(0, numbers::PORT_READY, 1);
    assert_eq!(driver.hear(), message(0, numbers::CONSOLE_PORT, 1));
    assert_eq!(driver.hear(), message(0, numbers::PORT_OPEN, 1));
    driver.say(1, numbers::PORT_READY, 1);
    let name = [message(1, numbers::PORT_NAME, 1), b"org.kezhan.agent".to_vec()].concat();
    assert_eq!(driver.hear(), name);
    assert_eq!(driver.hear(), message(1, numbers::PORT_OPEN, 1));
}

#[test]
fn a_port_gets_input_once_the_guest_has_opened_it() {
    let (bench, _, agent) = bench();
    let mut driver = Driver::new(bench);
    agent.feed(b"ping");
    driver.rings[4].add(&[(IN, 16, true)]);
    driver.bench.poll();
    assert_eq!(driver.receive(4), None);
    driver.say(1, numbers::PORT_OPEN, 1);
    driver.bench.poll();
    assert_eq!(driver.receive(4), Some(b"ping".to_vec()));
    driver.send(5, b"pong");
    assert_eq!(agent.take_output(), b"pong");
}

#[test]
fn a_slow_receiver_holds_the_queue_back_and_loses_nothing() {
    let (bench, console, _) = bench();
    let mut driver = Driver::new(bench);
    console.limit(Some(3));
    driver.send(1, b"one ");
    driver.send(1, b"two");
    assert_eq!(console.take_output(), b"one");
    let saved = driver.bench.device.save();
    driver.bench.device.restore(&saved).unwrap();
    console.limit(None);
    driver.bench.device.resume();
    assert_eq!(console.take_output(), b" two");
}

#[test]
fn a_driver_that_asks_on_and_on_without_buffers_costs_no_memory() {
    let (bench, _, _) = bench();
    let mut driver = Driver::new(bench);
    for _ in 0..1000 {
        driver.say(1, numbers::PORT_READY, 1);
    }
    driver.say(7, numbers::PORT_READY, 1);
    driver.say(u32::MAX, numbers::PORT_OPEN, 1);
    assert_eq!(driver.hear()[4], numbers::PORT_NAME as u8);
}

#[test]
fn it_keeps_the_contract_of_devices() {
    let (mut bench, _, _) = bench();
    check_contract(&mut bench.device);
    check_storm(&mut bench.device, &ManualClock::default());
}
