//! A world without sockets: virtual network.
pub mod net;
