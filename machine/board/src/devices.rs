//! **The one list of devices**: what there is, what it is for, how it is set and built.
//!
//! Fixed devices are on every board, in the order of the list (interrupt controllers first). The others
//! are asked for with `--device NAME[,key=value]…`.

use crate::BoardError;
use crate::assembly::Assembly;
use crate::settings::Settings;
use kezhan_serial::Uart16550;
use std::sync::{Arc, Mutex};

/// A setting of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: &'static str,
    /// What it means and its default, in one line.
    pub help: &'static str,
}

/// An entry of the list.
#[derive(Clone, Copy, Debug)]
pub struct DeviceKind {
    /// Its name: of the device, of its saved state, of its rows in the address map.
    pub name: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// On every board; else only when asked for.
    pub fixed: bool,
    /// Its settings.
    pub settings: &'static [Setting],
    pub(crate) build: fn(&mut Assembly, &Settings<'_>) -> Result<(), BoardError>,
}

/// The list.
pub const DEVICES: &[DeviceKind] = &[DeviceKind {
    name: "com1",
    help: "first serial port, a 16550A UART",
    fixed: true,
    settings: &[],
    build: com1,
}];

/// The optional device called `name`.
pub(crate) fn find(name: &str) -> Result<&'static DeviceKind, BoardError> {
    let optional = DEVICES.iter().filter(|kind| !kind.fixed);
    optional.clone().find(|kind| kind.name == name).ok_or_else(|| BoardError::UnknownDevice {
        name: name.to_owned(),
        known: optional.map(|kind| kind.name).collect::<Vec<_>>().join(", "),
    })
}

fn com1(board: &mut Assembly, _settings: &Settings<'_>) -> Result<(), BoardError> {
    let uart = Uart16550::new("com1", board.port("com1"), board.line("com1", "irq")?);
    board.mount(Arc::new(Mutex::new(uart)), &[])
}
