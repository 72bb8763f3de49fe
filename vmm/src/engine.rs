//! **The one list of engines**, and which one a machine gets.
//!
//! `auto` takes KVM when the probe guest says that an unmodified operating system runs under it, and
//! the software engine otherwise, with one line that says why. That the device file is there says
//! little: see `kezhan_kvm::Kvm::probe`. What was found is remembered until the host starts anew.
//! `kvm` and `soft` are obeyed as they are; but a KVM with a verdict against it is given small guests only,
//! no release of an operating system, which would seem to hang.

use crate::files::BootFiles;
use crate::verdict::{Circumstances, VerdictCache, folder};
use crate::{HostRoot, KvmReport, VmmError};
use kezhan_hypervisor::{EngineError, Hypervisor};
use kezhan_kvm::{Kvm, Verdict};
use kezhan_machine_spec::{EngineChoice, MachineSpec, Switch};
use kezhan_soft::{PerfMap, SoftHypervisor};
use std::sync::Arc;

/// An engine, and what to tell the person about the choice.
pub(crate) struct Chosen {
    pub(crate) engine: Arc<dyn Hypervisor>,
    pub(crate) notice: Option<String>,
    /// Why it runs small guests but no operating system.
    pub(crate) unfit: Option<String>,
}

impl Chosen {
    fn fit(engine: Arc<dyn Hypervisor>, notice: Option<String>) -> Chosen {
        Chosen { engine, notice, unfit: None }
    }

    /// Refuses to start an operating system that this engine would not bring up.
    ///
    /// # Errors
    /// [`EngineError::NotForSystems`]
    pub(crate) fn check(&self, files: &BootFiles) -> Result<(), EngineError> {
        match (&self.unfit, files.system_version()) {
            (Some(reason), Some(version)) => Err(EngineError::NotForSystems {
                version: version.split(' ').next().unwrap_or_default().to_owned(),
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// The engine for a machine.
///
/// # Errors
/// [`VmmError::Engine`] when the one that was asked for is not to be had.
pub(crate) fn choose(spec: &MachineSpec, perf_map: bool) -> Result<Chosen, VmmError> {
    let soft = || soft(spec.jit, perf_map);
    match spec.engine {
        EngineChoice::Kvm => kvm(),
        EngineChoice::Soft => Ok(Chosen::fit(soft()?, None)),
        EngineChoice::Auto => match kvm_that_is_up_to_it() {
            Ok(kvm) => Ok(Chosen::fit(Arc::new(kvm), None)),
            Err(why) => {
                let notice = format!("engine soft: {why} ('kezhan doctor' tells more)");
                Ok(Chosen::fit(soft()?, Some(notice)))
            }
        },
    }
}

/// KVM, because it was asked for: also where it is not up to a whole operating system, since smaller guests
/// may well run.
fn kvm() -> Result<Chosen, VmmError> {
    let kvm = Kvm::open()?;
    let unfit = verdict(&kvm).ok().and_then(|verdict| verdict.reason());
    Ok(Chosen { engine: Arc::new(kvm), notice: None, unfit })
}

/// The software engine: on every host.
fn soft(jit: Switch, perf_map: bool) -> Result<Arc<dyn Hypervisor>, VmmError> {
    let mut engine = SoftHypervisor::with_translator(jit == Switch::On);
    if perf_map {
        let failed = |error| VmmError::Host {
            call: format!("--perf-map: {}", PerfMap::path().display()),
            error,
        };
        engine = engine.with_perf_map(PerfMap::create().map_err(failed)?);
    }
    Ok(Arc::new(engine))
}

/// KVM, or why an operating system does not run under it here.
fn kvm_that_is_up_to_it() -> Result<Kvm, String> {
    match Kvm::open().and_then(|kvm| Ok((verdict(&kvm)?, kvm))) {
        Ok((verdict, kvm)) => verdict.reason().map_or(Ok(kvm), Err),
        Err(EngineError::NoKvm(error)) => Err(format!("/dev/kvm: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The probe's verdict, remembered or new.
fn verdict(kvm: &Kvm) -> Result<Verdict, EngineError> {
    let circumstances = Circumstances::read(&HostRoot::default());
    let cache = circumstances.map(|now| VerdictCache::new(&folder(), now));
    if let Some(verdict) = cache.as_ref().and_then(VerdictCache::load) {
        return Ok(verdict);
    }
    let verdict = kvm.probe()?;
    if let Some(cache) = cache {
        cache.store(&verdict);
    }
    Ok(verdict)
}

/// What this host's KVM says of itself, and what a new run of the probe guest says of it.
pub fn inspect_kvm() -> KvmReport {
    let refused = |reason| KvmReport { refused: Some(reason), ..KvmReport::default() };
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(EngineError::NoKvm(error)) => return refused(error.to_string()),
        Err(error) => return refused(error.to_string()),
    };
    let says = kvm.inspect();
    let capability = |c: kezhan_kvm::Capability| (c.name, i64::from(c.value));
    let mut report = KvmReport {
        api_version: Some(says.api_version),
        most_vcpus: Some(says.most_vcpus),
        nested_state: Some(says.nested_state),
        capabilities: says.capabilities.into_iter().map(capability).collect(),
        features: says.features,
        ..KvmReport::default()
    };
    match kvm.probe() {
        Ok(verdict) => {
            report.runs_guests = Some(verdict.can_run_stock_kernel);
            report.instructions_per_second = Some(verdict.instructions_per_second);
            report.failing = verdict.failing;
        }
        Err(error) => {
            report.runs_guests = Some(false);
            report.failing = vec![format!("the probe guest itself ({error})")];
        }
    }
    report
}
