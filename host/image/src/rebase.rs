//! `kezhan image rebase`

use crate::create::beside;
use crate::error::{ImageError, Result};
use crate::open::{Open, SecretArgs, cache_mode, close, qcow2};
use crate::parallel::{PIECE, Piece, each_piece};
use crate::progress::Progress;
use kezhan_block::storage::CacheMode;
use kezhan_block::{GuestOffset, Image, MappingKind, MemoryStorage};
use std::process::ExitCode;
use std::sync::Arc;

/// Put an image onto another backing file.
///
/// The disk stays the same: where old and new backing file differ, the difference is written into the
/// image. With -u only the name in the image is changed.
#[derive(Clone, Debug, clap::Args)]
pub struct RebaseArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Cache mode of the image
    #[arg(short = 't', value_name = "CACHE")]
    cache: Option<String>,
    /// Cache mode of the backing files
    #[arg(short = 'T', value_name = "CACHE")]
    source_cache: Option<String>,
    /// Show progress
    #[arg(short)]
    progress: bool,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Change the name only: the new backing file must read as the old one did
    #[arg(short = 'u')]
    unsafe_rebase: bool,
    /// Write the differences compressed
    #[arg(short)]
    compress: bool,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The new backing file; '' for none
    #[arg(short, value_name = "FILE")]
    backing: String,
    /// Format of the new backing file
    #[arg(short = 'F', value_name = "FMT")]
    backing_format: Option<String>,
    /// The image
    file: String,
}

impl RebaseArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = cache_mode(self.cache.as_deref(), CacheMode::WriteBack)?;
        let passphrase = self.secrets.passphrase()?;
        let open = Open {
            cache,
            passphrase: passphrase.as_deref(),
            force_share: self.force_share,
            backing: !self.unsafe_rebase,
            ..Open::write(self.format.as_deref())
        };
        let image = open.open(&self.file)?;
        let format = qcow2(&image, "backing files")?;
        let new = (!self.backing.is_empty()).then_some(self.backing.as_str());
        if new.is_some() && self.backing_format.is_none() {
            return Err(ImageError::usage(format!(
                "-b {}: give the format of the backing file with -F",
                self.backing
            )));
        }
        if !self.unsafe_rebase {
            self.write_differences(&image, new)?;
            image.flush()?;
        }
        image.alone(|_| format.set_backing(new, self.backing_format.as_deref()))?;
        close(image)?;
        Ok(ExitCode::SUCCESS)
    }

    fn write_differences(&self, image: &Image, new: Option<&str>) -> Result<()> {
        let new = match new {
            None => {
                Open::read(Some("raw"), true).open_storage(Arc::new(MemoryStorage::default()))?
            }
            Some(name) => {
                let path = beside(&self.file, name).display().to_string();
                Open::read(self.backing_format.as_deref(), self.force_share).open(&path)?
            }
        };
        let cluster = image.format().info().cluster_size.unwrap_or(PIECE);
        let piece_size = PIECE.max(cluster);
        let progress = Progress::new(self.progress && !self.quiet, image.size(), None);
        let skip = |at| {
            let next = crate::compare::next_not_zero(image, &new, at, image.size())?;
            progress.add(next.start - at);
            Ok(next)
        };
        each_piece(image.size(), piece_size, 1, skip, |piece| {
            self.piece(image, &new, cluster, piece)?;
            progress.add(piece.length);
            Ok(())
        })?;
        progress.finish();
        Ok(())
    }

    /// Writes each cluster of a piece that the image does not hold and that the new backing file would
    /// change.
    fn piece(&self, image: &Image, new: &Image, cluster: u64, piece: Piece) -> Result<()> {
        let (mut at, end) = (piece.start, piece.start + piece.length);
        while at < end {
            let left = end - at;
            let mapping = image.format().locate(GuestOffset(at), left)?;
            let run = mapping.length.min(left);
            if !matches!(mapping.kind, MappingKind::Unallocated { .. }) {
                at += run;
                continue;
            }
            let run = run.min(cluster - at % cluster);
            let piece = Piece { index: 0, start: at, length: run };
            let now = crate::compare::padded(image, piece)?;
            let then = crate::compare::padded(new, piece)?;
            if *now != *then {
                self.store(image, at, &now, run == cluster)?;
            }
            at += run;
        }
        Ok(())
    }

    fn store(&self, image: &Image, at: u64, data: &[u8], whole: bool) -> Result<()> {
        let packed = if self.compress && whole { image.format().compress(data) } else { None };
        match packed {
            Some(packed) => image.write_compressed(GuestOffset(at), packed)?,
            None => image.write(GuestOffset(at), data)?,
        }
        Ok(())
    }
}
