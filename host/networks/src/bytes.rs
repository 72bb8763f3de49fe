//! Netlink messages of nf_tables, byte by byte: netlink's header, netfilter's, and nested attributes.

/// Bytes of netlink's header (netlink(7)).
const HEADER: usize = 16;
/// An attribute has attributes within (NLA_F_NESTED).
const NESTED: u16 = 1 << 15;

/// Attributes under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds an attribute of these bytes.
    #[must_use]
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = (value.len() + 4) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a string, with its zero.
    #[must_use]
    pub(crate) fn text(self, kind: u16, text: &str) -> Attributes {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds a number in the network's order.
    #[must_use]
    pub(crate) fn number(self, kind: u16, number: u32) -> Attributes {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Adds an attribute of attributes.
    #[must_use]
    pub(crate) fn nested(self, kind: u16, inside: Attributes) -> Attributes {
        self.bytes(kind | NESTED, &inside.0)
    }
}

/// A message: its type, flags and number, netfilter's family and resource, attributes.
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    pub(crate) resource: u16,
    pub(crate) attributes: Attributes,
}

impl Message {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let length = HEADER + 4 + self.attributes.0.len();
        to.extend((length as u32).to_ne_bytes());
        to.extend(self.kind.to_ne_bytes());
        to.extend(self.flags.to_ne_bytes());
        to.extend(self.sequence.to_ne_bytes());
        to.extend([0; 4]);
        to.extend([self.family, 0]);
        to.extend(self.resource.to_be_bytes());
        to.extend(&self.attributes.0);
        to.resize(to.len().next_multiple_of(4), 0);
    }
}

/// A message as it comes back: type, number, and what is behind the header.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<(u16, u32, &[u8])> {
    let mut all = Vec::new();
    while let Some((&[a, b, c, d, k0, k1, _, _, s0, s1, s2, s3, ..], _)) =
        bytes.split_first_chunk::<HEADER>()
    {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(payload) = bytes.get(HEADER..length) else { break };
        let (kind, sequence) = (u16::from_ne_bytes([k0, k1]), u32::from_ne_bytes([s0, s1, s2, s3]));
        all.push((kind, sequence, payload));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}
