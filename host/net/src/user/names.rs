//! Names that are answered here: the machines' own, and stand-ins for names that only a proxy resolves.
//!
//! ```text
//!   guest: address of web.example? ──► policy ──► stand-in 198.18.0.7, which means web.example
//!   guest: connect to 198.18.0.7   ──► policy (it has learned the name) ──► proxy: connect to web.example
//! ```
//! Stand-ins are of the network for benchmarks (RFC 2544 appendix C.2.2, RFC 6890), which nobody routes. The
//! oldest gives way; an address that stands for nothing leads nowhere.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// The domain of machines; `internal` is nobody's else (ICANN resolution 2024.07.29.06).
pub(super) const DOMAIN: &str = "kezhan.internal";

/// The first stand-in, and how many there are.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const STAND_INS: u32 = 8192;

/// Addresses by name, in lower case without the domain.
#[derive(Debug, Default)]
pub(super) struct Names {
    machines: BTreeMap<String, Vec<IpAddr>>,
    by_name: HashMap<String, u32>,
    by_number: HashMap<u32, String>,
    next: u32,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// These addresses.
    Here(Vec<IpAddr>),
    /// It would be a machine's, and there is none.
    Nobody,
    /// It is not ours.
    Elsewhere,
}

impl Names {
    /// Sets the machines' names.
    pub(super) fn set(&mut self, machines: Vec<(String, Vec<IpAddr>)>) {
        self.machines =
            machines.into_iter().map(|(name, ips)| (name.to_ascii_lowercase(), ips)).collect();
    }

    /// Who a name is; the machine's name alone will do.
    pub(super) fn find(&self, name: &str) -> Known {
        let inside = name.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        let plain = inside.unwrap_or(name);
        match self.machines.get(plain) {
            Some(ips) => Known::Here(ips.clone()),
            None if inside.is_some() || name == DOMAIN => Known::Nobody,
            None => Known::Elsewhere,
        }
    }

    /// The address that stands for a name.
    pub(super) fn stand_in(&mut self, name: &str) -> Ipv4Addr {
        let number = self.by_name.get(name).copied().unwrap_or_else(|| self.take(name));
        Ipv4Addr::from_bits(FIRST.to_bits() + number)
    }

    fn take(&mut self, name: &str) -> u32 {
        let number = self.next % STAND_INS;
        self.next = self.next.wrapping_add(1);
        if let Some(old) = self.by_number.insert(number, name.to_owned()) {
            self.by_name.remove(&old);
        }
        self.by_name.insert(name.to_owned(), number);
        number
    }

    /// The name that an address stands for.
    pub(super) fn behind(&self, ip: IpAddr) -> Option<&str> {
        let IpAddr::V4(ip) = ip else { return None };
        let number = ip.to_bits().checked_sub(FIRST.to_bits())?;
        self.by_number.get(&number).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_with_and_without_the_domain() {
        let mut names = Names::default();
        let ip: IpAddr = [10, 0, 2, 20].into();
        names.set(vec![("Web".to_owned(), vec![ip])]);
        for name in ["web", "web.kezhan.internal"] {
            assert_eq!(names.find(name), Known::Here(vec![ip]), "{name}");
        }
        assert_eq!(names.find("other.kezhan.internal"), Known::Nobody);
        assert_eq!(names.find("web.example"), Known::Elsewhere);
        assert_eq!(names.find("badkezhan.internal"), Known::Elsewhere);
    }

    #[test]
    fn the_oldest_stand_in_gives_way() {
        let mut names = Names::default();
        let first = names.stand_in("a.example");
        assert_eq!(names.stand_in("a.example"), first);
        for index in 1..=STAND_INS {
            names.stand_in(&format!("{index}.example"));
        }
        assert_eq!(names.behind(first.into()), Some("8192.example"));
        assert_ne!(names.stand_in("a.example"), first);
    }
}
