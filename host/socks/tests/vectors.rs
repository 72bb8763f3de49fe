//! The hand-shake byte by byte: what goes in, in hex, and what must come out.
//!
//! Each test is one rule of RFC 1928, RFC 1929 or the SOCKS4 memos, or one fault that some server or
//! client in the field has. Nothing here opens a socket.

use kezhan_socks::{
    Access, ClientSession, ClientStep, Command, Credentials, DatagramError, HandshakeError,
    Refusal, Reply, Request, ServerSession, ServerStep, Target, read_datagram, write_datagram,
};
use std::net::SocketAddr;

/// Bytes from hex; blanks are for the eye, and text stands in quotes.
fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> =
            part.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        bytes.extend(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    bytes
}

fn open() -> ServerSession {
    ServerSession::new(Access::Open)
}

fn guarded() -> ServerSession {
    ServerSession::new(Access::Password(Credentials::new("user", "pass").unwrap()))
}

fn request(command: Command, target: &str) -> Request {
    Request { command, target: target.parse().unwrap() }
}

fn ask(target: &str) -> ServerStep {
    ServerStep::Ask(request(Command::Connect, target))
}

/// What a server does with bytes that come in pieces of `size`.
fn feed(session: &mut ServerSession, bytes: &[u8], size: usize) -> ServerStep {
    let mut step = ServerStep::More;
    for piece in bytes.chunks(size) {
        step = match session.receive(piece) {
            // More bytes behind a request do not ask again.
            ServerStep::More if matches!(step, ServerStep::Ask(_)) => step,
            step => step,
        };
    }
    step
}

/// Gives a server all bytes at once, and again one by one: step and output must be the same.
#[track_caller]
fn server(make: fn() -> ServerSession, input: &str, step: ServerStep, output: &str) {
    let bytes = hex(input);
    for size in [bytes.len(), 1, 2, 3] {
        let mut session = make();
        assert_eq!(feed(&mut session, &bytes, size), step, "step, {size} at a time");
        assert_eq!(session.take_output(), hex(output), "output, {size} at a time");
    }
}

#[track_caller]
fn refused(make: fn() -> ServerSession, input: &str, reply: Reply, output: &str) {
    server(make, input, ServerStep::Close(Refusal::Request(reply)), output);
}

const FAILED: &str = "00 01 00000000 0000";

// Greeting (RFC 1928 §3)

#[test]
fn a_client_without_authentication_is_let_in() {
    server(open, "05 01 00", ServerStep::More, "05 00");
}

#[test]
fn a_password_is_chosen_when_one_is_required() {
    server(guarded, "05 02 00 02", ServerStep::More, "05 02");
}

#[test]
fn a_client_with_no_acceptable_method_is_told_so() {
    for input in ["05 01 80", "05 00", "05 01 02"] {
        server(open, input, ServerStep::Close(Refusal::Method), "05 ff");
    }
    server(guarded, "05 01 00", ServerStep::Close(Refusal::Method), "05 ff");
}

#[test]
fn a_greeting_may_offer_255_methods() {
    let input = format!("05 ff {} 00", "80".repeat(254));
    server(open, &input, ServerStep::More, "05 00");
}

#[test]
fn another_version_is_closed_without_a_word() {
    for version in ["06", "00", "47" /* GET */, "16" /* TLS */] {
        let close = ServerStep::Close(Refusal::Version(hex(version)[0]));
        server(open, &format!("{version} 01 00"), close, "");
    }
}

#[test]
fn a_request_of_another_version_is_closed_without_a_reply() {
    let close = ServerStep::Close(Refusal::Version(4));
    server(open, "05 01 00  04 01 00 01 7f000001 0050", close, "05 00");
}

// User and password (RFC 1929)

#[test]
fn the_right_password_is_accepted() {
    server(guarded, "05 01 02  01 04 'user' 04 'pass'", ServerStep::More, "05 02 01 00");
}

#[test]
fn a_wrong_user_or_password_is_refused() {
    for wrong in [
        "01 04 'user' 04 'pasS'",
        "01 04 'useR' 04 'pass'",
        "01 04 'user' 05 'passs'",
        "01 04 'user' 03 'pas'",
        "01 00 00",
        "01 04 'user' 00",
        "01 00 04 'pass'",
    ] {
        let close = ServerStep::Close(Refusal::Password);
        server(guarded, &format!("05 01 02 {wrong}"), close, "05 02 01 01");
    }
}

#[test]
fn a_password_message_of_version_5_is_refused() {
    let close = ServerStep::Close(Refusal::Password);
    server(guarded, "05 01 02  05 04 'user' 04 'pass'", close, "05 02 01 01");
}

