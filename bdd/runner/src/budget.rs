//! What scenarios may use together.
//!
//! A scenario's cost is the sum of the machines that its steps describe (`… {int} vCPU(s) and {size} of memory`) and
//! of its tags (`@needs:4cpu`, `@needs:2GiB`); `@serial` asks for everything. One that needs more than the whole
//! budget runs alone.

use kezhan_expressions::{ParameterTypes, Value};
use kezhan_gherkin::Pickle;
use kezhan_steps::{Catalogue, Found};
use std::sync::{Condvar, Mutex, PoisonError};

/// Processors and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Processors.
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
}

impl Cost {
    /// What this host has: three quarters of the free memory, and four scenarios' processors for each of its own,
    /// since scenarios mostly wait.
    pub fn of_this_host() -> Cost {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64 * 4;
        let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        Cost { cpus, memory: kib.map_or(1 << 30, |kib| kib / 4 * 3 * 1024) }
    }

    /// What a scenario uses, out of a budget.
    pub fn of(pickle: &Pickle, catalogue: &Catalogue, budget: Cost) -> Cost {
        let mut cost = Cost::default();
        for step in &pickle.steps {
            if let Ok(Found::One(found)) = catalogue.find(&step.text)
                && catalogue
                    .definition(&found)
                    .is_some_and(|definition| definition.name.starts_with("machine_with"))
            {
                let values =
                    found.arguments.iter().filter_map(|argument| argument.value.as_ref().ok());
                values.for_each(|value| match value {
                    Value::Int(cpus) => cost.cpus += u64::try_from(*cpus).unwrap_or(0),
                    Value::Size(bytes) => cost.memory = cost.memory.saturating_add(*bytes),
                    _ => {}
                });
            }
        }
        for tag in &pickle.tags {
            cost.add_tag(&tag.name, budget);
        }
        Cost {
            cpus: cost.cpus.max(1).min(budget.cpus.max(1)),
            memory: cost.memory.min(budget.memory),
        }
    }

    fn add_tag(&mut self, tag: &str, budget: Cost) {
        if tag == "@serial" {
            *self = budget;
        }
        let Some(need) = tag.strip_prefix("@needs:") else { return };
        if let Some(cpus) = need.strip_suffix("cpu").and_then(|cpus| cpus.parse::<u64>().ok()) {
            self.cpus = self.cpus.max(cpus);
        }
        if let Some(Ok(Value::Size(bytes))) =
            ParameterTypes::default().find("size").map(|kind| kind.value(need))
        {
            self.memory = self.memory.max(bytes);
        }
    }
}

/// What is left.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Mutex<Cost>,
    freed: Condvar,
}

impl Budget {
    pub fn new(whole: Cost) -> Budget {
        Budget { left: Mutex::new(whole), freed: Condvar::new() }
    }

    /// Waits until a cost fits, and takes it.
    pub fn take(&self, cost: Cost) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while left.cpus < cost.cpus || left.memory < cost.memory {
            left = self.freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        left.cpus -= cost.cpus;
        left.memory -= cost.memory;
    }

    /// Gives a cost back.
    pub fn give(&self, cost: Cost) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.cpus += cost.cpus;
        left.memory += cost.memory;
        self.freed.notify_all();
    }
}
