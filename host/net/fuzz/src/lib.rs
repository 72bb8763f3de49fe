//! Any bytes as a guest's frames and as resolvers' answers: what the target `frames` does with its input, and a test
//! with the corpus.
//!
//! The input is records of two length bytes and that many bytes. A frame gets the guest's source address,
//! since everything else is dropped at once. Queries are answered with the record that follows.

use kezhan_net::policy::Policy;
use kezhan_net::user::{Failure, Gateway, GatewayConfig, Outward};
use kezhan_ports::nic::{Packet, PartialChecksum};
use std::time::Duration;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn record<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = data.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (record, rest) = rest.split_at(length);
    *data = rest;
    Some(record)
}

/// A driver whose sockets take everything and answer with records.
fn carry_out(gateway: &mut Gateway, now: Duration, order: Outward, data: &mut &[u8]) {
    match order {
        Outward::Query { query, message, .. } => {
            gateway.answer(now, query, record(data).unwrap_or(&message));
        }
        Outward::Datagram { flow, to, payload } => gateway.datagram(now, flow, to, &payload),
        Outward::Connect { stream, .. } => match record(data) {
            Some([]) => gateway.stream_failed(now, stream, Failure::Refused),
            answer => {
                gateway.stream_connected(now, stream);
                let room = gateway.stream_room(stream);
                let answer = answer.unwrap_or_default();
                gateway.stream_data(now, stream, answer[..answer.len().min(room)].to_vec());
            }
        },
        Outward::Output { stream } => {
            let length = gateway.stream_output(stream).iter().map(|slice| slice.len()).sum();
            gateway.stream_written(now, stream, length);
        }
        Outward::Shut { stream } => gateway.stream_end(now, stream),
        Outward::Boot { guest, port, message } => gateway.send_boot(port, guest, &message),
        Outward::Close { .. }
        | Outward::Room { .. }
        | Outward::Drop { .. }
        | Outward::Reply { .. } => {}
    }
}

/// The checksum is left to us, so that the input need not find it.
fn unsummed(frame: &[u8]) -> Packet {
    let offset = match frame.get(23) {
        Some(6) => 16,
        _ => 6,
    };
    let partial = PartialChecksum { start: 34, offset };
    Packet { checksum: Some(partial), segmentation: None }
}

/// A guest that sends these records, from its first frame to its last.
pub fn run(mut data: &[u8]) {
    let mut gateway = Gateway::new(GatewayConfig::usual(GUEST_MAC), Policy::open());
    let mut now = Duration::ZERO;
    while let Some(frame) = record(&mut data) {
        let mut frame = frame.to_vec();
        if let Some(source) = frame.get_mut(6..12) {
            source.copy_from_slice(&GUEST_MAC);
        }
        now += Duration::from_secs(1);
        let packet = if frame.len() % 2 == 0 { unsummed(&frame) } else { Packet::default() };
        gateway.receive(now, frame, packet);
        gateway.expire(now);
        while let Some(order) = gateway.take_outward() {
            carry_out(&mut gateway, now, order, &mut data);
        }
        while let Some(frame) = gateway.take_frame(now) {
            assert!(frame.length() <= 14 + 1500);
        }
    }
}