#[test]
fn user_and_password_may_have_255_bytes() {
    fn longest() -> ServerSession {
        ServerSession::new(Access::Password(Credentials::new([b'u'; 255], [b'p'; 255]).unwrap()))
    }
    let input = format!("05 01 02  01 ff {} ff {}", "75".repeat(255), "70".repeat(255));
    server(longest, &input, ServerStep::More, "05 02 01 00");
}

#[test]
fn a_password_does_not_show_in_debug_output() {
    let shown = format!("{:?}", Credentials::new("user", "secret").unwrap());
    assert!(shown.contains("user") && !shown.contains("secret"), "{shown}");
}

// Requests (RFC 1928 §4, §5)

#[test]
fn connect_takes_an_ipv4_address() {
    server(open, "05 01 00  05 01 00 01 7f000001 0050", ask("127.0.0.1:80"), "05 00");
}

#[test]
fn connect_takes_a_name() {
    let input = "05 01 00  05 01 00 03 0b 'example.com' 01bb";
    server(open, input, ask("example.com:443"), "05 00");
}

#[test]
fn connect_takes_an_ipv6_address() {
    let input = "05 01 00  05 01 00 04 20010db8000000000000000000000001 0050";
    server(open, input, ask("[2001:db8::1]:80"), "05 00");
}

#[test]
fn nothing_is_replied_before_the_target_has_answered() {
    let mut session = open();
    session.receive(&hex("05 01 00  05 01 00 01 7f000001 0050"));
    assert_eq!(session.take_output(), hex("05 00"));
    session.answer(Ok("192.0.2.1:4000".parse().unwrap()));
    assert_eq!(session.take_output(), hex("05 00 00 01 c0000201 0fa0"));
}

#[test]
fn the_reply_carries_an_ipv6_address_of_ours() {
    let mut session = open();
    session.receive(&hex("05 01 00  05 01 00 03 01 'a' 0050"));
    session.answer(Ok("[2001:db8::1]:1".parse().unwrap()));
    let expected = hex("05 00  05 00 00 04 20010db8000000000000000000000001 0001");
    assert_eq!(session.take_output(), expected);
}

#[test]
fn each_failure_has_its_own_code() {
    for code in 1..=8 {
        let mut session = open();
        session.receive(&hex("05 01 00  05 01 00 01 7f000001 0050"));
        session.answer(Err(Reply(code)));
        assert_eq!(session.take_output(), hex(&format!("05 00  05 0{code} {FAILED}")));
        let after = session.receive(&hex("05 01 00"));
        assert_eq!(after, ServerStep::Close(Refusal::Request(Reply(code))));
    }
}

#[test]
fn an_unknown_address_type_is_told_before_its_address_has_come() {
    for kind in ["00", "02", "05", "ff"] {
        let input = format!("05 01 00  05 01 00 {kind}");
        let output = format!("05 00  05 08 {FAILED}");
        refused(open, &input, Reply::ADDRESS_TYPE_NOT_SUPPORTED, &output);
    }
}

#[test]
fn bind_and_unknown_commands_are_not_supported() {
    for command in ["00", "02", "09", "f0", "ff"] {
        let input = format!("05 01 00  05 {command} 00 01 7f000001 0050");
        let output = format!("05 00  05 07 {FAILED}");
        refused(open, &input, Reply::COMMAND_NOT_SUPPORTED, &output);
    }
}

#[test]
fn a_name_that_cannot_be_one_is_refused() {
    for name in ["00", "03 61 00 62", "02 'a '", "01 ff", "02 0d0a"] {
        let input = format!("05 01 00  05 01 00 03 {name} 0050");
        let output = format!("05 00  05 01 {FAILED}");
        let bytes = hex(&input);
        let mut session = open();
        let close = ServerStep::Close(Refusal::Request(Reply::GENERAL_FAILURE));
        assert_eq!(session.receive(&bytes), close, "{name}");
        assert_eq!(session.take_output(), hex(&output), "{name}");
    }
}

#[test]
fn a_name_may_have_255_bytes() {
    let name = "x".repeat(255);
    let input = format!("05 01 00  05 01 00 03 ff '{name}' 0050");
    server(open, &input, ask(&format!("{name}:80")), "05 00");
}

