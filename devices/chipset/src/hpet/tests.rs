use super::*;
use kezhan_device::testkit::{LineLog, Recorder, check_contract, check_storm, read, write};
use kezhan_device::{LineTarget, ManualClock};

const T0: u64 = register::TIMER;
const T2: u64 = register::TIMER + 2 * register::TIMER_STRIDE;

struct Bench {
    hpet: Hpet,
    clock: Arc<ManualClock>,
    irq0: Arc<LineLog>,
    gsi20: Arc<LineLog>,
    gate: Arc<LegacyGate>,
    sent: Arc<Recorder>,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::default());
    let (irq0, line0) = LineLog::line("irq0");
    let (gsi20, line20) = LineLog::line("gsi20");
    let gate = LegacyGate::new(line0, LineInterrupt::unconnected("irq8"));
    let sent = Arc::new(Recorder::default());
    let wires = HpetWires {
        gate: gate.clone(),
        routes: vec![(20, line20)],
        msi: Some(MsiInterrupt::new(sent.clone())),
    };
    Bench { hpet: Hpet::new("hpet", clock.clone(), wires), clock, irq0, gsi20, gate, sent }
}

impl Bench {
    fn put(&mut self, offset: u64, value: u64) {
        assert_eq!(write(&mut self.hpet, 0, offset, 8, value), Access::Done);
    }

    fn get(&mut self, offset: u64) -> u64 {
        read(&mut self.hpet, 0, offset, 8)
    }

    /// Runs for `ticks` as the chassis does.
    fn run(&mut self, ticks: u64) {
        let end = self.clock.now() + ticks * TICK;
        while let Some(due) = self.hpet.deadline().filter(|due| *due <= end) {
            self.clock.advance(due.saturating_sub(self.clock.now()));
            self.hpet.wake(self.clock.now());
        }
        self.clock.advance(end - self.clock.now());
    }
}

const EDGE: [(u32, bool); 2] = [(0, true), (0, false)];

#[test]
fn the_timer_block_keeps_the_device_contract() {
    check_contract(&mut bench().hpet);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    let mut bench = bench();
    check_storm(&mut bench.hpet, &bench.clock);
}

#[test]
fn the_capabilities_give_the_period_in_femtoseconds() {
    let mut bench = bench();
    assert_eq!(bench.get(register::CAPABILITIES), 0x0098_9680_8086_a201);
    assert_eq!(bench.get(T0 + register::TIMER_CONFIGURATION), 1 << 52 | 0x8030);
    assert_eq!(read(&mut bench.hpet, 0, 4, 4), 0x0098_9680);
}

#[test]
fn the_counter_runs_only_while_enabled_and_is_set_only_while_it_stands() {
    let mut bench = bench();
    bench.put(register::COUNTER, 1000);
    bench.clock.advance(500);
    assert_eq!(bench.get(register::COUNTER), 1000);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.clock.advance(500);
    assert_eq!(bench.get(register::COUNTER), 1050);
    bench.put(register::COUNTER, 0);
    assert_eq!(bench.get(register::COUNTER), 1050);
    bench.put(register::CONFIGURATION, 0);
    bench.clock.advance(500);
    assert_eq!(bench.get(register::COUNTER), 1050);
}

#[test]
fn a_one_shot_of_64_bits_interrupts_once() {
    let mut bench = bench();
    bench.put(T2 + register::TIMER_CONFIGURATION, timer::INTERRUPT | 20 << 9);
    bench.put(T2 + register::TIMER_COMPARATOR, 5000);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.run(4999);
    assert_eq!(bench.gsi20.take(), []);
    bench.run(1);
    assert_eq!(bench.gsi20.take(), EDGE);
    bench.run(1 << 33);
    assert_eq!(bench.gsi20.take(), []);
}

#[test]
fn a_one_shot_of_32_bits_interrupts_again_when_the_counter_comes_round() {
    let mut bench = bench();
    bench.put(T2, timer::INTERRUPT | timer::MODE_32 | 20 << 9);
    bench.put(T2 + register::TIMER_COMPARATOR, 5000);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.run(TURN_32 + 5000);
    assert_eq!(bench.gsi20.take().len(), 4);
}

