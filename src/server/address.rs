//! Whom a request counts against: the peer's address, or what a named proxy says, by IPv4 address or IPv6 /64.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses, `10.0.0.0/8`; a bare address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` lies in this block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("`{text}` is neither an address nor a block such as `10.0.0.0/8`");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| problem())?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| problem())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(widest);
        if prefix > widest { Err(problem()) } else { Ok(Self { address, prefix }) }
    }
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The client behind a request from `peer` with these `X-Forwarded-For` values in order of appearance.
///
/// The header is believed only from a trusted peer, and only as far as a chain of trusted proxies reaches: the
/// client is the rightmost address that is not one of them. Nonsense ends the chain at the last address believed.
pub(super) fn client<'a>(
    peer: IpAddr,
    forwarded: impl IntoIterator<Item = &'a str>,
    trusted: &[Network],
) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut client = peer.to_canonical();
    let hops: Vec<&str> = forwarded.into_iter().flat_map(|value| value.split(',')).collect();
    for hop in hops.into_iter().rev() {
        if !is_trusted(client) {
            break;
        }
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

/// The block a client counts under: its IPv4 address, or its IPv6 /64, which is what one subscriber gets.
pub(super) fn counted_block(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|t| t.parse().expect("a network")).collect()
    }

    #[test]
    fn a_stranger_cannot_name_another_address() {
        assert_eq!(client(ip("203.0.113.9"), ["1.2.3.4"], &networks(&["10.0.0.1"])), ip("203.0.113.9"));
        assert_eq!(client(ip("203.0.113.9"), ["1.2.3.4"], &[]), ip("203.0.113.9"));
    }

    #[test]
    fn a_named_proxy_is_believed_one_hop_at_a_time() {
        let trusted = networks(&["10.0.0.0/8", "::1"]);
        assert_eq!(client(ip("10.1.2.3"), ["1.2.3.4"], &trusted), ip("1.2.3.4"));
        // What the client wrote itself stands left of what the proxy saw.
        assert_eq!(client(ip("10.1.2.3"), ["9.9.9.9, 1.2.3.4, 10.0.0.7"], &trusted), ip("1.2.3.4"));
        assert_eq!(client(ip("10.1.2.3"), ["9.9.9.9", "1.2.3.4"], &trusted), ip("1.2.3.4"));
        assert_eq!(client(ip("::1"), ["2001:db8::5"], &trusted), ip("2001:db8::5"));
        assert_eq!(client(ip("10.1.2.3"), ["1.2.3.4, nonsense"], &trusted), ip("10.1.2.3"));
        assert_eq!(client(ip("::ffff:10.1.2.3"), ["::ffff:1.2.3.4"], &trusted), ip("1.2.3.4"));
    }

    #[test]
    fn ipv6_counts_by_its_64_bit_network() {
        assert_eq!(counted_block(ip("2001:db8:1:2:3:4:5:6")), counted_block(ip("2001:db8:1:2:ffff::1")));
        assert_ne!(counted_block(ip("2001:db8:1:2::1")), counted_block(ip("2001:db8:1:3::1")));
        assert_ne!(counted_block(ip("192.0.2.1")), counted_block(ip("192.0.2.2")));
        assert_eq!(counted_block(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn networks_are_read_and_checked() {
        for wrong in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/x", "10.0.0/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert!(networks(&["0.0.0.0/0"])[0].contains(ip("8.8.8.8")));
        assert!(!networks(&["0.0.0.0/0"])[0].contains(ip("::1")));
        assert!(networks(&["2001:db8::/32"])[0].contains(ip("2001:db8:ffff::")));
    }
}
