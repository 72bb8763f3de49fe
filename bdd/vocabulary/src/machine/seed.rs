//! A floppy disk's worth of FAT file system, as cloud-init looks for it.
//!
//! ```text
//! sector 0      boot sector: sizes and label
//!        1-9    first table of clusters, 12 bits each
//!       10-18   second table: the same
//!       19-32   root folder: label, then for each file its long name and its short one
//!       33-     data, one cluster of 512 bytes after the other
//! ```
//!
//! cloud-init's source NoCloud takes its configuration from a disk with the label `CIDATA` that holds the files
//! `user-data` and `meta-data`. The file system is written here because no tool that writes one is on every host.
//! (Microsoft, FAT: General Overview of On-Disk Format, 1.03; cloud-init, datasource NoCloud)

const SECTOR: usize = 512;
const SECTORS: usize = 2880;
const TABLE_SECTORS: usize = 9;
const ROOT_ENTRIES: usize = 224;
const ROOT: usize = 1 + 2 * TABLE_SECTORS;
const DATA: usize = ROOT + ROOT_ENTRIES * 32 / SECTOR;

/// The label that cloud-init looks for, filled up to its 11 places.
const LABEL: &[u8; 11] = b"CIDATA     ";

/// The characters of a name in one entry of it, and where each stands.
const NAME_PLACES: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// The image of a disk that holds files, or nothing when they do not fit.
pub(super) fn image(files: &[(&str, &[u8])]) -> Option<Vec<u8>> {
    let mut disk = vec![0; SECTORS * SECTOR];
    put(&mut disk, 0, &boot_sector());
    let mut clusters: Vec<u16> = vec![0xff0, 0xfff];
    let mut root = entry(LABEL, 0x08, 0, 0).to_vec();
    for ((name, content), number) in files.iter().zip(1..) {
        let first = clusters.len();
        let count = content.len().div_ceil(SECTOR);
        if DATA + first - 2 + count > SECTORS {
            return None;
        }
        put(&mut disk, (DATA + first - 2) * SECTOR, content);
        // Each cluster names the next; the last one ends the chain.
        clusters.extend((1..count).map(|next| u16::try_from(first + next).unwrap_or(0xff7)));
        clusters.extend((count > 0).then_some(0xfff));
        let short = format!("FILE{number:<4}   ");
        let short: [u8; 11] = short.as_bytes().try_into().ok()?;
        root.extend(long_name(name, &short)?);
        let start = if count == 0 { 0 } else { u16::try_from(first).ok()? };
        root.extend(entry(&short, 0x20, start, u32::try_from(content.len()).ok()?));
    }
    let table = table(&clusters);
    put(&mut disk, SECTOR, &table);
    put(&mut disk, (1 + TABLE_SECTORS) * SECTOR, &table);
    put(&mut disk, ROOT * SECTOR, &root);
    Some(disk)
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk.iter_mut().skip(at).zip(bytes).for_each(|(place, byte)| *place = *byte);
}

/// (FAT, "Boot Sector and BPB")
fn boot_sector() -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    put(&mut sector, 0, b"\xeb\x3c\x90kezhan  ");
    put(&mut sector, 11, &[0, 2, 1, 1, 0, 2, 224, 0]); // bytes a sector, sectors a cluster, reserved, tables, entries
    put(&mut sector, 19, &2880_u16.to_le_bytes());
    put(&mut sector, 21, &[0xf0, 9, 0, 18, 0, 2, 0]); // kind of medium, sectors a table, sectors a track, heads
    put(&mut sector, 38, &[0x29, 0x4b, 0x5a, 0x48, 0x4e]); // the fields from here on are there; serial number
    put(&mut sector, 43, LABEL);
    put(&mut sector, 54, b"FAT12   ");
    put(&mut sector, 510, &[0x55, 0xaa]);
    sector
}

/// Pairs of clusters' numbers share three bytes. (FAT, "FAT Data Structure")
fn table(clusters: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for pair in clusters.chunks(2) {
        let low = u32::from(pair.first().copied().unwrap_or_default());
        let high = u32::from(pair.get(1).copied().unwrap_or_default());
        bytes.extend((low | high << 12).to_le_bytes().iter().take(3));
    }
    bytes
}

/// (FAT, "FAT 32 Byte Directory Entry Structure")
fn entry(name: &[u8; 11], attributes: u8, cluster: u16, size: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    put(&mut entry, 0, name);
    put(&mut entry, 11, &[attributes]);
    put(&mut entry, 26, &cluster.to_le_bytes());
    put(&mut entry, 28, &size.to_le_bytes());
    entry
}

/// A name in entries of 13 characters, the last part first. (FAT, "Long Directory Entries")
fn long_name(name: &str, short: &[u8; 11]) -> Option<Vec<u8>> {
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut letters: Vec<u16> = name.encode_utf16().collect();
    if !letters.len().is_multiple_of(NAME_PLACES.len()) {
        letters.push(0);
    }
    let parts: Vec<&[u16]> = letters.chunks(NAME_PLACES.len()).collect();
    let mut bytes = Vec::new();
    for (at, part) in parts.iter().enumerate().rev() {
        let number = u8::try_from(at + 1).ok()?;
        let last = if at + 1 == parts.len() { 0x40 } else { 0 };
        let mut entry = [0; 32];
        put(&mut entry, 0, &[last | number]);
        put(&mut entry, 11, &[0x0f, 0, sum]);
        let filled = part.iter().copied().chain(std::iter::repeat(0xffff));
        for (at, letter) in NAME_PLACES.into_iter().zip(filled) {
            put(&mut entry, at, &letter.to_le_bytes());
        }
        bytes.extend(entry);
    }
    (parts.len() < 20).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_where_tables_and_folder_say() {
        let long = vec![b'x'; 1300];
        let disk = image(&[("user-data", &long), ("meta-data", b"")]).unwrap();
        assert_eq!(disk.len(), 1_474_560);
        // Clusters 2, 3 and 4, the last of which ends the chain.
        assert_eq!(disk[SECTOR..SECTOR + 8], [0xf0, 0xff, 0xff, 0x03, 0x40, 0x00, 0xff, 0x0f]);
        assert_eq!(disk[DATA * SECTOR..DATA * SECTOR + 1300], long);
        let root = &disk[ROOT * SECTOR..];
        assert_eq!(&root[..11], LABEL);
        assert_eq!([root[32], root[33], root[35], root[43]], [0x41, b'u', b's', 0x0f]);
        assert_eq!(&root[64..72], b"FILE1   ");
        assert_eq!(root[64 + 26..64 + 32], [2, 0, 0x14, 0x05, 0, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(image(&[("user-data", &vec![0; 1 << 21])]).is_none());
    }
}
