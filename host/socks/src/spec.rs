//! Numbers of the SOCKS protocols.

use std::fmt;

/// RFC 1928 §3, field VER.
pub const VERSION: u8 = 5;

/// "SOCKS: A protocol for TCP proxy across firewalls", field VN of a request.
pub const VERSION_4: u8 = 4;

/// RFC 1929 §2, field VER of the sub-negotiation.
pub const PASSWORD_VERSION: u8 = 1;

/// RFC 1929 §2, field STATUS.
pub mod status {
    /// The user is who he says.
    pub const SUCCESS: u8 = 0;
    /// Any other value; the server closes.
    pub const FAILURE: u8 = 1;
}

/// RFC 1928 §3, field METHOD.
pub mod method {
    /// No authentication required.
    pub const NONE: u8 = 0;
    /// Username and password, RFC 1929.
    pub const PASSWORD: u8 = 2;
    /// No acceptable methods.
    pub const NOT_ACCEPTABLE: u8 = 0xff;
}

/// RFC 1928 §4, field CMD; the first two are SOCKS4's as well.
pub mod command {
    /// A TCP connection to the target.
    pub const CONNECT: u8 = 1;
    /// Wait for a TCP connection from the target.
    pub const BIND: u8 = 2;
    /// A relay for datagrams.
    pub const UDP_ASSOCIATE: u8 = 3;
}

/// RFC 1928 §5, field ATYP.
pub mod address {
    /// Four bytes.
    pub const IPV4: u8 = 1;
    /// A length byte, then the name.
    pub const NAME: u8 = 3;
    /// Sixteen bytes.
    pub const IPV6: u8 = 4;
}

/// SOCKS4, field CD of a reply.
pub mod reply_4 {
    /// Request granted.
    pub const GRANTED: u8 = 90;
    /// Request rejected or failed.
    pub const REJECTED: u8 = 91;
}

/// RFC 1928 §6, field REP: any byte, since the peer chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply(pub u8);

impl Reply {
    /// The request is granted.
    pub const SUCCEEDED: Reply = Reply(0);
    /// Nothing more is known.
    pub const GENERAL_FAILURE: Reply = Reply(1);
    /// The server's rules forbid it.
    pub const NOT_ALLOWED: Reply = Reply(2);
    /// No route to the target's network.
    pub const NETWORK_UNREACHABLE: Reply = Reply(3);
    /// No such host, or no way to it.
    pub const HOST_UNREACHABLE: Reply = Reply(4);
    /// The target refused.
    pub const CONNECTION_REFUSED: Reply = Reply(5);
    /// The target did not answer in time.
    pub const TTL_EXPIRED: Reply = Reply(6);
    /// The command is not one of ours.
    pub const COMMAND_NOT_SUPPORTED: Reply = Reply(7);
    /// The address type is not one of ours.
    pub const ADDRESS_TYPE_NOT_SUPPORTED: Reply = Reply(8);
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match *self {
            Reply::SUCCEEDED => "succeeded",
            Reply::GENERAL_FAILURE => "general failure",
            Reply::NOT_ALLOWED => "not allowed by the rules",
            Reply::NETWORK_UNREACHABLE => "network unreachable",
            Reply::HOST_UNREACHABLE => "host unreachable",
            Reply::CONNECTION_REFUSED => "connection refused",
            Reply::TTL_EXPIRED => "no answer in time",
            Reply::COMMAND_NOT_SUPPORTED => "command not supported",
            Reply::ADDRESS_TYPE_NOT_SUPPORTED => "address type not supported",
            Reply(code) => return write!(f, "reply {code}"),
        };
        f.write_str(words)
    }
}
