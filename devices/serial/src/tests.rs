use super::*;
use kezhan_device::ManualClock;
use kezhan_device::testkit::{LineLog, check_contract, check_storm, read, write};
use kezhan_ports::testkit::CharBuffer;
use std::sync::Arc;

struct Bench {
    uart: Uart16550,
    port: CharBuffer,
    line: Arc<LineLog>,
}

fn bench() -> Bench {
    let port = CharBuffer::default();
    let (line, irq) = LineLog::line("com1");
    let uart = Uart16550::new("com1", Box::new(port.clone()), irq);
    Bench { uart, port, line }
}

/// A bench with FIFOs on, OUT2 set and the given interrupts enabled.
fn running(enabled: u8) -> Bench {
    let mut bench = bench();
    bench.put(register::IIR_FCR, fcr::ENABLE);
    bench.put(register::MCR, mcr::OUT2 | mcr::RTS | mcr::DTR);
    bench.put(register::IER, enabled);
    bench
}

impl Bench {
    fn get(&mut self, offset: u64) -> u8 {
        read(&mut self.uart, 0, offset, 1) as u8
    }

    fn put(&mut self, offset: u64, value: u8) {
        assert_eq!(write(&mut self.uart, 0, offset, 1, value.into()), Access::Done);
    }

    fn feed(&mut self, data: &[u8]) {
        self.port.feed(data);
        self.uart.poll();
    }

    fn is_high(&self) -> bool {
        self.uart.irq.is_high()
    }
}

#[test]
fn the_uart_keeps_the_device_contract() {
    check_contract(&mut bench().uart);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    check_storm(&mut bench().uart, &ManualClock::default());
}

#[test]
fn a_character_written_reaches_the_port_at_once() {
    let mut bench = bench();
    bench.put(register::DATA, b'k');
    assert_eq!(bench.port.take_output(), b"k");
    assert_eq!(bench.get(register::LSR), lsr::TRANSMIT_EMPTY | lsr::IDLE);
}

#[test]
fn output_that_the_port_refuses_waits_with_thre_low_until_poll() {
    let mut bench = running(ier::TRANSMIT_EMPTY);
    bench.port.limit(Some(1));
    bench.put(register::DATA, b'a');
    bench.put(register::DATA, b'b');
    assert_eq!(bench.get(register::LSR) & lsr::TRANSMIT_EMPTY, 0);
    assert!(!bench.is_high());
    bench.port.limit(None);
    bench.uart.poll();
    assert_eq!(bench.port.take_output(), b"ab");
    assert!(bench.is_high(), "the transmitter has become empty");
}

#[test]
fn enabling_the_transmitter_interrupt_while_empty_raises_it_every_time() {
    let mut bench = running(0);
    for _ in 0..2 {
        bench.put(register::IER, ier::TRANSMIT_EMPTY);
        assert_eq!(bench.get(register::IIR_FCR) & 0x0f, iir::TRANSMIT_EMPTY);
        assert_eq!(bench.get(register::IIR_FCR) & 0x0f, iir::NONE, "reading IIR clears it");
        assert!(!bench.is_high());
        bench.put(register::IER, 0);
    }
    assert_eq!(bench.line.take(), [(0, true), (0, false)].repeat(2));
}

#[test]
fn reading_iir_for_another_cause_leaves_the_transmitter_interrupt_pending() {
    let mut bench = running(ier::TRANSMIT_EMPTY | ier::RECEIVED);
    bench.feed(b"x");
    assert_eq!(bench.get(register::IIR_FCR) & 0x0f, iir::RECEIVED);
    bench.get(register::DATA);
    assert_eq!(bench.get(register::IIR_FCR) & 0x0f, iir::TRANSMIT_EMPTY);
}

#[test]
fn input_waits_in_the_port_when_the_fifo_is_full_and_none_is_lost() {
    let mut bench = running(ier::RECEIVED);
    let sent: Vec<u8> = (0..100).collect();
    bench.feed(&sent);
    let mut received = Vec::new();
    while bench.get(register::LSR) & lsr::DATA_READY != 0 {
        received.push(bench.get(register::DATA));
    }
    assert_eq!(received, sent);
    assert!(!bench.is_high());
}

