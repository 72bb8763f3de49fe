//! `kezhan image snapshot`

use crate::error::Result;
use crate::open::{Open, close, qcow2};
use crate::size;
use kezhan_qcow2::{Snapshot, SnapshotTime};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// List, make, apply or delete snapshots within an image.
#[derive(Clone, Debug, clap::Args)]
pub struct SnapshotArgs {
    /// List them (what is done when nothing else is asked for)
    #[arg(short, group = "verb")]
    list: bool,
    /// Make the disk what it was at a snapshot
    #[arg(short, value_name = "SNAPSHOT", group = "verb")]
    apply: Option<String>,
    /// Make a snapshot
    #[arg(short, value_name = "SNAPSHOT", group = "verb")]
    create: Option<String>,
    /// Delete a snapshot
    #[arg(short, value_name = "SNAPSHOT", group = "verb")]
    delete: Option<String>,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// Say nothing but errors
    #[arg(short)]
    quiet: bool,
    /// Open although another process writes (only to list)
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The image
    file: String,
}

impl SnapshotArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let changes = self.apply.is_some() || self.create.is_some() || self.delete.is_some();
        let format = self.format.as_deref();
        let open = if changes { Open::write(format) } else { Open::read(format, self.force_share) };
        let image = open.alone().open(&self.file)?;
        let format = qcow2(&image, "internal snapshots")?;
        if let Some(name) = &self.create {
            image.alone(|_| format.create_snapshot(name, now()))?;
        } else if let Some(name) = &self.apply {
            let snapshot = format.find_snapshot(name)?;
            image.alone(|_| format.apply_snapshot(&snapshot))?;
        } else if let Some(name) = &self.delete {
            let snapshot = format.find_snapshot(name)?;
            image.alone(|_| format.delete_snapshot(&snapshot))?;
        } else {
            let all: Vec<Value> = format.snapshots()?.iter().map(describe).collect();
            if !all.is_empty() {
                print!("{}", table(&all));
            }
        }
        if changes {
            close(image)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn now() -> SnapshotTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SnapshotTime { seconds: since.as_secs() as u32, nanoseconds: since.subsec_nanos() }
}

/// The JSON of a snapshot.
pub fn describe(snapshot: &Snapshot) -> Value {
    let mut value = json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.time.seconds,
        "date-nsec": snapshot.time.nanoseconds,
        "vm-clock-sec": snapshot.vm_clock / 1_000_000_000,
        "vm-clock-nsec": snapshot.vm_clock % 1_000_000_000,
    });
    if let Some(icount) = snapshot.icount {
        value["icount"] = json!(icount);
    }
    value
}

/// The snapshots as a table.
pub fn table(snapshots: &[Value]) -> String {
    let mut out = format!(
        "Snapshot list:\n{:<7} {:<16} {:>8} {:>20} {:>15} {:>10}\n",
        "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"
    );
    for snapshot in snapshots {
        let text = |key: &str| snapshot[key].as_str().unwrap_or("").to_owned();
        let number = |key: &str| snapshot[key].as_u64().unwrap_or(0);
        let (clock, nanoseconds) = (number("vm-clock-sec"), number("vm-clock-nsec"));
        let clock = format!(
            "{:04}:{:02}:{:02}.{:03}",
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            nanoseconds / 1_000_000
        );
        let icount = snapshot.get("icount").map(Value::to_string).unwrap_or_default();
        out += &format!(
            "{:<7} {:<16} {:>8} {:>20} {clock:>15} {icount:>10}\n",
            text("id"),
            text("name"),
            size::human(number("vm-state-size")),
            date(number("date-sec")),
        );
    }
    out
}

fn date(seconds: u64) -> String {
    let zone = jiff::tz::TimeZone::system();
    let time = jiff::Timestamp::from_second(seconds as i64).map(|time| time.to_zoned(zone));
    time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}
