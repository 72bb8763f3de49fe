//! A guest on a running network, with sockets of the host on the other side.

mod bulk;
mod egress;
mod guest;
mod lan;
mod loss;
mod many;
mod tcp;
mod udp;