#[test]
fn linux_starts_a_periodic_tick_in_legacy_mode() {
    let mut bench = bench();
    bench.put(register::CONFIGURATION, configuration::ENABLE | configuration::LEGACY);
    bench.clock.advance(10_000_000);
    bench.put(register::CONFIGURATION, configuration::LEGACY);
    let configuration = timer::INTERRUPT | timer::PERIODIC | timer::SET_VALUE | timer::MODE_32;
    bench.put(T0, configuration);
    bench.put(register::CONFIGURATION, configuration::LEGACY);
    let first = bench.get(register::COUNTER) + 400_000;
    write(&mut bench.hpet, 0, T0 + register::TIMER_COMPARATOR, 4, first);
    write(&mut bench.hpet, 0, T0 + register::TIMER_COMPARATOR, 4, 400_000);
    bench.put(register::CONFIGURATION, configuration::ENABLE | configuration::LEGACY);
    bench.run(400_000 * 250);
    assert_eq!(bench.irq0.take(), EDGE.repeat(250));
}

#[test]
fn a_late_periodic_timer_makes_up_for_some_periods_and_keeps_its_phase() {
    let mut bench = bench();
    bench.put(T2, timer::INTERRUPT | timer::PERIODIC | timer::SET_VALUE | 20 << 9);
    bench.put(T2 + register::TIMER_COMPARATOR, 100_000);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.clock.advance(10_050_000 * TICK);
    bench.hpet.wake(bench.clock.now());
    assert_eq!(bench.gsi20.take(), EDGE, "one at once");
    bench.run(2_000_000);
    // 84 of the 100 periods are lost; the rest follow, and those that come due meanwhile.
    assert_eq!(bench.gsi20.take(), EDGE.repeat(BACKLOG as usize + 20));
    assert_eq!(bench.get(T2 + register::TIMER_COMPARATOR), 12_100_000);
    assert_eq!(bench.hpet.deadline(), Some(12_100_000 * TICK));
}

#[test]
fn a_periodic_timer_without_interrupt_wakes_nobody_and_goes_on_in_phase() {
    let mut bench = bench();
    let configuration = timer::PERIODIC | timer::SET_VALUE | 20 << 9;
    bench.put(T2, configuration);
    bench.put(T2 + register::TIMER_COMPARATOR, 100_000);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    assert_eq!(bench.hpet.deadline(), None);
    bench.clock.advance(10_050_000 * TICK);
    assert_eq!(bench.get(T2 + register::TIMER_COMPARATOR), 10_100_000);
    bench.put(T2, timer::INTERRUPT | timer::PERIODIC | 20 << 9);
    assert_eq!(bench.hpet.deadline(), Some(10_100_000 * TICK));
    bench.run(100_000);
    assert_eq!(bench.gsi20.take(), EDGE);
}

#[test]
fn no_period_however_short_makes_a_storm() {
    let mut bench = bench();
    bench.put(T2, timer::INTERRUPT | timer::PERIODIC | timer::SET_VALUE | 20 << 9);
    bench.put(T2 + register::TIMER_COMPARATOR, 1);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.run(1_000_000);
    assert!(bench.gsi20.take().len() <= 2 * 1001);
}

#[test]
fn a_level_stays_until_its_status_is_cleared() {
    let mut bench = bench();
    bench.put(T2, timer::INTERRUPT | timer::LEVEL | 20 << 9);
    bench.put(T2 + register::TIMER_COMPARATOR, 100);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.run(200);
    assert_eq!(bench.gsi20.take(), [(0, true)]);
    assert_eq!(bench.get(register::STATUS), 4);
    bench.put(register::STATUS, 4);
    assert_eq!(bench.gsi20.take(), [(0, false)]);
}

#[test]
fn a_timer_sends_messages_when_told_to() {
    let mut bench = bench();
    bench.put(T2, timer::INTERRUPT | timer::FSB);
    bench.put(T2 + register::TIMER_FSB, 0xfee0_1000 << 32 | 0x41);
    bench.put(T2 + register::TIMER_COMPARATOR, 100);
    bench.put(register::CONFIGURATION, configuration::ENABLE);
    bench.run(100);
    assert_eq!(bench.sent.take_messages(), [MsiMessage { address: 0xfee0_1000, data: 0x41 }]);
}

#[test]
fn an_input_that_is_not_wired_does_not_take() {
    let mut bench = bench();
    bench.put(T2, 20 << 9);
    bench.put(T2, 3 << 9);
    assert_eq!(bench.get(T2) & timer::ROUTE, 20 << 9);
}

#[test]
fn legacy_mode_shuts_out_the_pit_and_lets_it_in_again() {
    let mut bench = bench();
    bench.gate.set_line(0, true);
    bench.gate.set_line(0, false);
    assert_eq!(bench.irq0.take(), EDGE);
    bench.put(register::CONFIGURATION, configuration::LEGACY);
    bench.gate.set_line(0, true);
    assert_eq!(bench.irq0.take(), []);
    bench.put(register::CONFIGURATION, 0);
    assert_eq!(bench.irq0.take(), [(0, true)]);
}
