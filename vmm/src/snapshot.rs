//! The whole state of a machine that stands still.

use kezhan_device::{GuestMemory, Nanoseconds, PAGE_SIZE, SavedState};
use kezhan_hypervisor::VcpuState;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

/// The state of a machine: enough to go on in another process, under another engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Virtual time.
    pub time: Nanoseconds,
    /// Every device by name.
    pub devices: Vec<(String, SavedState)>,
    /// Every vCPU in order.
    pub vcpus: Vec<VcpuState>,
    /// Guest memory.
    pub memory: MemoryImage,
}

/// Guest memory: the pages that are not all zeros, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryImage(Vec<(u64, Box<[u8]>)>);

const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

impl MemoryImage {
    /// Reads all of guest memory.
    pub(crate) fn read(memory: &GuestMemory) -> Result<MemoryImage, GuestMemoryError> {
        let mut pages = Vec::new();
        let mut page = ZEROS;
        for address in addresses(memory) {
            memory.read_slice(&mut page, GuestAddress(address))?;
            if page != ZEROS {
                pages.push((address, Box::from(page)));
            }
        }
        Ok(MemoryImage(pages))
    }

    /// Makes guest memory equal to the image, through the log of written pages. Pages that are equal
    /// already are left alone, so that restoring costs neither memory nor decoded code that still holds.
    pub(crate) fn write(&self, memory: &GuestMemory) -> Result<(), GuestMemoryError> {
        let mut wanted = self.0.iter().peekable();
        let mut page = ZEROS;
        for address in addresses(memory) {
            let saved = wanted.next_if(|(at, _)| *at == address);
            let bytes = saved.map_or(&ZEROS[..], |(_, bytes)| bytes);
            memory.read_slice(&mut page, GuestAddress(address))?;
            if page[..] != *bytes {
                memory.write_slice(bytes, GuestAddress(address))?;
            }
        }
        match wanted.next() {
            // A page beyond this machine's memory.
            Some((address, _)) => {
                Err(GuestMemoryError::InvalidGuestAddress(GuestAddress(*address)))
            }
            None => Ok(()),
        }
    }

    /// How many pages it holds.
    pub fn pages(&self) -> usize {
        self.0.len()
    }
}

/// The address of every page, in ascending order.
fn addresses(memory: &GuestMemory) -> impl Iterator<Item = u64> {
    memory.iter().flat_map(|region| {
        let start = region.start_addr().0;
        (start..start + region.len()).step_by(PAGE_SIZE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemory {
        let ranges = [(GuestAddress(0), 4 * PAGE_SIZE), (GuestAddress(1 << 32), PAGE_SIZE)];
        GuestMemory::from_ranges(&ranges).unwrap()
    }

    #[test]
    fn only_pages_that_hold_something_are_kept() {
        let memory = memory();
        memory.write_slice(&[1], GuestAddress(0x1fff)).unwrap();
        memory.write_slice(&[2], GuestAddress(1 << 32)).unwrap();
        assert_eq!(MemoryImage::read(&memory).unwrap().pages(), 2);
    }

    #[test]
    fn memory_becomes_equal_to_the_image_also_where_it_was_zero() {
        let memory = memory();
        memory.write_slice(&[7; 100], GuestAddress(0x2000)).unwrap();
        let image = MemoryImage::read(&memory).unwrap();
        memory.write_slice(&[8; 100], GuestAddress(0x2000)).unwrap();
        memory.write_slice(&[9; 100], GuestAddress(0)).unwrap();
        image.write(&memory).unwrap();
        assert_eq!(MemoryImage::read(&memory).unwrap(), image);
    }

    #[test]
    fn an_image_of_a_larger_machine_is_refused() {
        let image = MemoryImage(vec![(1 << 40, Box::from(ZEROS))]);
        assert!(image.write(&memory()).is_err());
    }
}
