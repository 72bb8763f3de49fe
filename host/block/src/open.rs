//! Opening a chain of images.

use crate::engine::Image;
use crate::gate::{Gate, Reference};
use crate::storage::Storage;
use crate::units::HostOffset;
use crate::{BlockError, FormatDriver, OpenContext, Result};
use std::sync::Arc;

/// Longest chain that is followed: deeper ones are loops, or as good as one.
const DEPTH_LIMIT: usize = 200;

/// Bytes that probing looks at.
const PROBE_BYTES: u64 = 2048;

/// How to open a chain.
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// Every format that there is.
    pub drivers: &'a [&'static dyn FormatDriver],
    /// The format of the first image; `None` probes, which only the image tool may do.
    pub format: Option<&'a str>,
    /// Open the first image for writing.
    pub writable: bool,
    /// Follow backing files.
    pub backing: bool,
    /// Decides on files that images name.
    pub gate: &'a dyn Gate,
    /// Backing files that name no format may be probed.
    pub probe_backing: bool,
    /// The passphrase of an encrypted image.
    pub passphrase: Option<&'a [u8]>,
    /// For check and repair: see [`OpenContext::for_check`].
    pub for_check: bool,
}

impl std::fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenOptions(format: {:?}, writable: {})", self.format, self.writable)
    }
}

/// The format that a file most looks like. Never use it on a disk that a guest has written.
///
/// # Errors
/// The storage's.
pub fn probe(
    drivers: &[&'static dyn FormatDriver],
    file: &dyn Storage,
) -> Result<&'static dyn FormatDriver> {
    let length = file.size()?;
    let mut head = vec![0; PROBE_BYTES.min(length) as usize];
    file.read_at(HostOffset(0), &mut head)?;
    let best = drivers.iter().copied().max_by_key(|driver| driver.probe(&head, length));
    best.ok_or_else(|| BlockError::unsupported(file.name(), "no format is built in"))
}

fn driver<'a>(
    options: &OpenOptions<'a>,
    name: Option<&str>,
    file: &dyn Storage,
) -> Result<&'static dyn FormatDriver> {
    let Some(name) = name else { return probe(options.drivers, file) };
    options.drivers.iter().copied().find(|driver| driver.name() == name).ok_or_else(|| {
        let all: Vec<&str> = options.drivers.iter().map(|driver| driver.name()).collect();
        BlockError::option(format!("format={name}"), format!("formats are {}", all.join(", ")))
    })
}

/// Opens an image and, when asked, everything that it stands on (read-only).
///
/// # Errors
/// Whatever opening one of the images gives; a chain that is too long.
pub fn open_chain(file: Arc<dyn Storage>, options: &OpenOptions<'_>) -> Result<Image> {
    open_at_depth(file, options, options.format, 0)
}

fn open_at_depth(
    file: Arc<dyn Storage>,
    options: &OpenOptions<'_>,
    format: Option<&str>,
    depth: usize,
) -> Result<Image> {
    let name = file.name().to_owned();
    if depth > DEPTH_LIMIT {
        return Err(BlockError::corrupt(
            &name,
            format!("stands on more than {DEPTH_LIMIT} backing files, most likely on itself"),
        ));
    }
    let driver = driver(options, format, &*file)?;
    let context = OpenContext {
        writable: options.writable && depth == 0,
        gate: options.gate,
        passphrase: options.passphrase,
        for_check: options.for_check && depth == 0,
    };
    let opened = driver.open(file.clone(), &context)?;
    let image = Image::new(name, file, opened.format, context.writable);
    match opened.backing {
        Some(reference) if options.backing => {
            let backing = open_backing(&reference, options, depth)?;
            Ok(image.on(Arc::new(backing), reference))
        }
        Some(reference) => Ok(image.naming(reference)),
        None => Ok(image),
    }
}

fn open_backing(reference: &Reference, options: &OpenOptions<'_>, depth: usize) -> Result<Image> {
    if reference.format.is_none() && !options.probe_backing {
        return Err(reference
            .refuse("its format is not recorded; record it with `kezhan image rebase -u -F`"));
    }
    let file = options.gate.open(reference, false)?;
    open_at_depth(file, options, reference.format.as_deref(), depth + 1)
}
