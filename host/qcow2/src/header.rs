//! The header cluster (qcow2 specification, "Header" and "Header extensions").

use crate::bytes::{put, u32_at, u64_at};
use crate::layout::{Compression, Layout};
use crate::spec;
use kezhan_block::{BlockError, HostOffset, Result, Storage};

/// Everything that the header cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// See [`Layout`].
    pub cluster_bits: u32,
    /// Size of the guest's disk in bytes.
    pub size: u64,
    /// 0 none, 1 AES (obsolete), 2 LUKS.
    pub crypt_method: u32,
    /// Entries of the active L1 table.
    pub l1_size: u32,
    /// Where it is.
    pub l1_offset: u64,
    /// Where the refcount table is.
    pub reftable_offset: u64,
    /// Its length in clusters.
    pub reftable_clusters: u32,
    /// Number of internal snapshots.
    pub snapshots: u32,
    /// Where the snapshot table is.
    pub snapshots_offset: u64,
    /// Feature bits that a reader must know.
    pub incompatible: u64,
    /// Feature bits that a reader may ignore.
    pub compatible: u64,
    /// Feature bits that a writer who does not know them clears.
    pub autoclear: u64,
    /// See [`Layout`].
    pub refcount_order: u32,
    /// 0 zlib, 1 zstd.
    pub compression: u8,
    /// Name of the backing file.
    pub backing_file: Option<String>,
    /// Extensions in their order: type and data.
    pub extensions: Vec<(u32, Vec<u8>)>,
}

impl Header {
    /// Reads and checks the header of an image.
    ///
    /// # Errors
    /// [`BlockError::WrongFormat`] for other files; what is out of range or not supported.
    pub fn read(file: &dyn Storage) -> Result<Header> {
        let name = file.name();
        let mut fixed = vec![0; spec::HEADER_LENGTH];
        file.read_at(HostOffset(0), &mut fixed)?;
        if u32_at(&fixed, 0) != spec::MAGIC || file.size()? < spec::HEADER_V2_LENGTH as u64 {
            let what = "it does not start with 'QFI\\xfb'".to_owned();
            return Err(BlockError::WrongFormat { name: name.to_owned(), format: "qcow2", what });
        }
        let mut header = Header::fixed(&fixed);
        header.check_version(name, &fixed)?;
        header.layout().check(name)?;
        let mut cluster = vec![0; header.layout().cluster() as usize];
        file.read_at(HostOffset(0), &mut cluster)?;
        let length = if header.version == 2 {
            spec::HEADER_V2_LENGTH
        } else {
            u32_at(&fixed, spec::AT_HEADER_LENGTH) as usize
        };
        let backing_at = u64_at(&fixed, spec::AT_BACKING_OFFSET) as usize;
        header.extensions = extensions(name, &cluster, length, backing_at)?;
        header.backing_file = header.backing(name, &fixed, &cluster)?;
        header.check_features(name)?;
        Ok(header)
    }

    fn fixed(bytes: &[u8]) -> Header {
        let version = u32_at(bytes, spec::AT_VERSION);
        let v3 = |at| if version >= 3 { u64_at(bytes, at) } else { 0 };
        let long = version >= 3 && u32_at(bytes, spec::AT_HEADER_LENGTH) > 104;
        let order = u32_at(bytes, spec::AT_REFCOUNT_ORDER);
        Header {
            version,
            cluster_bits: u32_at(bytes, spec::AT_CLUSTER_BITS),
            size: u64_at(bytes, spec::AT_SIZE),
            crypt_method: u32_at(bytes, spec::AT_CRYPT),
            l1_size: u32_at(bytes, spec::AT_L1_SIZE),
            l1_offset: u64_at(bytes, spec::AT_L1_OFFSET),
            reftable_offset: u64_at(bytes, spec::AT_REFCOUNT_OFFSET),
            reftable_clusters: u32_at(bytes, spec::AT_REFCOUNT_CLUSTERS),
            snapshots: u32_at(bytes, spec::AT_SNAPSHOTS),
            snapshots_offset: u64_at(bytes, spec::AT_SNAPSHOTS_OFFSET),
            incompatible: v3(spec::AT_INCOMPATIBLE),
            compatible: v3(spec::AT_COMPATIBLE),
            autoclear: v3(spec::AT_AUTOCLEAR),
            refcount_order: if version >= 3 { order } else { spec::REFCOUNT_ORDER_V2 },
            compression: if long { bytes[spec::AT_COMPRESSION] } else { 0 },
            backing_file: None,
            extensions: Vec::new(),
        }
    }

