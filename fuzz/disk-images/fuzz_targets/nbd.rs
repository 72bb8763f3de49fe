#![no_main]
//! A hostile NBD server: the input is all that it says, on every connection. What it is told it reads and forgets.

use kezhan_block::storage::{NbdAddress, NbdServer, NbdStorage};
use kezhan_block::{HostOffset, Storage};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, OnceLock};

/// What the server is to say next.
static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static SERVER: OnceLock<NbdAddress> = OnceLock::new();

/// A server that lives as long as the process.
fn start() -> NbdAddress {
    let path = std::env::temp_dir().join(format!("kezhan-fuzz-nbd-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a socket in the temporary folder");
    std::thread::spawn(move || serve(&listener));
    NbdAddress { server: NbdServer::Unix(path.display().to_string()), export: "disk".to_owned() }
}

fn serve(listener: &UnixListener) {
    for stream in listener.incoming().flatten() {
        speak(stream);
    }
}

fn speak(mut stream: UnixStream) {
    let said = SAID.lock().expect("nobody panics with it").clone();
    let _ = stream.write_all(&said);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
}

libfuzzer_sys::fuzz_target!(|said: &[u8]| {
    // The greeting is always right, so that the fuzzer need not guess sixteen bytes.
    let mut all = b"NBDMAGICIHAVEOPT".to_vec();
    all.extend(said);
    *SAID.lock().expect("nobody panics with it") = all;
    let address = SERVER.get_or_init(start).clone();
    let Ok(export) = NbdStorage::connect("fuzz", address, true) else { return };
    let size = export.size().unwrap_or(0);
    let mut data = vec![0; 5000];
    for at in [0, size / 2, size.saturating_sub(100), size] {
        let _ = export.read_at(HostOffset(at), &mut data);
        let _ = export.write_at(HostOffset(at), &data[..3]);
    }
    let _ = export.write_zeroes(HostOffset(0), size.min(1 << 20), true);
    let _ = export.extent(HostOffset(0), size);
    let _ = export.flush();
    let _ = export.set_size(size / 2);
});
