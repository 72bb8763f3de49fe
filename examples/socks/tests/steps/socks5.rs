//! The steps of features/socks5.feature. This file is yours: it is written once and never touched again.
//!
//! Each step is a plain function of a line or two. What they share is [`World`]; what they do is the example's
//! library, which knows nothing of sentences.

use super::Socks5Steps;
use kezhan_socks::{Access, Command, Credentials, DatagramError};
use socks_example::{Conversation, bytes, hex, relayed};
use std::net::SocketAddr;

/// What the steps of one scenario share; each scenario begins with a new one.
#[derive(Default)]
pub struct World {
    talk: Conversation,
    datagram: Option<Result<(String, String), DatagramError>>,
}

/// Bytes as everybody writes them: the features may set blanks where it reads best.
fn tidy(text: &str) -> String {
    hex(&bytes(text).unwrap())
}

impl World {
    fn wants(&self, command: Command, target: &str) {
        for asked in self.talk.asked() {
            assert_eq!(asked, Some((command, target.to_owned())));
        }
    }
}

impl Socks5Steps for World {
    fn a_server_that_lets_everybody_in(&mut self) {
        self.talk = Conversation::new(&Access::Open);
    }

    fn a_server_that_wants_the_user_with_the_password(&mut self, text: &str, text_2: &str) {
        let credentials = Credentials::new(text, text_2).unwrap();
        self.talk = Conversation::new(&Access::Password(credentials));
    }

    fn the_client_sends(&mut self, client: &str) {
        self.talk.send(&bytes(client).unwrap());
    }

    fn the_connection_stands_from(&mut self, text: &str) {
        let ours: SocketAddr = text.parse().unwrap();
        self.talk.answer(Ok(ours));
    }

    fn the_connection_fails_with(&mut self, code: i64) {
        self.talk.answer(Err(u8::try_from(code).unwrap()));
    }

    fn the_server_answers(&mut self, server: &str) {
        for said in self.talk.said() {
            assert_eq!(said, tidy(server));
        }
    }

    fn the_server_says_nothing(&mut self) {
        self.the_server_answers("");
    }

    fn the_session_is(&mut self, state: &str) {
        for closed in self.talk.closed() {
            assert_eq!(closed, state == "closed");
        }
    }

    fn the_server_wants_a_connection_to(&mut self, target: &str) {
        self.wants(Command::Connect, target);
    }

    fn the_server_wants_a_relay_for(&mut self, text: &str) {
        self.wants(Command::UdpAssociate, text);
    }

    fn goes_on_to_the_target(&mut self, text: &str) {
        for payload in self.talk.payload() {
            assert_eq!(payload, tidy(text));
        }
    }

    fn the_relay_gets_the_datagram(&mut self, datagram: &str) {
        self.datagram = Some(relayed(&bytes(datagram).unwrap()));
    }

    fn goes_to(&mut self, payload: &str, target: &str) {
        let expected = (target.to_owned(), tidy(payload));
        assert_eq!(self.datagram, Some(Ok(expected)));
    }

    fn it_is_dropped(&mut self) {
        let Some(Err(_)) = self.datagram else { panic!("it went on: {:?}", self.datagram) };
    }
}
