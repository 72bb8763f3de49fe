//! **The one list of disk image formats.** Whoever opens images by name takes [`DRIVERS`].

use kezhan_block::{FormatDriver, RawDriver};
use kezhan_qcow2::Qcow2Driver;

/// Every format. Raw is first: where no other driver is surer, a file is raw.
pub const DRIVERS: &[&dyn FormatDriver] = &[&RawDriver, &Qcow2Driver];
