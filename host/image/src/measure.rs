//! `kezhan image measure`

use crate::check::pretty;
use crate::error::{ImageError, Result};
use crate::open::Open;
use crate::{OutputFormat, convert, create, size};
use kezhan_block::{Image, Preallocation};
use kezhan_qcow2::{CreatePlan, Layout, Qcow2};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Tell how large a new image would be.
#[derive(Clone, Debug, clap::Args)]
pub struct MeasureArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Format of the new image
    #[arg(short = 'O', value_name = "FMT", default_value = "raw")]
    output_format: String,
    /// Options of the new image: name=value,…
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Size of the new disk, when it is not made from an image
    #[arg(short, long, value_name = "SIZE", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    size: Option<u64>,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Snapshot of the image
    #[arg(short = 'l', value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The image that the new one is made from
    file: Option<String>,
}

/// What a new image needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    required: u64,
    fully_allocated: u64,
    bitmaps: Option<u64>,
}

impl MeasureArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let measure = self.measure()?;
        match self.output {
            OutputFormat::Json => println!("{}", pretty(&measure.json())),
            OutputFormat::Human => measure.print(),
        }
        Ok(ExitCode::SUCCESS)
    }

    pub(crate) fn measure(&self) -> Result<Measure> {
        let source = match (&self.file, self.size) {
            (Some(file), None) => {
                let open = Open::read(self.format.as_deref(), self.force_share);
                Some(convert::open_source(open, file, self.snapshot.as_deref())?)
            }
            (None, Some(_)) => None,
            _ => return Err(ImageError::usage("measure: give either an image or --size")),
        };
        let size = self.size.or(source.as_ref().map(Image::size)).unwrap_or(0);
        let measure = match self.output_format.as_str() {
            "raw" => {
                let size = size.next_multiple_of(512);
                Measure { required: size, fully_allocated: size, bitmaps: None }
            }
            "qcow2" => self.qcow2(size, source.as_ref())?,
            other => {
                let text = format!("-O {other}: only raw and qcow2 can be measured");
                return Err(ImageError::usage(text));
            }
        };
        Ok(measure)
    }

    fn qcow2(&self, size: u64, source: Option<&Image>) -> Result<Measure> {
        let mut request = create::request(&self.options)?;
        request.size = size;
        let plan = CreatePlan::new(&request)?;
        let cluster = plan.layout.cluster();
        let size = size.next_multiple_of(cluster);
        let reserved = matches!(plan.preallocation, Preallocation::Falloc | Preallocation::Full);
        let data = match source {
            _ if reserved => size,
            Some(image) => allocated(image, cluster)?,
            None => 0,
        };
        let fully_allocated = metadata(&plan.layout, size) + size;
        let bitmaps = source.and_then(|image| image.format().as_any().downcast_ref::<Qcow2>());
        let bitmaps = match bitmaps {
            Some(qcow2) if plan.layout.v3 => bitmap_bytes(qcow2, size, cluster)?,
            _ => None,
        };
        Ok(Measure { required: fully_allocated - size + data, fully_allocated, bitmaps })
    }
}

/// Bytes in clusters that hold data.
fn allocated(image: &Image, cluster: u64) -> Result<u64> {
    let (mut bytes, mut counted_to) = (0, 0);
    for run in crate::map::Runs::new(image, 0, image.size()) {
        let run = run?;
        if run.zero || !run.data {
            continue;
        }
        let start = (run.start.get() - run.start.within(cluster)).max(counted_to);
        let end = (run.start.get() + run.length).next_multiple_of(cluster);
        bytes += end.saturating_sub(start);
        counted_to = end;
    }
    Ok(bytes)
}

/// Bytes of tables for a disk of `size` bytes (whole clusters), all of it allocated.
fn metadata(layout: &Layout, size: u64) -> u64 {
    let cluster = layout.cluster();
    let l2_entries = (size / cluster).next_multiple_of(layout.l2_entries());
    let l1_entries = (l2_entries * layout.entry() / cluster).next_multiple_of(cluster / 8);
    let tables = cluster + l2_entries * layout.entry() + l1_entries * 8;
    let clusters = (tables + size) / cluster;
    let (mut blocks, mut table) = (0u64, 0u64);
    loop {
        let more = (clusters + table + blocks).div_ceil(layout.block_entries());
        let more_table = more.div_ceil(cluster / 8);
        if (more, more_table) == (blocks, table) {
            return tables + (blocks + table) * cluster;
        }
        (blocks, table) = (more, more_table);
    }
}

/// Bytes that copies of an image's bitmaps take.
fn bitmap_bytes(qcow2: &Qcow2, size: u64, cluster: u64) -> Result<Option<u64>> {
    let list = qcow2.bitmap_list()?;
    if list.is_empty() {
        return Ok(Some(0));
    }
    let mut bytes = 0;
    let mut directory = 0;
    for info in &list {
        let bits = size.div_ceil(1 << info.granularity_bits).div_ceil(8);
        let clusters = bits.div_ceil(cluster);
        bytes += clusters * cluster + (clusters * 8).next_multiple_of(cluster);
        directory += (24 + info.name.len() as u64).next_multiple_of(8);
    }
    Ok(Some(bytes + directory.next_multiple_of(cluster)))
}

impl Measure {
    pub(crate) fn json(self) -> Value {
        let mut value = json!({"required": self.required, "fully-allocated": self.fully_allocated});
        if let Some(bytes) = self.bitmaps {
            value["bitmaps"] = json!(bytes);
        }
        value
    }

    fn print(self) {
        println!(
            "required size: {}\nfully allocated size: {}",
            self.required, self.fully_allocated
        );
        if let Some(bytes) = self.bitmaps {
            println!("bitmaps size: {bytes}");
        }
    }
}
