//! `kezhan image create`

use crate::error::{ImageError, Result};
use crate::open::{Open, SecretArgs, driver, options};
use crate::size;
use kezhan_block::storage::FileOptions;
use kezhan_block::{BlockError, CreateRequest, FileStorage, Storage};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Make a new image.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateArgs {
    #[command(flatten)]
    secrets: SecretArgs,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Format of the image
    #[arg(short, value_name = "FMT", default_value = "raw")]
    format: String,
    /// Image that the new one is a change of
    #[arg(short, value_name = "FILE")]
    backing_file: Option<String>,
    /// Format of the backing file
    #[arg(short = 'F', value_name = "FMT")]
    backing_format: Option<String>,
    /// Do not look at the backing file
    #[arg(short = 'u')]
    unsafe_backing: bool,
    /// Options of the format: name=value,…
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// The file to make
    file: String,
    /// Size of the disk, for example 20G; not needed with a backing file
    size: Option<String>,
}

impl CreateArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut request = self.request()?;
        if let Some(backing) = request.backing_file.clone() {
            self.check_backing(&mut request, &backing)?;
        } else if self.size.is_none() && request.option("size").is_none() {
            return Err(ImageError::usage("SIZE: give the size of the new disk, for example 20G"));
        }
        if !self.quiet {
            println!("{}", formatting(&self.file, &self.format, &request));
        }
        request.passphrase = self.secrets.passphrase()?;
        create(&self.file, &self.format, request)?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> Result<CreateRequest> {
        let mut request = request(&self.options)?;
        if let Some(text) = &self.size {
            request.size = size::parse(text)?;
        }
        if self.backing_file.is_some() {
            request.backing_file.clone_from(&self.backing_file);
        }
        if self.backing_format.is_some() {
            request.backing_format.clone_from(&self.backing_format);
        }
        Ok(request)
    }

    /// The backing file must be there and of the format said; it gives the size when none is given.
    fn check_backing(&self, request: &mut CreateRequest, backing: &str) -> Result<()> {
        let sized = self.size.is_some() || request.option("size").is_some();
        if self.unsafe_backing && sized {
            return Ok(());
        }
        let Some(format) = &request.backing_format else {
            return Err(ImageError::usage(format!(
                "-b {backing}: give the format of the backing file with -F"
            )));
        };
        let path = beside(&self.file, backing);
        let image = Open::read(Some(format), false).open(&path.display().to_string())?;
        if !sized {
            request.size = image.size();
        }
        request.backing = Some(image.file().clone());
        Ok(())
    }
}

/// A request from `-o` options: those that every format has are taken out of the list.
///
/// # Errors
/// Options that are not name=value; a size that is not one.
pub fn request(arguments: &[String]) -> Result<CreateRequest> {
    let mut request = CreateRequest { options: options(arguments)?, ..CreateRequest::default() };
    let take = |request: &mut CreateRequest, name: &str| {
        let value = request.option(name).map(str::to_owned);
        request.options.retain(|(key, _)| key != name);
        value
    };
    hints(&mut request)?;
    request.backing_file = take(&mut request, "backing_file").filter(|name| !name.is_empty());
    request.backing_format = take(&mut request, "backing_fmt");
    if let Some(text) = request.option("size").map(str::to_owned) {
        request.size = size::parse(&text)?;
    }
    Ok(request)
}

/// Hints to the host's file system that every format takes: they are checked, and left to the file system.
fn hints(request: &mut CreateRequest) -> Result<()> {
    request.flag("nocow", false)?;
    request.number("extent_size_hint", 0)?;
    request.options.retain(|(key, _)| !["nocow", "extent_size_hint"].contains(&key.as_str()));
    Ok(())
}

/// Makes a file beside an image, for formats of several.
fn make_file(path: &Path) -> std::result::Result<Arc<dyn Storage>, BlockError> {
    Ok(Arc::new(FileStorage::open(path, FileOptions::CREATE)?))
}

/// A name in an image is relative to that image.
pub fn beside(image: &str, name: &str) -> PathBuf {
    let directory = Path::new(image).parent().unwrap_or(Path::new(""));
    directory.join(name)
}

/// Makes the file, and the data file when the options name one.
///
/// # Errors
/// The host's; options that the format does not take.
pub fn create(file: &str, format: &str, mut request: CreateRequest) -> Result<()> {
    let driver = driver(format)?;
    request.make_file = Some(make_file);
    if let Some(name) = request.option("data_file").map(str::to_owned) {
        let data = FileStorage::open(&beside(file, &name), FileOptions::CREATE)?;
        request.data_file = Some(Arc::new(data));
    }
    let storage: Arc<dyn Storage> =
        Arc::new(FileStorage::open(Path::new(file), FileOptions::CREATE)?);
    // A disk has whole sectors.
    request.size = request.size.next_multiple_of(512);
    driver.create(storage, &request)?;
    Ok(())
}

fn formatting(file: &str, format: &str, request: &CreateRequest) -> String {
    let mut line = format!("Formatting '{file}', fmt={format}");
    for (name, value) in request.options.iter().filter(|(name, _)| name != "size") {
        line += &format!(" {name}={value}");
    }
    line += &format!(" size={}", request.size);
    if let Some(backing) = &request.backing_file {
        line += &format!(" backing_file={backing}");
    }
    if let Some(format) = &request.backing_format {
        line += &format!(" backing_fmt={format}");
    }
    line
}
