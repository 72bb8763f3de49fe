//! Any bytes as a guest's frames and as resolvers' answers: never a panic.
//!
//!     cargo +nightly fuzz run frames -- -max_len=4096 -max_total_time=60
//!
//! The input is records of two length bytes and that many bytes. A frame gets the guest's source address,
//! since everything else is dropped at once. Queries are answered with the record that follows.

#![no_main]

use kezhan_net::policy::Policy;
use kezhan_net::user::{Gateway, GatewayConfig, Outward};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn gateway() -> Gateway {
    let config = GatewayConfig {
        guest_mac: GUEST_MAC,
        mac: [2, 0, 0, 0, 0, 2],
        guest: [10, 0, 2, 15].into(),
        gateway: [10, 0, 2, 2].into(),
        prefix: 24,
        mtu: 1500,
        lease: Duration::from_secs(3600),
    };
    Gateway::new(config, Policy::open())
}

fn record<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = data.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (record, rest) = rest.split_at(length);
    *data = rest;
    Some(record)
}

fuzz_target!(|data: &[u8]| {
    let mut gateway = gateway();
    let mut data = data;
    let mut now = Duration::ZERO;
    while let Some(frame) = record(&mut data) {
        let mut frame = frame.to_vec();
        if let Some(source) = frame.get_mut(6..12) {
            source.copy_from_slice(&GUEST_MAC);
        }
        now += Duration::from_secs(1);
        gateway.receive(now, &frame);
        while let Some(order) = gateway.take_outward() {
            match order {
                Outward::Query { query, message } => {
                    let answer = record(&mut data).unwrap_or(&message);
                    gateway.answer(now, query, answer);
                }
                Outward::Datagram { flow, to, payload } => gateway.datagram(now, flow, to, &payload),
                Outward::Close { .. } => {}
            }
        }
        while let Some(frame) = gateway.take_frame() {
            assert!(frame.len() <= 14 + 1500);
        }
        gateway.expire(now);
    }
});
