//! An open qcow2 image.

use crate::bytes::words;
use crate::header::Header;
use crate::layout::Layout;
use crate::refcount::{Refcounts, Run};
use crate::spec;
use crate::state::State;
use crate::tables::Tables;
use kezhan_block::{BlockError, HostOffset, Result, Storage};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Memory for L2 tables before clean ones are dropped: enough to map 256 GiB at 64 KiB clusters.
const L2_CACHE_BYTES: usize = 32 << 20;

/// An open qcow2 image. Everything goes through [`kezhan_block::Format`] but for what only qcow2 has.
#[derive(Debug)]
pub struct Qcow2 {
    /// Where the tables are.
    pub(crate) file: Arc<dyn Storage>,
    /// Where guest data is: the same, or an external data file.
    pub(crate) data: Arc<dyn Storage>,
    pub(crate) layout: Layout,
    pub(crate) writable: bool,
    /// The disk's size, readable without the lock.
    pub(crate) size: AtomicU64,
    /// One flush at a time.
    pub(crate) flush_order: Mutex<()>,
    pub(crate) state: Mutex<State>,
    /// Signalled when a region is no longer in flight.
    pub(crate) settled: Condvar,
    /// Bitmaps that record writes.
    pub(crate) tracking: Mutex<crate::track::Tracking>,
    /// The cluster that was decompressed last: its place and its bytes.
    pub(crate) unpacked: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

impl Qcow2 {
    /// Opens the tables of an image whose header has been read. `data` holds the guest's data.
    ///
    /// # Errors
    /// The storage's; tables that are not valid.
    pub fn open(
        file: Arc<dyn Storage>,
        data: Arc<dyn Storage>,
        header: Header,
        writable: bool,
    ) -> Result<Qcow2> {
        let layout = header.layout();
        let l1 = read_l1(&*file, &layout, header.l1_offset, header.l1_size)?;
        let needed = layout.l1_entries(header.size);
        if (l1.len() as u64) < needed {
            let what = format!("L1 table of {} entries is too short: {needed} needed", l1.len());
            return Err(BlockError::corrupt(file.name(), what));
        }
        let mut refcounts =
            Refcounts::open(&*file, layout, header.reftable_offset, header.reftable_clusters)?;
        refcounts.reserve(l1_run(&layout, &header));
        let state = State {
            l2: Tables::new(layout.cluster(), L2_CACHE_BYTES),
            refcounts,
            l1,
            l1_dirty: BTreeSet::new(),
            header_dirty: false,
            in_flight: Vec::new(),
            token: 0,
            garbage: Vec::new(),
            recyclable: Vec::new(),
            compressed_end: 0,
            header,
        };
        Ok(Qcow2 {
            file,
            data,
            layout,
            writable,
            size: AtomicU64::new(state.header.size),
            flush_order: Mutex::new(()),
            state: Mutex::new(state),
            settled: Condvar::new(),
            tracking: Mutex::default(),
            unpacked: Mutex::new(None),
        })
    }

    /// The header as it is now.
    pub fn header(&self) -> Header {
        self.state().header.clone()
    }

    /// The sizes of the image.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where guest data is.
    pub fn data_file(&self) -> &dyn Storage {
        &*self.data
    }

    /// Forgets everything that the image itself holds: all of the disk comes from the backing file again.
    /// Run it within [`kezhan_block::Image::alone`].
    ///
    /// # Errors
    /// A read-only image; the storage's.
    pub fn make_empty(&self) -> Result<()> {
        self.check_writable()?;
        let old = {
            let mut state = self.state();
            let zeroes = vec![0; state.l1.len()];
            state.l1_dirty = (0..zeroes.len()).collect();
            std::mem::replace(&mut state.l1, zeroes)
        };
        self.release_tree(&old)?;
        self.flush_metadata()?;
        self.recycle_clusters()?;
        self.flush_metadata()
    }

    pub(crate) fn name(&self) -> &str {
        self.file.name()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn size_now(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(BlockError::ReadOnly { name: self.name().to_owned() })
    }

    /// Records another backing file, or none. The caller answers for what the disk then reads as.
    ///
    /// # Errors
    /// A read-only image; a name that is too long; the storage's.
    pub fn set_backing(&self, name: Option<&str>, format: Option<&str>) -> Result<()> {
        self.check_writable()?;
        if name.is_some_and(|name| name.len() > spec::BACKING_NAME_MAX) {
            return Err(BlockError::option("backing_file", "give a name of at most 1023 bytes"));
        }
        {
            let mut state = self.state();
            let mut header = state.header.clone();
            header.backing_file = name.map(str::to_owned);
            let format = format.filter(|_| name.is_some()).map(|f| f.as_bytes().to_vec());
            header.set_extension(spec::EXT_BACKING_FORMAT, format);
            header.encode(self.name())?;
            state.header = header;
            state.header_dirty = true;
        }
        self.flush_metadata()
    }

    /// Sets or clears the dirty bit in the file, at once. Version 2 has none.
    pub(crate) fn mark_dirty(&self, dirty: bool) -> Result<()> {
        if !self.layout.v3 {
            return Ok(());
        }
        {
            let mut state = self.state();
            state.header.incompatible &= !spec::DIRTY;
            state.header.incompatible |= if dirty { spec::DIRTY } else { 0 };
            state.header_dirty = true;
        }
        self.flush_metadata()
    }
}

/// Reads and bounds an L1 table.
pub(crate) fn read_l1(
    file: &dyn Storage,
    layout: &Layout,
    offset: u64,
    entries: u32,
) -> Result<Vec<u64>> {
    let bytes = u64::from(entries) * 8;
    let unaligned = !offset.is_multiple_of(layout.cluster());
    if bytes > spec::L1_BYTES_MAX || (bytes != 0 && unaligned) || offset > 1 << 56 {
        let what = format!("L1 table of {bytes} bytes at {offset:#x} is not valid");
        return Err(BlockError::corrupt(file.name(), what));
    }
    let mut table = vec![0; bytes as usize];
    file.read_at(HostOffset(offset), &mut table)?;
    Ok(words(&table))
}

/// The clusters of the active L1 table.
pub(crate) fn l1_run(layout: &Layout, header: &Header) -> Run {
    let count = layout.clusters(u64::from(header.l1_size) * 8);
    Run { first: header.l1_offset / layout.cluster(), count }
}
