use super::*;
use kezhan_device::testkit::{LineLog, check_contract, check_storm, read, write};
use kezhan_device::{ManualClock, SECOND};

struct Bench {
    pit: Pit,
    clock: Arc<ManualClock>,
    line: Arc<LineLog>,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::default());
    let (line, irq0) = LineLog::line("irq0");
    Bench { pit: Pit::new("pit", clock.clone(), irq0), clock, line }
}

impl Bench {
    fn put(&mut self, offset: u64, value: u64) {
        write(&mut self.pit, COUNTERS, offset, 1, value);
    }

    /// Programs a counter with low and high byte.
    fn program(&mut self, counter: u64, mode: u64, count: u64) {
        self.put(CONTROL, counter << 6 | 0x30 | mode << 1);
        self.put(counter, count & 0xff);
        self.put(counter, count >> 8 & 0xff);
    }

    fn get(&mut self, offset: u64) -> u64 {
        read(&mut self.pit, COUNTERS, offset, 1)
    }

    fn count(&mut self, counter: u64) -> u64 {
        self.put(CONTROL, counter << 6);
        self.get(counter) | self.get(counter) << 8
    }

    fn advance_ticks(&mut self, ticks: u64) {
        let now = self.clock.now();
        let tick = ticks_at(now, FREQUENCY);
        self.clock.advance(time_of(tick + ticks, FREQUENCY) - now);
    }

    fn out2(&mut self) -> bool {
        read(&mut self.pit, SPEAKER, 0, 1) & u64::from(speaker::OUT) != 0
    }

    fn set_gate2(&mut self, high: bool) {
        write(&mut self.pit, SPEAKER, 0, 1, high.into());
    }

    /// Runs to `end` as the chassis does; gives the number of rising edges.
    fn run_until(&mut self, end: Nanoseconds) -> usize {
        while let Some(next) = self.pit.deadline().filter(|next| *next <= end) {
            self.clock.advance(next.saturating_sub(self.clock.now()));
            self.pit.wake(self.clock.now());
        }
        self.clock.advance(end.saturating_sub(self.clock.now()));
        self.line.take().iter().filter(|(_, high)| *high).count()
    }
}

#[test]
fn the_timer_keeps_the_device_contract() {
    check_contract(&mut bench().pit);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    let mut bench = bench();
    check_storm(&mut bench.pit, &bench.clock);
}

#[test]
fn mode_2_interrupts_at_its_rate_and_the_rate_is_exact() {
    let mut bench = bench();
    bench.program(0, 2, 1193);
    bench.line.take();
    assert_eq!(bench.run_until(10 * SECOND), 10 * 1_193_182 / 1193);
}

#[test]
fn mode_0_interrupts_once() {
    let mut bench = bench();
    bench.program(0, 0, 1000);
    bench.line.take();
    assert_eq!(bench.run_until(SECOND), 1);
    assert_eq!(bench.pit.deadline(), None);
}

#[test]
fn mode_4_strobes_once() {
    let mut bench = bench();
    bench.program(0, 4, 1000);
    bench.line.take();
    assert_eq!(bench.run_until(SECOND), 1);
}

#[test]
fn after_lateness_a_few_interrupts_are_made_up_for_one_by_one() {
    let mut bench = bench();
    bench.program(0, 2, 1193);
    bench.line.take();
    bench.clock.advance(SECOND);
    bench.pit.wake(bench.clock.now());
    assert_eq!(bench.line.take(), [(0, false), (0, true)], "one at once");
    let end = bench.clock.now() + 10_000_000;
    assert_eq!(bench.run_until(end), 10 + BACKLOG as usize);
}

#[test]
fn no_count_however_small_makes_a_storm() {
    let mut bench = bench();
    bench.program(0, 2, 1);
    bench.line.take();
    assert!(bench.run_until(SECOND / 100) <= 1000);
}

#[test]
fn a_latched_count_holds_while_the_counter_goes_on() {
    let mut bench = bench();
    bench.program(2, 0, 1000);
    bench.set_gate2(true);
    bench.advance_ticks(100);
    assert_eq!(bench.count(2), 900);
    bench.put(CONTROL, 2 << 6);
    bench.advance_ticks(50);
    assert_eq!(bench.get(2) | bench.get(2) << 8, 900);
    assert_eq!(bench.count(2), 850);
}

