//! Disks and entropy: the back-ends behind `--disk` and virtio-rng.

use crate::VmmError;
use crate::events::{Event, EventQueue};
use kezhan_block::storage::{CacheMode, FileOptions, NbdAddress, NbdStorage};
use kezhan_block::{
    BlockError, DenyAll, DiskBackend, DiskHandle, DiskOptions, FileStorage, FollowFiles, Gate,
    Limits, OnError, OpenOptions, Rate, Storage, open_chain,
};
use kezhan_disk_formats::DRIVERS;
use kezhan_machine_spec::{DiskCache, DiskOnError, DiskRate, DiskSpec};
use kezhan_ports::{Disk, Entropy};
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::Arc;

/// Opens the image of a disk and starts its workers. Trouble that a guest cannot be told of is told to the
/// person; when the machine is to wait for the host, it is told to the driver.
pub(crate) fn open(
    spec: &DiskSpec,
    events: &Arc<EventQueue>,
) -> Result<(Box<dyn Disk>, DiskHandle), VmmError> {
    let failed = |error| VmmError::Disk { disk: spec.to_string(), error };
    let file = storage(spec).map_err(failed)?;
    let gate: &dyn Gate = if spec.backing { &FollowFiles { lock: true } } else { &DenyAll };
    let options = OpenOptions {
        drivers: DRIVERS,
        format: Some(&spec.format),
        writable: !spec.readonly,
        backing: true,
        gate,
        probe_backing: false,
        passphrase: None,
        for_check: false,
    };
    let image = open_chain(file, &options).map_err(failed)?;
    let options = options_of(spec);
    let (events, name) = (events.clone(), spec.file.display().to_string());
    let trouble = Box::new(move |text: &str| {
        let text = format!("--disk {name}: {text}");
        events.push(match options.on_error {
            OnError::Report => Event::Notice(text),
            OnError::Pause => Event::DiskHeld(text),
        });
    });
    let disk = DiskBackend::new(Arc::new(image), options, trouble).map_err(failed)?;
    let handle = disk.handle();
    Ok((Box::new(disk), handle))
}

/// Where the image's bytes are: an export of an NBD server, a file or a block device.
fn storage(spec: &DiskSpec) -> Result<Arc<dyn Storage>, BlockError> {
    if let Some(name) = spec.file.to_str()
        && let Some(address) = NbdAddress::parse(name)
    {
        return Ok(Arc::new(NbdStorage::connect(name, address, !spec.readonly)?));
    }
    let options =
        FileOptions { writable: !spec.readonly, cache: cache(spec.cache), ..FileOptions::READ };
    Ok(Arc::new(FileStorage::open(&spec.file, options)?))
}

/// How the disk behaves.
fn options_of(spec: &DiskSpec) -> DiskOptions {
    let rate = |rate: DiskRate| Rate { per_second: rate.per_second, burst: rate.burst };
    DiskOptions {
        on_error: on_error(spec.on_error),
        discard: !spec.keep_discarded,
        detect_zeroes: spec.detect_zeroes,
        limits: Limits { bytes: spec.bps.map(rate), operations: spec.iops.map(rate) },
        ..DiskOptions::default()
    }
}

fn on_error(choice: DiskOnError) -> OnError {
    match choice {
        DiskOnError::Report => OnError::Report,
        DiskOnError::Pause => OnError::Pause,
    }
}

fn cache(cache: DiskCache) -> CacheMode {
    match cache {
        DiskCache::WriteBack => CacheMode::WriteBack,
        DiskCache::WriteThrough => CacheMode::WriteThrough,
        DiskCache::None => CacheMode::None,
        DiskCache::DirectSync => CacheMode::DirectSync,
        DiskCache::Unsafe => CacheMode::Unsafe,
    }
}

/// The random bytes of a machine.
pub(crate) fn entropy(seed: Option<u64>) -> Box<dyn Entropy> {
    match seed {
        Some(seed) => Box::new(Seeded(seed)),
        None => Box::new(HostEntropy),
    }
}

/// The host's generator (getrandom(2)).
struct HostEntropy;

impl Entropy for HostEntropy {
    fn fill(&mut self, data: &mut [u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            // Fails only with EINTR, or on a host that has just started and knows no randomness yet.
            let count = getrandom(&mut *rest, GetRandomFlags::empty()).unwrap_or(0);
            rest = rest.get_mut(count..).unwrap_or_default();
        }
    }
}

/// The same bytes for the same `--seed`: Steele, Lea and Flood's SplitMix64 (OOPSLA 2014, figure 17).
struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&mut self, data: &mut [u8]) {
        for part in data.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for (byte, value) in part.iter_mut().zip(z.to_le_bytes()) {
                *byte = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let bytes = |seed| {
            let mut data = [0; 19];
            entropy(Some(seed)).fill(&mut data);
            data
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn a_disk_behaves_as_its_settings_say() {
        let spec = "d,discard=off,detect-zeroes=on,iops=100/500,bps=1M".parse().unwrap();
        let options = options_of(&spec);
        assert!(!options.discard && options.detect_zeroes);
        assert_eq!(options.limits.operations, Some(Rate { per_second: 100, burst: 500 }));
        assert_eq!(options.limits.bytes, Some(Rate { per_second: 1 << 20, burst: 1 << 20 }));
    }

    #[test]
    fn a_disk_that_is_not_there_is_named_with_its_option() {
        let events = Arc::new(EventQueue::new().unwrap());
        let error = open(&DiskSpec::new("/no/disk.img"), &events).err().unwrap().to_string();
        assert!(error.starts_with("--disk /no/disk.img"), "{error}");
    }
}
