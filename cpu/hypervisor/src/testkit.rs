//! Fakes for testing engines and what stands on them.

use crate::CpuIo;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An access that an engine made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// `in` from a port, of so many bytes.
    ReadPort(u16, usize),
    /// `out` of a value of so many bytes to a port.
    WritePort(u16, u64, usize),
    /// A read at an address, of so many bytes.
    ReadMemory(u64, usize),
    /// A write of a value of so many bytes at an address.
    WriteMemory(u64, u64, usize),
    /// An interrupt was acknowledged.
    Acknowledge,
    /// A vector has ended.
    EndOfInterrupt(u8),
}

/// A machine that records every access and answers reads from a list (then with all-ones).
#[derive(Debug, Default)]
pub struct RecordingIo {
    accesses: Mutex<Vec<Access>>,
    answers: Mutex<VecDeque<u64>>,
    vectors: Mutex<VecDeque<u8>>,
}

impl RecordingIo {
    /// The next read gives `value`, after those given before.
    pub fn answer(&self, value: u64) {
        lock(&self.answers).push_back(value);
    }

    /// The next acknowledge cycle gives `vector`.
    pub fn answer_vector(&self, vector: u8) {
        lock(&self.vectors).push_back(vector);
    }

    /// The accesses since the last call.
    pub fn take(&self) -> Vec<Access> {
        std::mem::take(&mut lock(&self.accesses))
    }

    fn record(&self, access: Access) {
        lock(&self.accesses).push(access);
    }

    fn fill(&self, data: &mut [u8]) {
        let value = lock(&self.answers).pop_front().unwrap_or(u64::MAX).to_le_bytes();
        for (to, from) in data.iter_mut().zip(value) {
            *to = from;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn value(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl CpuIo for RecordingIo {
    fn read_port(&self, port: u16, data: &mut [u8]) {
        self.record(Access::ReadPort(port, data.len()));
        self.fill(data);
    }

    fn write_port(&self, port: u16, data: &[u8]) {
        self.record(Access::WritePort(port, value(data), data.len()));
    }

    fn read_memory(&self, address: u64, data: &mut [u8]) {
        self.record(Access::ReadMemory(address, data.len()));
        self.fill(data);
    }

    fn write_memory(&self, address: u64, data: &[u8]) {
        self.record(Access::WriteMemory(address, value(data), data.len()));
    }

    fn acknowledge_interrupt(&self) -> u8 {
        self.record(Access::Acknowledge);
        lock(&self.vectors).pop_front().unwrap_or(0xff)
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.record(Access::EndOfInterrupt(vector));
    }
}
