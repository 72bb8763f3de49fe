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

/// A sentence for a phrase: each parameter as its type's example.
fn sample(phrase: &str) -> String {
    let mut sentence = phrase.replace("(s)", "s");
    for kind in ParameterTypes::default().iter() {
        sentence = sentence.replace(&format!("{{{}}}", kind.name), &kind.example);
    }
    sentence
}

/// A sentence with a clause at its end, or before the colon at its end.
fn followed(sentence: &str, clause: &str) -> String {
    match sentence.strip_suffix(':') {
        Some(before) => format!("{before}{clause}:"),
        None => format!("{sentence}{clause}"),
    }
}

/// What a sentence means: the step's name and the clause.
fn meaning(catalogue: &Catalogue, sentence: &str) -> (String, kezhan_steps::Clause) {
    match catalogue.find(sentence).unwrap() {
        Found::One(found) => {
            let definition = catalogue.definition(&found).unwrap();
            (definition.name.to_string(), found.clause)
        }
        other => panic!("{sentence}: {other:?}"),
    }
}

#[test]
fn every_check_takes_within_for_and_not_in_both_languages() {
    let catalogue = Scenario::new().catalogue;
    let (five, two) = (Some(Duration::from_secs(5)), Some(Duration::from_secs(2)));
    for definition in catalogue.definitions().iter().filter(|definition| definition.check) {
        for phrase in &definition.phrases {
            let text = sample(&phrase.expression);
            let chinese = phrase.language == "zh-CN";
            let within = if chinese { "，在 5 秒内" } else { " within 5 seconds" };
            let hold = if chinese { "，持续 2 秒" } else { " for 2 s" };
            let not = if chinese { "并非" } else { "it is not true that " };
            for (sentence, expected) in [
                (text.clone(), (None, None, false)),
                (followed(&text, within), (five, None, false)),
                (followed(&text, hold), (None, two, false)),
                (format!("{not}{text}"), (None, None, true)),
                (format!("{not}{}", followed(&text, within)), (five, None, true)),
                (format!("{not}{}", followed(&text, hold)), (None, two, true)),
            ] {
                let (name, clause) = meaning(&catalogue, &sentence);
                assert_eq!(name, definition.name, "{sentence}");
                let found = (clause.within, clause.hold, clause.not);
                assert_eq!(found, expected, "{sentence}");
            }
        }
    }
}

#[test]
fn checks_are_negated_as_people_say_it() {
    let catalogue = Scenario::new().catalogue;
    for (sentence, name) in [
        ("the machine is not running", "is_in_state"),
        ("the machine has not booted", "has_booted"),
        ("the machine does not shut down cleanly", "shuts_down"),
        ("the machine does not exit with 0", "exits"),
        ("the machine's messages do not contain \"x\"", "machine_says"),
        ("the console does not show \"x\"", "shows"),
        ("the console log has no line matching /x/", "log_has_line"),
        ("the output does not match /x/", "output_matches"),
        ("the output is not:", "output_is"),
        ("the file \"a\" is not:", "file_is"),
        ("the response does not have:", "answers_fields"),
        ("the API does not answer 200", "answers"),
        ("the event \"x\" does not arrive", "arrives"),
        ("the operation does not finish", "operation_finishes"),
        ("the guest does not see 2 CPUs", "guest_cpus"),
        ("the machine cannot reach \"a\" on port 80", "reaches"),
        ("port 80 of the machine does not answer", "port_answers"),
        ("the images \"a\" and \"b\" do not have the same content", "are_equal"),
        ("the image \"a\" is not consistent", "is_consistent"),
        ("机器不处于运行状态", "is_in_state"),
        ("机器尚未启动完成", "has_booted"),
        ("机器未启动完成", "has_booted"),
        ("控制台没有显示 \"x\"", "shows"),
        ("控制台不显示 \"x\"", "shows"),
        ("控制台日志中没有匹配 /x/ 的行", "log_has_line"),
        ("输出不为:", "output_is"),
        ("API 没有返回 200", "answers"),
        ("没有收到事件 \"x\"", "arrives"),
        ("机器没有获得地址", "gets_address"),
        ("机器的端口 80 没有应答", "port_answers"),
        ("机器不能访问 \"a\" 的端口 80", "reaches"),
        ("镜像 \"a\" 不完好", "is_consistent"),
        ("操作未完成", "operation_finishes"),
        ("变量 \"a\" 不是 \"b\"", "variable_is"),
    ] {
        let (found, clause) = meaning(&catalogue, sentence);
        assert!(found == name && clause.not, "{sentence}: {found} {clause:?}");
    }
}

