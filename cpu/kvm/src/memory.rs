//! Memory slots: guest-physical ranges that KVM backs with our memory (KVM API §4.35), and their dirty
//! log (KVM API §4.8).
//!
//! ```text
//!   slot 0 .. r       RAM regions in address order
//!   slot r ..         ROMs in the order of map_rom
//! ```
//!
//! The log has what KVM's vCPUs write. What devices and the interpreter of `fixup` write goes through
//! [`GuestMemory`], whose own log has it: whoever wants all dirty pages takes both.

#![expect(unsafe_code, reason = "KVM is given host addresses")]

use crate::call::Named;
use kezhan_device::PAGE_SIZE;
use kezhan_hypervisor::{EngineError, GuestMemory};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// The slots of one partition; keeps alive what they point to.
#[derive(Debug)]
pub(crate) struct Slots {
    ram: Arc<GuestMemory>,
    regions: Vec<Region>,
    /// With the address that the lowest address of each has.
    roms: Mutex<Vec<(u64, Arc<GuestMemory>)>>,
    next: Mutex<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Region {
    slot: u32,
    address: u64,
    size: usize,
    host: u64,
}

impl Region {
    /// Asks the host for large pages, which it need not have: fewer faults and misses of the TLB. (madvise(2),
    /// MADV_HUGEPAGE)
    fn want_large_pages(&self) {
        let start = self.host as *mut libc::c_void;
        // SAFETY: the advice changes nothing of what the region's mapping reads as, nor who may.
        unsafe { libc::madvise(start, self.size, libc::MADV_HUGEPAGE) };
    }
}

impl Slots {
    /// Gives KVM all of RAM.
    pub(crate) fn map(vm: &VmFd, ram: Arc<GuestMemory>) -> Result<Slots, EngineError> {
        let regions: Vec<Region> = (0..).zip(ram.iter()).map(|(n, r)| Region::of(n, r)).collect();
        for region in &regions {
            region.want_large_pages();
            set(vm, region, 0)?;
        }
        let next = Mutex::new(regions.len() as u32);
        Ok(Slots { ram, regions, roms: Mutex::default(), next })
    }

    /// Maps `memory` read-only; its lowest address comes to `address`.
    pub(crate) fn map_rom(
        &self,
        vm: &VmFd,
        address: u64,
        memory: Arc<GuestMemory>,
    ) -> Result<(), EngineError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let lowest = lowest(&memory);
        for part in memory.iter() {
            let mut region = Region::of(*next, part);
            region.address = address + (region.address - lowest);
            set(vm, &region, KVM_MEM_READONLY)?;
            *next += 1;
        }
        self.roms.lock().unwrap_or_else(PoisonError::into_inner).push((address, memory));
        Ok(())
    }

    /// The RAM.
    pub(crate) fn ram(&self) -> &GuestMemory {
        &self.ram
    }

    /// Gives whole pages of RAM back to the host (madvise(2), MADV_DONTNEED): they read as zeroes from then on.
    pub(crate) fn release(&self, address: u64, length: u64) -> bool {
        let region = self.regions.iter().find(|r| address.wrapping_sub(r.address) < r.size as u64);
        let Some(region) = region else { return false };
        let offset = address - region.address;
        let whole = (offset | length).is_multiple_of(PAGE_SIZE as u64);
        if !whole || length == 0 || length > region.size as u64 - offset {
            return false;
        }
        let start = (region.host + offset) as *mut libc::c_void;
        // SAFETY: the range lies in the private anonymous mapping of the region, which `ram` keeps alive; its
        // bytes may change at any time for all who have it mapped, since a guest writes them.
        let status = unsafe { libc::madvise(start, length as usize, libc::MADV_DONTNEED) };
        if status == 0
            && let Some(part) = self.ram.find_region(GuestAddress(address))
        {
            part.bitmap().mark_dirty(offset as usize, length as usize);
        }
        status == 0
    }

    /// The ROM at guest-physical `address`, and the address inside it.
    pub(crate) fn rom_at(&self, address: u64) -> Option<(Arc<GuestMemory>, u64)> {
        let roms = self.roms.lock().unwrap_or_else(PoisonError::into_inner);
        roms.iter().find_map(|(base, rom)| {
            let inside = address.checked_sub(*base)? + lowest(rom);
            rom.address_in_range(GuestAddress(inside)).then(|| (rom.clone(), inside))
        })
    }

    /// Turns KVM's log of RAM writes on or off.
    pub(crate) fn set_logging(&self, vm: &VmFd, on: bool) -> Result<(), EngineError> {
        let flags = if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        for region in &self.regions {
            set(vm, region, flags)?;
        }
        if on {
            self.take_dirty(vm)?;
        }
        Ok(())
    }

    /// The log of each RAM region; KVM clears it in the same step.
    pub(crate) fn take_dirty(&self, vm: &VmFd) -> Result<Vec<Vec<u64>>, EngineError> {
        let take = |region: &Region| {
            let mut words = vm
                .get_dirty_log(region.slot, region.size)
                .named(format!("KVM_GET_DIRTY_LOG of slot {}", region.slot))?;
            words.truncate(region.size.div_ceil(PAGE_SIZE * 64));
            Ok(words)
        };
        self.regions.iter().map(take).collect()
    }
}

impl Region {
    fn of(slot: u32, region: &vm_memory::GuestRegionMmap<kezhan_device::PageLog>) -> Region {
        Region {
            slot,
            address: region.start_addr().0,
            size: region.len() as usize,
            host: region.as_ptr() as u64,
        }
    }
}

fn lowest(memory: &GuestMemory) -> u64 {
    memory.iter().next().map_or(0, |region| region.start_addr().0)
}

fn set(vm: &VmFd, region: &Region, flags: u32) -> Result<(), EngineError> {
    let argument = kvm_userspace_memory_region {
        slot: region.slot,
        flags,
        guest_phys_addr: region.address,
        memory_size: region.size as u64,
        userspace_addr: region.host,
    };
    // SAFETY: `host` is the start of a mapping of `size` bytes whose owner `Slots` keeps for as long as
    // the VM descriptor lives (both are in `Shared`, which every vCPU holds); guest memory is only
    // reached through volatile accesses, so the guest's writes break no reference of ours.
    unsafe { vm.set_user_memory_region(argument) }.named(format!(
        "KVM_SET_USER_MEMORY_REGION of {:#x} bytes at {:#x}",
        region.size, region.address
    ))
}
