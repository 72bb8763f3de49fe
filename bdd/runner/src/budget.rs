//! What scenarios may use together.
//!
//! A scenario's cost is the sum of the machines that its steps describe (`… {int} vCPU(s) and {size} of memory`) and
//! of its tags (`@needs:4cpu`, `@needs:2GiB`); `@serial` asks for everything. One that needs more than the whole
//! budget runs alone.

use kezhan_expressions::{ParameterTypes, Value};
use kezhan_gherkin::Pickle;
use kezhan_steps::{Action, Catalogue, Found, MAX_DEPTH};
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
            let below = step.argument.as_ref().and_then(|argument| argument.data_table.as_ref());
            let rows = below.iter().flat_map(|table| &table.rows);
            let cells = rows.filter_map(|row| {
                Some((row.cells.first()?.value.as_str(), row.cells.get(1)?.value.as_str()))
            });
            cost.add_step(&step.text, &cells.collect::<Vec<_>>(), (catalogue, 0));
        }
        for tag in &pickle.tags {
            cost.add_tag(&tag.name, budget);
        }
        Cost {
            cpus: cost.cpus.max(1).min(budget.cpus.max(1)),
            memory: cost.memory.min(budget.memory),
        }
    }

    /// Adds the machines that a step describes, steps made of steps included.
    fn add_step(
        &mut self,
        sentence: &str,
        rows: &[(&str, &str)],
        (catalogue, depth): (&Catalogue, usize),
    ) {
        let Ok(Found::One(found)) = catalogue.find(sentence) else { return };
        let Some(definition) = catalogue.definition(&found) else { return };
        let values = found.arguments.iter().filter_map(|argument| argument.value.clone().ok());
        let values: Vec<Value> = values.collect();
        match (&definition.action, definition.name.as_ref()) {
            (Action::Composite(composite), _) if depth < MAX_DEPTH => {
                for sentence in composite.sentences(&values) {
                    self.add_step(&sentence, &[], (catalogue, depth + 1));
                }
            }
            (_, "machine_options") => {
                rows.iter().for_each(|(option, value)| self.add_option(option, value))
            }
            (_, name) if name.starts_with("machine_with") => {
                values.iter().for_each(|value| self.add_value(value))
            }
            _ => {}
        }
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Int(cpus) => {
                self.cpus = self.cpus.saturating_add(u64::try_from(*cpus).unwrap_or(0))
            }
            Value::Size(bytes) => self.memory = self.memory.saturating_add(*bytes),
            _ => {}
        }
    }

    fn add_option(&mut self, option: &str, value: &str) {
        let kind = if option == "memory" { "size" } else { "int" };
        if !matches!(option, "memory" | "cpus") {
            return;
        }
        if let Some(Ok(value)) = ParameterTypes::default().find(kind).map(|kind| kind.value(value))
        {
            self.add_value(&value);
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
