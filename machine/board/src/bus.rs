//! Who answers at a port or address.
//!
//! ```text
//!   windows, sorted by start, without overlap
//!   ├ 0x3f8..0x400 com1.registers ─► slot 7, region 0, offset 0
//!   ├ 0xcf8..0xcf9 pci-host.config ► slot 9, region 0, offset 0
//!   ├ 0xcf9..0xcfa pm.reset ───────► slot 4, region 4, offset 0
//!   └ 0xcfa..0xd00 pci-host.config ► slot 9, region 0, offset 2
//! ```
//! An access belongs to the window in which it starts. If it fits in that window's *region* it is one
//! call; else each byte of it is an access of its own, as the lanes of a bus cycle are. Where the table
//! has nothing, the windows of PCI functions are tried, which a guest can move. What nobody claims, or
//! the device refuses, reads as all-ones and is counted.

use crate::BoardError;
use crate::pci::PciWindows;
use crate::slot::{Attention, Slot};
use kezhan_device::{Access, RegionIndex, Space};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A place on the bus.
pub(crate) type Location = (Space, u64);

pub(crate) fn port(port: u16) -> Location {
    (Space::Port, port.into())
}

pub(crate) fn memory(address: u64) -> Location {
    (Space::Memory, address)
}

/// Places counted at most; a guest that strays everywhere costs no more memory.
const STRAYS: usize = 256;

/// A region at its place, before the table is made.
#[derive(Clone)]
pub(crate) struct Claim {
    pub slot: Arc<Slot>,
    pub region: usize,
    pub name: String,
    pub space: Space,
    pub start: u64,
    pub length: u64,
    /// May lie inside another claim, and takes precedence there.
    pub inside: bool,
}

/// A part of a region.
struct Window {
    start: u64,
    end: u64,
    claim: Claim,
}

/// The table. Immutable once made, so that finding a device takes no lock.
pub(crate) struct Bus {
    pci: Arc<PciWindows>,
    ports: Vec<Window>,
    memory: Vec<Window>,
    strays: Mutex<BTreeMap<(Location, StrayKind), u64>>,
}

/// Why nothing came of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrayKind {
    /// Nothing is there.
    Unclaimed,
    /// The device has no such register, or not of that size or alignment.
    Refused,
}

/// Accesses of which nothing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The address space.
    pub space: Space,
    /// The port or address.
    pub address: u64,
    /// Why.
    pub kind: StrayKind,
    /// How many.
    pub count: u64,
}

impl Bus {
    pub(crate) fn new(claims: Vec<Claim>, pci: Arc<PciWindows>) -> Result<Bus, BoardError> {
        let (ports, memory) = claims.into_iter().partition(|c| c.space == Space::Port);
        Ok(Bus { pci, ports: table(ports)?, memory: table(memory)?, strays: Mutex::default() })
    }

    pub(crate) fn read(&self, attention: &Attention, at: Location, data: &mut [u8]) {
        match self.find(at, data.len() as u64) {
            Found::Device(slot, region, offset) => {
                let done = slot.call(attention, |device| device.read(region, offset, data));
                if done != Access::Done {
                    data.fill(0xff);
                    self.count(at, StrayKind::Refused);
                }
            }
            Found::Split => {
                for (lane, byte) in (0..).zip(data) {
                    self.read(attention, lane_of(at, lane), std::slice::from_mut(byte));
                }
            }
            Found::Nothing => {
                data.fill(0xff);
                self.count(at, StrayKind::Unclaimed);
            }
        }
    }

    pub(crate) fn write(&self, attention: &Attention, at: Location, data: &[u8]) {
        match self.find(at, data.len() as u64) {
            Found::Device(slot, region, offset) => {
                if slot.post().is_some_and(|post| post.take(region, offset)) {
                    return;
                }
                let done = slot.call(attention, |device| device.write(region, offset, data));
                if done != Access::Done {
                    self.count(at, StrayKind::Refused);
                }
            }
            Found::Split => {
                for (lane, byte) in (0..).zip(data) {
                    self.write(attention, lane_of(at, lane), std::slice::from_ref(byte));
                }
            }
            Found::Nothing => self.count(at, StrayKind::Unclaimed),
        }
    }

