//! A bad line: frames get lost, each direction with its own probability.
//!
//! The same seed loses the same frames, whatever the time of day.

use kezhan_ports::nic::{Nic, NicInfo, Offloads, Packet, Received, Transmit};
use std::sync::Arc;

/// How many of a million frames are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossRates {
    /// From the guest.
    pub transmit: u32,
    /// To the guest.
    pub receive: u32,
}

/// An interface that loses frames.
#[derive(Debug)]
pub struct Lossy<N> {
    inner: N,
    rates: LossRates,
    transmit: Dice,
    receive: Dice,
    lost: u64,
}

/// A generator of its own for each direction, so that they do not disturb each other (xorshift64*, S. Vigna,
/// "An experimental exploration of Marsaglia's xorshift generators").
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        // The state must not be 0.
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn of_a_million(&mut self, rate: u32) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (value * 1_000_000) >> 32 < u64::from(rate)
    }
}

impl<N> Lossy<N> {
    /// Loses frames at these rates.
    #[must_use]
    pub fn new(inner: N, rates: LossRates, seed: u64) -> Lossy<N> {
        let (transmit, receive) = (Dice::new(seed), Dice::new(!seed));
        Lossy { inner, rates, transmit, receive, lost: 0 }
    }

    /// How many frames were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl<N: Nic> Nic for Lossy<N> {
    fn info(&self) -> NicInfo {
        self.inner.info()
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        if self.transmit.of_a_million(self.rates.transmit) {
            self.lost += 1;
            return Transmit::Taken;
        }
        self.inner.transmit(frame, packet)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        loop {
            let received = self.inner.receive(buffer)?;
            if !self.receive.of_a_million(self.rates.receive) {
                return Some(received);
            }
            self.lost += 1;
        }
    }

    fn accept(&mut self, offloads: Offloads) {
        self.inner.accept(offloads);
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.inner.set_waker(wake);
    }
}
