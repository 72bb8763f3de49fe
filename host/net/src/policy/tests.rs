use super::*;

const NOW: Duration = Duration::from_secs(1000);
const HOUR: Duration = Duration::from_secs(3600);

fn rules(text: &[&str]) -> Vec<Rule> {
    text.iter()
        .map(|text| {
            let (verdict, rule) = text.split_once('=').unwrap();
            let verdict = if verdict == "allow" { Verdict::Allow } else { Verdict::Deny };
            Rule::parse(verdict, rule).unwrap()
        })
        .collect()
}

fn denying(text: &[&str]) -> Policy {
    Policy::new(rules(text), Verdict::Deny)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(policy: &mut Policy, to: &str, port: u16) -> bool {
    policy.decide(NOW, ip(to), port, Protocol::Tcp).allows()
}

#[test]
fn a_name_opens_the_addresses_that_our_resolver_gave_for_it_and_no_others() {
    let mut policy = denying(&["allow=deb.example:443"]);
    assert!(!tcp(&mut policy, "198.51.100.1", 443), "before the guest has asked");
    policy.learn(NOW, "DEB.example.", ip("198.51.100.1"), HOUR);
    policy.learn(NOW, "deb.example", ip("2001:db8::1"), HOUR);
    policy.learn(NOW, "other.example", ip("198.51.100.2"), HOUR);
    assert!(tcp(&mut policy, "198.51.100.1", 443));
    assert!(tcp(&mut policy, "2001:db8::1", 443));
    assert!(!tcp(&mut policy, "198.51.100.1", 80), "another port");
    assert!(!tcp(&mut policy, "198.51.100.2", 443), "another name's address");
    assert!(!tcp(&mut policy, "198.51.100.3", 443), "an address that nobody told");
}

#[test]
fn an_answer_ends_but_not_within_a_minute() {
    let mut policy = denying(&["allow=a.example"]);
    policy.learn(NOW, "a.example", ip("198.51.100.1"), Duration::ZERO);
    let mut after = |seconds| {
        let now = NOW + Duration::from_secs(seconds);
        policy.decide(now, ip("198.51.100.1"), 80, Protocol::Tcp).allows()
    };
    assert!(after(59));
    assert!(!after(60));
}

#[test]
fn a_rebinding_answer_opens_nothing() {
    let mut policy = denying(&["allow=evil.example"]);
    for inside in [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "::10.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
    ] {
        policy.learn(NOW, "evil.example", ip(inside), HOUR);
        assert!(!tcp(&mut policy, inside, 80), "{inside}");
    }
}

#[test]
fn the_host_is_closed_unless_a_network_opens_it() {
    for open in
        [Policy::open(), denying(&["allow=any"]), denying(&["allow=0.0.0.0/0", "allow=::/0"])]
    {
        let mut open = open;
        for own in
            ["127.0.0.1", "127.8.8.8", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1"]
        {
            let decision = open.decide(NOW, ip(own), 80, Protocol::Tcp);
            assert_eq!(
                decision,
                Decision { verdict: Verdict::Deny, reason: Reason::Host },
                "{own}"
            );
        }
        assert!(tcp(&mut open, "198.51.100.1", 80));
        assert!(tcp(&mut open, "10.0.0.1", 80), "a private network is a network");
    }
    let mut half = denying(&["allow=0.0.0.0/1"]);
    assert!(!tcp(&mut half, "127.0.0.1", 80), "half the world is not the host");
    let mut one = denying(&["allow=127.0.0.1:8080"]);
    assert!(tcp(&mut one, "127.0.0.1", 8080));
    assert!(tcp(&mut one, "::ffff:127.0.0.1", 8080), "the same address");
    assert!(!tcp(&mut one, "127.0.0.1", 22));
    assert!(!tcp(&mut one, "127.0.0.2", 8080));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut policy = Policy::new(
        rules(&["allow=10.1.0.0/16:443/tcp", "deny=10.0.0.0/8", "deny=any:25"]),
        Verdict::Allow,
    );
    for (to, port, protocol, verdict, reason) in [
        ("10.1.2.3", 443, Protocol::Tcp, Verdict::Allow, Reason::Rule(0)),
        ("10.1.2.3", 443, Protocol::Udp, Verdict::Deny, Reason::Rule(1)),
        ("10.2.2.3", 443, Protocol::Tcp, Verdict::Deny, Reason::Rule(1)),
        ("10.2.2.3", 0, Protocol::Icmp, Verdict::Deny, Reason::Rule(1)),
        ("198.51.100.1", 25, Protocol::Tcp, Verdict::Deny, Reason::Rule(2)),
        ("198.51.100.1", 0, Protocol::Icmp, Verdict::Allow, Reason::Default),
    ] {
        let decision = policy.decide(NOW, ip(to), port, protocol);
        assert_eq!(decision, Decision { verdict, reason }, "{to} {port} {protocol:?}");
    }
    assert_eq!(policy.counts(), &Counts { rules: vec![1, 3, 1], default: 1, host: 0 });
}

#[test]
fn a_wildcard_is_about_the_names_below() {
    let policy = denying(&["allow=*.example.org", "deny=any"]);
    assert!(policy.may_resolve("a.example.org"));
    assert!(policy.may_resolve("A.B.Example.ORG."));
    for other in ["example.org", "badexample.org", "example.org.evil.example", ".", ""] {
        assert!(!policy.may_resolve(other), "{other:?}");
    }
}

#[test]
fn a_denied_name_is_not_resolved_and_its_addresses_are_closed() {
    let mut policy = Policy::new(rules(&["deny=ads.example"]), Verdict::Allow);
    assert!(!policy.may_resolve("ads.example"));
    assert!(policy.may_resolve("other.example"));
    policy.learn(NOW, "ads.example", ip("198.51.100.1"), HOUR);
    assert!(!tcp(&mut policy, "198.51.100.1", 443));
    let some_ports = Policy::new(rules(&["deny=mail.example:25"]), Verdict::Allow);
    assert!(some_ports.may_resolve("mail.example"));
}

#[test]
fn a_rule_about_everything_tells_of_names_too() {
    assert!(denying(&["allow=any:443"]).may_resolve("a.example"));
    assert!(!denying(&["deny=any:25"]).may_resolve("a.example"), "the default");
    assert!(!denying(&["allow=10.0.0.0/8"]).may_resolve("a.example"), "no name needed");
}

#[test]
fn what_is_learned_is_bounded() {
    let mut policy = denying(&["allow=*.example"]);
    for index in 0..2 * u32::try_from(learned::CAPACITY).unwrap() {
        let address = IpAddr::from((0xc633_0000 + index).to_be_bytes());
        policy.learn(NOW + Duration::from_millis(index.into()), "a.example", address, HOUR);
    }
    assert_eq!(policy.learned.len(), learned::CAPACITY);
}

#[test]
fn rules_are_read_or_explained() {
    for good in [
        "any",
        "any:25",
        "deb.example:443",
        "*.example/tcp",
        "10.0.0.0/8:53/udp",
        "10.0.0.1",
        "[2001:db8::/32]:443",
        "[2001:db8::1]",
        "2001:db8::/32",
        "::/0",
        "0.0.0.0/0",
        "a:1-65535/udp",
        "_dns.example",
        "any/icmp",
    ] {
        Rule::parse(Verdict::Allow, good).unwrap();
    }
    for (bad, part) in [
        ("", "neither a name nor a network"),
        ("*", "neither a name nor a network"),
        ("a..b", "neither a name nor a network"),
        ("exa mple", "neither a name nor a network"),
        ("1.2.3", "neither a name nor a network"),
        ("10.0.0.1/8", "zeros behind the bits"),
        ("10.0.0.0/33", "zeros behind the bits"),
        ("2001:db8::/129", "zeros behind the bits"),
        ("a/sctp", "is not a network"),
        ("a:http", "is not a port"),
        ("a:2-1", "is not a port"),
        ("a:65536", "is not a port"),
        ("[::1", "neither a name nor a network"),
        ("[::1]x", "neither a name nor a network"),
    ] {
        let message = Rule::parse(Verdict::Allow, bad).unwrap_err().to_string();
        assert!(message.contains(part), "{bad}: {message}");
    }
}
