//! Steps on events that a server sends: `text/event-stream`.
//!
//! ```text
//! "I listen to the events at /v1/events" ---> GET, and a thread that reads for as long as the server speaks
//!                                                  |
//!                    events, in order, with a cursor v
//! "the event "machine.started" arrives" ---> the next event of that name behind the cursor, which moves behind it
//! ```
//!
//! What arrived before an event that was taken answers nothing any more, as on a console. The connection ends with the
//! world. (WHATWG HTML, Server-sent events, §9.2.5 and §9.2.6)

use crate::http::Connection;
use crate::json::difference;
use crate::rest;
use kezhan_steps::{DocString, Failure, StepDefinition, World, check, step, steps};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    steps![listen, arrives, arrives_with]
}

/// The most events that are kept, and the most bytes of one; a server that sends more is no longer listened to.
const MAX_EVENTS: usize = 100_000;
const MAX_EVENT: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// What the reading thread has heard.
#[derive(Debug, Default)]
struct Heard {
    events: Vec<Event>,
    /// Why no more will come.
    end: Option<String>,
}

/// The server that is listened to.
#[derive(Debug, Default)]
struct Listening {
    heard: Arc<Mutex<Heard>>,
    connection: Option<Connection>,
    cursor: usize,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.connection.iter().for_each(Connection::hang_up);
    }
}

/// Listens to the events that a server sends from here on.
#[step(en = "I listen to the events at {pointer}", zh = "我监听 {pointer} 的事件")]
fn listen(world: &mut World, target: &str) -> Result<(), Failure> {
    let streamed = rest::open(world, target)?;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let ours = Arc::clone(&heard);
    let body = streamed.body;
    std::thread::spawn(move || hear(body, &ours));
    *world.state::<Listening>() =
        Listening { heard, connection: Some(streamed.connection), cursor: 0 };
    Ok(())
}

fn hear(body: Box<dyn Read + Send>, heard: &Mutex<Heard>) {
    let mut reader = BufReader::new(body);
    let mut event = Event::default();
    let end = loop {
        let mut line = Vec::new();
        match reader.by_ref().take(MAX_EVENT as u64).read_until(b'\n', &mut line) {
            Ok(0) => break "the server ended the events".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let whole = take_line(&mut event, text.trim_end_matches(['\r', '\n']));
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.events.extend(whole);
        if heard.events.len() > MAX_EVENTS || event.data.len() > MAX_EVENT {
            break "the server sends more than is listened to".to_owned();
        }
    };
    heard.lock().unwrap_or_else(PoisonError::into_inner).end = Some(end);
}

/// Adds a line to an event; an empty line makes it whole. Events without data are none.
fn take_line(event: &mut Event, line: &str) -> Option<Event> {
    if line.is_empty() {
        let mut whole = std::mem::take(event);
        if whole.name.is_empty() {
            whole.name = "message".to_owned();
        }
        return whole.data.pop().map(|_line_break| whole);
    }
    let (field, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match field {
        "event" => event.name = value.to_owned(),
        "data" => event.data.extend([value, "\n"]),
        _ => {}
    }
    None
}

/// Waits for an event of a name, behind the last event that was waited for.
#[check(en = "the event {string} arrives", zh = "收到事件 {string}", patience = "30 s")]
fn arrives(world: &mut World, name: &str) -> Result<(), Failure> {
    take(world, name, None)
}

/// Waits for an event of a name whose data, as JSON, has the members that the doc string names.
#[check(
    en = "the event {string} arrives with:",
    zh = "收到事件 {string}:",
    zh = "收到事件 {string},内容包含:",
    patience = "30 s"
)]
fn arrives_with(world: &mut World, name: &str, pattern: DocString) -> Result<(), Failure> {
    let pattern: Value = serde_json::from_str(&pattern.content)
        .map_err(|error| Failure::broken("the doc string is no JSON", error))?;
    take(world, name, Some(&pattern))
}

fn fits(event: &Event, pattern: &Value) -> bool {
    serde_json::from_str(&event.data).is_ok_and(|data| difference(pattern, &data).is_none())
}

fn take(world: &mut World, name: &str, pattern: Option<&Value>) -> Result<(), Failure> {
    let listening = world.state::<Listening>();
    if listening.connection.is_none() {
        let say = "nobody listens: say `I listen to the events at /…` first".to_owned();
        return Err(Failure::Broken(say));
    }
    let heard = listening.heard.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = heard.events.get(listening.cursor..).unwrap_or_default();
    for (event, number) in fresh.iter().zip(1..) {
        if event.name == name && pattern.is_none_or(|pattern| fits(event, pattern)) {
            listening.cursor += number;
            return Ok(());
        }
    }
    let mut seen: Vec<String> =
        fresh.iter().map(|event| format!("{} {}", event.name, event.data)).collect();
    seen.extend(heard.end.clone());
    if seen.is_empty() {
        seen.push("no event".to_owned());
    }
    let like = pattern.map(|pattern| format!(" like {pattern}")).unwrap_or_default();
    let seen = crate::files::tail(&seen.join("\n"));
    Err(Failure::mismatch(format!("the event {name:?}{like}"), seen))
}
