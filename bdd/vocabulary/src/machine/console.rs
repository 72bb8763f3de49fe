//! A serial console: transcript, cursor, and typing that checks its echo.
//!
//! The cursor says what was already taken notice of. A match moves it behind what matched, and typing moves it behind
//! the echo, so that a prompt of an hour ago never answers a question of now.
//!
//! Typing goes in small pieces, each of which must come back before the next is sent: a guest that is not ready loses
//! characters, and a line that was sent whole would go wrong without a word. A line whose echo does not come is wiped
//! (Ctrl-U) and typed again one by one, each character again until it is echoed; if that does not help, the error
//! names the character that was lost. Enter, too, must be answered, if only by a new line.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most of a transcript that is kept, in bytes; beyond it the oldest half is dropped.
const MAX_TRANSCRIPT: usize = 16 << 20;

/// How long the echo of one piece may take before the line is typed anew.
const ECHO: Duration = Duration::from_millis(1200);

/// The sizes of the pieces in which a line is typed, one per try.
const TRIES: [usize; 3] = [12, 1, 1];

/// How often one character is sent when characters are sent one by one, each time with the patience of [`ECHO`].
const REPEATS: usize = 2;

/// How long the guest must be quiet before a line is begun anew.
const QUIET: Duration = Duration::from_millis(200);

/// Kills the line that is being typed. (POSIX.1-2017 §11.1.9, KILL)
const KILL_LINE: u8 = 0x15;

/// What can go wrong with typing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleError {
    /// The guest's side is gone.
    Closed(String),
    /// A character was sent and not echoed, try after try.
    NotEchoed {
        /// Its place in the line, from one.
        place: usize,
        /// The character.
        letter: char,
    },
}

impl std::fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConsoleError::Closed(reason) => write!(f, "the console is closed: {reason}"),
            ConsoleError::NotEchoed { place, letter } => {
                write!(f, "character {place}, {letter:?}, was typed again and again and not echoed")
            }
        }
    }
}

/// What the guest wrote so far, shared with the thread that reads it.
#[derive(Debug, Default)]
pub struct Transcript {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Bytes that were dropped at the front.
    dropped: usize,
    closed: bool,
}

