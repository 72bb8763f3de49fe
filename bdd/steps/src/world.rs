//! The world of a scenario: what its steps share.

use crate::failure::Failure;
use crate::variables::Variables;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What all scenarios of a run share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `kezhan` program that machine steps drive.
    pub kezhan: PathBuf,
    /// Where API steps go when a sentence gives only a path.
    pub api: Option<String>,
    /// Every time in a sentence is multiplied by this.
    pub time_scale: f64,
    /// Where processes and files to be cleared away are noted, in case the runner dies.
    pub reaper: Option<Arc<dyn Reaper>>,
}

impl Default for Settings {
    fn default() -> Settings {
        let kezhan = std::env::current_exe().unwrap_or_else(|_error| PathBuf::from("kezhan"));
        Settings { kezhan, api: None, time_scale: 1.0, reaper: None }
    }
}

/// Notes what must not outlive the runner.
pub trait Reaper: Send + Sync + std::fmt::Debug {
    /// Marks a program that is about to be started: it and what it starts are found by that, should the runner die
    /// before the next call.
    fn mark(&self, program: &mut Command);
    /// A process group was started.
    fn started(&self, group: u32);
    /// A process group has ended.
    fn ended(&self, group: u32);
    /// Something was made that a command of the shell takes away. Answers its number.
    fn made(&self, undo: &str) -> u64;
    /// What was made is gone.
    fn gone(&self, number: u64);
}

/// A question asked while anything is waited for.
pub type Guard = fn(&mut World) -> Result<(), Failure>;

/// Something to look at after a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What it is.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What the steps of one scenario share. A new one for each scenario, dropped after it.
#[derive(Debug)]
pub struct World {
    /// Names and values.
    pub variables: Variables,
    /// A folder of the scenario's own, removed after it.
    pub folder: PathBuf,
    /// The folder of the feature file: relative names in sentences begin here.
    pub feature_folder: PathBuf,
    /// What all scenarios share.
    pub settings: Arc<Settings>,
    /// When the scenario must be over.
    pub deadline: Instant,
    /// The machine that sentences speak of: the last one that was named.
    pub machine: Option<String>,
    attachments: Vec<Attachment>,
    guards: Vec<Guard>,
    evidence: Vec<fn(&mut World)>,
    state: HashMap<TypeId, Box<dyn Any + Send>>,
}

impl World {
    /// A fresh world.
    pub fn new(
        folder: &Path,
        feature_folder: &Path,
        settings: Arc<Settings>,
        limit: Duration,
    ) -> World {
        World {
            variables: Variables::default(),
            folder: folder.to_owned(),
            feature_folder: feature_folder.to_owned(),
            settings,
            deadline: Instant::now() + limit,
            machine: None,
            attachments: Vec::new(),
            guards: Vec::new(),
            evidence: Vec::new(),
            state: HashMap::new(),
        }
    }

    /// The world's one value of a type, made on first use: how a family of steps keeps what is its own.
    pub fn state<T: Default + Send + 'static>(&mut self) -> &mut T {
        let slot = self.state.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(T::default()));
        // PANIC: the slot of a type holds a value of that type, made in the line above.
        slot.downcast_mut::<T>().unwrap_or_else(|| unreachable!("a slot of another type"))
    }

    /// A time from a sentence, scaled, and cut at the scenario's deadline.
    pub fn scaled(&self, time: Duration) -> Duration {
        let scaled = time.mul_f64(self.settings.time_scale.clamp(0.001, 1000.0));
        scaled.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// A file named in a sentence: absolute, or below the feature file's folder if it is there, or below the
    /// scenario's own.
    pub fn path(&self, name: &str) -> PathBuf {
        let beside = self.feature_folder.join(name);
        if Path::new(name).is_absolute() || beside.exists() {
            beside
        } else {
            self.folder.join(name)
        }
    }

    /// Keeps something for the report.
    pub fn attach(&mut self, name: &str, media_type: &str, body: impl Into<Vec<u8>>) {
        self.attachments.push(Attachment {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            body: body.into(),
        });
    }

    /// Takes what was kept.
    pub fn take_attachments(&mut self) -> Vec<Attachment> {
        std::mem::take(&mut self.attachments)
    }

    /// Adds a question asked again and again while anything is waited for: its failure ends the scenario.
    pub fn guard(&mut self, guard: Guard) {
        if !self.guards.iter().any(|known| std::ptr::fn_addr_eq(*known, guard)) {
            self.guards.push(guard);
        }
    }

    /// Adds a function that attaches what a person wants to see when a step fails.
    pub fn on_failure(&mut self, attach: fn(&mut World)) {
        if !self.evidence.iter().any(|known| std::ptr::fn_addr_eq(*known, attach)) {
            self.evidence.push(attach);
        }
    }

    /// Attaches everything that a person wants to see when a step fails.
    pub fn gather_evidence(&mut self) {
        self.evidence.clone().into_iter().for_each(|attach| attach(self));
    }

    /// Asks every guard.
    ///
    /// # Errors
    /// The first that fails.
    pub fn ask_guards(&mut self) -> Result<(), Failure> {
        self.guards.clone().into_iter().try_for_each(|guard| guard(self))
    }
}
