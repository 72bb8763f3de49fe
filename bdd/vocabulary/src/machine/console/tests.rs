use super::*;
use proptest::prelude::*;
use std::sync::mpsc::{Sender, channel};

/// A guest that echoes what it is typed, but for every `drop`th byte, and runs `answer` on each line.
struct Guest {
    to: Sender<Vec<u8>>,
}

impl Write for Guest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.send(bytes.to_vec()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn guest(greeting: &str, drop: usize) -> Console {
    let (to, from) = channel::<Vec<u8>>();
    let transcript = Arc::new(Transcript::default());
    let shown = transcript.clone();
    shown.push(greeting.as_bytes());
    std::thread::spawn(move || {
        let (mut count, mut line) = (0, Vec::new());
        for byte in from.into_iter().flatten() {
            count += 1;
            if count % drop == 0 {
                continue;
            }
            match byte {
                b'\r' => {
                    shown.push(b"\r\n");
                    shown.push(&[b"<", line.as_slice(), b">\r\n$ "].concat());
                    line.clear();
                }
                KILL_LINE => {
                    shown.push(b"\r\n$ ");
                    line.clear();
                }
                byte => {
                    line.push(byte);
                    shown.push(&[byte]);
                }
            }
        }
        shown.close();
    });
    Console::new(Box::new(Guest { to }), transcript)
}

fn finds(text: &'static str) -> impl Fn(&str) -> Option<usize> {
    move |shown| shown.find(text).map(|at| at + text.len())
}

fn wait_for(console: &mut Console, text: &'static str) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if console.take(&finds(text)).is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn a_line_is_typed_and_its_answer_lies_behind_the_cursor() {
    let mut console = guest("login: ", usize::MAX);
    console.enter("echo hello").unwrap();
    assert!(wait_for(&mut console, "<echo hello>"));
}

#[test]
fn a_stale_prompt_never_matches() {
    let mut console = guest("login: ", usize::MAX);
    assert!(console.take(&finds("login:")).is_some());
    assert!(console.take(&finds("login:")).is_none());
    console.enter("reboot").unwrap();
    assert!(console.take(&finds("login:")).is_none());
}

#[test]
fn a_guest_that_loses_one_character_in_fifty_still_gets_the_line() {
    let mut console = guest("$ ", 50);
    let begun = Instant::now();
    for _ in 0..6 {
        console.type_text("printf '%s' the quick brown fox jumps").unwrap();
        console.send(&[KILL_LINE]).unwrap();
        console.settle();
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_line_longer_than_the_loss_is_typed_whole() {
    let line = "printf '%s\\n' one two three four five six seven eight nine ten; echo done";
    for drop in [20, 50] {
        let mut console = guest("$ ", drop);
        console.enter(line).unwrap();
        assert!(wait_for(&mut console, "echo done>"), "{drop}: {}", console.log());
        assert!(console.log().contains(&format!("<{line}>")), "{drop}: {}", console.log());
    }
}

#[test]
fn a_lossy_keyboard_loses_what_it_says() {
    let mut keyboard = Lossy { keys: Vec::new(), every: 3, count: 0 };
    keyboard.write_all(b"abcdefg").unwrap();
    assert_eq!(keyboard.keys, b"abdeg");
}

#[test]
fn a_character_that_never_comes_is_named_within_five_seconds() {
    let (to, _kept) = channel::<Vec<u8>>();
    let transcript = Arc::new(Transcript::default());
    let mut console = Console::new(Box::new(Guest { to }), transcript);
    let begun = Instant::now();
    let error = console.type_text("poweroff").unwrap_err();
    assert_eq!(error, ConsoleError::NotEchoed { place: 1, letter: 'p' });
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_guest_that_is_gone_is_told_apart() {
    let (to, from) = channel::<Vec<u8>>();
    drop(from);
    let mut console = Console::new(Box::new(Guest { to }), Arc::new(Transcript::default()));
    assert!(matches!(console.enter("x"), Err(ConsoleError::Closed(_))));
}

#[test]
fn control_sequences_and_wrapped_lines_do_not_disturb() {
    let shown = plain("\u{1b}[1;31mred\u{1b}[0m\r\n\u{1b}]0;title\u{7}中\u{1b}(Bx".as_bytes());
    assert_eq!(shown.text, "red\n中x");
    let transcript = Arc::new(Transcript::default());
    transcript.push(b"ab \r\ncd");
    let (to, _from) = channel();
    let console = Console::new(Box::new(Guest { to }), transcript);
    assert!(matches!(console.echoed(&['a', 'b', 'c', 'd'], 4), Echo::Whole(7)));
    assert!(matches!(console.echoed(&['a', 'x'], 2), Echo::Wrong(1)));
    assert!(matches!(console.echoed(&['a', 'b', 'c', 'd', 'e'], 5), Echo::Short(4)));
}

proptest! {
    #[test]
    fn no_output_makes_us_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), place in 0_usize..200) {
        let shown = plain(&bytes);
        prop_assert!(shown.raw_end(place) <= bytes.len());
        let transcript = Arc::new(Transcript::default());
        transcript.push(&bytes);
        let (to, _from) = channel();
        let mut console = Console::new(Box::new(Guest { to }), transcript);
        let _ = console.take(&|text| text.char_indices().nth(3).map(|(at, _)| at));
        let _ = console.fresh();
    }
}
