//! Any bytes as what a peer says: the same outcome whole and in pieces, never a panic.
//!
//!     cargo +nightly fuzz run handshake -- -max_len=2048 -max_total_time=60
//!
//! The first byte chooses the side and the access, and the size of the pieces.

#![no_main]

use kezhan_socks::{
    Access, ClientSession, ClientStep, Command, Credentials, Request, ServerSession, ServerStep,
    read_datagram, write_datagram,
};
use libfuzzer_sys::fuzz_target;

fn server(access: Access, pieces: &mut dyn Iterator<Item = &[u8]>) -> (ServerStep, Vec<u8>) {
    let mut session = ServerSession::new(access);
    let mut last = ServerStep::More;
    for piece in pieces {
        if last == ServerStep::More {
            last = session.receive(piece);
        }
    }
    (last, session.take_output())
}

fn client(login: Credentials, pieces: &mut dyn Iterator<Item = &[u8]>) -> (ClientStep, Vec<u8>) {
    let target = "example.com:80".parse().expect("a target");
    let request = Request { command: Command::Connect, target };
    let mut session = ClientSession::new(Some(login), request);
    let mut last = ClientStep::More;
    for piece in pieces {
        if last == ClientStep::More {
            last = session.receive(piece);
        }
    }
    (last, session.take_output())
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let login = Credentials::new("user", "pass").expect("credentials");
    let size = usize::from(choice >> 2) + 1;
    let mut whole = std::iter::once(bytes);
    match choice & 3 {
        0 | 1 => {
            let access = if choice & 1 == 0 { Access::Open } else { Access::Password(login) };
            let together = server(access.clone(), &mut whole);
            assert_eq!(together, server(access, &mut bytes.chunks(size)));
        }
        2 => {
            let together = client(login.clone(), &mut whole);
            assert_eq!(together, client(login, &mut bytes.chunks(size)));
        }
        _ => {
            if let Ok((target, payload)) = read_datagram(bytes) {
                let mut written = Vec::new();
                write_datagram(&target, payload, &mut written);
                assert_eq!(read_datagram(&written), Ok((target, payload)));
            }
        }
    }
});
