//! Tests of the whole format: a model, power loss, hostile images, and QEMU's tool as a peer.

mod crash;
mod hostile;
mod lent;
mod model;
mod peer;
mod snapshots;
mod trouble;

use crate::{CheckReport, Header, Qcow2, Repair};
use kezhan_block::{CreateRequest, GuestOffset, Image, MemoryStorage, Storage};
use std::sync::Arc;

/// A request for a disk of `size` bytes with options `name=value`.
fn request(size: u64, options: &[(&str, &str)]) -> CreateRequest {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    CreateRequest { size, options, ..CreateRequest::default() }
}

/// Opens the image in a storage for writing, alone.
fn open(file: Arc<dyn Storage>) -> Image {
    let header = Header::read(&*file).unwrap();
    let format = Qcow2::open(file.clone(), file.clone(), header, true).unwrap();
    Image::new(file.name().to_owned(), file, Box::new(format), true)
}

/// A new image in memory.
fn made(size: u64, options: &[(&str, &str)]) -> (Arc<MemoryStorage>, Image) {
    let file = Arc::new(MemoryStorage::new("test.qcow2", Vec::new()));
    crate::create::create(file.clone(), &request(size, options)).unwrap();
    (file.clone(), open(file))
}

fn qcow2(image: &Image) -> &Qcow2 {
    image.format().as_any().downcast_ref().unwrap()
}

fn check(image: &Image) -> CheckReport {
    qcow2(image).check(Repair::None).unwrap()
}

/// Everything is on the disk and every freed cluster is free.
fn settle(image: &Image) {
    image.flush().unwrap();
    image.flush().unwrap();
}

fn assert_clean(image: &Image) {
    settle(image);
    let report = check(image);
    assert_eq!((report.leaks, report.corruptions, report.errors), (0, 0, 0), "{report:#?}");
}

fn bytes_of(image: &Image) -> Vec<u8> {
    let mut all = vec![0; image.size() as usize];
    image.read(GuestOffset(0), &mut all).unwrap();
    all
}
