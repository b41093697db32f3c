//! A dialog: who talks to whom, over which proxies, and with which sequence numbers (RFC 3261 §12).
//!
//! A next hop that is a name, or a private address behind a public one, is replaced by the address the peer's last
//! message came from: the far side of its NAT, or the proxy that named itself.

use std::net::IpAddr;

use super::message::write::RequestHead;
use super::message::{Address, Message, Method, Name, Uri};
use super::transaction::Hop;

#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    call_id: String,
    /// From of our requests, with our tag.
    local: String,
    /// To of our requests, with the peer's tag.
    remote: String,
    pub(crate) remote_tag: String,
    pub(crate) local_cseq: u32,
    remote_cseq: Option<u32>,
    target: String,
    routes: Vec<String>,
    peer: Hop,
}

/// The route set: only values that can be read, since we shall have to follow them.
fn routes(message: &Message) -> Vec<String> {
    message.record_routes().into_iter().filter(|r| Address::parse(r).is_ok_and(|a| a.uri.is_sip())).collect()
}

impl Dialog {
    /// The caller's side, made by a response to the INVITE `head` that came from `peer` (§12.1.2).
    pub(crate) fn from_response(response: &Message, head: &RequestHead, peer: Hop) -> Self {
        let mut routes = routes(response);
        routes.reverse();
        Self {
            call_id: head.call_id.clone(),
            local: head.from.clone(),
            remote: response.headers.get(&Name::To).unwrap_or(&head.to).to_owned(),
            remote_tag: response.to.tag().to_owned(),
            local_cseq: head.cseq,
            remote_cseq: None,
            target: contact(response).unwrap_or_else(|| head.uri.clone()),
            routes,
            peer,
        }
    }

    /// The callee's side, made by an INVITE that came from `peer` (§12.1.1). An RFC 2543 caller without Contact is
    /// called back at its From address.
    pub(crate) fn from_request(request: &Message, local_tag: &str, peer: Hop) -> Self {
        let to = request.headers.get(&Name::To).unwrap_or_default();
        Self {
            call_id: request.call_id.clone(),
            local: format!("{to};tag={local_tag}"),
            remote: request.headers.get(&Name::From).unwrap_or_default().to_owned(),
            remote_tag: request.from.tag().to_owned(),
            local_cseq: 0,
            remote_cseq: Some(request.cseq.number),
            target: contact(request).unwrap_or_else(|| request.from.uri.as_str().to_owned()),
            routes: routes(request),
            peer,
        }
    }

    /// A request of ours inside the dialog and where it goes (§12.2.1.1). An ACK keeps the INVITE's number.
    pub(crate) fn request(&mut self, method: Method, via: &str) -> (RequestHead, Hop) {
        if method != Method::Ack {
            self.local_cseq += 1;
        }
        let first = self.routes.first().and_then(|r| Address::parse(r).ok()).map(|a| a.uri);
        let (uri, routes) = match &first {
            // Strict routing: the first route becomes the Request-URI, the target goes last.
            Some(first) if !first.params().has("lr") => {
                let mut rest = self.routes[1..].to_vec();
                rest.push(format!("<{}>", self.target));
                (first.as_str().to_owned(), rest)
            }
            _ => (self.target.clone(), self.routes.clone()),
        };
        let next = first.or_else(|| Uri::parse(&self.target).ok());
        let head = RequestHead {
            method,
            uri,
            via: via.to_owned(),
            routes,
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.call_id.clone(),
            cseq: self.local_cseq,
        };
        (head, self.hop(next.as_ref()))
    }

    fn hop(&self, next: Option<&Uri>) -> Hop {
        match next.and_then(Uri::socket_addr) {
            Some(address) if reachable(address.ip(), self.peer.address.ip()) && address.port() != 0 => {
                Hop { address, transport: self.peer.transport }
            }
            _ => self.peer,
        }
    }

    /// Notes a request of the peer; false if it is older than one already seen (§12.2.2).
    pub(crate) fn accept_cseq(&mut self, number: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| number < last) {
            return false;
        }
        self.remote_cseq = Some(number);
        true
    }

    /// Takes the new Contact of a target refresh request.
    pub(crate) fn refresh(&mut self, message: &Message, peer: Hop) {
        self.peer = peer;
        if let Some(target) = contact(message) {
            self.target = target;
        }
    }
}

