//! `kezhan image convert`
//!
//! ```text
//!   sources ── map ── read ── look for zeroes ── compress ──┐  any thread, any order
//!                                                           ▼
//!                                       in line: pieces are written in the order of the disk
//! ```
//!
//! Reading, looking for zeroes and compressing use all processors. Writing keeps the order of the disk, so
//! that the same source always gives the same image; with `-W` it does not. A raw image would be the same in any
//! order, but a file that grows from its end to its end costs the host least.

mod target;

use crate::error::{ImageError, Result};
use crate::open::{Open, SecretArgs, cache_mode, qcow2};
use crate::parallel::{InOrder, PIECE, Piece, copy_threads, each_piece, threads};
use crate::progress::Progress;
use crate::size;
use kezhan_block::storage::CacheMode;
use kezhan_block::{Buffer, GuestOffset, Image, is_zero};
use kezhan_qcow2::spec::BITMAP_IN_USE;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use target::{Prepared, Target, Unit};

/// Smallest run of zeroes that becomes a hole, in bytes, when `-S` does not say otherwise.
const SPARSE: u64 = 4096;

/// Copy an image into another, perhaps of another format.
#[derive(Clone, Debug, clap::Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// Let the host copy (accepted; the copy is the same)
    #[arg(short = 'C')]
    copy_range: bool,
    /// Compress
    #[arg(short)]
    compress: bool,
    /// Show progress
    #[arg(short)]
    progress: bool,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Do not make the target: it is there
    #[arg(short = 'n')]
    no_create: bool,
    /// The target, which is there, reads as zeroes
    #[arg(long)]
    target_is_zero: bool,
    /// Copy bitmaps too
    #[arg(long)]
    bitmaps: bool,
    /// Leave out bitmaps that were not stored properly
    #[arg(long)]
    skip_broken_bitmaps: bool,
    /// Cache mode of the target
    #[arg(short = 't', value_name = "CACHE")]
    cache: Option<String>,
    /// Cache mode of the source
    #[arg(short = 'T', value_name = "CACHE")]
    source_cache: Option<String>,
    /// Format of the source
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Format of the target
    #[arg(short = 'O', value_name = "FMT", default_value = "raw")]
    output_format: String,
    /// Backing file of the target: what the source has from its own backing file is not copied
    #[arg(short = 'B', value_name = "FILE")]
    backing_file: Option<String>,
    /// Format of the backing file
    #[arg(short = 'F', value_name = "FMT")]
    backing_format: Option<String>,
    /// Options of the target: name=value,…
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Snapshot of the source
    #[arg(short = 'l', value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Smallest run of zeroes that becomes a hole; 0 for none
    #[arg(short = 'S', value_name = "SIZE", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    sparse: Option<u64>,
    /// Bytes a second at most
    #[arg(short, value_name = "RATE", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    rate: Option<u64>,
    /// Threads
    #[arg(short = 'm', value_name = "NUMBER")]
    threads: Option<usize>,
    /// Write in any order
    #[arg(short = 'W')]
    out_of_order: bool,
    /// Put zeroes where the source cannot be read
    #[arg(long)]
    salvage: bool,
    /// The sources, one after the other, and the target
    #[arg(required = true, num_args = 2..)]
    files: Vec<String>,
}