#[test]
fn an_address_written_as_a_name_counts_as_the_address() {
    server(open, "05 01 00  05 01 00 03 09 '127.0.0.1' 0050", ask("127.0.0.1:80"), "05 00");
    server(open, "05 01 00  05 01 00 03 03 '::1' 0050", ask("[::1]:80"), "05 00");
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_counts_as_the_ipv4_address() {
    let mapped = "05 01 00  05 01 00 04 00000000000000000000ffff7f000001 0050";
    server(open, mapped, ask("127.0.0.1:80"), "05 00");
    let named = "05 01 00  05 01 00 03 10 '::ffff:127.0.0.1' 0050";
    server(open, named, ask("127.0.0.1:80"), "05 00");
}

#[test]
fn a_reserved_byte_other_than_0_does_not_shift_the_rest() {
    server(open, "05 01 00  05 01 ff 01 7f000001 0050", ask("127.0.0.1:80"), "05 00");
}

#[test]
fn associate_names_where_the_client_sends_from() {
    let step = ServerStep::Ask(request(Command::UdpAssociate, "0.0.0.0:0"));
    server(open, "05 01 00  05 03 00 01 00000000 0000", step, "05 00");
}

// Pieces

#[test]
fn what_is_sent_ahead_is_answered_in_order_and_delivered() {
    let all = hex("05 01 02  01 04 'user' 04 'pass'  05 01 00 01 7f000001 0050  'GET /'");
    for size in [all.len(), 1, 7] {
        let mut session = guarded();
        assert_eq!(feed(&mut session, &all, size), ask("127.0.0.1:80"));
        assert_eq!(session.take_payload(), b"", "not before the answer");
        session.answer(Ok(SocketAddr::from(([10, 0, 0, 1], 80))));
        assert_eq!(session.take_output(), hex("05 02  01 00  05 00 00 01 0a000001 0050"));
        assert_eq!(session.take_payload(), b"GET /");
    }
}

#[test]
fn every_truncated_handshake_waits_for_more() {
    let all = hex("05 01 02  01 04 'user' 04 'pass'  05 01 00 03 0b 'example.com' 0050");
    for length in 0..all.len() {
        let mut session = guarded();
        assert_eq!(session.receive(&all[..length]), ServerStep::More, "{length} bytes");
    }
}

#[test]
fn a_closed_session_stays_closed() {
    let mut session = open();
    session.receive(&hex("06"));
    let again = session.receive(&hex("05 01 00  05 01 00 01 7f000001 0050"));
    assert_eq!(again, ServerStep::Close(Refusal::Version(6)));
    session.answer(Ok(SocketAddr::from(([10, 0, 0, 1], 80))));
    assert_eq!(session.take_output(), b"");
}

#[test]
fn noise_never_panics_and_never_asks_for_more_than_one_request() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..20_000 {
        let mut bytes = vec![5, 1, 0, 5, 1, 0];
        bytes.truncate(round % 7);
        for _ in 0..round % 40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push((seed >> 56) as u8 & if round % 3 == 0 { 7 } else { 0xff });
        }
        let mut session = if round % 2 == 0 { open() } else { guarded() };
        let asks = bytes.iter().filter(|byte| {
            matches!(session.receive(std::slice::from_ref(byte)), ServerStep::Ask(_))
        });
        assert!(asks.count() <= 1, "{bytes:02x?}");
        read_datagram(&bytes).ok();
        let wanted = request(Command::Connect, "a:1");
        ClientSession::new(None, wanted).receive(&bytes);
    }
}

// SOCKS4 and 4a

#[test]
fn socks4_connects_to_an_address() {
    server(open, "04 01 0050 7f000001 'me' 00", ask("127.0.0.1:80"), "");
}

#[test]
fn socks4a_connects_to_a_name() {
    server(open, "04 01 0050 00000001 'me' 00 'example.com' 00", ask("example.com:80"), "");
}

#[test]
fn socks4_answers_with_its_own_codes() {
    for (answer, output) in [
        (Ok("10.0.0.1:80".parse().unwrap()), "00 5a 0050 0a000001"),
        (Ok("[2001:db8::1]:80".parse().unwrap()), "00 5a 0050 00000000"),
        (Err(Reply::CONNECTION_REFUSED), "00 5b 0000 00000000"),
    ] {
        let mut session = open();
        session.receive(&hex("04 01 0050 7f000001 00"));
        session.answer(answer);
        assert_eq!(session.take_output(), hex(output));
    }
}

#[test]
fn socks4_is_refused_when_a_password_is_required() {
    refused(guarded, "04 01 0050 7f000001 00", Reply::NOT_ALLOWED, "00 5b 0000 00000000");
}

#[test]
fn socks4_bind_and_bad_names_are_refused() {
    for input in
        ["04 02 0050 7f000001 00", "04 01 0050 00000001 00 00", "04 01 0050 00000001 00 'a b' 00"]
    {
        refused(open, input, Reply::GENERAL_FAILURE, "00 5b 0000 00000000");
    }
}

#[test]
fn socks4_without_an_end_is_refused_and_not_kept() {
    let endless = format!("04 01 0050 7f000001 {}", "61".repeat(1000));
    refused(open, &endless, Reply::GENERAL_FAILURE, "00 5b 0000 00000000");
    let endless = format!("04 01 0050 00000001 00 {}", "61".repeat(1000));
    refused(open, &endless, Reply::GENERAL_FAILURE, "00 5b 0000 00000000");
}

// The client's side

