//! **The one list of host back-ends**: which back-end stands behind which port of the board.
//!
//! | port | description | back-end |
//! |---|---|---|
//! | `com1` | `--serial stdio` | [`Terminal`] |
//! | | `--serial file=PATH` | [`FileDevice`] |
//! | | `--serial socket=PATH` | [`SocketDevice`] |
//! | | `--serial none` | nothing |
//! | disks | `--disk FILE` | [`DiskBackend`](kezhan_block::DiskBackend) on a chain of images |
//! | network cards | `--net user` | [`UserNic`](kezhan_net::user::UserNic), the thread behind it, layers around it |
//! | | `--net tap=NAME`, `bridge=NAME` | [`Tap`](kezhan_networks::Tap) |
//! | entropy | | getrandom(2), or the generator of `--seed` |

use crate::events::{Event, EventQueue};
use crate::nets::Owner;
use crate::{VmmError, disks, nets};
use kezhan_board::Ports;
use kezhan_chardev::{FileDevice, SocketDevice, Terminal, TerminalEnds};
use kezhan_machine_spec::{MachineSpec, SerialSpec};
use kezhan_net::user::UserNetwork;
use kezhan_ports::CharDevice;
use std::sync::Arc;
use std::time::Duration;

/// What waits until a back-end has written everything, for at most so long.
type Finisher = Box<dyn Fn(Duration) + Send>;

/// The back-ends of a machine.
#[derive(Default)]
pub(crate) struct Backends {
    /// For the board.
    pub(crate) ports: Ports,
    /// The person's terminal, when a port ends there.
    pub(crate) terminal: Option<Terminal>,
    finishers: Vec<Finisher>,
    /// They run as long as this is kept.
    networks: Vec<UserNetwork>,
}

impl Backends {
    /// Opens them.
    ///
    /// # Errors
    /// [`VmmError::Chardev`], [`VmmError::Disk`] or [`VmmError::Net`] that names the option.
    pub(crate) fn open(spec: &MachineSpec, events: &Arc<EventQueue>) -> Result<Backends, VmmError> {
        let mut all = Backends::default();
        for disk in &spec.disks {
            all.ports.disks.push(disks::open(disk, events)?);
        }
        for (index, net) in spec.nets.iter().filter(|net| net.is_card()).enumerate() {
            let owner = Owner { machine: &spec.name, index, seed: spec.seed };
            let network = nets::open(net, owner)?;
            all.ports.nics.push(network.ports);
            all.networks.extend(network.user);
        }
        all.ports.entropy = Some(disks::entropy(spec.seed));
        let port: Box<dyn CharDevice> = match &spec.serial {
            SerialSpec::None => return Ok(all),
            SerialSpec::Stdio => all.open_terminal(&spec.name, events)?,
            SerialSpec::Socket(path) => Box::new(SocketDevice::listen(path)?),
            SerialSpec::File(path) => {
                let events = events.clone();
                let device =
                    FileDevice::open(path, move |notice| events.push(Event::Notice(notice)))?;
                all.finishers.push(Box::new(device.finisher()));
                Box::new(device)
            }
        };
        all.ports.characters.insert("com1".to_owned(), port);
        Ok(all)
    }

    fn open_terminal(
        &mut self,
        title: &str,
        events: &Arc<EventQueue>,
    ) -> Result<Box<dyn CharDevice>, VmmError> {
        let (closed, room) = (events.clone(), events.clone());
        let gone = move || closed.push(Event::OutputClosed);
        let (terminal, port) = Terminal::open(TerminalEnds::standard()?, title, gone)?;
        terminal.set_room_waker(Arc::new(move || room.wake()));
        self.terminal = Some(terminal);
        Ok(Box::new(port))
    }

    /// Waits until what the guest wrote is written, at most so long, and restores the terminal.
    pub(crate) fn finish(self, patience: Duration) {
        for finish in &self.finishers {
            finish(patience);
        }
        if let Some(terminal) = self.terminal {
            terminal.finish(patience);
        }
    }
}
