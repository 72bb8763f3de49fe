use super::*;
use kezhan_block::testkit::qemu_img_ok;
use kezhan_block::{
    BlockError, CreateRequest, DenyAll, FileStorage, FormatDriver, GuestOffset, HostOffset, Image,
    MemoryStorage, OpenContext, Result, Storage,
};
use std::sync::Arc;

fn open(file: Arc<dyn Storage>, passphrase: Option<&[u8]>) -> Result<Image> {
    let context = OpenContext { writable: true, gate: &DenyAll, passphrase, for_check: false };
    let opened = LuksDriver.open(file.clone(), &context)?;
    Ok(Image::new("disk".to_owned(), file, opened.format, true))
}

fn made(file: Arc<dyn Storage>) {
    made_with(file, "iter-time=20").unwrap();
}

/// With options `name=value,…`.
fn made_with(file: Arc<dyn Storage>, options: &str) -> Result<()> {
    let pairs = options.split(',').filter_map(|pair| pair.split_once('='));
    let request = CreateRequest {
        size: 1 << 20,
        passphrase: Some(b"open sesame".to_vec()),
        options: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ..CreateRequest::default()
    };
    LuksDriver.create(file, &request)
}

#[test]
fn options_that_are_not_done_are_refused_by_name() {
    for wrong in [
        "cipher-alg=serpent-256",
        "cipher-mode=cbc",
        "hash-alg=md5",
        "iter-time=soon",
        "ivgen-alg=essiv",
    ] {
        let file = Arc::new(MemoryStorage::new("disk", Vec::new()));
        let error = made_with(file, wrong).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn only_the_passphrase_opens_a_disk_and_nothing_of_it_is_in_the_clear() {
    let file = Arc::new(MemoryStorage::new("disk", Vec::new()));
    made(file.clone());
    let image = open(file.clone(), Some(b"open sesame")).unwrap();
    image.write(GuestOffset(1000), &[0x5a; 5000]).unwrap();
    drop(image);
    assert!(!file.bytes().windows(64).any(|window| window == [0x5a; 64]));
    let image = open(file.clone(), Some(b"open sesame")).unwrap();
    let mut data = [0; 5000];
    image.read(GuestOffset(1000), &mut data).unwrap();
    assert_eq!(data, [0x5a; 5000]);
    for wrong in [None, Some(&b"guess"[..])] {
        let error = open(file.clone(), wrong).unwrap_err();
        assert!(matches!(error, BlockError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn a_header_that_asks_for_endless_rounds_is_refused() {
    let file = Arc::new(MemoryStorage::new("disk", Vec::new()));
    made(file.clone());
    file.write_at(HostOffset(212), &[0xff; 4]).unwrap();
    assert!(matches!(open(file.clone(), Some(b"x")), Err(BlockError::Corrupt { .. })));
    file.write_at(HostOffset(108), &[0xff; 4]).unwrap();
    assert!(matches!(open(file, Some(b"x")), Err(BlockError::Unsupported { .. })));
}

#[test]
fn sectors_of_one_content_differ_and_parts_of_sectors_can_be_written() {
    let memory = Arc::new(MemoryStorage::new("m", Vec::new()));
    let key = MasterKey::new(&[3; 32]).unwrap();
    let storage = CryptStorage::new(memory.clone(), key, 512);
    storage.write_at(HostOffset(0), &[1; 1024]).unwrap();
    let bytes = memory.bytes();
    assert_ne!(bytes[512..1024], bytes[1024..1536]);
    storage.write_at(HostOffset(510), &[2; 4]).unwrap();
    let mut data = [0; 1024];
    storage.read_at(HostOffset(0), &mut data).unwrap();
    assert_eq!((data[509], data[510], data[513], data[514]), (1, 2, 2, 1));
}

#[test]
fn the_cipher_is_that_of_the_standard() {
    // IEEE 1619-2007, annex B, vector 4: the bytes 0 to 255 twice, sector 0.
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
            .collect()
    };
    let key = hex("2718281828459045235360287471352631415926535897932384626433832795");
    let mut data: Vec<u8> = (0..512).map(|at| at as u8).collect();
    MasterKey::new(&key).unwrap().encrypt(&mut data, 0);
    assert_eq!(data[..16], hex("27a7479befa1d476489f308cd4cfa6e2"));
}

#[test]
fn disks_pass_between_us_and_qemu_img() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("secret"), "open sesame").unwrap();
    let disk: Vec<u8> = (0..1u32 << 20).map(|at| (at / 700) as u8).collect();
    std::fs::write(path("flat"), &disk).unwrap();
    let secret = format!("secret,id=s,file={}", path("secret"));
    let (theirs, flat) = (path("theirs"), path("flat"));
    let options = "key-secret=s,iter-time=10";
    let Some(_) = qemu_img_ok(&[
        "convert", "--object", &secret, "-f", "raw", "-O", "luks", "-o", options, &flat, &theirs,
    ]) else {
        return;
    };
    let file = |name: &str, options| {
        Arc::new(FileStorage::open(&folder.path().join(name), options).unwrap())
    };
    let write = kezhan_block::storage::FileOptions::WRITE;
    let image = open(file("theirs", write), Some(b"open sesame")).unwrap();
    let mut all = vec![0; image.size() as usize];
    image.read(GuestOffset(0), &mut all).unwrap();
    assert!(all == disk, "we read another disk");
    drop(image);
    for options in [
        "iter-time=10",
        "cipher-alg=aes-128,hash-alg=sha1,iter-time=10",
        "cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha512,iter-time=10",
    ] {
        made_with(file("ours", kezhan_block::storage::FileOptions::CREATE), options).unwrap();
        let image = open(file("ours", write), Some(b"open sesame")).unwrap();
        image.write(GuestOffset(0), &disk).unwrap();
        drop(image);
        let ours = format!("driver=luks,key-secret=s,file.filename={}", path("ours"));
        let flat = format!("driver=raw,file.filename={flat}");
        let said = qemu_img_ok(&["compare", "--object", &secret, "--image-opts", &ours, &flat]);
        assert!(said.is_some(), "{options}");
    }
}
