//! New images.

use crate::bytes::bytes;
use crate::entry::Entry;
use crate::header::{Header, feature_names};
use crate::image::Qcow2;
use crate::layout::{Compression, Layout};
use crate::refcount::set_count;
use crate::spec;
use crate::state::write_entry;
use kezhan_block::{BlockError, CreateRequest, HostOffset, Preallocation, Result, Storage};
use std::sync::Arc;

/// Options that the format takes.
pub const OPTIONS: [&str; 20] = [
    "backing_file",
    "backing_fmt",
    "cluster_size",
    "compat",
    "compression_type",
    "data_file",
    "data_file_raw",
    "encrypt.cipher-alg",
    "encrypt.cipher-mode",
    "encrypt.format",
    "encrypt.hash-alg",
    "encrypt.iter-time",
    "encrypt.ivgen-alg",
    "encrypt.key-secret",
    "extended_l2",
    "lazy_refcounts",
    "preallocation",
    "refcount_bits",
    "size",
    "keep_data_file",
];

/// A checked request.
#[derive(Clone, Debug)]
pub struct CreatePlan {
    /// The sizes of the image.
    pub layout: Layout,
    /// Size of the disk, in whole sectors.
    pub size: u64,
    /// What to reserve.
    pub preallocation: Preallocation,
    lazy: bool,
    raw_external: bool,
}

impl CreatePlan {
    /// Checks a request.
    ///
    /// # Errors
    /// [`BlockError::Option`].
    pub fn new(request: &CreateRequest) -> Result<CreatePlan> {
        request.expect_only("qcow2", &OPTIONS)?;
        check_encryption(request)?;
        let v3 = match request.option("compat") {
            None | Some("1.1" | "v3") => true,
            Some("0.10" | "v2") => false,
            Some(other) => {
                return Err(BlockError::option(format!("compat={other}"), "give 1.1 or 0.10"));
            }
        };
        let extended = request.flag("extended_l2", false)?;
        let cluster = request.number("cluster_size", 64 << 10)?;
        let bits = request.number("refcount_bits", 16)?;
        let plan = CreatePlan {
            layout: Layout {
                v3,
                cluster_bits: cluster.trailing_zeros(),
                refcount_order: bits.trailing_zeros(),
                extended,
                external: request.option("data_file").is_some(),
                compression: compression(request)?,
            },
            size: request.size.next_multiple_of(512),
            preallocation: request.preallocation()?,
            lazy: request.flag("lazy_refcounts", false)?,
            raw_external: request.flag("data_file_raw", false)?,
        };
        plan.check(cluster, bits, request)?;
        Ok(plan)
    }

    fn check(&self, cluster: u64, bits: u64, request: &CreateRequest) -> Result<()> {
        let no = |option: String, what: &str| Err(BlockError::option(option, what));
        let smallest = if self.layout.extended { 16 << 10 } else { 512 };
        if !cluster.is_power_of_two() || !(smallest..=2 << 20).contains(&cluster) {
            let what = format!("give a power of two from {smallest} to 2M");
            return Err(BlockError::option(format!("cluster_size={cluster}"), what));
        }
        if !bits.is_power_of_two() || bits > 64 {
            return no(format!("refcount_bits={bits}"), "give a power of two up to 64");
        }
        let l = &self.layout;
        if !l.v3 && (l.extended || l.external || self.lazy || bits != 16) {
            return no("compat=0.10".into(), "the other options need compat=1.1");
        }
        if !l.v3 && l.compression != Compression::Zlib {
            return no("compression_type".into(), "zstd needs compat=1.1");
        }
        if self.raw_external && (!l.external || request.backing_file.is_some()) {
            return no("data_file_raw=on".into(), "needs data_file, and no backing file");
        }
        if request.backing_file.is_some() && self.preallocation != Preallocation::Off && !l.extended
        {
            return no("preallocation".into(), "with a backing file give off, or extended_l2=on");
        }
        if l.l1_entries(self.size) * 8 > spec::L1_BYTES_MAX {
            return no(format!("size={}", self.size), "too large; give larger clusters");
        }
        Ok(())
    }

