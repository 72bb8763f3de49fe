//! The menu behind Ctrl-], for a person at the guest's console.
//!
//! A pure filter over what is typed: bytes for the guest pass, `Ctrl-]` and one key become a command.
//!
//! ```text
//!            any byte: pass                 q r p s ?: command, other: dropped
//!          ┌───────────┐    Ctrl-]    ┌──────────────┐
//!          └► typing ──┴─────────────►│ after Ctrl-] │── Ctrl-]: pass one ──► typing
//!                 ▲                   └──────┬───────┘
//!                 └──────────────────────────┘
//! ```

/// Ctrl-] as the terminal sends it (ECMA-48: GS).
const ESCAPE: u8 = 0x1d;

/// What `Ctrl-] ?` shows.
pub const MENU_HELP: &str = "\
Ctrl-] then
  q  quit: switch the machine off at once
  r  reset the machine
  p  press the power button
  s  show the machine's state
  ?  show this help
  Ctrl-]  send Ctrl-] to the guest";

/// What a person asked for at the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MenuCommand {
    /// Switch off at once.
    Quit,
    /// Reset.
    Reset,
    /// Press the power button.
    PowerButton,
    /// Show the state.
    Status,
    /// Show the help.
    Help,
}

/// The filter's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct EscapeMenu {
    escaped: bool,
}

impl EscapeMenu {
    /// Takes what was typed; appends to `pass` what is for the guest and gives the commands, in order.
    pub fn feed(&mut self, typed: &[u8], pass: &mut Vec<u8>) -> Vec<MenuCommand> {
        typed.iter().filter_map(|byte| self.key(*byte, pass)).collect()
    }

    fn key(&mut self, byte: u8, pass: &mut Vec<u8>) -> Option<MenuCommand> {
        if !std::mem::take(&mut self.escaped) {
            match byte {
                ESCAPE => self.escaped = true,
                _ => pass.push(byte),
            }
            return None;
        }
        match byte.to_ascii_lowercase() {
            b'q' => Some(MenuCommand::Quit),
            b'r' => Some(MenuCommand::Reset),
            b'p' => Some(MenuCommand::PowerButton),
            b's' => Some(MenuCommand::Status),
            b'?' | b'h' => Some(MenuCommand::Help),
            ESCAPE => {
                pass.push(ESCAPE);
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(parts: &[&[u8]]) -> (Vec<MenuCommand>, Vec<u8>) {
        let mut menu = EscapeMenu::default();
        let mut pass = Vec::new();
        let commands = parts.iter().flat_map(|part| menu.feed(part, &mut pass)).collect();
        (commands, pass)
    }

    #[test]
    fn typing_passes_and_a_command_does_not() {
        assert_eq!(feed(&[b"ls\r\x1dqx"]), (vec![MenuCommand::Quit], b"ls\rx".to_vec()));
    }

    #[test]
    fn every_command_has_its_key() {
        use MenuCommand::{Help, PowerButton, Quit, Reset, Status};
        let all = feed(&[b"\x1dq\x1dr\x1dp\x1ds\x1d?"]);
        assert_eq!(all, (vec![Quit, Reset, PowerButton, Status, Help], vec![]));
    }

    #[test]
    fn the_escape_and_its_key_may_come_apart() {
        assert_eq!(feed(&[b"\x1d", b"R"]), (vec![MenuCommand::Reset], vec![]));
    }

    #[test]
    fn the_escape_twice_sends_one_and_an_unknown_key_is_dropped() {
        assert_eq!(feed(&[b"\x1d\x1da\x1dzb"]), (vec![], b"\x1dab".to_vec()));
    }
}
