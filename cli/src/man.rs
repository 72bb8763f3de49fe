//! `kezhan man`.

use crate::command::Kezhan;
use crate::failure::Failure;
use crate::output::print;
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;
use kezhan_vmm::status;

/// Print a manual page
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kezhan man | man -l -
  kezhan man run > kezhan-run.1")]
pub(crate) struct Man {
    /// The command; without it, the page of kezhan itself
    command: Option<String>,
}

impl Man {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        print(&self.page()?)?;
        Ok(status::OK)
    }

    fn page(&self) -> Result<String, Failure> {
        let mut all = Kezhan::command();
        all.build();
        let command = match &self.command {
            None => all,
            Some(name) => all.find_subcommand(name).cloned().ok_or_else(|| {
                let text = format!("no command '{name}' to show the manual of");
                clap::Error::raw(clap::error::ErrorKind::InvalidSubcommand, text)
            })?,
        };
        // `build` has put the whole path into the name, `kezhan run`; a page's name has a dash.
        let title = command.get_display_name().unwrap_or("kezhan").to_owned();
        let mut page = Vec::new();
        Page::new(command).title(title).render(&mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(command: Option<&str>) -> Result<String, Failure> {
        Man { command: command.map(str::to_owned) }.page()
    }

    #[test]
    fn every_command_has_a_page() {
        for verb in Kezhan::command().get_subcommands() {
            let page = page(Some(verb.get_name())).unwrap();
            assert!(page.contains(&format!(".TH kezhan-{}", verb.get_name())), "{page}");
        }
        assert!(page(None).unwrap().contains(".TH kezhan "));
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let Err(Failure::Usage(error)) = page(Some("fly")) else { panic!("no such page") };
        assert!(error.to_string().contains("'fly'"));
    }
}
