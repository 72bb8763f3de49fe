//! `kezhan image check`

use crate::error::Result;
use crate::{OutputFormat, open};
use kezhan_block::Image;
use kezhan_qcow2::{CheckReport, Qcow2, Repair};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// What to repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RepairMode {
    Leaks,
    All,
}

/// Check an image for consistency, and repair it.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Say nothing but errors
    #[arg(short)]
    quiet: bool,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// What to repair
    #[arg(short, long, value_enum)]
    repair: Option<RepairMode>,
    /// Cache mode
    #[arg(short = 'T', value_name = "CACHE")]
    source_cache: Option<String>,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The image
    file: String,
}

impl CheckArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let image = open::Open {
            writable: self.repair.is_some(),
            backing: false,
            for_check: true,
            ..open::Open::read(self.format.as_deref(), self.force_share)
        }
        .open(&self.file)?;
        let format = image.format().format_name();
        let Some(qcow2) = image.format().as_any().downcast_ref::<Qcow2>() else {
            println!("{}: {format} images cannot be checked", self.file);
            return Ok(ExitCode::from(63));
        };
        let report = self.check(&image, qcow2)?;
        if self.output == OutputFormat::Json {
            println!("{}", pretty(&json_report(&report, &self.file, format)));
        } else if !self.quiet {
            print_report(&report);
        }
        Ok(ExitCode::from(status(&report)))
    }

    fn check(&self, image: &Image, qcow2: &Qcow2) -> Result<CheckReport> {
        let repair = match self.repair {
            None => Repair::None,
            Some(RepairMode::Leaks) => Repair::Leaks,
            Some(RepairMode::All) => Repair::All,
        };
        let report = image.alone(|_| qcow2.check(repair))?;
        if repair != Repair::None && image.file().size()? > report.image_end && report.errors == 0 {
            image.file().set_size(report.image_end)?;
        }
        Ok(report)
    }
}

fn status(report: &CheckReport) -> u8 {
    if report.errors > 0 {
        1
    } else if report.corruptions > 0 {
        2
    } else if report.leaks > 0 {
        3
    } else {
        0
    }
}

/// JSON over several lines, four spaces deep.
pub fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

/// The JSON of a report.
pub fn json_report(report: &CheckReport, file: &str, format: &str) -> Value {
    let mut object = Map::new();
    object.insert("filename".into(), json!(file));
    object.insert("format".into(), json!(format));
    object.insert("check-errors".into(), json!(report.errors));
    // What is zero is left out, but for the numbers that every report has.
    let optional = [
        ("image-end-offset", report.image_end),
        ("corruptions", report.corruptions),
        ("leaks", report.leaks),
        ("corruptions-fixed", report.corruptions_fixed),
        ("leaks-fixed", report.leaks_fixed),
        ("total-clusters", report.total_clusters),
        ("allocated-clusters", report.allocated_clusters),
        ("fragmented-clusters", report.fragmented_clusters),
        ("compressed-clusters", report.compressed_clusters),
    ];
    for (name, number) in optional.into_iter().filter(|(_, number)| *number != 0) {
        object.insert(name.into(), json!(number));
    }
    Value::Object(object)
}

fn print_report(report: &CheckReport) {
    report.messages.iter().for_each(|message| println!("{message}"));
    if report.leaks_fixed + report.corruptions_fixed > 0 {
        println!(
            "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    {} corruptions\n\nDouble checking the fixed image now...",
            report.leaks_fixed, report.corruptions_fixed
        );
    }
    if report.corruptions + report.errors + report.leaks == 0 {
        println!("No errors were found on the image.");
    }
    if report.corruptions > 0 {
        println!(
            "\n{} errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.",
            report.corruptions
        );
    }
    if report.leaks > 0 {
        println!(
            "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.",
            report.leaks
        );
    }
    if report.total_clusters != 0 && report.allocated_clusters != 0 {
        let of = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
        println!(
            "{}/{} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters",
            report.allocated_clusters,
            report.total_clusters,
            of(report.allocated_clusters, report.total_clusters),
            of(report.fragmented_clusters, report.allocated_clusters),
            of(report.compressed_clusters, report.allocated_clusters)
        );
    }
    if report.image_end > 0 {
        println!("Image end offset: {}", report.image_end);
    }
}