    fn header(&self, request: &CreateRequest) -> Header {
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let l = &self.layout;
        let zstd = l.compression == Compression::Zstd;
        let mut header = Header {
            version: if l.v3 { 3 } else { 2 },
            cluster_bits: l.cluster_bits,
            size: self.size,
            crypt_method: spec::CRYPT_NONE,
            l1_size: l.l1_entries(self.size) as u32,
            l1_offset: 0,
            reftable_offset: 0,
            reftable_clusters: 1,
            snapshots: 0,
            snapshots_offset: 0,
            incompatible: flag(l.external, spec::EXTERNAL_DATA)
                | flag(zstd, spec::COMPRESSION)
                | flag(l.extended, spec::EXTENDED_L2),
            compatible: flag(self.lazy, spec::LAZY_REFCOUNTS),
            autoclear: flag(self.raw_external, spec::RAW_EXTERNAL),
            refcount_order: l.refcount_order,
            compression: u8::from(zstd),
            backing_file: request.backing_file.clone(),
            extensions: Vec::new(),
        };
        let backing_format = request.backing_format.clone().map(String::into_bytes);
        header.set_extension(spec::EXT_BACKING_FORMAT, backing_format);
        let data_file = request.option("data_file").map(|name| name.as_bytes().to_vec());
        header.set_extension(spec::EXT_DATA_FILE, data_file);
        // In the smallest clusters the names of features would leave no room for those of files.
        let names = (l.v3 && l.cluster() >= 4096).then(feature_names);
        header.set_extension(spec::EXT_FEATURE_NAMES, names);
        header
    }
}

fn check_encryption(request: &CreateRequest) -> Result<()> {
    let reserves = request.preallocation()? != Preallocation::Off;
    let what = match (request.option("encrypt.format"), &request.passphrase) {
        (None, _) => return Ok(()),
        (Some("luks"), None) => "give the passphrase with --object secret,id=NAME,file=FILE",
        (Some("luks"), _) if reserves || request.option("data_file").is_some() => {
            "not with data_file or preallocation"
        }
        (Some("luks"), Some(_)) => return Ok(()),
        (Some(_), _) => "give luks",
    };
    Err(BlockError::option("encrypt.format", what))
}

fn compression(request: &CreateRequest) -> Result<Compression> {
    match request.option("compression_type") {
        None | Some("zlib") => Ok(Compression::Zlib),
        Some("zstd") => Ok(Compression::Zstd),
        Some(other) => {
            Err(BlockError::option(format!("compression_type={other}"), "give zlib or zstd"))
        }
    }
}

/// Writes a new image into an empty storage: header, refcount table, one refcount block, L1 table.
///
/// ```text
///   cluster 0       1               2               3 …
///   header          refcount table  refcount block  L1 table
/// ```
///
/// # Errors
/// Options that do not fit together; the storage's.
pub fn create(file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
    let plan = CreatePlan::new(request)?;
    let layout = plan.layout;
    let mut header = plan.header(request);
    let cluster = layout.cluster();
    let l1_clusters = layout.clusters(u64::from(header.l1_size) * 8);
    header.reftable_offset = cluster;
    header.l1_offset = 3 * cluster;
    write_counts(&*file, &layout, 3 + l1_clusters, &mut header)?;
    file.set_size(header.l1_offset + l1_clusters.max(1) * cluster)?;
    file.flush()?;
    file.write_at(HostOffset(0), &header.encode(file.name())?)?;
    file.flush()?;
    if request.option("encrypt.format").is_some() {
        let image = Qcow2::open(file.clone(), file.clone(), Header::read(&*file)?, true)?;
        let options = kezhan_luks::LuksOptions::read(request, "encrypt.")?;
        image.make_encrypted(request.passphrase.as_deref().unwrap_or_default(), &options)?;
    }
    if let Some(data) = &request.data_file {
        data.set_size(plan.size)?;
    }
    preallocate(file, request, &plan)
}

