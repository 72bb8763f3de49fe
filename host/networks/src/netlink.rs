//! Requests to the kernel over netlink(7), one at a time, each with its acknowledgement.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// A connection to the kernel's routing part.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A socket that speaks to the kernel's `protocol`.
pub(crate) fn socket(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Netlink> {
        Ok(Netlink { socket: socket(NETLINK_ROUTE)?, sequence: 0 })
    }

    /// Has something done; `flags` beside those of every request.
    pub(crate) fn perform(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive().map(|_nothing| ())
    }

    /// Asks for all there are.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        self.receive()
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        packet.header.flags = flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_count| ())
    }

    /// What comes until the acknowledgement or the end of a dump.
    fn receive(&mut self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut all = Vec::new();
        loop {
            let (bytes, _kernel) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let packet = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let length = (packet.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if packet.header.sequence_number != self.sequence {
                    continue;
                }
                match packet.payload {
                    NetlinkPayload::InnerMessage(message) => all.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(all),
                    _ => {}
                }
            }
        }
    }
}
