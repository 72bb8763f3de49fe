//! `kezhan image map`

use crate::error::Result;
use crate::open::{Open, SecretArgs};
use crate::{OutputFormat, size};
use kezhan_block::{GuestOffset, Image, MapEntry};
use kezhan_qcow2::Qcow2;
use std::io::Write;
use std::process::ExitCode;

/// Tell where an image's data lies.
#[derive(Clone, Debug, clap::Args)]
pub struct MapArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Where to start
    #[arg(short, long, value_name = "OFFSET", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    start_offset: Option<u64>,
    /// How far to go
    #[arg(short = 'l', long, value_name = "LENGTH", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    max_length: Option<u64>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The image
    file: String,
}

impl MapArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let passphrase = self.secrets.passphrase()?;
        let open = Open::read(self.format.as_deref(), self.force_share);
        let image = Open { passphrase: passphrase.as_deref(), ..open }.open(&self.file)?;
        let start = self.start_offset.unwrap_or(0).min(image.size());
        let end =
            self.max_length.map_or(image.size(), |l| start.saturating_add(l)).min(image.size());
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut printer = Printer { json: self.output == OutputFormat::Json, first: true };
        let written = printer.all(&image, start, end, &mut out)?;
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(crate::ImageError::Io { name: "standard output".to_owned(), source: error })
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// The runs of an image, neighbours of one kind joined.
pub struct Runs<'a> {
    image: &'a Image,
    at: u64,
    end: u64,
    held: Option<MapEntry>,
    /// How each image of the chain is told.
    told: Vec<Told>,
}

/// How qemu-img tells what an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// As it is: holes of the host are zeroes.
    Holes,
    /// Data is data, also where the host has a hole.
    Data,
    /// The same, but its places are nobody's business: what lies there is encrypted.
    Hidden,
    /// All of it is data, nowhere in particular.
    Whole,
}

impl Told {
    /// Data of qcow2 and dynamic vpc counts as data also where the host has a hole, unless the image seems to have been
    /// allocated beforehand; vhdx and luks tell nothing.
    fn of(image: &Image) -> Result<Told> {
        if ["vhdx", "luks"].contains(&image.format().format_name()) {
            return Ok(Told::Whole);
        }
        if image.format().info().encrypted {
            return Ok(Told::Hidden);
        }
        let holes = match (image.format().as_any().downcast_ref::<Qcow2>(), image.format()) {
            (Some(qcow2), _) => qcow2.is_preallocated()?,
            (None, format) => format.format_name() != "vpc" || format.info().cluster_size.is_none(),
        };
        Ok(if holes { Told::Holes } else { Told::Data })
    }

    fn tell(self, entry: &mut MapEntry) {
        match self {
            Told::Data if entry.data => entry.zero = false,
            Told::Holes | Told::Data => {}
            Told::Hidden => (entry.offset, entry.file) = (None, None),
            Told::Whole => {
                (entry.present, entry.data, entry.zero) = (true, true, false);
                (entry.offset, entry.file) = (None, None);
            }
        }
    }
}

impl<'a> Runs<'a> {
    /// From `start` to `end`.
    pub fn new(image: &'a Image, start: u64, end: u64) -> Runs<'a> {
        Runs { image, at: start, end, held: None, told: Vec::new() }
    }

    /// The same as qemu-img tells it.
    fn told(self) -> Result<Runs<'a>> {
        let (mut told, mut image) = (Vec::new(), Some(self.image));
        while let Some(now) = image {
            told.push(Told::of(now)?);
            image = now.backing().map(|below| &**below);
        }
        Ok(Runs { told, ..self })
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<MapEntry>;

    fn next(&mut self) -> Option<Result<MapEntry>> {
        while self.at < self.end {
            let mut entry = match self.image.map(GuestOffset(self.at), self.end - self.at) {
                Ok(entry) => entry,
                Err(error) => {
                    self.at = self.end;
                    return Some(Err(error.into()));
                }
            };
            self.at += entry.length;
            if let Some(told) = self.told.get(entry.depth) {
                told.tell(&mut entry);
            }
            match &mut self.held {
                Some(held) if continues(held, &entry) => held.length += entry.length,
                held => {
                    if let Some(done) = held.replace(entry) {
                        return Some(Ok(done));
                    }
                }
            }
        }
        self.held.take().map(Ok)
    }
}

fn continues(held: &MapEntry, next: &MapEntry) -> bool {
    let kind = |e: &MapEntry| (e.depth, e.present, e.zero, e.data, e.compressed, e.file.clone());
    let place = match (held.offset, next.offset) {
        (Some(a), Some(b)) => a.plus(held.length) == b,
        (a, b) => a == b,
    };
    place && kind(held) == kind(next)
}

/// The whole map as JSON.
#[cfg(test)]
pub fn print(image: &Image, out: &mut dyn Write) -> Result<()> {
    let mut printer = Printer { json: true, first: true };
    let written = printer.all(image, 0, image.size(), out)?;
    written.map_err(|source| crate::ImageError::Io { name: "memory".to_owned(), source })
}

struct Printer {
    json: bool,
    first: bool,
}

impl Printer {
    fn all(
        &mut self,
        image: &Image,
        start: u64,
        end: u64,
        out: &mut dyn Write,
    ) -> Result<std::io::Result<()>> {
        let mut written = if self.json {
            write!(out, "[")
        } else {
            writeln!(out, "{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to")
        };
        for run in Runs::new(image, start, end).told()? {
            let run = run?;
            written = written.and_then(|()| self.one(&run, out));
        }
        Ok(if self.json { written.and_then(|()| writeln!(out, "]")) } else { written })
    }

    fn one(&mut self, run: &MapEntry, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.json {
            return match (run.data && !run.zero, run.offset, &run.file) {
                (true, Some(offset), Some(file)) => {
                    let hex = |n: u64| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
                    let (start, length) = (hex(run.start.get()), hex(run.length));
                    writeln!(out, "{start:<16}{length:<16}{:<16}{file}", hex(offset.get()))
                }
                _ => Ok(()),
            };
        }
        if !std::mem::take(&mut self.first) {
            writeln!(out, ",")?;
        }
        write!(
            out,
            "{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, \"data\": {}, \"compressed\": {}",
            run.start.get(),
            run.length,
            run.depth,
            run.present,
            run.zero,
            run.data,
            run.compressed
        )?;
        if let Some(offset) = run.offset {
            write!(out, ", \"offset\": {}", offset.get())?;
        }
        write!(out, "}}")
    }
}
