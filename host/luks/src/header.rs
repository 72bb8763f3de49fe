//! The header: slots, key material, and the way from a passphrase to the master key.

use crate::crypt::{MasterKey, SECTOR};
use crate::options::LuksOptions;
use kezhan_block::storage::Storage;
use kezhan_block::{BlockError, HostOffset, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::io::Read;

/// Layout of the header (LUKS §2.3, "partition header"), byte offsets.
mod spec {
    pub const MAGIC: &[u8] = b"LUKS\xba\xbe";
    pub const LENGTH: usize = 592;
    pub const AT_VERSION: usize = 6;
    pub const AT_CIPHER: usize = 8;
    pub const AT_MODE: usize = 40;
    pub const AT_HASH: usize = 72;
    pub const AT_PAYLOAD: usize = 104;
    pub const AT_KEY_BYTES: usize = 108;
    pub const AT_DIGEST: usize = 112;
    pub const AT_DIGEST_SALT: usize = 132;
    pub const AT_DIGEST_ITERATIONS: usize = 164;
    pub const AT_UUID: usize = 168;
    pub const AT_SLOTS: usize = 208;
    pub const SLOTS: usize = 8;
    pub const SLOT: usize = 48;
    pub const SLOT_ACTIVE: u32 = 0x00ac_71f3;
    pub const SLOT_INACTIVE: u32 = 0x0000_dead;
    pub const STRIPES: usize = 4000;
    pub const DIGEST: usize = 20;
    pub const SALT: usize = 32;
    /// Key material lies at multiples of this many sectors (LUKS §6, "4096 byte alignment").
    pub const ALIGN: u32 = 8;
}

/// Most rounds that a header may ask for: a guard against headers that take for ever.
pub(crate) const ITERATIONS_MAX: u32 = 50_000_000;

/// The hash that everything is derived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    pub(crate) fn named(name: &str) -> Option<Hash> {
        match name {
            "sha1" => Some(Hash::Sha1),
            "sha256" => Some(Hash::Sha256),
            "sha512" => Some(Hash::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Hash::Sha1 => "sha1",
            Hash::Sha256 => "sha256",
            Hash::Sha512 => "sha512",
        }
    }

    fn digest(self, index: u32, data: &[u8]) -> Vec<u8> {
        let index = index.to_be_bytes();
        match self {
            Hash::Sha1 => Sha1::new().chain_update(index).chain_update(data).finalize().to_vec(),
            Hash::Sha256 => {
                Sha256::new().chain_update(index).chain_update(data).finalize().to_vec()
            }
            Hash::Sha512 => {
                Sha512::new().chain_update(index).chain_update(data).finalize().to_vec()
            }
        }
    }

    fn size(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    /// RFC 8018 §5.2.
    pub(crate) fn pbkdf2(
        self,
        password: &[u8],
        salt: &[u8],
        rounds: u32,
        length: usize,
    ) -> Vec<u8> {
        let mut key = vec![0; length];
        match self {
            Hash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut key),
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut key),
            Hash::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut key),
        }
        key
    }

    /// LUKS §2.4, "diffuse": hashes each piece of digest size with its number.
    fn diffuse(self, data: &mut [u8]) {
        for (index, piece) in data.chunks_mut(self.size()).enumerate() {
            let digest = self.digest(index as u32, piece);
            let length = piece.len();
            piece.copy_from_slice(&digest[..length]);
        }
    }
}

/// A checked header.
#[derive(Clone, Debug)]
pub struct LuksHeader {
    name: String,
    bytes: Vec<u8>,
    hash: Hash,
    key_bytes: usize,
    /// Where the header starts in its storage; key material offsets count from there.
    start: u64,
}

impl LuksHeader {
    /// Reads the header at `start`.
    ///
    /// # Errors
    /// The storage's; what is not a LUKS header, or uses a cipher not known here.
    pub fn read(file: &dyn Storage, start: u64) -> Result<LuksHeader> {
        let mut bytes = vec![0; spec::LENGTH];
        file.read_at(HostOffset(start), &mut bytes)?;
        let name = file.name().to_owned();
        if !LuksHeader::is_magic(&bytes) {
            let what = "its signature is missing".to_owned();
            return Err(BlockError::WrongFormat { name, format: "luks", what });
        }
        let text = |at: usize| {
            let field = bytes[at..at + 32].split(|byte| *byte == 0).next().unwrap_or(&[]);
            String::from_utf8_lossy(field).into_owned()
        };
        let (cipher, mode, hash) =
            (text(spec::AT_CIPHER), text(spec::AT_MODE), text(spec::AT_HASH));
        let key_bytes = u32_at(&bytes, spec::AT_KEY_BYTES) as usize;
        let version = u16::from_be_bytes([bytes[spec::AT_VERSION], bytes[spec::AT_VERSION + 1]]);
        let known = cipher == "aes" && mode == "xts-plain64" && [32, 64].contains(&key_bytes);
        match Hash::named(&hash) {
            Some(hash) if known && version == 1 => {
                Ok(LuksHeader { name, bytes, hash, key_bytes, start })
            }
            _ => {
                let what = format!(
                    "LUKS version {version} with {cipher}-{mode}, {hash} is not done here; it does version 1 with aes-xts-plain64"
                );
                Err(BlockError::unsupported(&name, what))
            }
        }
    }

