//! `kezhan image compare`

use crate::error::Result;
use crate::open::{Open, SecretArgs};
use crate::parallel::{PIECE, Piece, each_piece, threads};
use crate::progress::Progress;
use kezhan_block::{GuestOffset, Image};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Compare the contents of two images.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Format of the first image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Format of the second image
    #[arg(short = 'F', value_name = "FMT")]
    second_format: Option<String>,
    /// Cache mode
    #[arg(short = 'T', value_name = "CACHE")]
    source_cache: Option<String>,
    /// Show progress
    #[arg(short)]
    progress: bool,
    /// Say nothing but errors
    #[arg(short)]
    quiet: bool,
    /// Different sizes, or different allocation, count as a difference
    #[arg(short)]
    strict: bool,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The first image
    first: String,
    /// The second image
    second: String,
}

impl CompareArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let passphrase = self.secrets.passphrase()?;
        let open = |format, file: &str| {
            let passphrase = passphrase.as_deref();
            Open { passphrase, ..Open::read(format, self.force_share) }.open(file)
        };
        let first = open(self.format.as_deref(), &self.first)?;
        let second = open(self.second_format.as_deref(), &self.second)?;
        if first.size() != second.size() {
            if self.strict {
                self.say("Strict mode: Image size mismatch!");
                return Ok(ExitCode::from(1));
            }
            self.say("Warning: Image size mismatch!");
        }
        let total = first.size().max(second.size());
        let progress = Progress::new(self.progress && !self.quiet, total, None);
        let difference = AtomicU64::new(u64::MAX);
        let skip = |at| {
            let next = if self.strict { at } else { next_not_zero(&first, &second, at, total)? };
            progress.add(next - at);
            Ok(next)
        };
        each_piece(total, PIECE, threads(), skip, |piece| {
            if piece.start < difference.load(Ordering::Relaxed)
                && let Some(at) = self.compare_piece(&first, &second, piece)?
            {
                difference.fetch_min(at, Ordering::Relaxed);
            }
            progress.add(piece.length);
            Ok(())
        })?;
        progress.finish();
        match difference.into_inner() {
            u64::MAX => {
                self.say("Images are identical.");
                Ok(ExitCode::SUCCESS)
            }
            at => {
                self.say(&format!("Content mismatch at offset {at}!"));
                Ok(ExitCode::from(1))
            }
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }

    /// The first byte of a piece that differs, to the sector.
    fn compare_piece(&self, first: &Image, second: &Image, piece: Piece) -> Result<Option<u64>> {
        if self.strict {
            let runs =
                |image| crate::map::Runs::new(image, piece.start, piece.start + piece.length);
            for (a, b) in runs(first).zip(runs(second)) {
                let (a, b) = (a?, b?);
                if a.present != b.present {
                    return Ok(Some(a.start.get()));
                }
                if a.length != b.length {
                    break;
                }
            }
        }
        let (a, b) = (padded(first, piece)?, padded(second, piece)?);
        if a == b {
            return Ok(None);
        }
        let sectors = a.chunks(512).zip(b.chunks(512));
        let sector = sectors.take_while(|(a, b)| a == b).count() as u64;
        Ok(Some(piece.start + sector * 512))
    }
}

/// The first byte at or after `at` where one of the images may have something.
pub fn next_not_zero(first: &Image, second: &Image, mut at: u64, end: u64) -> Result<u64> {
    let zeroes = |image: &Image, at: u64| -> Result<u64> {
        if at >= image.size() {
            return Ok(end - at);
        }
        let entry = image.map(GuestOffset(at), image.size() - at)?;
        Ok(if entry.zero { entry.length } else { 0 })
    };
    while at < end {
        let both = zeroes(first, at)?.min(zeroes(second, at)?);
        if both == 0 {
            break;
        }
        at += both;
    }
    Ok(at.min(end))
}

/// The bytes of a piece, zeroes past the end of the disk.
pub fn padded(image: &Image, piece: Piece) -> Result<Vec<u8>> {
    let mut data = vec![0; piece.length as usize];
    let have = image.size().saturating_sub(piece.start).min(piece.length) as usize;
    if have > 0 {
        image.read(GuestOffset(piece.start), &mut data[..have])?;
    }
    Ok(data)
}
