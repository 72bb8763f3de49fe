//! `kezhan image resize`

use crate::error::{ImageError, Result};
use crate::open::{Open, SecretArgs, close};
use crate::size;
use kezhan_block::{GuestOffset, HostOffset, Preallocation, Span};
use std::process::ExitCode;

/// Change the size of an image's disk.
#[derive(Clone, Debug, clap::Args)]
pub struct ResizeArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// What to reserve for the new part: off, falloc or full
    #[arg(long, value_name = "MODE", default_value = "off")]
    preallocation: String,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Allow a smaller size: what lies past the new end is lost
    #[arg(long)]
    shrink: bool,
    /// The image
    file: String,
    /// The new size, or +SIZE to add, or -SIZE to take away
    #[arg(allow_hyphen_values = true)]
    size: String,
}

impl ResizeArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let passphrase = self.secrets.passphrase()?;
        let open =
            Open { passphrase: passphrase.as_deref(), ..Open::write(self.format.as_deref()) };
        let image = open.open(&self.file)?;
        let old = image.size();
        let new = self.new_size(old)?;
        if new < old && !self.shrink {
            return Err(ImageError::usage(format!(
                "{}: {new} bytes are fewer than its {old}; give --shrink when what lies past them may be lost",
                self.file
            )));
        }
        image.resize(new)?;
        let backing = image.backing().map_or(0, |backing| backing.size());
        if new > old && backing > old {
            // The backing file would show through where there was nothing before.
            let shown = Span::between(GuestOffset(old), GuestOffset(new.min(backing)));
            image.write_zeroes(shown, true)?;
        }
        match self.preallocation.parse::<Preallocation>()? {
            Preallocation::Off => {}
            _ if image.format().format_name() != "raw" => {
                return Err(ImageError::usage("--preallocation: only raw images take it here"));
            }
            _ => image.file().reserve(HostOffset(old), new.saturating_sub(old))?,
        }
        close(image)?;
        if !self.quiet {
            println!("Image resized.");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn new_size(&self, old: u64) -> Result<u64> {
        let wrong =
            || ImageError::usage(format!("{}: leaves no valid size of {old} bytes", self.size));
        let bytes = match self.size.strip_prefix(['+', '-']) {
            None => size::parse(&self.size)?,
            Some(text) if self.size.starts_with('+') => {
                old.checked_add(size::parse(text)?).ok_or_else(wrong)?
            }
            Some(text) => old.checked_sub(size::parse(text)?).ok_or_else(wrong)?,
        };
        Ok(bytes.next_multiple_of(512))
    }
}
