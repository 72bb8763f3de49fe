//! Why a board cannot be built or restored.

use kezhan_acpi::AcpiError;
use kezhan_device::RestoreError;
use kezhan_pci::PlugError;

/// Why a board cannot be built or restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// No such device.
    #[error("--device '{name}': devices are {known}")]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is one already.
    #[error("--device {0}: the machine has it already; leave this one out")]
    Duplicate(String),
    /// No such setting.
    #[error("--device {device}: no setting '{key}'; {known}")]
    UnknownSetting {
        /// The device.
        device: String,
        /// What was given.
        key: String,
        /// What there is.
        known: String,
    },
    /// A setting's value is not possible.
    #[error("--device {device},{key}={value}: {rule}")]
    SettingValue {
        /// The device.
        device: String,
        /// The setting.
        key: String,
        /// What was given.
        value: String,
        /// What is possible.
        rule: &'static str,
    },
    /// Two regions at the same place.
    #[error(
        "{first} and {second} overlap at {address:#x}; leave one out or move it with a setting"
    )]
    Conflict {
        /// The one below, as `device.region`.
        first: String,
        /// The one above.
        second: String,
        /// The first byte or port of both.
        address: u64,
    },
    /// The address map has no row for a region.
    #[error("{0}: the address map has no place for it; this is a fault of ours")]
    NoPlace(String),
    /// No room for another PCI function.
    #[error("--device {device}: {error}")]
    Slot {
        /// The device.
        device: String,
        /// What the host said.
        error: PlugError,
    },
    /// Every hot-plug slot is taken, of so many.
    #[error("no hot-plug slot of {0} is free; start the machine with --device hotplug,slots=N")]
    NoFreeSlot(usize),
    /// It is in no hot-plug slot.
    #[error("{0}: is in no hot-plug slot; only what was attached can be detached")]
    NotInSlot(String),
    /// The board cannot be described to the guest.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// The saved state lacks a device.
    #[error("the saved state has no device '{0}'; start the machine with the devices it had")]
    MissingState(String),
    /// The saved state has a device that this board lacks.
    #[error("the saved state has a device '{0}' more; start the machine with the devices it had")]
    ExtraState(String),
    /// A device does not take its state.
    #[error("device '{device}': {error}; the state cannot be used")]
    Restore {
        /// The device.
        device: String,
        /// What it said.
        error: RestoreError,
    },
}