/// Writes refcounts of one for the first `used` clusters; more blocks follow the L1 table when small
/// clusters need them.
fn write_counts(file: &dyn Storage, layout: &Layout, used: u64, header: &mut Header) -> Result<()> {
    let (cluster, entries) = (layout.cluster(), layout.block_entries());
    let l1_clusters = used - 3;
    let mut table_clusters = 1;
    let mut blocks = 1;
    loop {
        let total = 1 + table_clusters + blocks + l1_clusters;
        let (need_blocks, need_table) =
            (total.div_ceil(entries), (total.div_ceil(entries) * 8).div_ceil(cluster));
        if need_blocks <= blocks && need_table <= table_clusters {
            break;
        }
        (blocks, table_clusters) = (need_blocks.max(blocks), need_table.max(table_clusters));
    }
    let first_block = 1 + table_clusters;
    let total = first_block + blocks + l1_clusters;
    header.reftable_clusters = table_clusters as u32;
    header.l1_offset = (first_block + blocks) * cluster;
    let table: Vec<u64> = (0..blocks).map(|index| (first_block + index) * cluster).collect();
    file.write_at(HostOffset(cluster), &bytes(&table))?;
    for (index, host) in table.iter().enumerate() {
        let mut block = vec![0; cluster as usize];
        let base = index as u64 * entries;
        for within in 0..entries.min(total.saturating_sub(base)) {
            set_count(&mut block, layout.refcount_order, within, 1);
        }
        file.write_at(HostOffset(*host), &block)?;
    }
    Ok(())
}

fn preallocate(file: Arc<dyn Storage>, request: &CreateRequest, plan: &CreatePlan) -> Result<()> {
    if plan.preallocation == Preallocation::Off {
        return Ok(());
    }
    let header = Header::read(&*file)?;
    let data = request.data_file.clone().unwrap_or_else(|| file.clone());
    let image = Qcow2::open(file.clone(), data.clone(), header, true)?;
    image.preallocate_all(request.backing_file.is_some())?;
    let (from, to) = if plan.layout.external { (0, plan.size) } else { (0, file.size()?) };
    match plan.preallocation {
        Preallocation::Falloc => data.reserve(HostOffset(from), to),
        Preallocation::Full if plan.layout.external => {
            data.write_zeroes(HostOffset(0), plan.size, false)
        }
        Preallocation::Full => file.reserve(HostOffset(0), to),
        _ => Ok(()),
    }
}

impl Qcow2 {
    /// Gives every guest cluster a place. Over a backing file only places, no content (subclusters).
    fn preallocate_all(&self, backed: bool) -> Result<()> {
        let cluster = self.layout.cluster();
        let mut state = self.state();
        let mut at = 0;
        let mut end = 0;
        while at < self.size_now() {
            let table = state.own_l2(&*self.file, &self.layout, at)?;
            let left = (self.size_now() - at).div_ceil(cluster);
            let in_table = self.layout.l2_entries() - self.layout.indices(at).1 as u64;
            let (host, count) = if self.layout.external {
                (at, left.min(in_table))
            } else {
                let (run, _) = state.refcounts.allocate(&*self.file, left.min(in_table))?;
                (run.first * cluster, run.count)
            };
            let first = self.layout.indices(at).1;
            let bytes = state.l2.change(&*self.file, table)?;
            for index in 0..count {
                let mut entry = Entry::data(&self.layout, host + index * cluster);
                if backed {
                    entry.bitmap = 0;
                }
                write_entry(bytes, &self.layout, first + index as usize, entry);
            }
            end = end.max(host + count * cluster);
            at += count * cluster;
            if state.l2.crowded() || state.refcounts.blocks.crowded() {
                drop(state);
                self.flush_metadata()?;
                state = self.state();
            }
        }
        drop(state);
        if !self.layout.external && self.file.size()? < end {
            self.file.set_size(end)?;
        }
        self.flush_metadata()
    }
}
