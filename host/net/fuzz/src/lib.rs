//! Any bytes as a guest's frames and as resolvers' answers: what the target `frames` does with its input, and a test
//! with the corpus.
//!
//! The input is records of two length bytes and that many bytes. A frame gets the guest's source address, and one of
//! an even length its checksums, since everything else is dropped at once. Queries are answered with the record that follows.

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

/// The sum of RFC 1071, finished.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Where the network's payload begins, and its protocol; none when it is not IP.
fn payload(frame: &[u8]) -> Option<(usize, u8)> {
    match *frame.get(12..15)? {
        [0x08, 0x00, first] => Some((14 + usize::from(first & 15) * 4, *frame.get(23)?)),
        [0x86, 0xdd, _] => Some((54, *frame.get(20)?)),
        _ => None,
    }
}

/// Fills in the checksums of the IPv4 header and of ICMP, and leaves others to us, so that the input need not find
/// them.
fn seal(frame: &mut [u8]) -> Packet {
    let Some((start, protocol)) = payload(frame) else { return Packet::default() };
    let four = frame[12] == 8;
    if four && start >= 34 && frame.len() >= start {
        frame[24..26].fill(0);
        let sum = checksum(&[&frame[14..start]]);
        frame[24..26].copy_from_slice(&sum);
    }
    let Some(offset) = (match protocol {
        1 | 58 => Some(2),
        6 => Some(16),
        17 => Some(6),
        _ => None,
    }) else {
        return Packet::default();
    };
    if matches!(protocol, 1 | 58) && frame.len() >= start + 4 {
        frame[start + 2..start + 4].fill(0);
        let length = (frame.len() - start) as u32;
        let pseudo = [length.to_be_bytes(), u32::from(protocol).to_be_bytes()].concat();
        let addresses: &[u8] = if four { &[] } else { &frame[22..54] };
        let pseudo: &[u8] = if four { &[] } else { &pseudo };
        let sum = checksum(&[addresses, pseudo, &frame[start..]]);
        frame[start + 2..start + 4].copy_from_slice(&sum);
        return Packet::default();
    }
    let partial = PartialChecksum { start: start as u16, offset };
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
        let packet = if frame.len() % 2 == 0 { seal(&mut frame) } else { Packet::default() };
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