fn client(credentials: Option<Credentials>, target: &str) -> ClientSession {
    ClientSession::new(credentials, request(Command::Connect, target))
}

#[test]
fn a_client_never_sends_ahead() {
    let secret = Credentials::new("user", "pass").unwrap();
    let mut session = client(Some(secret), "example.com:443");
    assert_eq!(session.take_output(), hex("05 02 00 02"));
    assert_eq!(session.receive(&hex("05")), ClientStep::More);
    assert_eq!(session.take_output(), b"");
    assert_eq!(session.receive(&hex("02")), ClientStep::More);
    assert_eq!(session.take_output(), hex("01 04 'user' 04 'pass'"));
    assert_eq!(session.receive(&hex("01 00")), ClientStep::More);
    assert_eq!(session.take_output(), hex("05 01 00 03 0b 'example.com' 01bb"));
    let bound: Target = "10.0.0.1:80".parse().unwrap();
    assert_eq!(session.receive(&hex("05 00 00 01 0a000001 0050 'hello'")), ClientStep::Open(bound));
    assert_eq!(session.take_payload(), b"hello");
}

#[test]
fn a_client_keeps_its_password_from_a_server_that_does_not_ask() {
    let mut session = client(Some(Credentials::new("user", "pass").unwrap()), "a:1");
    session.take_output();
    session.receive(&hex("05 00"));
    assert_eq!(session.take_output(), hex("05 01 00 03 01 'a' 0001"));
}

#[test]
fn a_client_tells_each_failure() {
    for (input, error) in [
        ("04", HandshakeError::Version(4)),
        ("05 ff", HandshakeError::NoMethod),
        ("05 02", HandshakeError::Method(2)),
        ("05 01", HandshakeError::Method(1)),
        ("05 00  04", HandshakeError::Version(4)),
        ("05 00  05 05", HandshakeError::Refused(Reply::CONNECTION_REFUSED)),
        ("05 00  05 5b", HandshakeError::Refused(Reply(0x5b))),
        ("05 00  05 00 00 02", HandshakeError::Address),
    ] {
        let mut session = client(None, "a:1");
        assert_eq!(session.receive(&hex(input)), ClientStep::Failed(error), "{input}");
    }
    let mut session = client(Some(Credentials::new("u", "p").unwrap()), "a:1");
    let refused = ClientStep::Failed(HandshakeError::Password(0xff));
    assert_eq!(session.receive(&hex("05 02  01 ff")), refused);
}

#[test]
fn a_client_takes_replies_with_every_address_type_one_byte_at_a_time() {
    for (reply, bound) in [
        ("01 0a000001 0050", "10.0.0.1:80"),
        ("03 01 'b' 0050", "b:80"),
        ("04 20010db8000000000000000000000001 0050", "[2001:db8::1]:80"),
    ] {
        let mut session = client(None, "a:1");
        let mut last = ClientStep::More;
        for byte in hex(&format!("05 00  05 00 00 {reply}")) {
            assert_eq!(last, ClientStep::More);
            last = session.receive(&[byte]);
        }
        assert_eq!(last, ClientStep::Open(bound.parse().unwrap()));
    }
}

// Datagrams (RFC 1928 §7)

#[test]
fn a_datagram_is_written_and_read_with_every_address_type() {
    for (target, bytes) in [
        ("127.0.0.1:53", "0000 00 01 7f000001 0035 'q'"),
        ("dns.example:53", "0000 00 03 0b 'dns.example' 0035 'q'"),
        ("[2001:db8::1]:1024", "0000 00 04 20010db8000000000000000000000001 0400 'q'"),
    ] {
        let target: Target = target.parse().unwrap();
        let mut written = Vec::new();
        write_datagram(&target, b"q", &mut written);
        assert_eq!(written, hex(bytes));
        assert_eq!(read_datagram(&written), Ok((target, b"q".as_slice())));
    }
}

#[test]
fn a_fragment_is_dropped() {
    for fragment in ["01", "7f", "80", "ff"] {
        let bytes = hex(&format!("0000 {fragment} 01 7f000001 0035 'q'"));
        assert_eq!(read_datagram(&bytes), Err(DatagramError::Fragment(bytes[2])));
    }
}

#[test]
fn a_datagram_that_ends_in_its_header_is_dropped() {
    let whole = hex("0000 00 03 0b 'dns.example' 0035");
    for length in 0..whole.len() {
        assert_eq!(read_datagram(&whole[..length]), Err(DatagramError::Short), "{length} bytes");
    }
    assert!(matches!(read_datagram(&whole), Ok((_, b""))), "an empty payload is one");
    assert_eq!(read_datagram(&hex("0000 00 02 00")), Err(DatagramError::Address));
    assert_eq!(read_datagram(&hex("0000 00 03 00 0035")), Err(DatagramError::Address));
}
