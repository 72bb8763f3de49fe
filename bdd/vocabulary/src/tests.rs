use super::*;
use kezhan_expressions::ParameterTypes;
use kezhan_steps::{Catalogue, Failure, Found, Settings, World, perform};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Scenario {
    catalogue: Catalogue,
    world: World,
    _folder: tempfile::TempDir,
}

impl Scenario {
    fn new() -> Scenario {
        let folder = tempfile::tempdir().unwrap();
        let mut catalogue = Catalogue::default();
        assert_eq!(catalogue.add(all(), &ParameterTypes::default()), []);
        let settings = Arc::new(Settings::default());
        let world = World::new(folder.path(), folder.path(), settings, Duration::from_secs(20));
        Scenario { catalogue, world, _folder: folder }
    }

    fn try_step(&mut self, sentence: &str, below: &str) -> Result<(), Failure> {
        let text = format!("Feature: x\n  Scenario: y\n    * {sentence}\n{below}");
        let document = kezhan_gherkin_for_tests(&text);
        match self.catalogue.find(sentence)? {
            Found::One(found) => {
                perform(&self.catalogue, &mut self.world, &found, document.as_ref())
            }
            other => panic!("{sentence}: {other:?}"),
        }
    }

    fn step(&mut self, sentence: &str) {
        self.try_step(sentence, "").unwrap_or_else(|failure| panic!("{sentence}: {failure}"));
    }
}

fn kezhan_gherkin_for_tests(text: &str) -> Option<kezhan_gherkin::PickleArgument> {
    let document = kezhan_gherkin::parse(text, "en").unwrap();
    let mut pickles =
        kezhan_gherkin::pickles(&document, &mut kezhan_gherkin::Ids::default()).unwrap();
    pickles.remove(0).steps.remove(0).argument
}

fn doc(text: &str) -> String {
    format!("\"\"\"\n{text}\n\"\"\"\n")
}

/// A server that gives one answer and hands over what it was asked.
fn serve(answer: &str) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&asked[..count]).into_owned()
    });
    (url, asked)
}

#[test]
fn every_step_can_be_said_in_english_and_in_chinese() {
    for definition in all() {
        for language in ["en", "zh-CN"] {
            assert!(
                definition.phrases.iter().any(|phrase| phrase.language == language),
                "{} {language}",
                definition.name
            );
        }
        assert!(!definition.about.is_empty(), "{}", definition.name);
    }
}