impl Transcript {
    /// Adds what the guest wrote.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes.extend_from_slice(bytes);
        if state.bytes.len() > MAX_TRANSCRIPT {
            let half = state.bytes.len() / 2;
            state.bytes.drain(..half);
            state.dropped += half;
        }
        self.grown.notify_all();
    }

    /// The guest will write no more.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.grown.notify_all();
    }

    /// Waits until there is more than `end`, or time is up, or nothing more will come.
    fn wait_beyond(&self, end: usize, deadline: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.dropped + state.bytes.len() <= end && !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A console.
pub struct Console {
    input: Box<dyn Write + Send>,
    transcript: Arc<Transcript>,
    cursor: usize,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Console {
    /// A console that types into `input`, and whose output another thread pushes into `transcript`.
    pub fn new(input: Box<dyn Write + Send>, transcript: Arc<Transcript>) -> Console {
        Console { input, transcript, cursor: 0 }
    }

    /// Everything that the guest wrote, without control sequences.
    pub fn log(&self) -> String {
        self.from(0)
    }

    /// What the guest wrote behind the cursor, without control sequences.
    pub fn fresh(&self) -> String {
        self.from(self.cursor)
    }

    /// How much the guest has written.
    fn end(&self) -> usize {
        let state = self.transcript.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.dropped + state.bytes.len()
    }

    fn raw_from(&self, place: usize) -> Vec<u8> {
        let state = self.transcript.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes.get(place.saturating_sub(state.dropped)..).unwrap_or_default().to_vec()
    }

    fn from(&self, place: usize) -> String {
        plain(&self.raw_from(place)).text
    }

    /// Looks behind the cursor with `find`, which answers where a match ends in the plain text; the cursor moves there.
    pub fn take(&mut self, find: &dyn Fn(&str) -> Option<usize>) -> Option<String> {
        let shown = plain(&self.raw_from(self.cursor));
        let end = find(&shown.text)?;
        self.cursor += shown.raw_end(end);
        shown.text.get(..end).map(str::to_owned)
    }

    /// Moves the cursor to the end: what was shown so far answers nothing any more.
    pub fn look_away(&mut self) {
        self.cursor = self.end();
    }

    /// Types without looking.
    ///
    /// # Errors
    /// When the guest's side is gone.
    pub fn send(&mut self, text: &[u8]) -> Result<(), ConsoleError> {
        let sent = self.input.write_all(text).and_then(|()| self.input.flush());
        sent.map_err(|error| ConsoleError::Closed(error.to_string()))
    }

    /// Types a text piece by piece, each of which must be echoed. The cursor moves behind the echo.
    ///
    /// # Errors
    /// When the guest's side is gone, and when a character is never echoed.
    pub fn type_text(&mut self, text: &str) -> Result<(), ConsoleError> {
        let letters: Vec<char> = text.chars().collect();
        let mut lost = ConsoleError::Closed("nothing was typed".to_owned());
        for piece in TRIES {
            self.look_away();
            let (place, silent) = match self.type_pieces(&letters, piece)? {
                Echo::Whole(_) => return Ok(()),
                Echo::Short(place) => (place, true),
                Echo::Wrong(place) => (place, false),
            };
            let letter = letters.get(place).copied().unwrap_or_default();
            lost = ConsoleError::NotEchoed { place: place + 1, letter };
            self.wipe()?;
            if piece == 1 && silent {
                break;
            }
        }
        Err(lost)
    }

    /// Types and presses Enter, which must be answered; the cursor moves behind the echo.
    ///
    /// # Errors
    /// As [`Console::type_text`].
    pub fn enter(&mut self, text: &str) -> Result<(), ConsoleError> {
        if !text.is_empty() {
            self.type_text(text)?;
        }
        let end = self.end();
        self.send(b"\r")?;
        for _ in 1..TRIES.len() {
            self.transcript.wait_beyond(end, Instant::now() + ECHO);
            // A guest that is gone has heard, and one that echoes nothing at all may have heard, too.
            if self.end() > end || self.send(b"\r").is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Answers how far the echo went.
    fn type_pieces(&mut self, letters: &[char], piece: usize) -> Result<Echo, ConsoleError> {
        let mut typed = 0;
        for chunk in letters.chunks(piece) {
            let text = chunk.iter().collect::<String>();
            typed += chunk.len();
            // One character alone may be sent again: either it was lost, or the check after it finds it twice.
            let times = if piece == 1 { REPEATS } else { 1 };
            let mut echo = Echo::Short(typed);
            for _ in 0..times {
                self.send(text.as_bytes())?;
                echo = self.await_echo(letters, typed, ECHO);
                if !matches!(echo, Echo::Short(_)) {
                    break;
                }
            }
            match echo {
                Echo::Whole(raw) if typed == letters.len() => self.cursor += raw,
                Echo::Whole(_) => {}
                Echo::Short(_) | Echo::Wrong(_) => return Ok(echo),
            }
        }
        Ok(Echo::Whole(0))
    }

    /// Waits until the first `count` characters have been echoed, or something else was.
    fn await_echo(&self, letters: &[char], count: usize, patience: Duration) -> Echo {
        let deadline = Instant::now() + patience;
        loop {
            let end = self.end();
            let echo = self.echoed(letters, count);
            let left = deadline.saturating_duration_since(Instant::now());
            match echo {
                Echo::Whole(_) => return echo,
                // A wrong character will not become right by waiting, but a kernel's message may end.
                Echo::Wrong(_) if left < patience / 2 => return echo,
                _ if left.is_zero() => return echo,
                _ => self.transcript.wait_beyond(end, Instant::now() + left.min(patience / 4)),
            }
        }
    }

    /// Wipes the line that was typed in part. What was echoed of it is wiped with an answer, so that silence means that
    /// the key was lost.
    fn wipe(&mut self) -> Result<(), ConsoleError> {
        let echoed = self.end() > self.cursor;
        for _ in 0..2 {
            let end = self.end();
            self.send(&[KILL_LINE])?;
            self.settle();
            if !echoed || self.end() > end {
                break;
            }
        }
        Ok(())
    }

    /// Compares what came behind the cursor with the first `count` characters of a line. Line breaks, and the space
    /// that a line editor puts before one, are the terminal's and not the text's.
    fn echoed(&self, letters: &[char], count: usize) -> Echo {
        let shown = plain(&self.raw_from(self.cursor));
        let mut wanted = letters.iter().take(count).enumerate().peekable();
        let mut seen = shown.text.char_indices().peekable();
        while let Some((place, letter)) = wanted.peek().copied() {
            match seen.next() {
                None => return Echo::Short(place),
                Some((_, c)) if c == *letter => {
                    wanted.next();
                }
                Some((_, '\n')) => {}
                Some((_, ' ')) if matches!(seen.peek(), None | Some((_, '\n'))) => {}
                Some(_) => return Echo::Wrong(place),
            }
        }
        let end = seen.peek().map_or(shown.text.len(), |(at, _)| *at);
        Echo::Whole(shown.raw_end(end))
    }

    /// Waits until the guest has been quiet for a moment.
    fn settle(&self) {
        let until = Instant::now() + ECHO;
        loop {
            let end = self.end();
            self.transcript.wait_beyond(end, Instant::now() + QUIET);
            if self.end() == end || Instant::now() > until {
                return;
            }
        }
    }
}

/// A keyboard whose every nth key is lost: what a guest that is too slow for its serial port does. For trying out
/// steps, ours and others'.
pub(super) struct Lossy<W> {
    pub keys: W,
    /// Every so manieth byte is lost.
    pub every: u64,
    pub count: u64,
}

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.count += 1;
            if !self.count.is_multiple_of(self.every.max(1)) {
                self.keys.write_all(std::slice::from_ref(byte))?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.keys.flush()
    }
}

enum Echo {
    /// All is there; it takes so many raw bytes.
    Whole(usize),
    /// The echo ends before this character.
    Short(usize),
    /// Another character stands in the place of this one.
    Wrong(usize),
}

/// Text without control sequences, and where each of its bytes came from.
struct Plain {
    text: String,
    origins: Vec<usize>,
    length: usize,
}

impl Plain {
    /// How many raw bytes lead to a place in the text.
    fn raw_end(&self, place: usize) -> usize {
        match self.origins.get(place) {
            Some(origin) => *origin,
            None => self.length,
        }
    }
}

/// Drops carriage returns, other controls but line feed and tab, and escape sequences. (ECMA-48 §5.4, §5.6)
fn plain(raw: &[u8]) -> Plain {
    let mut result = Plain { text: String::new(), origins: Vec::new(), length: raw.len() };
    let mut letters = decode(raw).into_iter().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\u{1b}' => skip_sequence(&mut letters),
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => {
                result.text.push(c);
                result.origins.extend(std::iter::repeat_n(at, c.len_utf8()));
            }
        }
    }
    result
}

/// The characters with their places; what is no UTF-8 becomes U+FFFD.
fn decode(raw: &[u8]) -> Vec<(usize, char)> {
    let mut letters = Vec::new();
    let mut at = 0;
    for chunk in raw.utf8_chunks() {
        letters.extend(chunk.valid().char_indices().map(|(offset, letter)| (at + offset, letter)));
        at += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            letters.push((at, '\u{fffd}'));
            at += chunk.invalid().len();
        }
    }
    letters
}

type Letters = std::iter::Peekable<std::vec::IntoIter<(usize, char)>>;

fn skip_sequence(letters: &mut Letters) {
    match letters.peek().map(|(_, c)| *c) {
        Some('[') => {
            letters.next();
            while letters.next_if(|(_, c)| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
            letters.next_if(|(_, c)| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']') => {
            while letters.next_if(|(_, c)| *c != '\u{7}' && *c != '\u{1b}').is_some() {}
            letters.next();
        }
        Some(_) => {
            while letters.next_if(|(_, c)| ('\u{20}'..='\u{2f}').contains(c)).is_some() {}
            letters.next();
        }
        None => {}
    }
}

#[cfg(test)]
mod tests;
