//! A macvtap interface: the machine's card on an interface of the host, without a bridge.
//!
//! ```text
//!   the network ── eth0 ──┬── the host
//!                         └── kzmv0 (the card's Ethernet address) ── /dev/tapN ── machine
//! ```
//! Frames pass between the network and machines on the same interface; host and machines do not hear each other,
//! which is the kernel's way with macvlan interfaces in bridge mode.
//!
//! # What a killed process leaves
//! The interface outlives its descriptor. Its alias names the process that made it, by number and start time;
//! [`remove_dead`] removes those whose process is gone.

use crate::NetworkError;
use crate::link::{Link, Links};
use crate::process::Process;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The alias of ours, before number and start time of the process.
const MARK: &str = "kezhan macvtap ";
/// Interfaces that one process is given names for.
const MOST: u32 = 1000;
/// How long the device file may take to be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// An interface, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Macvtap {
    file: File,
    link: Link,
}

impl AsFd for Macvtap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Macvtap {
    /// Makes one on `parent`, up, and opens it.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub(crate) fn make(parent: &str, mac: [u8; 6]) -> Result<(Macvtap, Link), NetworkError> {
        let mut links = Links::open()?;
        let own = Process::own().map(|own| own.to_string()).unwrap_or_default();
        let Some(parent) = links.find(parent)? else {
            let mend = "'ip link' shows those that are there";
            return Err(NetworkError::NoInterface(parent.to_owned(), "network interface", mend));
        };
        let all = links.all()?;
        let free = |name: &String| all.iter().all(|link| link.name != *name);
        let name = (0..MOST).map(|number| format!("kzmv{number}")).find(free).unwrap_or_default();
        links.add_macvtap(&name, &parent, mac)?;
        let link = links.find(&name)?.unwrap_or_default();
        let opened = links
            .set_alias(&link, &format!("{MARK}{own}"))
            .and_then(|()| links.set_up(&link))
            .and_then(|()| open(&link));
        match opened {
            Ok(file) => Ok((Macvtap { file, link: link.clone() }, link)),
            Err(error) => {
                links.remove(&link).ok();
                Err(error)
            }
        }
    }
}

impl Drop for Macvtap {
    fn drop(&mut self) {
        if let Ok(mut links) = Links::open() {
            links.remove(&self.link).ok();
        }
    }
}

/// Removes the interfaces of processes that are gone.
pub(crate) fn remove_dead(links: &mut Links) -> Result<(), NetworkError> {
    for link in links.all()? {
        let mark = link.alias.as_deref().and_then(|alias| alias.strip_prefix(MARK));
        if mark.is_some_and(|mark| !mark.parse().is_ok_and(Process::is_alive)) {
            links.remove(&link)?;
        }
    }
    Ok(())
}

/// Opens the device file of an interface, which is there a moment after it.
fn open(link: &Link) -> Result<File, NetworkError> {
    let path = PathBuf::from(format!("/dev/tap{}", link.index));
    let until = Instant::now() + PATIENCE;
    loop {
        match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                make_node(&path, link);
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map_err(NetworkError::kernel(path.display().to_string())),
        }
    }
}

/// Makes the device file where nobody else does. Whether that worked, the next attempt to open it tells.
fn make_node(path: &Path, link: &Link) {
    let numbers = format!("/sys/class/net/{}/tap{}/dev", link.name, link.index);
    let Ok(text) = fs::read_to_string(numbers) else { return };
    let Some((major, minor)) = text.trim().split_once(':') else { return };
    if let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) {
        let (kind, mode) = (
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        );
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, rustix::fs::makedev(major, minor))
            .ok();
    }
}
