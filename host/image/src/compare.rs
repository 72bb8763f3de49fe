//! `kezhan image compare`

use crate::error::Result;
use crate::open::{Open, SecretArgs};
use crate::parallel::{PIECE, Piece, copy_threads, each_piece};
use crate::progress::Progress;
use kezhan_block::{Buffer, GuestOffset, Image};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// What one thread reads from both images.
type Pair = [Buffer; 2];

fn pool(buffers: &Mutex<Vec<Pair>>) -> MutexGuard<'_, Vec<Pair>> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
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
        let buffers = Mutex::new(Vec::new());
        let skip = |at| {
            let next =
                if self.strict { at..total } else { next_not_zero(&first, &second, at, total)? };
            progress.add(next.start - at);
            Ok(next)
        };
        each_piece(total, PIECE, copy_threads(), skip, |piece| {
            if piece.start < difference.load(Ordering::Relaxed) {
                let mut pair = pool(&buffers).pop().unwrap_or_default();
                if let Some(at) = self.compare_piece([&first, &second], piece, &mut pair)? {
                    difference.fetch_min(at, Ordering::Relaxed);
                }
                pool(&buffers).push(pair);
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
    fn compare_piece(
        &self,
        [first, second]: [&Image; 2],
        piece: Piece,
        [a, b]: &mut Pair,
    ) -> Result<Option<u64>> {
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
        read_padded(first, piece, a)?;
        read_padded(second, piece, b)?;
        if **a == **b {
            return Ok(None);
        }
        let sectors = a.chunks(512).zip(b.chunks(512));
        let sector = sectors.take_while(|(a, b)| a == b).count() as u64;
        Ok(Some(piece.start + sector * 512))
    }
}

/// The first run at or after `at` where one of the images may have something.
pub fn next_not_zero(first: &Image, second: &Image, mut at: u64, end: u64) -> Result<Range<u64>> {
    while at < end {
        let (a, b) = (run_at(first, at, end)?, run_at(second, at, end)?);
        match (a, b) {
            ((true, a), (true, b)) => at += a.min(b),
            ((false, a), (false, b)) => return Ok(at..at + a.max(b)),
            ((false, length), _) | (_, (false, length)) => return Ok(at..at + length),
        }
    }
    Ok(end..end)
}

/// Whether an image is known to be zero at `at`, as it is past its end, and how far.
fn run_at(image: &Image, at: u64, end: u64) -> Result<(bool, u64)> {
    if at >= image.size() {
        return Ok((true, end - at));
    }
    let entry = image.map(GuestOffset(at), image.size() - at)?;
    Ok((entry.zero, entry.length))
}

/// The bytes of a piece, zeroes past the end of the disk.
pub fn padded(image: &Image, piece: Piece) -> Result<Buffer> {
    let mut data = Buffer::default();
    read_padded(image, piece, &mut data)?;
    Ok(data)
}

/// The same into a buffer that may have been used before.
fn read_padded(image: &Image, piece: Piece, data: &mut Buffer) -> Result<()> {
    data.resize(piece.length as usize);
    let have = image.size().saturating_sub(piece.start).min(piece.length) as usize;
    let (inside, past) = data.split_at_mut(have);
    past.fill(0);
    if !inside.is_empty() {
        image.read(GuestOffset(piece.start), inside)?;
    }
    Ok(())
}