    /// The sizes that follow.
    pub fn layout(&self) -> Layout {
        Layout {
            v3: self.version >= 3,
            cluster_bits: self.cluster_bits,
            refcount_order: self.refcount_order,
            extended: self.incompatible & spec::EXTENDED_L2 != 0,
            external: self.incompatible & spec::EXTERNAL_DATA != 0,
            compression: if self.compression == 1 { Compression::Zstd } else { Compression::Zlib },
        }
    }

    /// The data of an extension.
    pub fn extension(&self, kind: u32) -> Option<&[u8]> {
        self.extensions.iter().find(|(k, _)| *k == kind).map(|(_, data)| data.as_slice())
    }

    /// Sets, or with `None` removes, an extension.
    pub fn set_extension(&mut self, kind: u32, data: Option<Vec<u8>>) {
        let position = self.extensions.iter().position(|(k, _)| *k == kind);
        match (position, data) {
            (Some(at), Some(data)) => self.extensions[at].1 = data,
            (Some(at), None) => drop(self.extensions.remove(at)),
            (None, Some(data)) => self.extensions.push((kind, data)),
            (None, None) => {}
        }
    }

    /// An extension that is a name.
    pub fn name_extension(&self, kind: u32) -> Option<String> {
        self.extension(kind).map(|data| String::from_utf8_lossy(data).into_owned())
    }

    fn check_version(&self, name: &str, fixed: &[u8]) -> Result<()> {
        let length = u32_at(fixed, spec::AT_HEADER_LENGTH) as usize;
        if !(2..=3).contains(&self.version) {
            let what = format!("qcow2 version {} is not known; versions are 2 and 3", self.version);
            return Err(BlockError::unsupported(name, what));
        }
        let cluster = 1usize << self.cluster_bits.clamp(9, 21);
        if self.version == 3 && !(spec::HEADER_V3_LENGTH..=cluster).contains(&length) {
            return Err(BlockError::corrupt(name, format!("header_length {length} is not valid")));
        }
        Ok(())
    }

    fn check_features(&self, name: &str) -> Result<()> {
        let unknown = self.incompatible & !spec::INCOMPATIBLE_KNOWN;
        if unknown != 0 {
            let what = format!("needs features not known here ({})", self.feature_names(unknown));
            return Err(BlockError::unsupported(name, what));
        }
        let marked = self.incompatible & spec::COMPRESSION != 0;
        if self.compression > 1 || marked != (self.compression != 0) {
            let what = format!("compression type {} is not valid here", self.compression);
            return Err(BlockError::corrupt(name, what));
        }
        if self.crypt_method > 2 {
            let what = format!("encryption method {} is not known", self.crypt_method);
            return Err(BlockError::unsupported(name, what));
        }
        Ok(())
    }

    fn feature_names(&self, bits: u64) -> String {
        let table = self.extension(spec::EXT_FEATURE_NAMES).unwrap_or(&[]);
        let name_of = |bit: u8| {
            let entry = table.chunks_exact(48).find(|entry| entry[0] == 0 && entry[1] == bit);
            let text = entry.map(|e| String::from_utf8_lossy(&e[2..]).replace('\0', ""));
            text.unwrap_or_else(|| format!("bit {bit}"))
        };
        let names: Vec<String> = (0..64).filter(|b| bits >> b & 1 == 1).map(name_of).collect();
        names.join(", ")
    }

    fn backing(&self, name: &str, fixed: &[u8], cluster: &[u8]) -> Result<Option<String>> {
        let at = u64_at(fixed, spec::AT_BACKING_OFFSET);
        let length = u32_at(fixed, spec::AT_BACKING_SIZE) as usize;
        if at == 0 || length == 0 {
            return Ok(None);
        }
        let text = usize::try_from(at).ok().and_then(|at| cluster.get(at..at.checked_add(length)?));
        match text {
            Some(text) if length <= spec::BACKING_NAME_MAX => {
                Ok(Some(String::from_utf8_lossy(text).into_owned()))
            }
            _ => {
                let what = format!("backing file name of {length} bytes at {at:#x} is not valid");
                Err(BlockError::corrupt(name, what))
            }
        }
    }

