//! A Unix socket at which one client at a time talks to the guest.
//!
//! One thread does everything: it accepts, reads into the inlet while the device has room, and writes
//! from the queue of output. With no client, output is dropped, as a serial cable that nobody has
//! plugged in does; a client that leaves makes place for the next. A second client waits in the
//! listener's queue.

use crate::inlet::Inlet;
use crate::{BUFFER_SIZE, ChardevError, Waker, lock};
use kezhan_ports::CharDevice;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const STACK_SIZE: usize = 128 * 1024;

/// The listener, with its thread. Dropping it ends the thread and removes the socket's file.
#[derive(Debug)]
pub struct SocketDevice {
    path: PathBuf,
    inlet: Inlet,
    output: Arc<Output>,
    thread: Option<JoinHandle<()>>,
}

struct Output {
    state: Mutex<OutputState>,
    /// Wakes the thread: output has come, input has room, or the end.
    event: OwnedFd,
}

#[derive(Default)]
struct OutputState {
    pending: VecDeque<u8>,
    connected: bool,
    closing: bool,
    short: bool,
    wake: Option<Waker>,
}

impl Output {
    fn ring(&self) {
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).ok();
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl SocketDevice {
    /// Listens at `path`. A socket file that no process listens at any more is replaced.
    ///
    /// # Errors
    /// [`ChardevError::SocketInUse`] and [`ChardevError::Socket`].
    pub fn listen(path: &Path) -> Result<SocketDevice, ChardevError> {
        let failed = |error| ChardevError::Socket { path: path.to_owned(), error };
        let listener = bind(path)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let output = Arc::new(Output { state: Mutex::default(), event });
        let inlet = Inlet::default();
        let feeder = output.clone();
        inlet.set_feeder_waker(Arc::new(move || feeder.ring()));
        let mut service =
            Service { listener, client: None, inlet: inlet.clone(), output: output.clone() };
        let thread = std::thread::Builder::new()
            .name("serial-socket".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || while service.step() {})
            .map_err(failed)?;
        Ok(SocketDevice { path: path.to_owned(), inlet, output, thread: Some(thread) })
    }
}

fn bind(path: &Path) -> Result<UnixListener, ChardevError> {
    let failed = |error| ChardevError::Socket { path: path.to_owned(), error };
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
            if !socket {
                return Err(failed(error));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(ChardevError::SocketInUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(failed)?;
            UnixListener::bind(path).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

impl Drop for SocketDevice {
    fn drop(&mut self) {
        lock(&self.output.state).closing = true;
        self.output.ring();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        std::fs::remove_file(&self.path).ok();
    }
}

impl CharDevice for SocketDevice {
    fn read(&mut self, data: &mut [u8]) -> usize {
        self.inlet.take(data)
    }

    fn write(&mut self, data: &[u8]) -> usize {
        let mut state = lock(&self.output.state);
        if !state.connected {
            return data.len();
        }
        let was_empty = state.pending.is_empty();
        let count = data.len().min(BUFFER_SIZE - state.pending.len().min(BUFFER_SIZE));
        state.pending.extend(&data[..count]);
        state.short |= count < data.len();
        drop(state);
        if was_empty {
            self.output.ring();
        }
        count
    }

    fn set_waker(&mut self, wake: Waker) {
        self.inlet.set_device_waker(wake.clone());
        lock(&self.output.state).wake = Some(wake);
    }
}

/// What the thread owns.
struct Service {
    listener: UnixListener,
    client: Option<UnixStream>,
    inlet: Inlet,
    output: Arc<Output>,
}

impl Service {
    /// Waits for something and does it; false at the end, when what is left has been written.
    fn step(&mut self) -> bool {
        self.wait();
        let mut drain = [0; 8];
        rustix::io::read(&self.output.event, &mut drain).ok();
        if self.client.is_none() {
            self.accept();
        }
        if let Some(client) = &self.client
            && !(self.receive(client) && self.send(client))
        {
            self.leave();
        }
        !lock(&self.output.state).closing
    }

    fn wait(&self) {
        let event = PollFd::new(&self.output.event, PollFlags::IN);
        let (socket, wanted) = match &self.client {
            None => (self.listener.as_fd(), PollFlags::IN),
            Some(client) => {
                let mut wanted = PollFlags::empty();
                wanted.set(PollFlags::IN, self.inlet.room() > 0);
                wanted.set(PollFlags::OUT, !lock(&self.output.state).pending.is_empty());
                (client.as_fd(), wanted)
            }
        };
        let socket = PollFd::from_borrowed_fd(socket, wanted);
        // A socket of which nothing is wanted would still report a hang-up, over and over.
        let with_socket = if wanted.is_empty() { 1 } else { 2 };
        poll(&mut [event, socket][..with_socket], None).ok();
    }

    fn accept(&mut self) {
        let Ok((client, _)) = self.listener.accept() else { return };
        if client.set_nonblocking(true).is_ok() {
            lock(&self.output.state).connected = true;
            self.client = Some(client);
        }
    }

    /// Reads once; false when the client has left.
    fn receive(&self, mut client: &UnixStream) -> bool {
        let mut data = [0; BUFFER_SIZE / 4];
        let room = self.inlet.room().min(data.len());
        if room == 0 {
            return true;
        }
        match client.read(&mut data[..room]) {
            Ok(0) => false,
            Ok(count) => {
                self.inlet.feed(&data[..count]);
                true
            }
            Err(error) => may_go_on(&error),
        }
    }

    /// Writes what it takes; false when the client has left.
    fn send(&self, mut client: &UnixStream) -> bool {
        let mut state = lock(&self.output.state);
        if state.pending.is_empty() {
            return true;
        }
        let going = match client.write(state.pending.make_contiguous()) {
            Ok(count) => {
                state.pending.drain(..count);
                true
            }
            Err(error) => may_go_on(&error),
        };
        let relieved = state.pending.len() < BUFFER_SIZE && std::mem::take(&mut state.short);
        let wake = if relieved { state.wake.clone() } else { None };
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
        going
    }

    /// The client has left: what was meant for it is dropped; what it sent stays for the guest.
    fn leave(&mut self) {
        self.client = None;
        let mut state = lock(&self.output.state);
        state.connected = false;
        state.pending.clear();
        let wake = if std::mem::take(&mut state.short) { state.wake.clone() } else { None };
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }
}

fn may_go_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