#[test]
fn the_gate_holds_counter_2_in_mode_0_and_out_rises_at_the_end() {
    let mut bench = bench();
    bench.program(2, 0, 100);
    bench.advance_ticks(500);
    assert!(!bench.out2());
    bench.set_gate2(true);
    bench.advance_ticks(60);
    bench.set_gate2(false);
    bench.advance_ticks(500);
    assert!(!bench.out2());
    bench.set_gate2(true);
    bench.advance_ticks(40);
    assert!(bench.out2());
}

#[test]
fn modes_1_and_5_start_at_a_rising_gate() {
    let mut bench = bench();
    bench.program(2, 1, 100);
    assert!(bench.out2());
    bench.set_gate2(true);
    bench.advance_ticks(50);
    assert!(!bench.out2());
    bench.advance_ticks(51);
    assert!(bench.out2());
    bench.set_gate2(false);
    bench.program(2, 5, 100);
    bench.set_gate2(true);
    bench.advance_ticks(101);
    assert!(!bench.out2(), "the strobe");
    bench.advance_ticks(1);
    assert!(bench.out2());
}

#[test]
fn mode_3_is_high_half_of_the_time() {
    let mut bench = bench();
    bench.set_gate2(true);
    bench.program(2, 3, 100);
    bench.advance_ticks(41);
    assert!(bench.out2());
    assert_eq!(bench.count(2), 20);
    bench.advance_ticks(40);
    assert!(!bench.out2());
    bench.set_gate2(false);
    assert!(bench.out2(), "a low gate raises OUT");
}

#[test]
fn a_new_count_of_mode_2_is_taken_at_the_end_of_the_period() {
    let mut bench = bench();
    bench.set_gate2(true);
    bench.program(2, 2, 1000);
    bench.advance_ticks(101);
    bench.put(2, 200);
    bench.put(2, 0);
    assert_eq!(bench.count(2), 900);
    bench.advance_ticks(900);
    assert_eq!(bench.count(2), 200);
}

#[test]
fn decimal_counts_are_read_in_decimal() {
    let mut bench = bench();
    bench.set_gate2(true);
    bench.put(CONTROL, 2 << 6 | 0x30 | 1);
    bench.put(2, 0);
    bench.put(2, 0x10);
    bench.advance_ticks(2);
    assert_eq!(bench.count(2), 0x0999);
}

#[test]
fn read_back_latches_status_and_count_of_the_chosen_counters() {
    let mut bench = bench();
    bench.set_gate2(true);
    bench.program(2, 2, 1000);
    bench.advance_ticks(11);
    bench.put(CONTROL, 0xc0 | 1 << 3);
    assert_eq!(bench.get(2), 0xb4, "OUT high, both bytes, mode 2");
    assert_eq!(bench.get(2) | bench.get(2) << 8, 990);
    bench.put(CONTROL, 2 << 6 | 0x30);
    bench.put(CONTROL, 0xe0 | 1 << 3);
    assert_eq!(bench.get(2), 0x70, "OUT low, no count yet");
}

#[test]
fn the_refresh_bit_toggles() {
    let mut bench = bench();
    let first = read(&mut bench.pit, SPEAKER, 0, 1) & 0x10;
    bench.clock.advance(speaker::REFRESH_PERIOD);
    assert_ne!(read(&mut bench.pit, SPEAKER, 0, 1) & 0x10, first);
}

#[test]
fn a_restored_timer_goes_on_at_the_same_phase() {
    let mut first = bench();
    first.program(0, 2, 59_659);
    first.run_until(SECOND / 3);
    let mut second = bench();
    second.clock.advance(first.clock.now());
    second.pit.restore(&first.pit.save()).unwrap();
    second.line.take();
    assert_eq!(second.pit.deadline(), first.pit.deadline());
    assert_eq!(second.run_until(SECOND), first.run_until(SECOND));
}
