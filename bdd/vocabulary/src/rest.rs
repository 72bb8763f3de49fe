//! Steps on HTTP servers.
//!
//! A path alone goes to the server of "the API is at …", or to the one given to the runner with `--api`.

use crate::http::{self, Request, Response, Server};
use crate::json::difference;
use kezhan_steps::{DocString, Failure, StepDefinition, Table, World, check, step, steps};
use serde_json::Value;

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    steps![
        api_is_at,
        header,
        request,
        request_with,
        request_as,
        request_as_with,
        answers,
        answers_with,
        answers_fields,
        answer_contains,
        answers_problem,
        answer_header,
        save_field,
        operation_finishes,
        url_answers
    ]
}

/// The conversation with one server.
#[derive(Clone, Debug, Default)]
struct Api {
    base: Option<String>,
    headers: Vec<(String, String)>,
    sent: String,
    last: Option<Response>,
}

/// Says where the API is: `http://host:port` or `unix:/path/of/socket`.
#[step(en = "the API is at {string}", zh = "API 位于 {string}")]
fn api_is_at(world: &mut World, url: &str) -> Result<(), Failure> {
    world.state::<Api>().base = Some(url.trim_end_matches('/').to_owned());
    Ok(())
}

/// Sends a header with every later request.
#[step(en = "I send the header {string} with {string}", zh = "我发送请求头 {string},值为 {string}")]
fn header(world: &mut World, name: &str, value: &str) -> Result<(), Failure> {
    let headers = &mut world.state::<Api>().headers;
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    headers.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// Sends a request without a body.
#[step(
    en = "I {method} {pointer}",
    en = "I {method} {string}",
    zh = "我 {method} {pointer}",
    zh = "我 {method} {string}"
)]
fn request(world: &mut World, method: &str, target: &str) -> Result<(), Failure> {
    send(world, method, target, Extra::default())
}

/// Sends a request with a body; JSON unless the doc string says otherwise.
#[step(
    en = "I {method} {pointer} with:",
    en = "I {method} {string} with:",
    zh = "我 {method} {pointer},内容如下:"
)]
fn request_with(
    world: &mut World,
    method: &str,
    target: &str,
    body: DocString,
) -> Result<(), Failure> {
    send(world, method, target, Extra { body: Some(body), token: None })
}

/// Sends a request without a body in a role: with the role's secret as a bearer token. (RFC 6750 §2.1)
#[step(en = "I {method} {pointer} as role {string}", zh = "我 {method} {pointer},角色为 {string}")]
fn request_as(world: &mut World, method: &str, target: &str, role: &str) -> Result<(), Failure> {
    let token = token(world, role)?;
    send(world, method, target, Extra { body: None, token: Some(token) })
}

/// Sends a request with a body in a role: with the role's secret as a bearer token.
#[step(
    en = "I {method} {pointer} as role {string} with:",
    zh = "我 {method} {pointer},角色为 {string},内容如下:"
)]
fn request_as_with(
    world: &mut World,
    method: &str,
    target: &str,
    role: &str,
    body: DocString,
) -> Result<(), Failure> {
    let token = token(world, role)?;
    send(world, method, target, Extra { body: Some(body), token: Some(token) })
}

/// A role's token: the variable of its name, or the secret of its name from the environment.
fn token(world: &mut World, role: &str) -> Result<String, Failure> {
    let token = match world.variables.get(role) {
        Some(token) => token.to_owned(),
        None => world.variables.fill(&format!("${{secret:{role}}}"))?,
    };
    world.variables.hide(&token);
    Ok(token)
}

fn place(world: &mut World, target: &str) -> Result<(Server, String), Failure> {
    let base = world.state::<Api>().base.clone().or_else(|| world.settings.api.clone());
    let absolute = target.starts_with("http://") || target.starts_with("unix:");
    let url = match base {
        _ if absolute => target.to_owned(),
        Some(base) if base.starts_with("unix:") => format!("{base}:{target}"),
        Some(base) => format!("{base}{target}"),
        None => {
            return Err(Failure::Broken(
                "no API: say `the API is at \"http://…\"` first, or run with --api URL".into(),
            ));
        }
    };
    http::split(&url).ok_or_else(|| {
        Failure::Broken(format!("URL \"{url}\": give http://HOST:PORT/… or unix:SOCKET"))
    })
}