#[test]
fn every_sentence_about_the_machine_may_name_one() {
    let catalogue = Scenario::new().catalogue;
    for (sentence, name) in [
        ("I start the machine \"web\"", "start"),
        ("I press the power button of the machine \"web\"", "power_button"),
        ("the machine \"web\" is not paused within 3 s", "is_in_state"),
        ("the machine \"web\" has the disk \"data\"", "has_disk"),
        ("the machine \"web\" boots the kernel \"k\" with command line \"\"", "machine_kernel"),
        ("I enter \"on the machine\" on the console of the machine \"web\"", "enter"),
        ("the console of the machine \"web\" shows \"x\" within 5 s", "shows"),
        ("I run \"ls\" on the machine \"web\"", "run"),
        ("port 80 of the machine \"web\" answers", "port_answers"),
        ("machine \"web\" cannot reach \"db\" on port 80", "reaches"),
        ("the machine \"web\" is connected to network \"lan\"", "connected"),
        ("我启动机器 \"web\"", "start"),
        ("机器“web”处于运行状态", "is_in_state"),
        ("机器 \"web\" 正常关机", "shuts_down"),
        ("我在机器 \"web\" 的控制台输入 \"x\" 并回车", "enter"),
        ("机器 \"web\" 的控制台显示 \"x\"", "shows"),
        ("我在机器 \"web\" 上运行 \"ls\"", "run"),
        ("机器 \"web\" 的端口 80 没有应答", "port_answers"),
        ("机器 \"web\" 不能访问 \"db\" 的端口 80", "reaches"),
    ] {
        let (found, clause) = meaning(&catalogue, sentence);
        assert_eq!((found.as_str(), clause.machine.as_deref()), (name, Some("web")), "{sentence}");
    }
}

#[test]
fn a_role_sends_its_secret_which_no_report_shows() {
    let mut scenario = Scenario::new();
    let (url, asked) = serve("HTTP/1.1 204 No Content\r\n\r\n");
    scenario.step(&format!("the API is at \"{url}\""));
    scenario.step("I save \"hunter2\" as \"operator\"");
    scenario.step("I GET /v1 as role \"operator\"");
    scenario.step("the API answers 204");
    assert!(asked.join().unwrap().contains("Authorization: Bearer hunter2\r\n"));
    assert_eq!(scenario.world.variables.mask("hunter2"), "••••••");
    let failure = scenario.try_step("我 GET /v1，角色为“stranger”", "").unwrap_err();
    assert!(failure.to_string().contains("KEZHAN_SECRET_stranger"), "{failure}");
}

#[test]
fn events_arrive_in_order_and_an_old_one_answers_nothing() {
    let mut scenario = Scenario::new();
    let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for chunk in [
        "event: started\ndata: {\"id\":",
        "\ndata: 7}\n\n: hello\n\nevent: gone\n",
        "data: x\n\n",
        "",
    ] {
        answer.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    let (url, _asked) = serve(&answer);
    scenario.step(&format!("the API is at \"{url}\""));
    scenario.step("I listen to the events at /v1/events");
    scenario
        .try_step("the event \"started\" arrives with:", &doc("{\"id\": \"#number\"}"))
        .unwrap();
    scenario.step("the event \"started\" does not arrive");
    scenario.step("收到事件 \"gone\"");
    let failure = scenario.try_step("the event \"gone\" arrives within 1 ms", "").unwrap_err();
    assert!(failure.to_string().contains("the server ended the events"), "{failure}");
}

#[test]
fn what_a_command_leaves_in_the_background_is_not_waited_for() {
    let mut scenario = Scenario::new();
    let begun = Instant::now();
    scenario.step("I run \"sleep 60 & echo done\" on the host");
    scenario.step("the output contains \"done\"");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn disks_are_attached_and_detached_while_the_machine_stands() {
    let mut scenario = Scenario::new();
    let failure = scenario.try_step("I attach the disk \"data\"", "").unwrap_err();
    assert!(failure.to_string().contains("there is no machine"), "{failure}");
    scenario.step("a machine with 1 vCPU and 64 MiB of memory");
    let failure = scenario.try_step("我挂接磁盘 \"data\"", "").unwrap_err();
    assert!(failure.to_string().contains("there is no disk"), "{failure}");
    let failure = scenario.try_step("I detach the disk \"data\"", "").unwrap_err();
    assert!(failure.to_string().contains("has no disk \"data\""), "{failure}");
    scenario.step("I delete the machine");
    let failure = scenario.try_step("I start the machine", "").unwrap_err();
    assert!(failure.to_string().contains("there is no machine"), "{failure}");
}

#[test]
fn a_machine_boots_from_an_image_that_brings_its_kernel() {
    let mut scenario = Scenario::new();
    let failure = scenario.try_step("a machine booted from \"no.qcow2\"", "").unwrap_err();
    assert!(failure.to_string().contains("no.qcow2: there is no such file"), "{failure}");
}
