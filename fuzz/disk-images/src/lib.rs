//! Does to a hostile image everything that a machine and the image tool would do.
//!
//! Run with `cargo fuzz run qcow2` in this folder. What counts is that nothing panics, that memory stays
//! bounded, and that no file is opened: the gate denies all.

use kezhan_block::{DenyAll, GuestOffset, Image, MemoryStorage, OpenOptions, Span, open_chain};
use kezhan_disk_formats::DRIVERS;
use kezhan_qcow2::{Qcow2, Repair};
use std::sync::Arc;

/// Opens `bytes` as an image of `format`, writable, and uses it.
pub fn use_image(format: &str, bytes: &[u8]) {
    for for_check in [false, true] {
        let file = Arc::new(MemoryStorage::new("fuzz", bytes.to_vec()));
        let options = OpenOptions {
            drivers: DRIVERS,
            format: Some(format),
            writable: true,
            backing: false,
            gate: &DenyAll,
            probe_backing: false,
            passphrase: Some(b"secret"),
            for_check,
        };
        if let Ok(image) = open_chain(file, &options) {
            requests(&image);
            if let Some(qcow2) = image.format().as_any().downcast_ref() {
                metadata(&image, qcow2);
            }
            let _ = image.close();
        }
    }
}

fn requests(image: &Image) {
    let size = image.size();
    let mut data = vec![0; 20_000];
    for at in [0, size / 3, size / 2, size.saturating_sub(20_000)] {
        let _ = image.read(GuestOffset(at), &mut data);
        let _ = image.map(GuestOffset(at), 512);
        let _ = image.write(GuestOffset(at), &data[..3000]);
    }
    let some = Span { start: GuestOffset(0), length: size.min(1 << 20) };
    let _ = image.write_zeroes(some, true);
    let _ = image.discard(some);
    let _ = image.flush();
}

fn metadata(image: &Image, qcow2: &Qcow2) {
    let _ = qcow2.load_bitmaps();
    for snapshot in qcow2.snapshots().unwrap_or_default().iter().take(4) {
        let _ = image.alone(|_| qcow2.apply_snapshot(snapshot));
        let _ = image.alone(|_| qcow2.delete_snapshot(snapshot));
    }
    let _ = image.alone(|_| qcow2.check(Repair::All));
}