/// What only some requests have.
#[derive(Default)]
struct Extra {
    body: Option<DocString>,
    token: Option<String>,
}

/// Asks for an answer whose body comes bit by bit; its status must be 200.
pub(crate) fn open(world: &mut World, target: &str) -> Result<http::Streamed, Failure> {
    let (server, target) = place(world, target)?;
    let mut headers = world.state::<Api>().headers.clone();
    headers.push(("Accept".to_owned(), "text/event-stream".to_owned()));
    let sent = format!("GET {target}");
    let request = Request { method: "GET".to_owned(), target, headers, body: None };
    let streamed = http::stream(&server, &request, world.deadline)
        .map_err(|error| Failure::broken(&sent, error))?;
    match streamed.response.status {
        200 => Ok(streamed),
        status => Err(Failure::mismatch(format!("200 for {sent}"), status.to_string())),
    }
}

fn send(world: &mut World, method: &str, target: &str, extra: Extra) -> Result<(), Failure> {
    let Extra { body, token } = extra;
    let (server, target) = place(world, target)?;
    let mut headers = world.state::<Api>().headers.clone();
    if let Some(body) = &body {
        let media_type = match body.media_type.as_deref() {
            None | Some("json") => "application/json",
            Some(other) => other,
        };
        headers.push(("Content-Type".to_owned(), media_type.to_owned()));
    }
    headers.extend(token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
    let request = Request {
        method: method.to_owned(),
        target: target.clone(),
        headers,
        body: body.map(|body| body.content),
    };
    let sent = format!("{method} {target}");
    let response = http::send(&server, &request, world.deadline)
        .map_err(|error| Failure::broken(&sent, error))?;
    let api = world.state::<Api>();
    (api.sent, api.last) = (sent, Some(response));
    Ok(())
}

fn last(world: &mut World) -> Result<(String, Response), Failure> {
    let api = world.state::<Api>();
    let response =
        api.last.clone().ok_or_else(|| Failure::Broken("no request was sent yet".to_owned()))?;
    Ok((api.sent.clone(), response))
}

fn shown(response: &Response) -> String {
    format!("{} {}", response.status, crate::files::tail(&String::from_utf8_lossy(&response.body)))
}

fn document(response: &Response) -> Result<Value, Failure> {
    serde_json::from_slice(&response.body)
        .map_err(|error| Failure::mismatch(format!("JSON ({error})"), shown(response)))
}

/// Compares the status of the last answer.
#[check(en = "the API answers {status}", zh = "API 返回 {status}")]
fn answers(world: &mut World, status: u16) -> Result<(), Failure> {
    let (sent, response) = last(world)?;
    if response.status == status {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("{status} for {sent}"), shown(&response)))
    }
}

/// Compares the status, and the members of the JSON that the doc string names.
#[check(
    en = "the API answers {status} with:",
    zh = "API 返回 {status}:",
    zh = "API 返回 {status},内容包含:"
)]
fn answers_with(world: &mut World, status: u16, pattern: DocString) -> Result<(), Failure> {
    answers(world, status)?;
    let pattern: Value = serde_json::from_str(&pattern.content)
        .map_err(|error| Failure::broken("the doc string is no JSON", error))?;
    let (sent, response) = last(world)?;
    match difference(&pattern, &document(&response)?) {
        None => Ok(()),
        Some(found) => {
            let expected = format!("{} at {} for {sent}", found.expected, found.pointer);
            Err(Failure::mismatch(
                expected,
                format!("{}\n         in {}", found.seen, shown(&response)),
            ))
        }
    }
}

