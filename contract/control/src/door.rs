//! Where a machine is found.
//!
//! ```text
//!   FOLDER/.new.PID ── listen ──► FOLDER/NAME.PID ── the process ends, or is killed
//!                                      │                        └──► refuses: removed by who finds it
//!                                      └── accept ──► a thread for each client
//! ```

use crate::{ControlError, Reply, Request, wire};
use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A machine's socket, which listens. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens the door of this process, which runs the machine of that name.
    ///
    /// # Errors
    /// The folder does not take it, or its path is too long (unix(7): 107 bytes).
    pub fn open(folder: &Path, name: &str) -> Result<Door, ControlError> {
        let process = std::process::id();
        let path = folder.join(format!("{name}.{process}"));
        let new = folder.join(format!(".new.{process}"));
        let opened = remove(&new).and_then(|()| {
            let listener = UnixListener::bind(&new)?;
            fs::rename(&new, &path)?;
            Ok(listener)
        });
        match opened {
            Ok(listener) => Ok(Door { listener, path }),
            Err(error) => Err(ControlError::Socket { path, error }),
        }
    }

    /// The socket that listens.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where a machine's process answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineAddress {
    /// The machine's name.
    pub name: String,
    /// The process's number.
    pub process: u32,
    path: PathBuf,
}

impl MachineAddress {
    fn read(path: PathBuf) -> Option<MachineAddress> {
        let (name, process) = path.file_name()?.to_str()?.rsplit_once('.')?;
        let (name, process) = (name.to_owned(), process.parse().ok()?);
        (!name.is_empty() && name != ".new").then_some(MachineAddress { name, process, path })
    }

    /// `NAME.PID`, by which a machine is told from its namesakes.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.process)
    }

    /// Connects; `None` when nobody is there any more, and then the file is gone, too.
    fn connect(&self) -> Result<Option<UnixStream>, ControlError> {
        match UnixStream::connect(&self.path) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(&self.path).ok();
                Ok(None)
            }
            Err(error) => Err(ControlError::Socket { path: self.path.clone(), error }),
        }
    }
}

/// The machines that run, by name and number. What killed ones left is removed.
///
/// # Errors
/// The folder cannot be read.
pub fn machines(folder: &Path) -> Result<Vec<MachineAddress>, ControlError> {
    let failed = |error| ControlError::Socket { path: folder.to_owned(), error };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some(address) = MachineAddress::read(entry.map_err(failed)?.path()) else { continue };
        if address.connect()?.is_some() {
            found.push(address);
        }
    }
    found.sort_by(|a, b| (&a.name, a.process).cmp(&(&b.name, b.process)));
    Ok(found)
}

/// A connection to a machine.
#[derive(Debug)]
pub struct Client {
    name: String,
    stream: UnixStream,
}

impl Client {
    /// Finds the machine of this name, or `NAME.PID`, and connects.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(folder: &Path, name: &str) -> Result<Client, ControlError> {
        let all = machines(folder)?;
        let called =
            |address: &&MachineAddress| address.name == name || address.full_name() == name;
        let found: Vec<&MachineAddress> = all.iter().filter(called).collect();
        match found[..] {
            [] => Err(ControlError::Unknown(name.to_owned())),
            [one] => Client::connect(one),
            _ => Err(ControlError::Several {
                name: name.to_owned(),
                choices: found.into_iter().map(MachineAddress::full_name).collect(),
            }),
        }
    }

    /// Connects to a machine.
    ///
    /// # Errors
    /// It has ended.
    pub fn connect(address: &MachineAddress) -> Result<Client, ControlError> {
        let name = address.full_name();
        let stream = address.connect()?.ok_or_else(|| ControlError::Unknown(name.clone()))?;
        let client = Client { name, stream };
        client.wait_at_most(PATIENCE)?;
        Ok(client)
    }

    /// How long each answer may take, 5 s unless said.
    ///
    /// # Errors
    /// The host does not take the time, for example none at all.
    pub fn wait_at_most(&self, patience: Duration) -> Result<(), ControlError> {
        self.stream.set_read_timeout(Some(patience)).map_err(|error| self.failed(error))
    }

    /// Asks, and waits for the reply; [`Reply::Failed`] is one.
    ///
    /// # Errors
    /// The machine ends, or does not answer in time.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        let answer =
            wire::write(&mut self.stream, request).and_then(|()| wire::read(&mut self.stream));
        match answer {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// As [`Client::ask`], and what is not done is an error.
    ///
    /// # Errors
    /// Those of [`Client::ask`], and [`ControlError::Refused`].
    pub fn order(&mut self, request: &Request) -> Result<Reply, ControlError> {
        match self.ask(request)? {
            Reply::Failed { reason, .. } => {
                Err(ControlError::Refused { name: self.name.clone(), reason })
            }
            reply => Ok(reply),
        }
    }

    /// The socket: after [`Reply::Connected`], the connection to the guest.
    ///
    /// # Errors
    /// The host does not take back the time-out.
    pub fn into_stream(self) -> io::Result<UnixStream> {
        self.stream.set_read_timeout(None)?;
        Ok(self.stream)
    }

    fn failed(&self, error: io::Error) -> ControlError {
        ControlError::Socket { path: PathBuf::from(&self.name), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one client with `reply`.
    fn answer(door: &Door, reply: &Reply) -> Request {
        let (mut stream, _) = door.listener().accept().unwrap();
        let request = wire::read(&mut stream).unwrap().unwrap();
        wire::write(&mut stream, reply).unwrap();
        request
    }

    #[test]
    fn a_machine_is_found_by_name_and_asked() {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(folder.path(), "web").unwrap();
        let name = format!("web.{}", std::process::id());
        for called in ["web", &name] {
            let mut client = Client::find(folder.path(), called).unwrap();
            let asked = std::thread::scope(|scope| {
                // The first connection was `find`'s own look, which is over.
                let server = scope.spawn(|| {
                    door.listener().accept().unwrap();
                    answer(&door, &Reply::Done)
                });
                assert_eq!(client.order(&Request::Cards).unwrap(), Reply::Done);
                server.join().unwrap()
            });
            assert_eq!(asked, Request::Cards);
        }
        drop(door);
        let error = Client::find(folder.path(), "web").unwrap_err();
        assert!(error.to_string().starts_with("machine web: none"), "{error}");
    }

    #[test]
    fn what_a_killed_machine_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.1");
        drop(UnixListener::bind(&file).unwrap());
        assert!(file.exists() && machines(folder.path()).unwrap().is_empty() && !file.exists());
        fs::write(folder.path().join("note"), "").unwrap();
        assert!(machines(folder.path()).unwrap().is_empty());
        assert!(machines(&folder.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn machines_of_one_name_have_to_be_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let listeners = ["web.1", "web.2"].map(|name| UnixListener::bind(folder.path().join(name)));
        let error = Client::find(folder.path(), "web").unwrap_err().to_string();
        assert!(error.contains("2 run") && error.ends_with("web.1 or web.2"), "{error}");
        drop(listeners);
    }
}
