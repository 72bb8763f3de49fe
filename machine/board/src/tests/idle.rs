//! Disks that vCPUs serve while they have nothing else to do.

use super::*;
use crate::attend::ServedIdly;

struct Idle {
    bench: Bench,
    bell: Arc<CountingBell>,
    work: Attendance,
    doorbell: u64,
}

impl Idle {
    fn new() -> Idle {
        let (bench, bell, work) = with_a_thread();
        let doorbell = u64::from(bench.peek(bench.config(1, 0x14)) & !0xf) + 0x3000;
        Idle { bench, bell, work, doorbell }
    }

    /// The guest rings; how often the thread was called so far.
    fn ring(&self) -> usize {
        self.bench.board.write_memory(self.doorbell, &[0, 0]);
        self.bell.0.load(Ordering::SeqCst)
    }

    /// A vCPU has nothing to do; how often one has served the disk so far.
    fn idle(&self) -> u32 {
        self.bench.board.idle(false);
        self.work.served_idly().all
    }
}

#[test]
fn a_vcpu_that_has_nothing_to_do_serves_what_was_rung_once() {
    let idle = Idle::new();
    assert_eq!(idle.idle(), 0, "nobody has rung");
    assert_eq!(idle.ring(), 1);
    assert!(idle.work.is_called());
    assert_eq!((idle.idle(), idle.idle()), (1, 1));
    assert_eq!(idle.work.served_idly(), ServedIdly { all: 1, several: 0 });
    assert!(!idle.work.is_called());
    assert_eq!(idle.ring(), 2, "it calls again");
}

#[test]
fn a_thread_that_looks_by_itself_is_not_called_but_finds_what_was_rung() {
    let idle = Idle::new();
    assert!(!idle.work.watch(true), "as far as is known, the engine takes the doorbells");
    assert_eq!(idle.ring(), 1);
    idle.work.serve();
    assert!(idle.work.watch(true));
    assert_eq!((idle.ring(), idle.work.is_called()), (1, true));
    assert_eq!(idle.idle(), 1);
    assert_eq!((idle.ring(), idle.work.is_called()), (1, true));
    idle.work.watch(false);
    idle.work.serve();
    assert_eq!(idle.ring(), 2);
}

#[test]
fn a_vcpu_leaves_the_disk_alone_while_the_machine_stands_still() {
    let idle = Idle::new();
    idle.ring();
    idle.bench.board.pause();
    assert_eq!(idle.idle(), 0);
    idle.work.serve();
    idle.bench.board.resume();
    assert_eq!((idle.ring(), idle.idle()), (2, 1));
}

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl IdleListener for Counting {
    fn idle(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_listens_is_told_when_all_vcpus_wait() {
    let (idle, listener) = (Idle::new(), Arc::new(Counting::default()));
    idle.bench.board.tell_idle(listener.clone());
    idle.bench.board.idle(false);
    assert_eq!(listener.0.load(Ordering::SeqCst), 0);
    idle.bench.board.idle(true);
    assert_eq!(listener.0.load(Ordering::SeqCst), 1);
}
