//! What a guest may reach: rules by name, network, port and protocol, enforced outside the guest.
//!
//! ```text
//!   guest asks for a name ──► may_resolve ──► our resolver ──► learn(name, addresses, lifetime)
//!   guest opens a flow ─────► decide(address, port, protocol) ──► rules in order ──► default
//! ```
//! 1. The first rule that matches decides; when none does, the default.
//! 2. A rule about a name matches an address only when the guest learned it from **our** resolver as an
//!    address of that name, and the answer still holds. An address that the guest got elsewhere has no
//!    name.
//! 3. Addresses of the host itself ([`Reach::Host`]: loopback, link-local and others that are no place on
//!    a network) are denied whatever the default and the names say; only a rule with a network opens them.
//! 4. A name teaches no address of rule 3, and none of a private network: an answer that points a public
//!    name inside (DNS rebinding) opens nothing. A mirror on a private network is allowed by its network.
//!
//! A rule that denies a name keeps the resolver from answering and closes the addresses learned for it; it
//! cannot know an address that the guest brings along. Who needs that denies by default.
//!
//! Rejected: matching names by reverse lookup or by the TLS name, both of which the peer or the guest
//! chooses. Time comes in as a parameter; nothing here reads a clock.

mod learned;
mod rule;

pub use rule::{Network, Protocol, Rule, RuleError, Verdict};

use learned::Learned;
use std::net::IpAddr;
use std::time::Duration;

/// Where an address is, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The host itself, its link, or no single place: loopback, link-local, unspecified, multicast,
    /// broadcast (RFC 6890 §2.2).
    Host,
    /// A private network: RFC 1918, RFC 6598 and RFC 4193.
    Private,
    /// Anything else.
    Public,
}

impl Reach {
    /// Where an address is. IPv6 addresses that carry an IPv4 address count as that one.
    #[must_use]
    pub fn of(ip: IpAddr) -> Reach {
        match inner(ip) {
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                let multicast_or_above = first >= 224;
                if first == 0 || first == 127 || ip.is_link_local() || multicast_or_above {
                    Reach::Host
                } else if ip.is_private() || (first == 100 && second & 0xc0 == 64) {
                    Reach::Private
                } else {
                    Reach::Public
                }
            }
            IpAddr::V6(ip) => {
                let local = ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local();
                if local || ip.is_multicast() {
                    Reach::Host
                } else if ip.is_unique_local() {
                    Reach::Private
                } else {
                    Reach::Public
                }
            }
        }
    }
}

/// The IPv4 address within an IPv4-mapped (RFC 4291 §2.5.5.2), IPv4-compatible (§2.5.5.1) or well-known
/// NAT64 (RFC 6052 §2.1) IPv6 address; otherwise the address itself.
fn inner(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = ip else { return ip };
    match six.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = six.octets();
            IpAddr::from([a, b, c, d])
        }
        _ => ip,
    }
}

/// Why a decision is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rule at this place of the list, from 0.
    Rule(usize),
    /// No rule matches.
    Default,
    /// The address is the host's, and no rule with a network allows it.
    Host,
}

/// An answer of the policy, to be logged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// Whether the flow may be.
    #[must_use]
    pub fn allows(self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// How often each reason decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By each rule, in the order of the list.
    pub rules: Vec<u64>,
    /// By the default.
    pub default: u64,
    /// Because the address is the host's.
    pub host: u64,
}

/// One machine's rules and what its guest has learned. See the module.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    default: Verdict,
    learned: Learned,
    counts: Counts,
}

impl Policy {
    /// A policy that has learned nothing.
    #[must_use]
    pub fn new(rules: Vec<Rule>, default: Verdict) -> Policy {
        let counts = Counts { rules: vec![0; rules.len()], ..Counts::default() };
        Policy { rules, default, learned: Learned::default(), counts }
    }

    /// Everything but the host's own addresses.
    #[must_use]
    pub fn open() -> Policy {
        Policy::new(Vec::new(), Verdict::Allow)
    }

    /// Whether the guest may open a flow; counts.
    pub fn decide(&mut self, now: Duration, to: IpAddr, port: u16, protocol: Protocol) -> Decision {
        let to = inner(to);
        let host = Reach::of(to) == Reach::Host;
        let names = self.learned.names(now, to);
        let found = self.rules.iter().position(|rule| {
            let about = if host { rule.holds_host(to) } else { rule.holds(to, &names) };
            about && rule.covers(port, protocol)
        });
        let decision = match found {
            Some(index) => Decision {
                verdict: self.rules.get(index).map_or(Verdict::Deny, |rule| rule.verdict),
                reason: Reason::Rule(index),
            },
            None if host => Decision { verdict: Verdict::Deny, reason: Reason::Host },
            None => Decision { verdict: self.default, reason: Reason::Default },
        };
        self.count(decision.reason);
        decision
    }

    /// Whether our resolver may answer for a name: as the first rule says that is about the name, or about
    /// everything. A denial of some ports only does not count, and without a rule the default decides.
    #[must_use]
    pub fn may_resolve(&self, name: &str) -> bool {
        let name = rule::plain(name);
        let first = self.rules.iter().find(|rule| rule.resolves(&name));
        first.map_or(self.default, |rule| rule.verdict) == Verdict::Allow
    }

    /// Remembers an address that our resolver gave the guest for the name that it **asked** for, at least
    /// a minute and at most a day. Addresses that are not public are not learned.
    pub fn learn(&mut self, now: Duration, name: &str, ip: IpAddr, lifetime: Duration) {
        let ip = inner(ip);
        if Reach::of(ip) == Reach::Public {
            self.learned.insert(now, rule::plain(name), ip, lifetime);
        }
    }

    /// The names that the guest knows an address by.
    #[must_use]
    pub fn names(&self, now: Duration, ip: IpAddr) -> Vec<String> {
        self.learned.names(now, inner(ip)).into_iter().map(str::to_owned).collect()
    }

    /// How often each reason decided.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn count(&mut self, reason: Reason) {
        let counter = match reason {
            Reason::Rule(index) => self.counts.rules.get_mut(index),
            Reason::Default => Some(&mut self.counts.default),
            Reason::Host => Some(&mut self.counts.host),
        };
        if let Some(counter) = counter {
            *counter += 1;
        }
    }
}

#[cfg(test)]
mod tests;