#[test]
fn below_the_trigger_level_input_is_reported_as_a_timeout() {
    let mut bench = running(ier::RECEIVED);
    bench.put(register::IIR_FCR, fcr::ENABLE | 0x80);
    bench.feed(b"1234567");
    assert_eq!(bench.get(register::IIR_FCR), iir::TIMEOUT | iir::FIFO_ON);
    bench.feed(b"8");
    assert_eq!(bench.get(register::IIR_FCR), iir::RECEIVED | iir::FIFO_ON);
}

#[test]
fn the_loopback_probe_of_linux_sees_a_16550a() {
    let mut bench = bench();
    bench.put(register::MCR, mcr::LOOP | mcr::OUT2 | mcr::RTS);
    assert_eq!(bench.get(register::MSR) & 0xf0, 0x90);
    bench.put(register::MCR, 0);
    bench.put(register::IIR_FCR, fcr::ENABLE);
    assert_eq!(bench.get(register::IIR_FCR) >> 6, 3);
    bench.put(register::IER, 0xff);
    assert_eq!(bench.get(register::IER), 0x0f);
}

#[test]
fn looped_characters_come_back_and_too_many_overrun() {
    let mut bench = running(ier::LINE_STATUS);
    bench.put(register::MCR, mcr::LOOP);
    for byte in 0..17 {
        bench.put(register::DATA, byte);
    }
    assert_eq!(bench.get(register::IIR_FCR) & 0x0f, iir::LINE_STATUS);
    assert_ne!(bench.get(register::LSR) & lsr::OVERRUN, 0);
    assert_eq!(bench.get(register::LSR) & lsr::OVERRUN, 0, "reading LSR clears it");
    assert_eq!(
        (0..16).map(|_| bench.get(register::DATA)).collect::<Vec<_>>(),
        Vec::from_iter(0..16)
    );
    assert!(bench.port.take_output().is_empty());
}

#[test]
fn the_ring_indicator_marks_its_falling_edge_only() {
    let mut bench = bench();
    bench.put(register::MCR, mcr::LOOP);
    bench.get(register::MSR);
    bench.put(register::MCR, mcr::LOOP | mcr::OUT1);
    assert_eq!(bench.get(register::MSR), msr::RI);
    bench.put(register::MCR, mcr::LOOP);
    assert_eq!(bench.get(register::MSR), 0x04);
}

#[test]
fn the_divisor_latch_hides_data_and_ier() {
    let mut bench = bench();
    bench.put(register::LCR, lcr::DLAB | 3);
    bench.put(register::DATA, 0x34);
    bench.put(register::IER, 0x12);
    assert_eq!(read(&mut bench.uart, 0, 0, 2), 0x1234);
    bench.put(register::LCR, 3);
    assert_eq!(bench.get(register::IER), 0);
    assert!(bench.port.take_output().is_empty());
}

#[test]
fn without_out2_the_line_stays_low() {
    let mut bench = bench();
    bench.put(register::IER, ier::RECEIVED);
    bench.feed(b"x");
    assert!(!bench.is_high());
    bench.put(register::MCR, mcr::OUT2);
    assert!(bench.is_high());
}

#[test]
fn a_saved_uart_goes_on_where_it_was() {
    let mut first = running(ier::RECEIVED);
    first.feed(b"hello");
    let mut second = bench();
    second.uart.restore(&first.uart.save()).unwrap();
    assert!(second.is_high(), "restore drives the line");
    assert_eq!(second.get(register::DATA), b'h');
}

#[test]
fn a_state_with_an_overfull_fifo_is_refused() {
    let mut bench = bench();
    let mut saved = bench.uart.save();
    saved.payload["receive"] = serde_json::json!(vec![0; 17]);
    assert!(matches!(bench.uart.restore(&saved), Err(RestoreError::Invalid { .. })));
}

#[test]
fn the_acpi_node_is_named_by_the_digit_of_the_name() {
    let placed = Placement { bases: vec![0x3f8], interrupts: vec![4] };
    let aml = bench().uart.aml(&placed).unwrap();
    assert!(aml.windows(4).any(|window| window == b"COM1"));
    assert_eq!(bench().uart.aml(&Placement::default()), None);
}
