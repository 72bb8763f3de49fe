//! Making, listing and deleting networks.

use crate::link::{Link, Links};
use crate::process::Process;
use crate::store::{Record, Stage, Store};
use crate::{NetworkError, Subnet, nft, service, sysctl};
use serde::Serialize;
use std::net::Ipv4Addr;

/// The longest name: with our prefix it is an interface's (IFNAMSIZ).
const LONGEST: usize = 12;
/// What our bridges' names begin with.
const PREFIX: &str = "kz-";
/// What our bridges' aliases begin with: the mark by which they are known.
const MARK: &str = "kezhan network ";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The network's name.
    pub name: String,
    /// The bridge's address and the network; a free one when `None`.
    pub subnet: Option<Subnet>,
    /// What leaves the network gets the host's address.
    pub nat: bool,
    /// Machines get addresses and names.
    pub dhcp: bool,
}

/// A network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// The bridge's address and the network.
    pub subnet: Subnet,
    /// What leaves it gets the host's address.
    pub nat: bool,
    /// Machines get addresses and names.
    pub dhcp: bool,
    /// Whether the bridge is there.
    pub up: bool,
    /// Interfaces in the bridge.
    pub members: Vec<String>,
}

/// Makes a network.
///
/// # Errors
/// [`NetworkError`]; nothing is left of it then.
pub fn create(store: &Store, request: &Request) -> Result<Network, NetworkError> {
    check_name(&request.name)?;
    let _lock = store.lock()?;
    let mut links = Links::open()?;
    clean(store, &mut links)?;
    if store.find(&request.name)?.is_some() {
        return Err(NetworkError::Exists(request.name.clone()));
    }
    let bridge = format!("{PREFIX}{}", request.name);
    if links.find(&bridge)?.is_some() {
        return Err(NetworkError::NotOurs(bridge));
    }
    let subnet = subnet(&mut links, request.subnet)?;
    let forwarding = request.nat && !sysctl::forwards()?;
    let mut record = Record {
        name: request.name.clone(),
        bridge,
        subnet,
        nat: request.nat,
        forwarding,
        stage: Stage::Making,
        dhcp: request.dhcp,
        serving: None,
    };
    store.write(&record)?;
    let built = build(&mut links, &record).and_then(|()| {
        record.stage = Stage::Ready;
        store.write(&record)?;
        service::ensure(store, &record)
    });
    if let Err(error) = built {
        undo(store, &mut links, &record)?;
        return Err(error);
    }
    Ok(network(&record, &links.all()?))
}

fn build(links: &mut Links, record: &Record) -> Result<(), NetworkError> {
    links.add_bridge(&record.bridge, &format!("{MARK}{}", record.name))?;
    let bridge = links.find(&record.bridge)?.unwrap_or_default();
    links.add_address(&bridge, record.subnet)?;
    links.set_up(&bridge)?;
    if record.nat {
        nft::add(&record.name, record.subnet, &record.bridge)?;
    }
    if record.forwarding { sysctl::set_forwards(true) } else { Ok(()) }
}

/// Deletes a network.
///
/// # Errors
/// There is none of that name, or the kernel refuses.
pub fn delete(store: &Store, name: &str) -> Result<(), NetworkError> {
    let _lock = store.lock()?;
    let mut links = Links::open()?;
    clean(store, &mut links)?;
    let Some(mut record) = store.find(name)? else {
        return Err(NetworkError::Unknown(name.to_owned()));
    };
    record.stage = Stage::Removing;
    store.write(&record)?;
    undo(store, &mut links, &record)
}

/// Every network, by name.
///
/// # Errors
/// [`NetworkError`] of the records or the kernel.
pub fn list(store: &Store) -> Result<Vec<Network>, NetworkError> {
    let mut links = Links::open()?;
    let halves = store.all()?.iter().any(|record| record.stage != Stage::Ready);
    if halves {
        let _lock = store.lock()?;
        clean(store, &mut links)?;
    }
    let all = links.all()?;
    Ok(store.all()?.iter().map(|record| network(record, &all)).collect())
}

/// The bridge called `name`: a network's, or another one of the host's.
pub(crate) fn bridge(store: &Store, links: &mut Links, name: &str) -> Result<Link, NetworkError> {
    let record = store.find(name)?.filter(|record| record.stage == Stage::Ready);
    let interface = record.map_or_else(|| name.to_owned(), |record| record.bridge);
    let found = links.find(&interface)?.filter(|link| link.bridge);
    found.ok_or_else(|| {
        let mend = "kezhan net create makes a network, kezhan net list shows those that are there";
        NetworkError::NoInterface(name.to_owned(), "bridge", mend)
    })
}

fn network(record: &Record, links: &[Link]) -> Network {
    let bridge = links.iter().find(|link| link.name == record.bridge && is_ours(link));
    let inside = |link: &&Link| bridge.is_some_and(|b| link.controller == Some(b.index));
    Network {
        name: record.name.clone(),
        bridge: record.bridge.clone(),
        subnet: record.subnet,
        nat: record.nat,
        dhcp: record.serving.is_some_and(Process::is_alive),
        up: bridge.is_some(),
        members: links.iter().filter(inside).map(|link| link.name.clone()).collect(),
    }
}

/// Undoes what others have left half done. Called with the lock, so that nobody is at it.
fn clean(store: &Store, links: &mut Links) -> Result<(), NetworkError> {
    for record in store.all()?.iter().filter(|record| record.stage != Stage::Ready) {
        undo(store, links, record)?;
    }
    Ok(())
}

/// Takes away what is there of a network.
fn undo(store: &Store, links: &mut Links, record: &Record) -> Result<(), NetworkError> {
    if let Some(serving) = record.serving {
        service::end(serving);
    }
    if record.nat {
        nft::remove(&record.name)?;
    }
    if let Some(bridge) = links.find(&record.bridge)?
        && is_ours(&bridge)
    {
        links.remove(&bridge)?;
    }
    if record.forwarding {
        give_back_forwarding(store, record)?;
    }
    store.remove(&record.name)
}

/// Forwarding is turned off again, unless another network needs it: that one is owed it then.
fn give_back_forwarding(store: &Store, record: &Record) -> Result<(), NetworkError> {
    let others = store.all()?;
    match others.into_iter().find(|other| other.nat && other.name != record.name) {
        Some(heir) => store.write(&Record { forwarding: true, ..heir }),
        None => sysctl::set_forwards(false),
    }
}

fn is_ours(link: &Link) -> bool {
    link.bridge && link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK))
}

/// The subnet that is asked for, or the first that the host does not use.
fn subnet(links: &mut Links, wanted: Option<Subnet>) -> Result<Subnet, NetworkError> {
    let used = links.subnets()?;
    let clash = |subnet: Subnet| used.iter().find(|(other, _)| other.overlaps(subnet)).copied();
    if let Some(subnet) = wanted {
        let Some((other, index)) = clash(subnet) else { return Ok(subnet) };
        let name = links.all()?.into_iter().find(|link| link.index == index);
        let name = name.map_or_else(|| format!("interface {index}"), |link| link.name);
        return Err(NetworkError::Overlap(subnet, other, name));
    }
    (0..=255)
        .map(|third| Subnet { address: Ipv4Addr::new(10, 77, third, 1), bits: 24 })
        .find(|subnet| clash(*subnet).is_none())
        .ok_or(NetworkError::NoSubnet)
}

fn check_name(name: &str) -> Result<(), NetworkError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let well = (1..=LONGEST).contains(&name.len())
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if well { Ok(()) } else { Err(NetworkError::Name(name.to_owned())) }
}