/// Compares members of the JSON, named by JSON pointers, with texts or JSON values.
#[check(en = "the response has:", zh = "响应包含:")]
fn answers_fields(world: &mut World, table: Table) -> Result<(), Failure> {
    let (_, response) = last(world)?;
    let document = document(&response)?;
    for (pointer, expected) in table.pairs()? {
        let found = document.pointer(pointer).cloned().unwrap_or(Value::Null);
        let pattern = serde_json::from_str(expected).unwrap_or_else(|_error| Value::from(expected));
        if difference(&pattern, &found).is_some() && found.as_str() != Some(expected) {
            return Err(Failure::mismatch(
                format!("{expected} at {pointer}"),
                format!("{found}\n         in {}", shown(&response)),
            ));
        }
    }
    Ok(())
}

/// Looks for a text in the body of the last answer.
#[check(en = "the response contains {string}", zh = "响应体包含 {string}")]
fn answer_contains(world: &mut World, text: &str) -> Result<(), Failure> {
    let (sent, response) = last(world)?;
    if String::from_utf8_lossy(&response.body).contains(text) {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("{text:?} from {sent}"), shown(&response)))
    }
}

/// Compares the type of a problem document. (RFC 9457 §3.1.1)
#[check(
    en = "the API answers {status} with problem {string}",
    zh = "API 返回 {status},问题类型为 {string}"
)]
fn answers_problem(world: &mut World, status: u16, kind: &str) -> Result<(), Failure> {
    answers(world, status)?;
    let (_, response) = last(world)?;
    let document = document(&response)?;
    let found = document.get("type").and_then(Value::as_str).unwrap_or_default();
    if found == kind || found.rsplit('/').next() == Some(kind) {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("problem {kind:?}"), shown(&response)))
    }
}

/// Compares a header of the last answer.
#[check(en = "the response header {string} is {string}", zh = "响应头 {string} 为 {string}")]
fn answer_header(world: &mut World, name: &str, expected: &str) -> Result<(), Failure> {
    let (_, response) = last(world)?;
    match response.header(name) {
        Some(value) if value == expected => Ok(()),
        found => {
            Err(Failure::mismatch(format!("{name}: {expected}"), found.unwrap_or("no such header")))
        }
    }
}

/// What an operation's `status` says while it is under way.
const UNDER_WAY: [&str; 3] = ["pending", "queued", "running"];

/// Follows the `Location` of the last answer until the operation there is no longer under way; it must not have failed.
#[check(en = "the operation finishes", zh = "操作完成", patience = "60 s")]
fn operation_finishes(world: &mut World) -> Result<(), Failure> {
    let (sent, response) = last(world)?;
    let place = match response.header("location") {
        Some(place) => place.to_owned(),
        // Asked once already: the last answer is the operation's.
        None => sent.trim_start_matches("GET ").to_owned(),
    };
    send(world, "GET", &place, Extra::default())?;
    let (_, response) = last(world)?;
    let operation = document(&response)?;
    let status = operation.get("status").and_then(Value::as_str).unwrap_or_default();
    match status {
        "failed" | "cancelled" | "" => Err(Failure::Broken(format!(
            "expected the operation {place} to finish\n     saw {}",
            shown(&response)
        ))),
        status if UNDER_WAY.contains(&status) => {
            Err(Failure::mismatch(format!("the operation {place} finished"), status.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Keeps a member of the last answer under a name.
#[step(
    en = "I save the response field {pointer} as {string}",
    zh = "把响应字段 {pointer} 存为 {string}"
)]
fn save_field(world: &mut World, pointer: &str, name: &str) -> Result<(), Failure> {
    let (_, response) = last(world)?;
    let document = document(&response)?;
    let found = document.pointer(pointer);
    let found =
        found.ok_or_else(|| Failure::mismatch(format!("a member {pointer}"), shown(&response)))?;
    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    world.variables.set(name, text);
    Ok(())
}

/// Asks a URL with GET until it answers.
#[check(en = "{string} answers {status}", zh = "{string} 返回 {status}", patience = "10 s")]
fn url_answers(world: &mut World, url: &str, status: u16) -> Result<(), Failure> {
    match send(world, "GET", url, Extra::default()) {
        Ok(()) => answers(world, status),
        Err(Failure::Broken(reason)) => {
            Err(Failure::mismatch(format!("{status} from {url}"), reason))
        }
        Err(failure) => Err(failure),
    }
}