#[test]
fn commands_run_and_are_judged() {
    let mut scenario = Scenario::new();
    scenario.step("I run \"echo hello; echo world >&2\" on the host");
    scenario.step("its output contains \"hello\"");
    scenario.step("输出包含“world”");
    scenario.step("the output does not contain \"bye\"");
    scenario.step("the output matches /^hel+o$/");
    let failure = scenario.try_step("its output contains \"bye\"", "").unwrap_err();
    assert!(
        failure.to_string().contains("expected \"bye\" in the output\n     saw hello"),
        "{failure}"
    );
    scenario.step("I try to run \"exit 3\" on the host");
    scenario.step("命令退出码为 3");
    scenario.step("the command fails");
    let failure = scenario.try_step("I run \"echo broken; false\" on the host", "").unwrap_err();
    assert!(
        failure.to_string().contains("exited with 1; its output:\n         broken"),
        "{failure}"
    );
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children_at_the_deadline() {
    let mut scenario = Scenario::new();
    scenario.world.deadline = Instant::now() + Duration::from_millis(300);
    let begun = Instant::now();
    let failure = scenario.try_step("I run \"sleep 60 & sleep 60\" on the host", "").unwrap_err();
    assert!(failure.to_string().contains("did not end in time"), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_program_of_the_background_ends_with_the_world() {
    let mut scenario = Scenario::new();
    scenario
        .step("the program \"echo ready $$; exec sleep 60\" runs in the background as \"sleeper\"");
    scenario.step("the program \"sleeper\" shows \"ready\" within 5 s");
    scenario.step("the program \"sleeper\" is running");
    scenario.step("程序 \"sleeper\" 在运行");
    drop(scenario.world);
    drop(scenario.catalogue);
}

#[test]
fn a_program_that_dies_ends_the_wait_at_once() {
    let mut scenario = Scenario::new();
    scenario.step("the program \"echo oops; exit 4\" runs in the background as \"p\"");
    let begun = Instant::now();
    let failure =
        scenario.try_step("the program \"p\" shows \"ready\" within 15 s", "").unwrap_err();
    assert!(failure.to_string().contains("exited with 4"), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn files_are_written_and_compared() {
    let mut scenario = Scenario::new();
    scenario.try_step("a file \"a/b.txt\" with:", &doc("one\ntwo")).unwrap();
    scenario.step("the file \"a/b.txt\" exists");
    scenario.step("文件 \"a/b.txt\" 包含 \"two\"");
    scenario.step("the file \"a/b.txt\" has 8 bytes");
    scenario.try_step("the file \"a/b.txt\" is:", &doc("one\ntwo")).unwrap();
    scenario.step("I remove the file \"a/b.txt\"");
    scenario.step("the file \"a/b.txt\" does not exist");
}

#[test]
fn an_api_is_asked_and_its_answer_compared() {
    let mut scenario = Scenario::new();
    let body = r#"{"id": 7, "state": "running"}"#;
    let (url, asked) = serve(&format!(
        "HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    scenario.step(&format!("the API is at \"{url}\""));
    scenario.step("I send the header \"X-Role\" with \"admin\"");
    scenario.try_step("I POST /machines with:", &doc("{\"cpus\": 2}")).unwrap();
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("POST /machines HTTP/1.1\r\n") && asked.contains("X-Role: admin\r\n"),
        "{asked}"
    );
    assert!(asked.ends_with("\r\n\r\n{\"cpus\": 2}"));
    scenario.step("the API answers 201");
    scenario.try_step("API 返回 201:", &doc("{\"state\": \"#string\"}")).unwrap();
    scenario.try_step("the response has:", "| /id | 7 |\n| /state | running |\n").unwrap();
    scenario.step("the response contains \"running\"");
    scenario.step("响应体不包含 \"paused\"");
    scenario.step("the response header \"location\" is \"/x\"");
    scenario.step("I save the response field /id as \"id\"");
    scenario.step("the variable \"id\" is \"7\"");
    let failure = scenario
        .try_step("the API answers 201 with:", &doc("{\"state\": \"paused\"}"))
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("expected \"paused\" at /state for POST /machines\n     saw \"running\""),
        "{failure}"
    );
    let failure = scenario.try_step("the API answers 404", "").unwrap_err();
    assert!(
        failure.to_string().contains("expected 404 for POST /machines\n     saw 201"),
        "{failure}"
    );
}

/// A server that gives several answers, one for each connection.
fn serve_in_turn(bodies: &'static [(&str, &str)]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (head, body) in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = body.len();
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn an_operation_is_followed_to_its_end() {
    let mut scenario = Scenario::new();
    let url = serve_in_turn(&[
        ("202 Accepted\r\nLocation: /v1/operations/7", "{}"),
        ("200 OK", r#"{"status": "running"}"#),
        ("200 OK", r#"{"status": "succeeded", "result": 5}"#),
        ("202 Accepted\r\nLocation: /v1/operations/8", "{}"),
        ("200 OK", r#"{"status": "failed", "error": "no space"}"#),
    ]);
    scenario.step(&format!("the API is at \"{url}\""));
    scenario.step("I POST /v1/machines");
    scenario.step("the operation finishes");
    scenario.try_step("the response has:", "| /result | 5 |\n").unwrap();
    scenario.step("I POST /v1/machines");
    let failure = scenario.try_step("操作完成", "").unwrap_err();
    assert!(failure.to_string().contains("no space"), "{failure}");
}

#[test]
fn without_an_api_the_sentence_says_what_to_do() {
    let failure = Scenario::new().try_step("I GET /x", "").unwrap_err();
    assert!(failure.to_string().contains("say `the API is at"), "{failure}");
}
