//! The steps of features/socks5_zh.feature. This file is yours: it is written once and never touched again.

use super::Socks5ZhSteps;
use kezhan_socks::{Access, Command, Credentials, DatagramError};
use socks_example::{Conversation, bytes, hex, relayed};
use std::net::SocketAddr;

/// What the steps of one scenario share; each scenario begins with a new one.
#[derive(Default)]
pub struct World {
    talk: Conversation,
    datagram: Option<Result<(String, String), DatagramError>>,
}

fn tidy(text: &str) -> String {
    hex(&bytes(text).unwrap())
}

impl Socks5ZhSteps for World {
    fn 一个对所有人开放的服务器(&mut self) {
        self.talk = Conversation::new(&Access::Open);
    }

    fn 一个要求用户_和密码_的服务器(&mut self, text: &str, text_2: &str) {
        let credentials = Credentials::new(text, text_2).unwrap();
        self.talk = Conversation::new(&Access::Password(credentials));
    }

    fn 客户端发送(&mut self, 客户端: &str) {
        self.talk.send(&bytes(客户端).unwrap());
    }

    fn 连接已建立_本端为(&mut self, text: &str) {
        let ours: SocketAddr = text.parse().unwrap();
        self.talk.answer(Ok(ours));
    }

    fn 连接失败_代码为(&mut self, 代码: i64) {
        self.talk.answer(Err(u8::try_from(代码).unwrap()));
    }

    fn 服务器回答(&mut self, 服务器: &str) {
        for said in self.talk.said() {
            assert_eq!(said, tidy(服务器));
        }
    }

    fn 服务器不作回答(&mut self) {
        self.服务器回答("");
    }

    fn 会话状态为(&mut self, 状态: &str) {
        for closed in self.talk.closed() {
            assert_eq!(closed, 状态 == "关闭");
        }
    }

    fn 服务器要连接(&mut self, 目标: &str) {
        for asked in self.talk.asked() {
            assert_eq!(asked, Some((Command::Connect, 目标.to_owned())));
        }
    }

    fn 送往目标(&mut self, text: &str) {
        for payload in self.talk.payload() {
            assert_eq!(payload, tidy(text));
        }
    }

    fn 中继收到数据报(&mut self, 数据报: &str) {
        self.datagram = Some(relayed(&bytes(数据报).unwrap()));
    }

    fn 发往(&mut self, text: &str, text_2: &str) {
        let expected = (text_2.to_owned(), tidy(text));
        assert_eq!(self.datagram, Some(Ok(expected)));
    }

    fn 数据报被丢弃(&mut self) {
        let Some(Err(_)) = self.datagram else { panic!("it went on: {:?}", self.datagram) };
    }
}