    /// The bytes to write at the start of the file.
    ///
    /// # Errors
    /// When extensions and backing file name do not fit into a cluster.
    pub fn encode(&self, name: &str) -> Result<Vec<u8>> {
        let v3 = self.version >= 3;
        let length = if v3 { spec::HEADER_LENGTH } else { spec::HEADER_V2_LENGTH };
        let mut out = vec![0; length];
        self.encode_fixed(&mut out);
        for (kind, data) in &self.extensions {
            out.extend(kind.to_be_bytes());
            out.extend((data.len() as u32).to_be_bytes());
            out.extend(data);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out.extend([0; 8]);
        if let Some(backing) = &self.backing_file {
            let at = out.len();
            put(&mut out, spec::AT_BACKING_OFFSET, &(at as u64).to_be_bytes());
            put(&mut out, spec::AT_BACKING_SIZE, &(backing.len() as u32).to_be_bytes());
            out.extend(backing.as_bytes());
        }
        if out.len() as u64 > self.layout().cluster() {
            let what = "backing file name and extensions do not fit into one cluster; shorten them";
            return Err(BlockError::unsupported(name, what));
        }
        Ok(out)
    }

    fn encode_fixed(&self, out: &mut [u8]) {
        put(out, 0, &spec::MAGIC.to_be_bytes());
        put(out, spec::AT_VERSION, &self.version.to_be_bytes());
        put(out, spec::AT_CLUSTER_BITS, &self.cluster_bits.to_be_bytes());
        put(out, spec::AT_SIZE, &self.size.to_be_bytes());
        put(out, spec::AT_CRYPT, &self.crypt_method.to_be_bytes());
        put(out, spec::AT_L1_SIZE, &self.l1_size.to_be_bytes());
        put(out, spec::AT_L1_OFFSET, &self.l1_offset.to_be_bytes());
        put(out, spec::AT_REFCOUNT_OFFSET, &self.reftable_offset.to_be_bytes());
        put(out, spec::AT_REFCOUNT_CLUSTERS, &self.reftable_clusters.to_be_bytes());
        put(out, spec::AT_SNAPSHOTS, &self.snapshots.to_be_bytes());
        put(out, spec::AT_SNAPSHOTS_OFFSET, &self.snapshots_offset.to_be_bytes());
        if self.version >= 3 {
            put(out, spec::AT_INCOMPATIBLE, &self.incompatible.to_be_bytes());
            put(out, spec::AT_COMPATIBLE, &self.compatible.to_be_bytes());
            put(out, spec::AT_AUTOCLEAR, &self.autoclear.to_be_bytes());
            put(out, spec::AT_REFCOUNT_ORDER, &self.refcount_order.to_be_bytes());
            put(out, spec::AT_HEADER_LENGTH, &(spec::HEADER_LENGTH as u32).to_be_bytes());
            put(out, spec::AT_COMPRESSION, &[self.compression]);
        }
    }
}

/// The extensions between the end of the header and the backing file name or the end of the cluster.
fn extensions(
    name: &str,
    cluster: &[u8],
    mut at: usize,
    backing_at: usize,
) -> Result<Vec<(u32, Vec<u8>)>> {
    let end = if backing_at > at { backing_at.min(cluster.len()) } else { cluster.len() };
    let mut all = Vec::new();
    while at + 8 <= end {
        let (kind, length) = (u32_at(cluster, at), u32_at(cluster, at + 4) as usize);
        if kind == spec::EXT_END {
            break;
        }
        let Some(data) = cluster[..end].get(at + 8..).and_then(|rest| rest.get(..length)) else {
            let what = format!("header extension {kind:#x} of {length} bytes leaves its cluster");
            return Err(BlockError::corrupt(name, what));
        };
        all.push((kind, data.to_vec()));
        at += 8 + length.next_multiple_of(8);
    }
    Ok(all)
}

/// The feature name table that we write (qcow2 specification, "Feature name table").
pub fn feature_names() -> Vec<u8> {
    let names: [(u8, u8, &str); 8] = [
        (0, 0, "dirty bit"),
        (0, 1, "corrupt bit"),
        (0, 2, "external data file"),
        (0, 3, "compression type"),
        (0, 4, "extended L2 entries"),
        (1, 0, "lazy refcounts"),
        (2, 0, "bitmaps"),
        (2, 1, "raw external data"),
    ];
    let mut table = Vec::new();
    for (kind, bit, name) in &names {
        let mut entry = [0; 48];
        entry[0] = *kind;
        entry[1] = *bit;
        entry[2..2 + name.len()].copy_from_slice(name.as_bytes());
        table.extend(entry);
    }
    table
}
