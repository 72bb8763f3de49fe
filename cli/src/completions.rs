//! `kezhan completions`.

use crate::command::Kezhan;
use crate::failure::Failure;
use crate::output::print;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use kezhan_vmm::status;

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kezhan completions bash | sudo tee /usr/share/bash-completion/completions/kezhan
  kezhan completions zsh > ~/.zfunc/_kezhan")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        print(&self.script())?;
        Ok(status::OK)
    }

    fn script(&self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Kezhan::command(), "kezhan", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = Completions { shell }.script();
            assert!(script.contains("no-reboot"), "{shell}");
        }
    }
}