    /// Whether bytes start as a LUKS header does.
    pub fn is_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(spec::MAGIC)
    }

    /// Bytes up to the payload in a header that [`LuksHeader::create`] makes.
    pub fn new_length(options: &LuksOptions) -> u64 {
        let slot =
            (spec::STRIPES * options.key_bytes).next_multiple_of(spec::ALIGN as usize * SECTOR);
        (spec::ALIGN as usize * SECTOR + slot * spec::SLOTS) as u64
    }

    /// Where the payload starts, in bytes from the header's start.
    pub fn payload(&self) -> u64 {
        u64::from(u32_at(&self.bytes, spec::AT_PAYLOAD)) * SECTOR as u64
    }

    /// The master key, if the passphrase opens one of the slots.
    ///
    /// # Errors
    /// The storage's; no or the wrong passphrase.
    pub fn unlock(&self, file: &dyn Storage, passphrase: Option<&[u8]>) -> Result<MasterKey> {
        let Some(passphrase) = passphrase else {
            let what = "is encrypted; give its passphrase with --object secret,id=NAME,file=FILE";
            return Err(BlockError::unsupported(&self.name, what));
        };
        for slot in 0..spec::SLOTS {
            if let Some(key) = self.try_slot(file, slot, passphrase)? {
                return MasterKey::new(&key)
                    .ok_or_else(|| BlockError::corrupt(&self.name, "the master key is too short"));
            }
        }
        Err(BlockError::unsupported(&self.name, "the passphrase opens none of its key slots"))
    }

    fn try_slot(
        &self,
        file: &dyn Storage,
        slot: usize,
        passphrase: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let at = spec::AT_SLOTS + slot * spec::SLOT;
        let field = |offset: usize| u32_at(&self.bytes, at + offset);
        let (rounds, stripes) = (field(4), field(44) as usize);
        let digest_rounds = u32_at(&self.bytes, spec::AT_DIGEST_ITERATIONS);
        if field(0) != spec::SLOT_ACTIVE {
            return Ok(None);
        }
        let bounds = 1..=ITERATIONS_MAX;
        if !bounds.contains(&rounds) || !bounds.contains(&digest_rounds) || stripes != spec::STRIPES
        {
            let what = format!("key slot {slot} asks for {rounds} rounds and {stripes} stripes");
            return Err(BlockError::corrupt(&self.name, what));
        }
        let salt = &self.bytes[at + 8..at + 8 + spec::SALT];
        let slot_key = self.hash.pbkdf2(passphrase, salt, rounds, self.key_bytes);
        let mut material = vec![0; (stripes * self.key_bytes).next_multiple_of(SECTOR)];
        let place = self.start + u64::from(field(40)) * SECTOR as u64;
        file.read_at(HostOffset(place), &mut material)?;
        if let Some(cipher) = MasterKey::new(&slot_key) {
            cipher.decrypt(&mut material, 0);
        }
        let key = self.merge(&material[..stripes * self.key_bytes]);
        let salt = &self.bytes[spec::AT_DIGEST_SALT..spec::AT_DIGEST_SALT + spec::SALT];
        let digest = self.hash.pbkdf2(&key, salt, digest_rounds, spec::DIGEST);
        let wanted = &self.bytes[spec::AT_DIGEST..spec::AT_DIGEST + spec::DIGEST];
        Ok((digest == wanted).then_some(key))
    }

    /// LUKS §2.4, "AFmerge".
    fn merge(&self, material: &[u8]) -> Vec<u8> {
        let mut key = vec![0; self.key_bytes];
        let (last, others) = match material.chunks(self.key_bytes).collect::<Vec<_>>().split_last()
        {
            Some((last, others)) => (last.to_vec(), others.to_vec()),
            None => return key,
        };
        for stripe in others {
            xor(&mut key, stripe);
            self.hash.diffuse(&mut key);
        }
        xor(&mut key, &last);
        key
    }

    /// LUKS §2.4, "AFsplit".
    fn split(&self, key: &[u8]) -> Result<Vec<u8>> {
        let mut material = vec![0; spec::STRIPES * self.key_bytes];
        random(&self.name, &mut material)?;
        let mut mixed = vec![0; self.key_bytes];
        let last = material.len() - self.key_bytes;
        for stripe in material[..last].chunks(self.key_bytes) {
            xor(&mut mixed, stripe);
            self.hash.diffuse(&mut mixed);
        }
        xor(&mut mixed, key);
        material[last..].copy_from_slice(&mixed);
        Ok(material)
    }

    /// Writes a new header with one passphrase at `start`. Returns it with its key.
    ///
    /// # Errors
    /// The storage's.
    pub fn create(
        file: &dyn Storage,
        start: u64,
        passphrase: &[u8],
        options: &LuksOptions,
    ) -> Result<(LuksHeader, MasterKey)> {
        let LuksOptions { hash, key_bytes, rounds } = *options;
        let digest_rounds = (rounds / 8).max(1000);
        let name = file.name().to_owned();
        let mut bytes = vec![0; spec::LENGTH];
        let mut random_part = vec![0; key_bytes + 2 * spec::SALT + 16];
        random(&name, &mut random_part)?;
        let (key, rest) = random_part.split_at(key_bytes);
        let (digest_salt, rest) = rest.split_at(spec::SALT);
        let (slot_salt, uuid) = rest.split_at(spec::SALT);
        let slot_sectors = (spec::STRIPES * key_bytes / SECTOR) as u32;
        let slot_sectors = slot_sectors.next_multiple_of(spec::ALIGN);
        put(&mut bytes, 0, spec::MAGIC);
        put(&mut bytes, spec::AT_VERSION, &1u16.to_be_bytes());
        put(&mut bytes, spec::AT_CIPHER, b"aes");
        put(&mut bytes, spec::AT_MODE, b"xts-plain64");
        put(&mut bytes, spec::AT_HASH, hash.name().as_bytes());
        let payload = spec::ALIGN + slot_sectors * spec::SLOTS as u32;
        put(&mut bytes, spec::AT_PAYLOAD, &payload.to_be_bytes());
        put(&mut bytes, spec::AT_KEY_BYTES, &(key_bytes as u32).to_be_bytes());
        let digest = hash.pbkdf2(key, digest_salt, digest_rounds, spec::DIGEST);
        put(&mut bytes, spec::AT_DIGEST, &digest);
        put(&mut bytes, spec::AT_DIGEST_SALT, digest_salt);
        put(&mut bytes, spec::AT_DIGEST_ITERATIONS, &digest_rounds.to_be_bytes());
        put(&mut bytes, spec::AT_UUID, uuid_text(uuid).as_bytes());
        for slot in 0..spec::SLOTS {
            let at = spec::AT_SLOTS + slot * spec::SLOT;
            let state = if slot == 0 { spec::SLOT_ACTIVE } else { spec::SLOT_INACTIVE };
            put(&mut bytes, at, &state.to_be_bytes());
            let place = spec::ALIGN + slot as u32 * slot_sectors;
            put(&mut bytes, at + 40, &place.to_be_bytes());
            put(&mut bytes, at + 44, &(spec::STRIPES as u32).to_be_bytes());
        }
        put(&mut bytes, spec::AT_SLOTS + 4, &rounds.to_be_bytes());
        put(&mut bytes, spec::AT_SLOTS + 8, slot_salt);
        let header = LuksHeader { name, bytes, hash, key_bytes, start };
        header.store(file, (key, slot_salt, passphrase))
    }

    fn rounds_of_first_slot(&self) -> u32 {
        u32_at(&self.bytes, spec::AT_SLOTS + 4)
    }

    /// Writes a new header and the key material of its first slot.
    fn store(
        self,
        file: &dyn Storage,
        (key, salt, passphrase): (&[u8], &[u8], &[u8]),
    ) -> Result<(LuksHeader, MasterKey)> {
        let mut material = self.split(key)?;
        material.resize(material.len().next_multiple_of(SECTOR), 0);
        let slot_key =
            self.hash.pbkdf2(passphrase, salt, self.rounds_of_first_slot(), self.key_bytes);
        let short = || BlockError::corrupt(&self.name, "the key is too short");
        MasterKey::new(&slot_key).ok_or_else(short)?.encrypt(&mut material, 0);
        let master = MasterKey::new(key).ok_or_else(short)?;
        let place = self.start + u64::from(spec::ALIGN) * SECTOR as u64;
        file.write_at(HostOffset(place), &material)?;
        file.write_at(HostOffset(self.start), &self.bytes)?;
        Ok((self, master))
    }
}

fn xor(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |field| u32::from_be_bytes(*field))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// Random bytes fit for keys: the kernel's.
fn random(name: &str, bytes: &mut [u8]) -> Result<()> {
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(bytes))
        .map_err(BlockError::io(name, "get random numbers for"))
}

/// RFC 9562 §4, version 4.
fn uuid_text(random: &[u8]) -> String {
    let mut id = random.to_vec();
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex[from..to].concat();
    format!("{}-{}-{}-{}-{}", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 16))
}
