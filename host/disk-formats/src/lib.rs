//! **The one list of disk image formats**, and the formats that have no crate of their own.
//!
//! Whoever opens images by name takes [`DRIVERS`].
//!
//! | format | reads | writes | makes |
//! |---|---|---|---|
//! | `raw` | yes | yes | yes |
//! | `qcow2` | versions 2 and 3 | yes | yes |
//! | `vdi` | dynamic, static | yes | yes |
//! | `vpc` (VHD) | dynamic, fixed | yes | yes |
//! | `vhdx` | dynamic, fixed; no parents, no log to replay | yes | dynamic |
//! | `luks` | version 1, aes-xts-plain64 | yes | yes |
//! | `vmdk` | sparse, stream-optimised, flat, several extents | not compressed ones | monolithicSparse |

mod blocks;
mod little;
#[cfg(test)]
mod tests;
mod vdi;
mod vhd;
mod vhdx;
pub mod vmdk;

pub use vdi::VdiDriver;
pub use vhd::VhdDriver;
pub use vhdx::VhdxDriver;
pub use vmdk::VmdkDriver;

use kezhan_block::{FormatDriver, RawDriver};
use kezhan_luks::LuksDriver;
use kezhan_qcow2::Qcow2Driver;

/// Every format. Raw is first: where no other driver is surer, a file is raw.
pub const DRIVERS: &[&dyn FormatDriver] =
    &[&RawDriver, &Qcow2Driver, &VdiDriver, &VhdDriver, &VhdxDriver, &VmdkDriver, &LuksDriver];
