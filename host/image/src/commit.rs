//! `kezhan image commit`

use crate::error::{ImageError, Result};
use crate::open::{Open, SecretArgs, cache_mode, close};
use crate::parallel::{PIECE, Piece, each_piece, threads};
use crate::progress::Progress;
use crate::size;
use kezhan_block::storage::CacheMode;
use kezhan_block::{GuestOffset, Image, MappingKind, Span};
use kezhan_qcow2::Qcow2;
use std::ops::Range;
use std::process::ExitCode;

/// Write an image's changes into its backing file.
#[derive(Clone, Debug, clap::Args)]
pub struct CommitArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Cache mode
    #[arg(short = 't', value_name = "CACHE")]
    cache: Option<String>,
    /// Image of the chain to write into; the next one when not given
    #[arg(short, value_name = "FILE")]
    base: Option<String>,
    /// Bytes a second at most
    #[arg(short, value_name = "RATE", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    rate: Option<u64>,
    /// Leave the image's own data in it
    #[arg(short = 'd')]
    keep: bool,
    /// Show progress
    #[arg(short)]
    progress: bool,
    /// The image
    file: String,
}

impl CommitArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = cache_mode(self.cache.as_deref(), CacheMode::WriteBack)?;
        let passphrase = self.secrets.passphrase()?;
        let passphrase = passphrase.as_deref();
        let open = Open { cache, passphrase, ..Open::write(self.format.as_deref()) };
        let top = open.open(&self.file)?;
        let (path, format, depth) = self.base_of(&top)?;
        // The chain's own handles of the base only read; they must not keep the writer out.
        drop(top);
        let top = Open { force_share: true, ..open }.open(&self.file)?;
        let base = Open { force_share: true, format: format.as_deref(), ..open }.open(&path)?;
        if base.size() < top.size() {
            base.resize(top.size())?;
        }
        let progress = Progress::new(self.progress && !self.quiet, top.size(), self.rate);
        let skip = |at| {
            let next = next_held(&top, depth, at)?;
            progress.add(next.start - at);
            Ok(next)
        };
        each_piece(top.size(), PIECE, threads(), skip, |piece| {
            commit_piece(&top, &base, depth, piece)?;
            progress.add(piece.length);
            Ok(())
        })?;
        progress.finish();
        close(base)?;
        if !self.keep && depth == 1 {
            empty(&top)?;
        }
        if !self.quiet {
            println!("Image committed.");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Path and format of the base, and how far down the chain it is.
    fn base_of(&self, top: &Image) -> Result<(String, Option<String>, usize)> {
        let mut depth = 1;
        let mut reference = top.reference().cloned();
        let mut below = top.backing().cloned();
        while let (Some(reference_now), Some(image)) = (&reference, &below) {
            let path = reference_now.path().display().to_string();
            let wanted = self
                .base
                .as_ref()
                .is_none_or(|base| *base == path || *base == reference_now.target);
            if wanted {
                return Ok((path, Some(image.format().format_name().to_owned()), depth));
            }
            depth += 1;
            reference = image.reference().cloned();
            below = image.backing().cloned();
        }
        Err(ImageError::usage(match &self.base {
            Some(base) => format!("-b {base}: not in the chain of {}", self.file),
            None => format!("{}: has no backing file to commit to", self.file),
        }))
    }
}

/// The first run at or after `at` that one of the first `depth` images holds.
fn next_held(top: &Image, depth: usize, mut at: u64) -> Result<Range<u64>> {
    while at < top.size() {
        let (held, length) = held_above(top, depth, at, top.size() - at)?;
        if !matches!(held, Held::Nothing) {
            return Ok(at..at + length);
        }
        at += length;
    }
    Ok(at..at)
}

/// Writes what the images above the base hold of a piece into the base.
fn commit_piece(top: &Image, base: &Image, depth: usize, piece: Piece) -> Result<()> {
    let mut at = piece.start;
    let end = piece.start + piece.length;
    while at < end {
        let (held, length) = held_above(top, depth, at, end - at)?;
        let span = Span { start: GuestOffset(at), length };
        match held {
            Held::Nothing => {}
            Held::Zeroes => base.write_zeroes(span, true)?,
            Held::Data => {
                let mut data = vec![0; length as usize];
                top.read(span.start, &mut data)?;
                base.write(span.start, &data)?;
            }
        }
        at += length;
    }
    Ok(())
}

enum Held {
    Nothing,
    Zeroes,
    Data,
}

/// What the first `depth` images of a chain hold at an offset, and for how long.
fn held_above(top: &Image, depth: usize, at: u64, length: u64) -> Result<(Held, u64)> {
    let mut length = length;
    let mut image = top;
    for _ in 0..depth {
        if at >= image.size() {
            return Ok((Held::Zeroes, length));
        }
        let mapping = image.format().locate(GuestOffset(at), length.min(image.size() - at))?;
        length = mapping.length;
        match mapping.kind {
            MappingKind::Zero { .. } => return Ok((Held::Zeroes, length)),
            MappingKind::Data { .. } | MappingKind::Special => return Ok((Held::Data, length)),
            MappingKind::Unallocated { .. } => {}
        }
        let Some(below) = image.backing() else { return Ok((Held::Nothing, length)) };
        image = below;
    }
    if at >= image.size() {
        return Ok((Held::Nothing, length));
    }
    Ok((Held::Nothing, length.min(image.size() - at)))
}

/// An image without snapshots gives its data up; others keep it.
fn empty(top: &Image) -> Result<()> {
    if let Some(qcow2) = top.format().as_any().downcast_ref::<Qcow2>()
        && qcow2.header().snapshots == 0
    {
        top.alone(|_| qcow2.make_empty())?;
    }
    Ok(())
}