    fn find(&self, (space, address): Location, length: u64) -> Found<'_> {
        let windows = if space == Space::Port { &self.ports } else { &self.memory };
        let after = windows.partition_point(|window| window.start <= address);
        let window = after.checked_sub(1).and_then(|index| windows.get(index));
        if let Some(Window { claim, .. }) = window.filter(|window| address < window.end) {
            let offset = address - claim.start;
            if length > 1 && offset + length > claim.length {
                return Found::Split;
            }
            return Found::Device(Cow::Borrowed(&claim.slot), RegionIndex(claim.region), offset);
        }
        match self.pci.find(space, address) {
            Some(hit) if length > 1 && hit.offset + length > hit.length => Found::Split,
            Some(hit) => Found::Device(Cow::Owned(hit.slot), hit.region, hit.offset),
            // An access that starts in a gap may reach into the window after it.
            None if windows.get(after).is_some_and(|next| next.start - address < length) => {
                Found::Split
            }
            None => Found::Nothing,
        }
    }

    fn count(&self, at: Location, kind: StrayKind) {
        let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        let room = strays.len() < STRAYS;
        match strays.get_mut(&(at, kind)) {
            Some(count) => *count += 1,
            None if room => {
                strays.insert((at, kind), 1);
            }
            None => {}
        }
    }

    pub(crate) fn strays(&self) -> Vec<Stray> {
        let strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        let stray = |(((space, address), kind), count): (&(Location, StrayKind), &u64)| Stray {
            space: *space,
            address: *address,
            kind: *kind,
            count: *count,
        };
        let mut list: Vec<Stray> = strays.iter().map(stray).collect();
        list.sort_by_key(|stray| std::cmp::Reverse(stray.count));
        list
    }
}

enum Found<'a> {
    Device(Cow<'a, Arc<Slot>>, RegionIndex, u64),
    Split,
    Nothing,
}

/// The place of a byte of an access; ports wrap at 64 KiB.
fn lane_of((space, address): Location, lane: u64) -> Location {
    match space {
        Space::Port => (space, (address + lane) & 0xffff),
        Space::Memory => (space, address.wrapping_add(lane)),
    }
}

/// Makes the windows of one space: outer claims must not overlap; inner ones cut theirs in two.
fn table(claims: Vec<Claim>) -> Result<Vec<Window>, BoardError> {
    let (inner, outer): (Vec<Claim>, Vec<Claim>) = claims.into_iter().partition(|c| c.inside);
    let mut windows = sorted(outer)?;
    for window in sorted(inner)? {
        let Window { start, end, .. } = window;
        windows = windows.into_iter().flat_map(|outer| without(outer, start, end)).collect();
        windows.push(window);
    }
    windows.sort_by_key(|window| window.start);
    Ok(windows)
}

fn sorted(mut claims: Vec<Claim>) -> Result<Vec<Window>, BoardError> {
    claims.sort_by_key(|claim| claim.start);
    for pair in claims.windows(2) {
        if let [first, second] = pair
            && second.start - first.start < first.length
        {
            return Err(BoardError::Conflict {
                first: first.name.clone(),
                second: second.name.clone(),
                address: second.start,
            });
        }
    }
    let window = |claim: Claim| Window {
        start: claim.start,
        end: claim.start.saturating_add(claim.length),
        claim,
    };
    Ok(claims.into_iter().map(window).collect())
}

/// What is left of a window around `start .. end`.
fn without(window: Window, start: u64, end: u64) -> Vec<Window> {
    let parts = [(window.start, window.end.min(start)), (window.start.max(end), window.end)];
    let fits = parts.into_iter().filter(|(from, to)| from < to);
    fits.map(|(start, end)| Window { start, end, claim: window.claim.clone() }).collect()
}
