//! Little-endian fields of byte tables; outside a table there are zeroes.

/// Two bytes at `at`.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |field| u16::from_le_bytes(*field))
}

/// Four bytes at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |field| u32::from_le_bytes(*field))
}

/// Eight bytes at `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |field| u64::from_le_bytes(*field))
}

/// Stores `field` at `at`, when it fits.
pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// A random identifier, version 4 (RFC 9562 §5.4).
pub fn random_uuid() -> [u8; 16] {
    let mut id = [0; 16];
    for half in id.chunks_mut(8) {
        // The hasher's keys come from the system's random numbers.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        half.copy_from_slice(&random.to_le_bytes());
    }
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}