/// The Contact of a message if requests can be sent to it.
fn contact(message: &Message) -> Option<String> {
    message.contact().filter(Uri::is_sip).map(|u| u.as_str().to_owned())
}

/// Whether an address a peer named can be meant for us, given where the peer was last seen.
fn reachable(named: IpAddr, seen: IpAddr) -> bool {
    if named.is_unspecified() || named.is_multicast() || named.is_ipv4() != seen.is_ipv4() {
        return false;
    }
    let private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.segments()[0] & 0xfe00 == 0xfc00 || ip.segments()[0] & 0xffc0 == 0xfe80
        }
    };
    (private(seen) || !private(named)) && (seen.is_loopback() || !named.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::parse;
    use crate::sip::transaction::Transport;

    fn peer(address: &str) -> Hop {
        Hop { address: address.parse().expect("address"), transport: Transport::Udp }
    }

    fn invite(extra: &str) -> Message {
        let text = format!(
            "INVITE sip:u@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKx\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:u@h>\r\nCall-ID: c\r\nCSeq: 5 INVITE\r\n{extra}\r\n"
        );
        parse(text.as_bytes()).expect("invite")
    }

    #[test]
    fn a_loose_route_keeps_the_target_in_the_request_line() {
        let m = invite(
            "Record-Route: <sip:203.0.113.7:5070;lr>, <sip:p2;lr>\r\nContact: <sip:a@203.0.113.9>\r\n",
        );
        let mut d = Dialog::from_request(&m, "t", peer("203.0.113.1:5060"));
        let (head, hop) = d.request(Method::Bye, "v");
        assert_eq!(head.uri, "sip:a@203.0.113.9");
        assert_eq!(head.routes, ["<sip:203.0.113.7:5070;lr>", "<sip:p2;lr>"]);
        assert_eq!(hop, peer("203.0.113.7:5070"));
        assert_eq!(
            (head.cseq, head.to.as_str(), head.from.as_str()),
            (1, "<sip:a@b>;tag=1", "<sip:u@h>;tag=t")
        );
    }

    #[test]
    fn a_strict_route_takes_the_request_line() {
        let m = invite("Record-Route: <sip:203.0.113.7>, <sip:p2;lr>\r\nContact: <sip:a@203.0.113.9>\r\n");
        let mut d = Dialog::from_request(&m, "t", peer("203.0.113.1:5060"));
        let (head, hop) = d.request(Method::Bye, "v");
        assert_eq!(head.uri, "sip:203.0.113.7");
        assert_eq!(head.routes, ["<sip:p2;lr>", "<sip:a@203.0.113.9>"]);
        assert_eq!(hop, peer("203.0.113.7:5060"));
    }

    #[test]
    fn a_private_contact_behind_a_public_source_is_reached_through_the_source() {
        for (contact, next) in [
            ("sip:a@192.168.1.5:5062", "203.0.113.1:1024"),
            ("sip:a@100.64.3.2", "203.0.113.1:1024"),
            ("sip:a@127.0.0.1", "203.0.113.1:1024"),
            ("sip:a@pc33.example.com", "203.0.113.1:1024"),
            ("sip:a@0.0.0.0", "203.0.113.1:1024"),
            ("sip:a@198.51.100.20", "198.51.100.20:5060"),
        ] {
            let m = invite(&format!("Contact: <{contact}>\r\n"));
            let mut d = Dialog::from_request(&m, "t", peer("203.0.113.1:1024"));
            assert_eq!(d.request(Method::Bye, "v").1, peer(next), "{contact}");
        }
    }

    #[test]
    fn old_sequence_numbers_are_refused() {
        let mut d = Dialog::from_request(&invite(""), "t", peer("203.0.113.1:1024"));
        assert!(!d.accept_cseq(4));
        assert!(d.accept_cseq(6));
        assert!(!d.accept_cseq(5));
        assert_eq!(d.target, "sip:a@b", "an RFC 2543 caller without Contact");
    }
}
