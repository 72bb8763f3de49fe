use super::*;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::pipe;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::sync::{Arc, Mutex, mpsc};

const LONG: Duration = Duration::from_secs(10);

/// The list of altered terminals belongs to the process, so tests that alter one take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A pseudo-terminal: the person's end and the machine's.
fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let machine = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (person, machine)
}

fn open_on(machine: &OwnedFd) -> (Terminal, TerminalPort) {
    let ends =
        TerminalEnds { input: machine.try_clone().unwrap(), output: machine.try_clone().unwrap() };
    Terminal::open(ends, "inn", || {}).unwrap()
}

fn is_canonical(terminal: &OwnedFd) -> bool {
    let modes = tcgetattr(terminal).unwrap().local_modes;
    modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

#[test]
fn a_terminal_is_raw_while_it_is_open_and_as_before_afterwards() {
    let _turn = crate::lock(&TURN);
    let (_person, machine) = pseudo_terminal();
    assert!(is_canonical(&machine));
    let (terminal, _port) = open_on(&machine);
    assert!(terminal.is_raw() && !is_canonical(&machine));
    terminal.finish(LONG);
    assert!(is_canonical(&machine));
}

#[test]
fn a_panic_hook_on_another_thread_restores_it() {
    let _turn = crate::lock(&TURN);
    let (_person, machine) = pseudo_terminal();
    let raw = RawMode::enter(machine.as_fd(), None).unwrap();
    assert!(!is_canonical(&machine));
    std::thread::spawn(crate::restore_terminals).join().unwrap();
    assert!(is_canonical(&machine));
    drop(raw);
}

#[test]
fn raw_mode_comes_back_when_the_process_is_continued() {
    let _turn = crate::lock(&TURN);
    let (_person, machine) = pseudo_terminal();
    let raw = RawMode::enter(machine.as_fd(), None).unwrap();
    let mut modes = tcgetattr(&machine).unwrap();
    modes.local_modes |= LocalModes::ICANON;
    rustix::termios::tcsetattr(&machine, rustix::termios::OptionalActions::Now, &modes).unwrap();
    raw.again();
    assert!(!tcgetattr(&machine).unwrap().local_modes.contains(LocalModes::ICANON));
}

#[test]
fn the_title_is_set_and_the_old_one_brought_back() {
    let _turn = crate::lock(&TURN);
    let (person, machine) = pseudo_terminal();
    drop(RawMode::enter(machine.as_fd(), Some((machine.as_fd(), "inn"))).unwrap());
    let expected = b"\x1b[22;2t\x1b]2;inn\x07\x1b[23;2t";
    let mut seen = Vec::new();
    let mut data = [0; 64];
    while seen.len() < expected.len() {
        let count = rustix::io::read(&person, &mut data).unwrap();
        seen.extend_from_slice(&data[..count]);
    }
    assert_eq!(seen, expected);
}

#[test]
fn typing_reaches_the_guest_and_the_menu_its_commands() {
    let _turn = crate::lock(&TURN);
    let (person, machine) = pseudo_terminal();
    let (mut terminal, mut port) = open_on(&machine);
    rustix::io::write(&person, b"ls\r\x03\x1ds").unwrap();
    let mut commands = Vec::new();
    while commands.is_empty() {
        commands = terminal.take_input();
    }
    assert_eq!(commands, [MenuCommand::Status]);
    let mut got = [0; 16];
    assert_eq!(port.read(&mut got), 4);
    assert_eq!(&got[..4], b"ls\r\x03");
}

#[test]
fn a_pipe_passes_untouched_up_to_its_end() {
    let (input, typed) = pipe().unwrap();
    let (output, screen) = pipe().unwrap();
    let ends = TerminalEnds { input, output: screen };
    let (mut terminal, mut port) = Terminal::open(ends, "inn", || {}).unwrap();
    assert!(!terminal.is_raw());
    rustix::io::write(&typed, b"a\x1dq").unwrap();
    assert!(terminal.take_input().is_empty());
    let mut got = [0; 16];
    assert_eq!(port.read(&mut got), 3);
    drop(typed);
    terminal.take_input();
    assert!(terminal.input().is_none(), "the end of the input is polled no more");
    port.write(b"still alive");
    terminal.finish(LONG);
    assert_eq!(rustix::io::read(&output, &mut got).unwrap(), 11);
}

#[test]
fn input_waits_while_the_device_has_no_room() {
    let (input, typed) = pipe().unwrap();
    let (_output, screen) = pipe().unwrap();
    let ends = TerminalEnds { input, output: screen };
    let (mut terminal, mut port) = Terminal::open(ends, "inn", || {}).unwrap();
    let (told, room) = mpsc::channel();
    terminal.set_room_waker(Arc::new(move || {
        told.send(()).ok();
    }));
    rustix::io::write(&typed, &[b'x'; BUFFER_SIZE + 100]).unwrap();
    while terminal.input().is_some() {
        terminal.take_input();
    }
    assert_eq!(port.read(&mut [0; 50]), 50);
    room.recv_timeout(LONG).unwrap();
    assert!(terminal.input().is_some());
}

#[test]
fn a_closed_output_is_told_and_the_guest_goes_on() {
    let (input, _typed) = pipe().unwrap();
    let (output, screen) = pipe().unwrap();
    drop(output);
    let (told, gone) = mpsc::channel();
    let ends = TerminalEnds { input, output: screen };
    let (_terminal, mut port) = Terminal::open(ends, "inn", move || {
        told.send(()).ok();
    })
    .unwrap();
    port.write(b"x");
    gone.recv_timeout(LONG).unwrap();
    assert_eq!(port.write(b"more"), 4);
}
