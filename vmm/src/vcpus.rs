//! The vCPU threads.
//!
//! ```text
//!              orders (one channel a thread)
//!   driver ───────────────────────────────────► vcpu0: parked ── Run ──► Vcpu::run, over and over
//!      ▲                                          ▲                              │
//!      └──── parked (one message for each Run) ───┴── told to park, or an exit ──┘
//! ```
//!
//! A thread is parked or running. Each order to run is answered by exactly one message when the thread
//! is parked again, so that the driver counts answers and no state is shared but one flag. An exit that
//! needs a decision (shutdown, failure) goes to the event queue first, then the thread parks.
//!
//! Only parked threads take calls that read or write a vCPU's state.

use crate::VmmError;
use crate::events::{Event, EventQueue};
use kezhan_hypervisor::{CpuIo, EngineError, Exit, Partition, Vcpu, VcpuState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The machine as vCPU threads share it.
pub(crate) type SharedIo = Arc<dyn CpuIo + Send + Sync>;

/// A kick is repeated so often until the thread is parked. One suffices by the engine contract; the
/// repetition keeps a fault of an engine from hanging the whole process.
const KICK_AGAIN: Duration = Duration::from_millis(50);

/// After so long a thread is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Work on a parked vCPU.
type Work = Box<dyn FnOnce(&mut dyn Vcpu) + Send>;

enum Order {
    Run,
    Call(Work),
}

/// The vCPUs of a machine, each on its thread.
pub(crate) struct Vcpus {
    partition: Arc<dyn Partition>,
    running: Arc<AtomicBool>,
    threads: Vec<Thread>,
    /// States as the engine made them, for reset.
    fresh: Vec<VcpuState>,
    is_running: bool,
}

struct Thread {
    orders: Option<Sender<Order>>,
    parked: Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

/// What all vCPU threads share.
#[derive(Clone)]
struct Surroundings {
    partition: Arc<dyn Partition>,
    io: SharedIo,
    events: Arc<EventQueue>,
    running: Arc<AtomicBool>,
}

impl Vcpus {
    /// Makes the threads and their vCPUs, all parked.
    ///
    /// # Errors
    /// What the engine or the host said to the first that could not be made.
    pub(crate) fn new(
        partition: Arc<dyn Partition>,
        cpus: u32,
        io: SharedIo,
        events: Arc<EventQueue>,
    ) -> Result<Vcpus, VmmError> {
        let running = Arc::new(AtomicBool::new(false));
        let around =
            Surroundings { partition: partition.clone(), io, events, running: running.clone() };
        let mut vcpus =
            Vcpus { partition, running, threads: Vec::new(), fresh: Vec::new(), is_running: false };
        let mut answers = Vec::new();
        for index in 0..cpus {
            let (thread, answer) = Thread::spawn(index, around.clone())?;
            vcpus.threads.push(thread);
            answers.push(answer);
        }
        for answer in answers {
            vcpus.fresh.push(answer.recv().map_err(|_gone| VmmError::VcpuLost)??);
        }
        Ok(vcpus)
    }

    /// Lets all run.
    pub(crate) fn run(&mut self) {
        self.running.store(true, Ordering::SeqCst);
        self.is_running = true;
        for thread in &self.threads {
            thread.order(Order::Run);
        }
    }

    /// Parks all; returns when they are.
    ///
    /// # Errors
    /// [`VmmError::VcpuLost`] when a thread has died.
    pub(crate) fn park(&mut self) -> Result<(), VmmError> {
        if !std::mem::take(&mut self.is_running) {
            return Ok(());
        }
        self.running.store(false, Ordering::SeqCst);
        self.kick();
        let until = Instant::now() + PATIENCE;
        for thread in &self.threads {
            loop {
                match thread.parked.recv_timeout(KICK_AGAIN) {
                    Ok(()) => break,
                    Err(RecvTimeoutError::Timeout) if Instant::now() < until => self.kick(),
                    Err(_) => return Err(VmmError::VcpuLost),
                }
            }
        }
        Ok(())
    }

    fn kick(&self) {
        for index in 0..self.threads.len() as u32 {
            self.partition.kick(index);
        }
    }

    /// The states as the engine made them.
    pub(crate) fn fresh_states(&self) -> &[VcpuState] {
        &self.fresh
    }

    /// The states of all, which are parked.
    ///
    /// # Errors
    /// What the engine said.
    pub(crate) fn states(&self) -> Result<Vec<VcpuState>, VmmError> {
        let answers: Vec<_> =
            self.threads.iter().map(|thread| thread.call(|vcpu| vcpu.state())).collect();
        answers.into_iter().map(|answer| Ok(collect(&answer)??)).collect()
    }

    /// Sets the states of all, which are parked.
    ///
    /// # Errors
    /// What the engine said, and when there are not as many as vCPUs.
    pub(crate) fn set_states(&self, states: Vec<VcpuState>) -> Result<(), VmmError> {
        if states.len() != self.threads.len() {
            return Err(VmmError::OtherCpus { has: self.threads.len(), found: states.len() });
        }
        let answers: Vec<_> = self
            .threads
            .iter()
            .zip(states)
            .map(|(thread, state)| thread.call(move |vcpu| vcpu.set_state(&state)))
            .collect();
        answers.into_iter().try_for_each(|answer| Ok(collect(&answer)??))
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        if self.park().is_err() {
            // It would not end either; the process is about to, and takes it along.
            return;
        }
        for thread in &mut self.threads {
            thread.orders = None;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                handle.join().ok();
            }
        }
    }
}

impl Thread {
    fn spawn(
        index: u32,
        around: Surroundings,
    ) -> Result<(Thread, Receiver<Result<VcpuState, EngineError>>), VmmError> {
        let (orders, inbox) = channel();
        let (tell_parked, parked) = channel();
        let (answer, fresh) = channel();
        let body = move || {
            let made = around.partition.vcpu(index);
            let made = made.and_then(|vcpu| vcpu.state().map(|state| (vcpu, state)));
            match made {
                Ok((vcpu, state)) => {
                    answer.send(Ok(state)).ok();
                    obey(index, vcpu, &around, &inbox, &tell_parked);
                }
                Err(error) => drop(answer.send(Err(error))),
            }
        };
        let handle = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(body)
            .map_err(|error| VmmError::Host { call: format!("thread vcpu{index}"), error })?;
        Ok((Thread { orders: Some(orders), parked, handle: Some(handle) }, fresh))
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            orders.send(order).ok();
        }
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Vcpu) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (answer, result) = channel();
        self.order(Order::Call(Box::new(move |vcpu| {
            answer.send(work(vcpu)).ok();
        })));
        result
    }
}

fn collect<T>(answer: &Receiver<T>) -> Result<T, VmmError> {
    answer.recv().map_err(|_gone| VmmError::VcpuLost)
}

fn obey(
    index: u32,
    mut vcpu: Box<dyn Vcpu>,
    around: &Surroundings,
    inbox: &Receiver<Order>,
    tell_parked: &Sender<()>,
) {
    for order in inbox {
        match order {
            Order::Run => {
                run(index, vcpu.as_mut(), around);
                tell_parked.send(()).ok();
            }
            Order::Call(work) => work(vcpu.as_mut()),
        }
    }
}

fn run(index: u32, vcpu: &mut dyn Vcpu, around: &Surroundings) {
    while around.running.load(Ordering::SeqCst) {
        match vcpu.run(around.io.as_ref()) {
            Exit::Kicked => {}
            exit => {
                around.events.push(Event::Vcpu(index, exit));
                return;
            }
        }
    }
}
