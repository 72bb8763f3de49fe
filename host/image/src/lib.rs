//! `kezhan image`: makes, examines, converts and changes disk images.
//!
//! Arguments, exit statuses and `--output json` are those of `qemu-img`, so that scripts move over. One
//! file a command: a clap struct with its help, and `run`.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done; for `compare` equal, for `check` nothing found |
//! | 1 | failed; for `compare` the images differ |
//! | 2 | wrong usage; for `compare` failed; for `check` corruptions |
//! | 3 | for `check` leaked clusters |
//! | 63 | for `check` the format cannot be checked |

mod bitmap;
mod check;
mod commit;
mod compare;
mod convert;
mod create;
mod error;
mod info;
mod map;
mod measure;
mod open;
mod parallel;
mod progress;
mod rebase;
mod resize;
mod size;
mod snapshot;
#[cfg(test)]
mod tests;

pub use error::ImageError;

use std::process::ExitCode;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// The commands of `kezhan image`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Add, remove, clear, enable, disable or merge bitmaps that record changes
    Bitmap(bitmap::BitmapArgs),
    /// Check an image for consistency, and repair it
    Check(check::CheckArgs),
    /// Write an image's changes into its backing file
    Commit(commit::CommitArgs),
    /// Compare the contents of two images
    Compare(compare::CompareArgs),
    /// Copy an image into another, perhaps of another format
    Convert(convert::ConvertArgs),
    /// Make a new image
    Create(create::CreateArgs),
    /// Tell what an image is
    Info(info::InfoArgs),
    /// Tell where an image's data lies
    Map(map::MapArgs),
    /// Tell how large a new image would be
    Measure(measure::MeasureArgs),
    /// Put an image onto another backing file
    Rebase(rebase::RebaseArgs),
    /// Change the size of an image's disk
    Resize(resize::ResizeArgs),
    /// List, make, apply or delete snapshots within an image
    Snapshot(snapshot::SnapshotArgs),
}

/// Runs a command. What it says goes to standard output, why it failed to standard error.
pub fn run(command: ImageCommand) -> ExitCode {
    let failure = if matches!(command, ImageCommand::Compare(_)) { 2 } else { 1 };
    let done = match command {
        ImageCommand::Bitmap(args) => args.run(),
        ImageCommand::Check(args) => args.run(),
        ImageCommand::Commit(args) => args.run(),
        ImageCommand::Compare(args) => args.run(),
        ImageCommand::Convert(args) => args.run(),
        ImageCommand::Create(args) => args.run(),
        ImageCommand::Info(args) => args.run(),
        ImageCommand::Map(args) => args.run(),
        ImageCommand::Measure(args) => args.run(),
        ImageCommand::Rebase(args) => args.run(),
        ImageCommand::Resize(args) => args.run(),
        ImageCommand::Snapshot(args) => args.run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("kezhan image: {error}");
        ExitCode::from(failure)
    })
}
