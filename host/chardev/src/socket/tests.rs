use super::*;
use std::sync::mpsc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);

/// A device with a channel that is sent to at each wake.
fn listening(path: &Path) -> (SocketDevice, mpsc::Receiver<()>) {
    let mut device = SocketDevice::listen(path).unwrap();
    let (woken, wakes) = mpsc::channel();
    device.set_waker(Arc::new(move || {
        woken.send(()).ok();
    }));
    (device, wakes)
}

/// Connects, and waits until the device has seen the first byte.
fn connect(path: &Path, device: &mut SocketDevice, wakes: &mpsc::Receiver<()>) -> UnixStream {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(b"!").unwrap();
    wakes.recv_timeout(LONG).unwrap();
    assert_eq!(device.read(&mut [0; 1]), 1);
    client
}

#[test]
fn a_client_talks_with_the_guest_and_the_next_one_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial");
    let (mut device, wakes) = listening(&path);
    for text in [b"first", b"again"] {
        let mut client = connect(&path, &mut device, &wakes);
        assert_eq!(device.write(text), 5);
        let mut got = [0; 5];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, text);
    }
}

#[test]
fn output_without_a_client_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial");
    let (mut device, wakes) = listening(&path);
    assert_eq!(device.write(&vec![0; 3 * BUFFER_SIZE]), 3 * BUFFER_SIZE);
    let mut client = connect(&path, &mut device, &wakes);
    device.write(b"now");
    let mut got = [0; 3];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"now");
}

#[test]
fn what_a_client_sent_before_it_left_reaches_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial");
    let (mut device, wakes) = listening(&path);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"reboot\n").unwrap();
    drop(client);
    wakes.recv_timeout(LONG).unwrap();
    let mut got = [0; 16];
    assert_eq!(device.read(&mut got), 7);
}

#[test]
fn a_client_that_does_not_read_makes_writes_short_and_its_leaving_wakes_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial");
    let (mut device, wakes) = listening(&path);
    let client = connect(&path, &mut device, &wakes);
    // Until the socket and the buffer are full and stay so while nobody is woken.
    while device.write(&[b'x'; 1000]) == 1000
        || wakes.recv_timeout(Duration::from_millis(50)).is_ok()
    {}
    drop(client);
    wakes.recv_timeout(LONG).unwrap();
    while device.write(b"y") != 1 {}
}

#[test]
fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial");
    let first = SocketDevice::listen(&path).unwrap();
    let error = SocketDevice::listen(&path).unwrap_err();
    assert!(matches!(error, ChardevError::SocketInUse { .. }), "{error}");
    drop(first);
    assert!(!path.exists(), "the file goes with the device");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    SocketDevice::listen(&path).unwrap();
}

#[test]
fn an_ordinary_file_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "precious").unwrap();
    let error = SocketDevice::listen(&path).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