impl ConvertArgs {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        // Such images take nothing else.
        self.compress |= self.makes_stream();
        let (target_name, sources) = match self.files.split_last() {
            Some((target, sources)) if !sources.is_empty() => (target, sources),
            _ => return Err(ImageError::usage("convert: give a source and a target")),
        };
        let passphrase = self.secrets.passphrase()?;
        let source = Source::open(&self, sources, passphrase.as_deref())?;
        let target = self.target(target_name, source.size, passphrase.as_deref())?;
        let progress = Progress::new(self.progress && !self.quiet, source.size, self.rate);
        let usual = if self.compress { threads() } else { copy_threads() };
        let threads = self.threads.unwrap_or(usual).clamp(1, 16);
        let line = InOrder::new(threads);
        let buffers = Mutex::new(Vec::new());
        let skip = |at| {
            let next = source.next_wanted(at, &target)?;
            progress.add(next.start - at);
            Ok(next)
        };
        let write = |prepared: Result<Prepared>| {
            let prepared = prepared?;
            let length = prepared.piece.length;
            let buffer = target.write(prepared)?;
            buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
            progress.add(length);
            Ok(())
        };
        each_piece(source.size, PIECE.max(target.unit), threads, skip, |piece| {
            let prepared = self.prepare(&source, &target, piece, take(&buffers, piece));
            if self.out_of_order {
                write(prepared)
            } else {
                line.hand_in(piece.index, prepared, write)
            }
        })?;
        progress.finish();
        if self.bitmaps {
            self.copy_bitmaps(&source, &target.image)?;
        }
        target.close()?;
        Ok(ExitCode::SUCCESS)
    }

    fn makes_stream(&self) -> bool {
        let words = self.options.iter().flat_map(|list| list.split(','));
        self.output_format == "vmdk"
            && words.into_iter().any(|word| word == "subformat=streamOptimized")
    }

    fn target(&self, name: &str, size: u64, passphrase: Option<&[u8]>) -> Result<Target> {
        let cache = cache_mode(self.cache.as_deref(), CacheMode::Unsafe)?;
        if !self.no_create {
            let mut request = crate::create::request(&self.options)?;
            if request.size != 0 && request.size != size {
                return Err(ImageError::usage("-o size: the target gets the size of the source"));
            }
            request.options.retain(|(name, _)| name != "size");
            request.size = size;
            request.passphrase = passphrase.map(<[u8]>::to_vec);
            if self.backing_file.is_some() {
                request.backing_file.clone_from(&self.backing_file);
                request.backing_format.clone_from(&self.backing_format);
            }
            if request.backing_file.is_some() && request.backing_format.is_none() {
                return Err(ImageError::usage("-B: give the format of the backing file with -F"));
            }
            if let Some(backing) = &request.backing_file {
                let path = crate::create::beside(name, backing).display().to_string();
                let below =
                    Open::read(request.backing_format.as_deref(), true).alone().open(&path)?;
                request.backing = Some(below.file().clone());
            }
            crate::create::create(name, &self.output_format, request)?;
        }
        let open = Open { cache, passphrase, ..Open::write(Some(&self.output_format)) };
        let image = open.open(name)?;
        if image.size() < size {
            let text =
                format!("{name}: is smaller than the source of {size} bytes; resize it first");
            return Err(ImageError::usage(text));
        }
        let zero = self.target_is_zero || !self.no_create;
        Target::new(image, zero, self.compress, self.sparse.unwrap_or(SPARSE))
    }

    /// Reads a piece into `buffer` and notes what of it is to be written.
    fn prepare(
        &self,
        source: &Source,
        target: &Target,
        piece: Piece,
        mut buffer: Buffer,
    ) -> Result<Prepared> {
        let mut units = Vec::new();
        if !self.compress {
            self.gather(source, target, piece, &mut buffer, &mut units)?;
            return Ok(Prepared { piece, units, buffer });
        }
        let mut done = 0;
        while done < piece.length {
            let length = target.unit.min(piece.length - done);
            let start = piece.start + done;
            let (from, to) = (done as usize, (done + length) as usize);
            let mut held = Vec::new();
            let cluster = Piece { index: 0, start, length };
            self.gather(source, target, cluster, &mut buffer[from..to], &mut held)?;
            target.pack(cluster, &buffer[from..to], held, &mut units);
            done += length;
        }
        Ok(Prepared { piece, units, buffer })
    }

    /// Reads what is data; what is zeroes, or comes from the backing file, is zero in the buffer.
    fn gather(
        &self,
        source: &Source,
        target: &Target,
        piece: Piece,
        buffer: &mut [u8],
        units: &mut Vec<Unit>,
    ) -> Result<()> {
        let (mut at, end) = (piece.start, piece.start + piece.length);
        while at < end {
            let (image, base) = source.at(at);
            let left = (end - at).min(base + image.size() - at);
            let entry = image.map(GuestOffset(at - base), left)?;
            let from = (at - piece.start) as usize;
            let slice = &mut buffer[from..from + entry.length as usize];
            if entry.depth > 0 && target.backed && !self.compress {
                // Comes from the backing file.
            } else if entry.zero {
                slice.fill(0);
                target.zeroes(at, entry.length, units);
            } else {
                self.read(image, at - base, slice)?;
                target.cut(at, slice, units);
            }
            at += entry.length;
        }
        Ok(())
    }

    fn read(&self, image: &Image, at: u64, data: &mut [u8]) -> Result<()> {
        let Err(error) = image.read(GuestOffset(at), data) else { return Ok(()) };
        if !self.salvage {
            return Err(error.into());
        }
        for (index, sector) in data.chunks_mut(512).enumerate() {
            let at = at + index as u64 * 512;
            if let Err(error) = image.read(GuestOffset(at), sector) {
                eprintln!("warning: zeroes for what cannot be read at {at}: {error}");
                sector.fill(0);
            }
        }
        Ok(())
    }

    fn copy_bitmaps(&self, source: &Source, target: &Image) -> Result<()> {
        let [(_, image)] = &source.images[..] else {
            return Err(ImageError::usage("--bitmaps: give one source"));
        };
        let mut bitmaps = Vec::new();
        let format = qcow2(image, "bitmaps")?;
        for info in format.bitmap_list()? {
            if info.flags & BITMAP_IN_USE == 0 {
                bitmaps.push(format.load_bitmap(&info)?);
            } else if !self.skip_broken_bitmaps {
                return Err(ImageError::usage(format!(
                    "{}: bitmap '{}' was not stored properly; give --skip-broken-bitmaps",
                    image.name(),
                    info.name
                )));
            }
        }
        let format = qcow2(target, "bitmaps")?;
        target.alone(|_| format.store_bitmaps(&bitmaps))?;
        Ok(())
    }
}

