//! Fakes for testing devices, and the checks that every device must pass.

use crate::{
    Access, Clock, Device, LineInterrupt, LineTarget, MachineControl, MachineEvent, ManualClock,
    MsiMessage, MsiTarget, RegionIndex,
};
use std::sync::{Arc, Mutex};

/// A line target that records each change as `(pin, high)`.
#[derive(Debug, Default)]
pub struct LineLog(Mutex<Vec<(u32, bool)>>);

impl LineLog {
    /// A log and a line called `name` that ends at its pin 0.
    pub fn line(name: &str) -> (Arc<LineLog>, LineInterrupt) {
        let log = Arc::new(LineLog::default());
        let line = LineInterrupt::new(name, vec![(log.clone(), 0)]);
        (log, line)
    }

    /// The changes since the last call.
    pub fn take(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl LineTarget for LineLog {
    fn set_line(&self, pin: u32, high: bool) {
        lock(&self.0).push((pin, high));
    }
}

/// Records the messages sent and the machine events asked for.
#[derive(Debug, Default)]
pub struct Recorder {
    messages: Mutex<Vec<MsiMessage>>,
    events: Mutex<Vec<MachineEvent>>,
}

impl Recorder {
    /// The messages since the last call.
    pub fn take_messages(&self) -> Vec<MsiMessage> {
        std::mem::take(&mut lock(&self.messages))
    }

    /// The machine events since the last call.
    pub fn take_events(&self) -> Vec<MachineEvent> {
        std::mem::take(&mut lock(&self.events))
    }
}

impl MsiTarget for Recorder {
    fn signal(&self, message: MsiMessage) -> bool {
        lock(&self.messages).push(message);
        true
    }
}

impl MachineControl for Recorder {
    fn request(&self, event: MachineEvent) {
        lock(&self.events).push(event);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads `size` bytes at `offset` of region `region`; all-ones when the device refuses.
pub fn read(device: &mut dyn Device, region: usize, offset: u64, size: usize) -> u64 {
    let mut data = [0xff_u8; 8];
    let size = size.min(8);
    if device.read(RegionIndex(region), offset, &mut data[..size]) != Access::Done {
        data = [0xff; 8];
    }
    let mut value = [0_u8; 8];
    value[..size].copy_from_slice(&data[..size]);
    u64::from_le_bytes(value)
}

/// Writes the low `size` bytes of `value` at `offset` of region `region`.
pub fn write(
    device: &mut dyn Device,
    region: usize,
    offset: u64,
    size: usize,
    value: u64,
) -> Access {
    device.write(RegionIndex(region), offset, &value.to_le_bytes()[..size.min(8)])
}

/// The conformance suite of the device contract: run it on every device.
///
/// It checks that the regions are stable and named apart, that no access of any size at any edge of a
/// region (nor beyond it, nor in a region that does not exist) panics, that a saved state restores to
/// an equal one, that a state of another kind is refused, and that reset gives the power-on state.
///
/// # Panics
/// When the device breaks the contract: this is a test.
pub fn check_contract(device: &mut dyn Device) {
    device.reset();
    let fresh = device.save();
    check_contract_with_battery(device);
    device.reset();
    assert_eq!(device.save(), fresh, "reset does not give the power-on state");
}

/// [`check_contract`] for a device whose battery keeps part of its state through a reset.
///
/// # Panics
/// When the device breaks the contract: this is a test.
pub fn check_contract_with_battery(device: &mut dyn Device) {
    let regions = device.regions();
    assert_eq!(regions, device.regions(), "regions change between calls");
    for (index, region) in regions.iter().enumerate() {
        assert!(region.length > 0, "region '{}' is empty", region.name);
        assert!(
            regions[..index].iter().all(|r| r.name != region.name),
            "two regions '{}'",
            region.name
        );
        poke_edges(device, index, region.length);
    }
    poke_edges(device, regions.len(), 16);
    let saved = device.save();
    device.restore(&saved).expect("a device takes its own state back");
    assert_eq!(device.save(), saved, "restore changes the state");
    let mut foreign = saved.clone();
    foreign.kind = "of-another-kind".to_owned();
    assert!(device.restore(&foreign).is_err(), "a foreign state is accepted");
    let mut damaged = saved;
    damaged.payload = serde_json::Value::String("damaged".to_owned());
    assert!(device.restore(&damaged).is_err(), "a damaged state is accepted");
}

fn poke_edges(device: &mut dyn Device, region: usize, length: u64) {
    let edges =
        (0..length.min(64)).chain(length.saturating_sub(9)..length + 9).chain([u64::MAX - 7]);
    for offset in edges {
        for size in [0, 1, 2, 3, 4, 8, 16] {
            let mut data = vec![0; size];
            device.read(RegionIndex(region), offset, &mut data);
            for fill in [0x00, 0xff, 0x5a] {
                data.fill(fill);
                device.write(RegionIndex(region), offset, &data);
            }
        }
    }
}

/// A storm of accesses from a hostile guest, the same at every run: 10 000 reads and writes of all sizes
/// anywhere in the device's regions, with time passing between them and wake-ups as the chassis does.
///
/// # Panics
/// When the device panics, or asks again and again to be woken at a time that has passed.
pub fn check_storm(device: &mut dyn Device, clock: &ManualClock) {
    let regions = device.regions();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..10_000_u32 {
        let choice = random.next();
        if let Some(region) = regions.get(choice as usize % regions.len().max(1)) {
            let index = RegionIndex(choice as usize % regions.len());
            let offset = random.next() % region.length;
            let size = 1 << (random.next() % 4);
            let mut data = random.next().to_le_bytes();
            if choice >> 32 & 1 == 0 {
                device.read(index, offset, &mut data[..size]);
            } else {
                device.write(index, offset, &data[..size]);
            }
        }
        clock.advance(random.next() % (1 << (random.next() % 32)));
        wake_until_content(device, clock);
        if round % 64 == 0 {
            device.poll();
        }
    }
    let saved = device.save();
    device.restore(&saved).expect("a device takes back the state that a hostile guest left");
    assert_eq!(device.save(), saved, "restore changes the state");
    device.reset();
}

fn wake_until_content(device: &mut dyn Device, clock: &ManualClock) {
    for _ in 0..64 {
        let now = clock.now();
        match device.deadline() {
            Some(deadline) if deadline <= now => device.wake(now),
            _ => return,
        }
    }
    panic!("device '{}' asks for ever to be woken", device.name());
}

/// Marsaglia's xorshift (Journal of Statistical Software 8(14), 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
