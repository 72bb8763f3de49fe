//! **The one list of host back-ends**: which back-end stands behind which port of the board.
//!
//! | port | description | back-end |
//! |---|---|---|
//! | `com1` | `--serial stdio` | [`Terminal`] |
//! | | `--serial file=PATH` | [`FileDevice`] |
//! | | `--serial socket=PATH` | [`SocketDevice`] |
//! | | `--serial none` | nothing |
//! | consoles | `--console` | the same as `--serial` |
//! | disks | `--disk FILE` | [`DiskBackend`](kezhan_block::DiskBackend) on a chain of images |
//! | network cards | `--net user` | [`UserNic`](kezhan_net::user::UserNic), the thread behind it, layers around it |
//! | | `--net tap=NAME`, `bridge=NAME`, `macvtap=NAME` | [`Tap`](kezhan_networks::Tap) |
//! | entropy | | getrandom(2), or the generator of `--seed` |

use crate::commands::Orders;
use crate::control::{self, Asked, Card, Control};
use crate::events::{Event, EventQueue};
use crate::nets::Owner;
use crate::{VmmError, disks, nets, tell};
use kezhan_block::DiskHandle;
use kezhan_board::{IdleListener, Ports};
use kezhan_chardev::{FileDevice, SocketDevice, Terminal, TerminalEnds};
use kezhan_machine_spec::{MachineSpec, SerialSpec};
use kezhan_net::user::GuestIdle;
use kezhan_ports::CharDevice;
use kezhan_ports::chardev::NullCharDevice;
use kezhan_socks::ListenerHandle;
use std::collections::BTreeMap;
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
    /// The machine's hands on its disks, by the names of their devices.
    pub(crate) disks: BTreeMap<String, DiskHandle>,
    finishers: Vec<Finisher>,
    /// SOCKS servers that reach into networks.
    socks: Vec<ListenerHandle>,
    /// Ends before the networks that it asks.
    control: Option<Control>,
    /// They run as long as this is kept.
    networks: Arc<Vec<Card>>,
    /// What clients of the control socket ask of the driver.
    pub(crate) orders: Arc<Orders>,
}

/// Networks that hold datagrams back from a guest that is busy.
#[derive(Debug)]
struct IdleNetworks(Vec<GuestIdle>);

impl IdleListener for IdleNetworks {
    fn idle(&self) {
        self.0.iter().for_each(GuestIdle::tell);
    }
}

impl Backends {
    /// Opens them, for a machine with this engine.
    ///
    /// # Errors
    /// [`VmmError::Chardev`], [`VmmError::Disk`] or [`VmmError::Net`] that names the option.
    pub(crate) fn open(
        spec: &MachineSpec,
        events: &Arc<EventQueue>,
        engine: &str,
    ) -> Result<Backends, VmmError> {
        let (mut all, mut cards) = (Backends::default(), Vec::new());
        for (index, disk) in spec.disks.iter().enumerate() {
            let (disk, handle) = disks::open(disk, events)?;
            all.ports.disks.push(disk);
            all.disks.insert(format!("disk{index}"), handle);
        }
        for (index, net) in spec.nets.iter().filter(|net| net.is_card()).enumerate() {
            let software = engine == "soft";
            let owner = Owner { machine: &spec.name, index, seed: spec.seed, software };
            let network = nets::open(net, owner)?;
            all.ports.nics.push(network.ports);
            all.socks.extend(network.socks);
            let name = net.network.clone();
            cards.extend(network.user.map(|network| Card { index, name, network }));
        }
        all.networks = Arc::new(cards);
        all.open_control(&spec.name, events);
        all.ports.entropy = Some(disks::entropy(spec.seed));
        for console in &spec.consoles {
            let port = all.open_port(&console.to, &spec.name, events)?;
            let port = port.unwrap_or_else(|| Box::new(NullCharDevice));
            all.ports.consoles.push((console.name.clone(), port));
        }
        if let Some(port) = all.open_port(&spec.serial, &spec.name, events)? {
            all.ports.characters.insert("com1".to_owned(), port);
        }
        Ok(all)
    }

    /// A machine whose door cannot be opened runs without it; one without a user network does not say so.
    fn open_control(&mut self, machine: &str, events: &Arc<EventQueue>) {
        self.orders = Arc::new(Orders::new(events.clone()));
        let asked =
            Asked { cards: Arc::downgrade(&self.networks), orders: Arc::downgrade(&self.orders) };
        match control::open(machine, asked) {
            Ok(control) => self.control = Some(control),
            Err(why) if !self.networks.is_empty() => tell(&format!("{machine}: {why}")),
            Err(_) => {}
        }
    }

    /// Who is to be told when the guest has nothing to do.
    pub(crate) fn idle_listener(&self) -> Arc<dyn IdleListener> {
        Arc::new(IdleNetworks(self.networks.iter().map(|card| card.network.guest_idle()).collect()))
    }

    /// The hand on the disk called `name`.
    ///
    /// # Errors
    /// What disks there are.
    pub(crate) fn disk(&self, name: &str) -> Result<&DiskHandle, String> {
        self.disks.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.disks.keys().map(String::as_str).collect();
            format!("{name}: no such disk; there are {}", known.join(", "))
        })
    }

    fn open_port(
        &mut self,
        to: &SerialSpec,
        title: &str,
        events: &Arc<EventQueue>,
    ) -> Result<Option<Box<dyn CharDevice>>, VmmError> {
        Ok(Some(match to {
            SerialSpec::None => return Ok(None),
            SerialSpec::Stdio => self.open_terminal(title, events)?,
            SerialSpec::Socket(path) => Box::new(SocketDevice::listen(path)?),
            SerialSpec::File(path) => {
                let events = events.clone();
                let device =
                    FileDevice::open(path, move |notice| events.push(Event::Notice(notice)))?;
                self.finishers.push(Box::new(device.finisher()));
                Box::new(device)
            }
        }))
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