/// The sources as one disk.
struct Source {
    images: Vec<(u64, Image)>,
    size: u64,
}

impl Source {
    fn open(args: &ConvertArgs, names: &[String], passphrase: Option<&[u8]>) -> Result<Source> {
        let cache = cache_mode(args.source_cache.as_deref(), CacheMode::WriteBack)?;
        let open =
            Open { cache, passphrase, ..Open::read(args.format.as_deref(), args.force_share) };
        let (mut images, mut size) = (Vec::new(), 0);
        for name in names {
            let image = open_source(open, name, args.snapshot.as_deref())?;
            let length = image.size();
            images.push((size, image));
            size += length;
        }
        Ok(Source { images, size })
    }

    /// The first run at or after `at` that must be written to the target.
    fn next_wanted(&self, mut at: u64, target: &Target) -> Result<Range<u64>> {
        while at < self.size {
            let (image, base) = self.at(at);
            let entry = image.map(GuestOffset(at - base), base + image.size() - at)?;
            let wanted = if target.backed { entry.depth == 0 } else { !entry.zero };
            if wanted || !target.skips_zeroes() && entry.zero {
                return Ok(at..at + entry.length);
            }
            at += entry.length;
        }
        Ok(self.size..self.size)
    }

    /// The image at an offset and where it starts.
    fn at(&self, offset: u64) -> (&Image, u64) {
        let index = self.images.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let (start, image) = &self.images[index];
        (image, *start)
    }
}

/// Opens an image, or a snapshot of it.
pub fn open_source(open: Open<'_>, name: &str, snapshot: Option<&str>) -> Result<Image> {
    let image = open.open(name)?;
    let Some(wanted) = snapshot else { return Ok(image) };
    let wanted = wanted.trim_start_matches("snapshot.id=").trim_start_matches("snapshot.name=");
    let format = qcow2(&image, "internal snapshots")?;
    let at = format.at_snapshot(&format.find_snapshot(wanted)?)?;
    let old = Image::new(name.to_owned(), image.file().clone(), Box::new(at), false);
    Ok(match (image.backing(), image.reference()) {
        (Some(backing), Some(reference)) => old.on(backing.clone(), reference.clone()),
        _ => old,
    })
}

/// A buffer for a piece: one that was used before, if there is one.
fn take(buffers: &Mutex<Vec<Buffer>>, piece: Piece) -> Buffer {
    let old = buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut buffer = old.unwrap_or_default();
    buffer.resize(piece.length as usize);
    buffer
}

/// The runs of `data` that are all zero or not, in steps of `unit` counted from the disk's start.
fn runs(at: u64, data: &[u8], unit: u64) -> Vec<(bool, usize)> {
    let mut runs: Vec<(bool, usize)> = Vec::new();
    let mut done = 0;
    while done < data.len() {
        let step = (unit - (at + done as u64) % unit).min((data.len() - done) as u64) as usize;
        let zero = is_zero(&data[done..done + step]);
        match runs.last_mut() {
            Some((kind, length)) if *kind == zero => *length += step,
            _ => runs.push((zero, step)),
        }
        done += step;
    }
    runs
}
