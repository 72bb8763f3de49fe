use super::*;
use crate::storage::MemoryStorage;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A server for one connection and one export, over memory.
fn serve(listener: UnixListener, memory: Arc<MemoryStorage>, flags: u16) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let stream: &mut dyn Stream = &mut stream;
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
        let _flags = read_u32(stream).unwrap();
        let _magic = read_u64(stream).unwrap();
        let (option, length) = (read_u32(stream).unwrap(), read_u32(stream).unwrap());
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data).unwrap();
        let mut info = spec::INFO_EXPORT.to_be_bytes().to_vec();
        info.extend(memory.size().unwrap().to_be_bytes());
        info.extend(flags.to_be_bytes());
        let known = data[4..].starts_with(b"disk");
        let replies: &[(u32, &[u8])] = if known {
            &[(spec::REP_INFO, &info), (spec::REP_ACK, &[])]
        } else {
            &[(1 << 31 | 6, b"no such export")]
        };
        for (kind, data) in replies {
            stream.write_all(&spec::OPTION_REPLY.to_be_bytes()).unwrap();
            for word in [option, *kind, data.len() as u32] {
                stream.write_all(&word.to_be_bytes()).unwrap();
            }
            stream.write_all(data).unwrap();
        }
        while known && answer(stream, &memory) {}
    })
}

/// Answers one request; false at the end.
fn answer(stream: &mut dyn Stream, memory: &MemoryStorage) -> bool {
    let mut head = [0; 28];
    if stream.read_exact(&mut head).is_err() {
        return false;
    }
    let offset = HostOffset(u64::from_be_bytes(head[16..24].try_into().unwrap()));
    let length = u32::from_be_bytes(head[24..].try_into().unwrap()) as usize;
    let mut data = vec![0; length];
    let mut error = 0u32;
    match u16::from_be_bytes([head[6], head[7]]) {
        spec::CMD_WRITE => {
            stream.read_exact(&mut data).unwrap();
            if offset.get() + length as u64 > memory.size().unwrap() {
                error = spec::ENOSPC;
            } else {
                memory.write_at(offset, &data).unwrap();
            }
            data.clear();
        }
        spec::CMD_READ => memory.read_at(offset, &mut data).unwrap(),
        spec::CMD_DISCONNECT => return false,
        _ => data.clear(),
    }
    stream.write_all(&spec::REPLY.to_be_bytes()).unwrap();
    stream.write_all(&error.to_be_bytes()).unwrap();
    stream.write_all(&head[8..16]).unwrap();
    stream.write_all(&data).unwrap();
    true
}

struct Bench {
    memory: Arc<MemoryStorage>,
    address: NbdAddress,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn bench(export: &str, flags: u16) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let memory = Arc::new(MemoryStorage::new("memory", vec![7; 100_000]));
    let server = serve(UnixListener::bind(&path).unwrap(), memory.clone(), flags);
    let server_address = NbdServer::Unix(path.display().to_string());
    let address = NbdAddress { server: server_address, export: export.to_owned() };
    Bench { memory, address, server, _folder: folder }
}

#[test]
fn an_export_is_read_written_zeroed_and_flushed() {
    let Bench { memory, address, server, _folder } = bench("disk", spec::SEND_FLUSH);
    let storage = NbdStorage::connect("nbd:test", address, true).unwrap();
    assert_eq!(storage.size().unwrap(), 100_000);
    storage.write_at(HostOffset(50), &[1; 100]).unwrap();
    storage.write_zeroes(HostOffset(100), 10, true).unwrap();
    let mut data = [0; 4];
    storage.read_at(HostOffset(99_998), &mut data).unwrap();
    assert_eq!(data, [7, 7, 0, 0], "past the end there are zeroes");
    storage.flush().unwrap();
    assert_eq!(memory.bytes()[99..111], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    drop(storage);
    server.join().unwrap();
}

#[test]
fn errors_of_the_server_are_told_and_the_connection_goes_on() {
    let Bench { address, server, _folder, .. } = bench("disk", 0);
    let storage = NbdStorage::connect("nbd:test", address, true).unwrap();
    let error = storage.write_at(HostOffset(99_999), &[1; 100]).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    storage.write_at(HostOffset(0), &[1]).unwrap();
    drop(storage);
    server.join().unwrap();
}

#[test]
fn an_export_that_is_not_there_or_read_only_is_refused() {
    let Bench { address, server, _folder, .. } = bench("other", 0);
    let error = NbdStorage::connect("nbd:test", address, false).unwrap_err();
    assert!(error.to_string().contains("no such export"), "{error}");
    server.join().unwrap();
    let Bench { address, server, _folder, .. } = bench("disk", spec::READ_ONLY);
    let error = NbdStorage::connect("nbd:test", address, true).unwrap_err();
    assert!(matches!(error, BlockError::ReadOnly { .. }));
    server.join().unwrap();
}

#[test]
fn every_form_of_address_is_read() {
    let tcp = |host: &str, port| NbdServer::Tcp(host.to_owned(), port);
    let unix = |path: &str| NbdServer::Unix(path.to_owned());
    for (text, server, export) in [
        ("nbd://host", tcp("host", 10809), ""),
        ("nbd://host:1/a/b", tcp("host", 1), "a/b"),
        ("nbd+unix:///disk?socket=/run/s", unix("/run/s"), "disk"),
        ("nbd:host:77", tcp("host", 77), ""),
        ("nbd:unix:/run/s:exportname=x", unix("/run/s"), "x"),
    ] {
        let wanted = NbdAddress { server, export: export.to_owned() };
        assert_eq!(NbdAddress::parse(text), Some(wanted), "{text}");
    }
    for text in ["disk.img", "nbd:host", "nbd://h:x/", "nbd+unix:///a"] {
        assert_eq!(NbdAddress::parse(text), None, "{text}");
    }
}
